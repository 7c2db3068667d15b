"""EEGNet for steady-state visual potentials (Waytowich 2018, J Neural Eng 15:066031)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from eegdecode.models.eegnet import EEGNet, Network

__all__ = ["EEGNetSSVEP", "Network"]


@dataclass(frozen=True)
class EEGNetSSVEP(EEGNet):
    """EEGNet for steady-state potentials (Waytowich 2018): many filters of a second, no bound on the last layer."""

    name: Literal["eegnet_ssvep"] = "eegnet_ssvep"  # type: ignore[assignment]
    filters: int = 96  # filters in time; F1 of the paper, which has 96
    spatial: int = 1  # filters over channels for each filter in time; D of the paper, which has 1
    kernel: int | None = None  # samples of a filter in time; None: a second
    dropout: float = 0.5  # share of features dropped after each of the two poolings; the paper has 0.5
    kernel_s: ClassVar[float] = 1.0
    bounded: ClassVar[bool] = False

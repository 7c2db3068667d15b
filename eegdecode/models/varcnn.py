"""VAR-CNN (Zubarev 2019, NeuroImage 197:425): as LF-CNN, but its filters in time go over all sources."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from eegdecode.models.lfcnn import LFCNN, Network

__all__ = ["VARCNN", "Network"]


@dataclass(frozen=True)
class VARCNN(LFCNN):
    """VAR-CNN (Zubarev 2019): filters in time go over all sources."""

    name: Literal["varcnn"] = "varcnn"  # type: ignore[assignment]
    one_filter_a_source: ClassVar[bool] = False

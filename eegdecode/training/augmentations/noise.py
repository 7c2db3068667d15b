"""Add white noise."""

from dataclasses import dataclass
from typing import Literal

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Noise:
    """Add white noise, in units of the standard deviation of the window's channel."""

    name: Literal["noise"] = "noise"
    std: float = 0.1  # standard deviation of the noise, over that of the window's channel

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")


def apply(cfg: Noise, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    x = batch.signal
    drawn = noise.normal(batch.rng_key, what, *x.shape[1:])
    return batch._replace(signal=x + cfg.std * x.std(dim=1, keepdim=True) * drawn)

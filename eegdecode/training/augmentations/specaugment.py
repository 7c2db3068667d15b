"""SpecAugment (Park 2019): set stretches of time and of channels to 0."""

from dataclasses import dataclass
from typing import Literal

import torch

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class SpecAugment:
    """Set stretches of time and of neighbouring channels to 0, as SpecAugment does for spectrograms (Park 2019)."""

    name: Literal["specaugment"] = "specaugment"
    times: int = 1  # number of stretches of time, 4 at most
    longest_s: float = 0.2  # longest stretch of time in seconds
    bands: int = 1  # number of stretches of channels, 4 at most
    widest: int = 4  # largest number of channels in a stretch

    def __post_init__(self) -> None:
        if not 0 <= self.times <= 4 or not 0 <= self.bands <= 4 or self.longest_s <= 0 or self.widest < 1:
            raise ValueError(
                "times and bands must be 0 to 4 each, longest_s above 0 s and widest 1 at least, "
                f"got {self.times}, {self.bands}, {self.longest_s} and {self.widest}"
            )


def apply(cfg: SpecAugment, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    x, key = batch.signal, batch.rng_key
    for number in range(cfg.times):
        x = x * _outside(key, what + number, x.shape[1], round(cfg.longest_s * spec.sfreq))[:, :, None]
    for number in range(cfg.bands):
        x = x * _outside(key, what + 4 + number, x.shape[2], cfg.widest)[:, None]
    return batch._replace(signal=x)


def _outside(keys: torch.Tensor, what: int, n: int, most: int) -> torch.Tensor:
    """Return [window, n]: 0 in a stretch of up to `most` places, 1 elsewhere."""
    drawn = noise.uniform(keys, what, 2)
    length = (drawn[:, 0] * (min(most, n) + 1)).floor()
    first = (drawn[:, 1] * (n - length + 1)).floor()
    places = torch.arange(n, device=keys.device)
    return ((places < first[:, None]) | (places >= (first + length)[:, None])).to(torch.float32)

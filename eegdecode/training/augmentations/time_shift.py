"""Shift windows in time, against their targets."""

from dataclasses import dataclass
from typing import Literal

import torch

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class TimeShift:
    """Shift signals against their targets by up to most_s, either way; samples that leave at one end enter at the
    other."""

    name: Literal["time_shift"] = "time_shift"
    most_s: float = 0.05  # largest shift in seconds, one sample at least

    def __post_init__(self) -> None:
        if self.most_s <= 0:
            raise ValueError(f"most_s must be above 0 s, got {self.most_s}")


def apply(cfg: TimeShift, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    most = max(1, round(cfg.most_s * spec.sfreq))
    by = (noise.uniform(batch.rng_key, what)[:, 0] * (2 * most + 1)).long() - most
    return batch._replace(signal=shifted(batch.signal, by))


def shifted(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Shift each window by `by` samples, circularly."""
    places = (torch.arange(x.shape[1], device=x.device) - by[:, None]) % x.shape[1]
    return x.gather(1, places[:, :, None].expand_as(x))

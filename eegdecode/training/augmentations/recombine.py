"""Segmentation and reconstruction (Song 2023): assemble windows from segments of others of their class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec
from eegdecode.training.augmentations.config import Partner


@dataclass(frozen=True)
class Recombine:
    """Assemble a window from equal segments, each from a random window of its class in the same step (Song 2023:
    segmentation and reconstruction). Segments come from the stored windows: augmentations listed before do not change
    them."""

    name: Literal["recombine"] = "recombine"
    segments: int = 8  # equal segments of a window
    p: float = 0.5  # fraction of the windows that are assembled from segments

    def __post_init__(self) -> None:
        if self.segments < 2 or not 0 < self.p <= 1:
            raise ValueError(f"needs 2 segments at least and p in (0, 1], got {self.segments} and {self.p}")

    @property
    def partners(self) -> tuple[Partner, ...]:
        return tuple("same class" for _ in range(self.segments))


def apply(cfg: Recombine, batch: Batch, what: int, spec: SignalSpec, *others: Batch) -> Batch:
    return recombine(batch, others, noise.uniform(batch.rng_key, what)[:, 0] < cfg.p)


def recombine(batch: Batch, others: Sequence[Batch], which: torch.Tensor) -> Batch:
    """Assemble the windows of `which` from equal segments, each of another window."""
    n_times = batch.signal.shape[1]
    bounds = [-(-number * n_times // len(others)) for number in range(len(others) + 1)]
    parts = [other.signal[:, first:stop] for other, first, stop in zip(others, bounds[:-1], bounds[1:], strict=True)]
    return batch._replace(signal=torch.where(which[:, None, None], torch.cat(parts, dim=1), batch.signal))

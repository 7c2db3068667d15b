"""CutMix (Yun 2019): replace a stretch of a window by that of another, and mix their targets."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec
from eegdecode.training.augmentations.config import Partner
from eegdecode.training.augmentations.mixup import beta, mixed


@dataclass(frozen=True)
class CutMix:
    """Replace a stretch of time of each window by that of another of the same step; targets mix by its length (Yun
    2019)."""

    name: Literal["cutmix"] = "cutmix"
    alpha: float = 1.0  # both parameters of the Beta distribution of the share that is kept; 1: uniform
    partners: ClassVar[tuple[Partner, ...]] = ("any",)
    mixes_targets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


def apply(cfg: CutMix, batch: Batch, what: int, spec: SignalSpec, other: Batch) -> Batch:
    share = beta(batch.rng_key, what, cfg.alpha)
    return cutmix(batch, other, share, noise.uniform(batch.rng_key, what + 1)[:, 0])


def cutmix(batch: Batch, other: Batch, share: torch.Tensor, at: torch.Tensor) -> Batch:
    """Replace a part of each window by the other's, so that about `share` of the window is kept; `at`, from 0 to 1, is
    its position. A target that is a time course is cut in the same way, any other is mixed by the share that was
    kept."""
    n_times = batch.signal.shape[1]
    length = ((1 - share) * n_times).round()
    first = (at * (n_times - length + 1)).floor()

    def cut(own: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        n = own.shape[1]
        times = (torch.arange(n, device=own.device) + 0.5) * (n_times / n)
        inside = (times > first[:, None]) & (times < (first + length)[:, None])
        return torch.where(inside[:, :, None], theirs, own)

    signal = cut(batch.signal, other.signal)
    if batch.target.ndim == 3:
        return batch._replace(signal=signal, target=cut(batch.target, other.target))
    return batch._replace(signal=signal, target=mixed(batch.target, other.target, 1 - length / n_times))

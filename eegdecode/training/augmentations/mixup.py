"""Mixup (Zhang 2018): mix windows, and their targets in the same way."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy import special

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec
from eegdecode.training.augmentations.config import Partner


@dataclass(frozen=True)
class Mixup:
    """Mix each window and its target with another of the same step; the share is Beta(alpha, alpha) (Zhang 2018).
    Classes become soft labels."""

    name: Literal["mixup"] = "mixup"
    alpha: float = 0.2  # both parameters of the Beta distribution of the share; larger: more even mixtures
    partners: ClassVar[tuple[Partner, ...]] = ("any",)
    mixes_targets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


def apply(cfg: Mixup, batch: Batch, what: int, spec: SignalSpec, other: Batch) -> Batch:
    return mixup(batch, other, beta(batch.rng_key, what, cfg.alpha))


def mixup(batch: Batch, other: Batch, share: torch.Tensor) -> Batch:
    """Mix `share` [window] of each window with the rest of the other."""
    return batch._replace(
        signal=mixed(batch.signal, other.signal, share), target=mixed(batch.target, other.target, share)
    )


def mixed(own: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Mix `share` [window] of each row with the rest of the other."""
    share = share.reshape(-1, *[1] * (own.ndim - 1))
    return share * own + (1 - share) * other


def beta(keys: torch.Tensor, what: int, alpha: float) -> torch.Tensor:
    """Draw a share for each window from Beta(alpha, alpha), by the inverse of its distribution; computed on the CPU."""
    drawn = special.betaincinv(alpha, alpha, noise.uniform(keys, what)[:, 0].double().cpu().numpy())
    return torch.from_numpy(np.asarray(drawn, np.float32)).to(keys.device)

"""Mixup (Zhang 2018): mix windows, and their targets in the same way."""

import math
from dataclasses import dataclass
from functools import lru_cache
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
    """Draw a share for each window from Beta(alpha, alpha), by the inverse of its distribution."""
    drawn = noise.uniform(keys, what)[:, 0].double()
    if keys.device.type == "cpu":
        return torch.from_numpy(np.asarray(special.betaincinv(alpha, alpha, drawn.numpy()), np.float32))
    shares = _quantiles(alpha, keys.device)
    at = drawn.sqrt().asin() * (2 / math.pi * STEPS)
    below = at.floor().clamp(max=STEPS - 1)
    low, high = shares[below.long()], shares[below.long() + 1]
    return (low + (at - below) * (high - low)).float()


STEPS = 1 << 16
"""A GPU looks shares up: to read what it has drawn would make it wait. They differ from those of a CPU by less than
1e-6."""


@lru_cache(maxsize=16)
def _quantiles(alpha: float, device: torch.device) -> torch.Tensor:
    """Return the inverse of the distribution at sin(a)^2, for STEPS equal steps of the angle a: dense at both ends,
    where the share of a large alpha changes fast."""
    at = np.sin(np.linspace(0, math.pi / 2, STEPS + 1)) ** 2
    return torch.from_numpy(special.betaincinv(alpha, alpha, at)).to(device)

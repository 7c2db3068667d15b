"""Reconstruct masked patches from visible ones: masked autoencoders (He et al. 2022)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode.objectives import Batch, Objective
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MaskedPatches:
    """Reconstruct masked patches (He 2022): the mean squared error over masked patches only."""

    name: Literal["mae"] = "mae"
    input_kind: ClassVar[str] = "masked"

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return spec


def objective(cfg: MaskedPatches, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        decoded, patches, hidden = model(batch.signal, batch.subject, batch.rng_key)
        decoded = decoded.float()
        alike = functional.cosine_similarity(_centred(decoded.detach()), _centred(patches), dim=2)
        return mean_hidden((decoded - patches).square().mean(dim=2), hidden), {"r": mean_hidden(alike, hidden)}

    return loss_of


def mean_hidden(values: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return the mean of values [window, patch] over the masked patches."""
    return (values * hidden).sum() / hidden.sum()


def _centred(patches: torch.Tensor) -> torch.Tensor:
    return patches - patches.mean(dim=2, keepdim=True)

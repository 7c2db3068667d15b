"""Alignment and reconstruction: the pretraining of EEGPT (Wang et al., NeurIPS 2024)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode.objectives import Batch, Objective
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Alignment:
    """EEGPT (Wang 2024): predict the embeddings of a momentum encoder that sees everything, and reconstruct the masked
    samples."""

    name: Literal["eegpt"] = "eegpt"
    align: float = 1.0  # weight of the loss of the embeddings; that of the samples is 1; 0: the paper's ablation
    input_kind: ClassVar[str] = "eegpt"

    def __post_init__(self) -> None:
        if self.align < 0:
            raise ValueError(f"align must be at least 0, got {self.align}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return spec


def objective(cfg: Alignment, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        predicted, target, reconstructed, patches = model(batch.signal, batch.subject, batch.rng_key)
        aligned = functional.mse_loss(predicted.float(), _normed(target.float()))
        rebuilt = functional.mse_loss(reconstructed.float(), _normed(patches.float()))
        watched = {"aligned": aligned.detach(), "rebuilt": rebuilt.detach()}
        # The target embeddings move, so `aligned` can be tiny although the encoder has learnt nothing
        if not model.training:
            return rebuilt, watched
        return cfg.align * aligned + rebuilt, watched

    return loss_of


def _normed(x: torch.Tensor) -> torch.Tensor:
    """Normalise the last axis to mean 0 and variance 1, so that neither an offset nor a scale lowers the loss."""
    return functional.layer_norm(x, x.shape[-1:])

"""Alignment and reconstruction: the pretraining of EEGPT (Wang et al., NeurIPS 2024)."""

import torch
from torch.nn import functional

from eegdecode.objectives import Alignment, Batch, Objective
from eegdecode.signals import SignalSpec


def objective(cfg: Alignment, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        predicted, target, reconstructed, patches = model(batch.signal, batch.subject, batch.rng_key)
        aligned = functional.mse_loss(predicted.float(), _normed(target.float()))
        rebuilt = functional.mse_loss(reconstructed.float(), _normed(patches.float()))
        watched = {"aligned": aligned.detach(), "rebuilt": rebuilt.detach()}
        if (
            not model.training
        ):  # the predicted embeddings move, so `aligned` is tiny while the encoder has learnt nothing
            return rebuilt, watched
        return cfg.align * aligned + rebuilt, watched

    return loss_of


def _normed(x: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 over the last axis, so that neither an offset nor a scale lowers the loss."""
    return functional.layer_norm(x, x.shape[-1:])

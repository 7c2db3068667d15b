"""Follow the target sample by sample: losses over [window, time, output], each the mean over the windows of a batch."""

import torch
from torch.nn import functional

from eegdecode.objectives import Batch, Objective, Regression
from eegdecode.signals import SignalSpec


def objective(cfg: Regression, spec: SignalSpec) -> Objective:
    distance = LOSSES[cfg.loss]

    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        target = batch.target
        decoded = model(batch.signal, batch.subject)
        if decoded.shape != target.shape:
            raise ValueError(f"the model gives {tuple(decoded.shape)}, but the target is {tuple(target.shape)}")
        return distance(decoded, target), {"r": correlation(decoded.detach(), target).mean()}

    return loss_of


def correlation(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Pearson's r over time, [window, output]; 0 where one of the two is constant."""
    return _cosine(decoded - decoded.mean(dim=1, keepdim=True), target - target.mean(dim=1, keepdim=True))


def _cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return functional.cosine_similarity(one, other, dim=1)


LOSSES = {
    "correlation": lambda decoded, target: 1 - correlation(decoded, target).mean(),
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "cosine": lambda decoded, target: 1 - _cosine(decoded, target).mean(),
}

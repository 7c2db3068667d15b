"""SimCLR: contrastive loss between two augmented views of each window (Chen et al. 2020)."""

import torch
from torch.nn import functional

from eegdecode import noise
from eegdecode.objectives import Batch, Objective, SimCLR
from eegdecode.signals import SignalSpec
from hpc.rank import ddp

VIEWS, DRAWS = 40, 4  # the first number of what the views draw, and how many draws a view has


def objective(cfg: SimCLR, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        both = torch.cat([view(cfg, batch.signal, batch.rng_key, which) for which in (0, 1)])
        one, other = model(both, batch.subject.repeat(2)).float().chunk(2)
        if model.training:  # every rank then knows the whole loss
            one, other = ddp.gather(one), ddp.gather(other)
        return nt_xent(one, other, cfg.temperature), {"found": accuracy(one, other)}

    return loss_of


def view(cfg: SimCLR, x: torch.Tensor, key: torch.Tensor, which: int) -> torch.Tensor:
    """Augmented windows: scaled in amplitude, shifted in time, with silent channels and noise."""
    n_times, n_channels = x.shape[1:]
    first = VIEWS + which * DRAWS
    factor, later = (2 * noise.uniform(key, first, 2)[:, :, None] - 1).unbind(1)
    by = (later * cfg.shift * n_times).round().long()
    at = (torch.arange(n_times, device=x.device) - by) % n_times
    shifted = x.take_along_dim(at[:, :, None], dim=1)
    silent = noise.permutation(key, first + 1, n_channels) < int(cfg.silent * n_channels)
    loud = (1 + cfg.scale * factor)[:, :, None] * ~silent[:, None]
    added = cfg.noise * x.std(dim=1, keepdim=True) * noise.normal(key, first + 2, n_times, n_channels)
    return loud * (shifted + added)


def nt_xent(one: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """The mean cross-entropy of finding a window's other view among all other views, by cosine; [window, feature]."""
    logits = alike(one, other) / temperature
    return functional.cross_entropy(logits, partner(one))


def accuracy(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How often a window's other view is the most similar of all."""
    return (alike(one.detach(), other.detach()).argmax(dim=1) == partner(one)).float().mean()


def alike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The cosine of every view with every other; none is like itself."""
    views = functional.normalize(torch.cat([one, other]), dim=1)
    return (views @ views.mT).masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf)


def partner(one: torch.Tensor) -> torch.Tensor:
    n_windows = len(one)
    return torch.arange(2 * n_windows, device=one.device).roll(n_windows)

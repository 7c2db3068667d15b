"""SimCLR: contrastive loss between two augmented views of each window (Chen et al. 2020)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode import noise
from eegdecode.objectives import Batch, Objective
from eegdecode.signals import SignalSpec
from hpc.rank import ddp


@dataclass(frozen=True)
class SimCLR:
    """Make two views of a window more similar to each other than to all other windows (Chen 2020, NT-Xent)."""

    name: Literal["simclr"] = "simclr"
    size: int = 128
    """Features of the embedding; the model's last layer is the projection head, which is dropped afterwards."""
    temperature: float = 0.5  # divisor of the cosines; smaller: the most similar other windows have more weight
    scale: float = 0.2  # largest change of the amplitude of a view, as a share of it
    shift: float = 0.1
    """Largest shift of a view, as a share of its length; samples that leave at one end enter at the other."""
    silent: float = 0.2  # share of the channels that are set to 0
    noise: float = 0.1  # standard deviation of the added noise, in units of that of the channel
    input_kind: ClassVar[str] = "outputs"
    compares_windows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size < 1 or self.temperature <= 0:
            raise ValueError(f"size must be at least 1 and temperature above 0, got {self.size} and {self.temperature}")
        for name in ("scale", "shift", "silent"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.noise < 0:
            raise ValueError(f"noise must be at least 0, got {self.noise}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return replace(spec, n_outputs=self.size, target_sfreq=0.0, class_values=(), classes=())


VIEWS, DRAWS = 40, 4  # the first number of the draws of views, and the number of draws of a view


def objective(cfg: SimCLR, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        both = torch.cat([view(cfg, batch.signal, batch.rng_key, which) for which in (0, 1)])
        one, other = model(both, batch.subject.repeat(2)).float().chunk(2)
        if model.training:  # so that every rank knows the whole loss
            one, other = ddp.gather(one), ddp.gather(other)
        return nt_xent(one, other, cfg.temperature), {"found": accuracy(one, other)}

    return loss_of


def view(cfg: SimCLR, x: torch.Tensor, key: torch.Tensor, which: int) -> torch.Tensor:
    """Augment windows: scale the amplitude, shift in time, silence channels and add noise."""
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
    """Return the mean cross-entropy of finding a window's other view among all other views, by cosine; [window,
    feature]."""
    logits = alike(one, other) / temperature
    return functional.cross_entropy(logits, partner(one))


def accuracy(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return how often a window's other view is the most similar of all."""
    return (alike(one.detach(), other.detach()).argmax(dim=1) == partner(one)).float().mean()


def alike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the cosine of every view with every other; -inf for a view with itself."""
    views = functional.normalize(torch.cat([one, other]), dim=1)
    return (views @ views.mT).masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf)


def partner(one: torch.Tensor) -> torch.Tensor:
    n_windows = len(one)
    return torch.arange(2 * n_windows, device=one.device).roll(n_windows)

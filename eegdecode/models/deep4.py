"""Deep ConvNet: four blocks of convolution and max-pooling (Schirrmeister 2017, Hum Brain Mapp 38:5391)."""

import itertools
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_fraction
from eegdecode.models.parts import deterministic, shapes
from eegdecode.models.parts.filters import TimeThenSpace
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Deep4:
    """Four blocks of convolution and pooling, "Deep ConvNet" (Schirrmeister 2017); made for 250 Hz."""

    name: Literal["deep4"] = "deep4"
    filters: int = 25
    """Filters in time, and as many over channels, in the first block; each next block has twice as many."""
    kernel: int = 10  # samples of a filter in time, in each block
    pool: int = 3  # samples of max pooling at the end of each block
    dropout: float = 0.5  # share of features dropped before each block but the first
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        need_at_least_one(filters=self.filters, kernel=self.kernel, pool=self.pool)
        need_fraction(dropout=self.dropout)


BLOCKS = 4


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output]."""

    heads, last = ("readout",), ("convolutions", "norms")

    def __init__(self, cfg: Deep4, spec: SignalSpec) -> None:
        super().__init__()
        at_least = 1
        for _ in range(BLOCKS):
            at_least = at_least * cfg.pool + cfg.kernel - 1
        self.n_channels, self.pool, self.dropout = spec.n_channels, cfg.pool, cfg.dropout
        self.n_times = shapes.need_length(spec, "deep4", at_least)
        widths = [cfg.filters * 2**block for block in range(BLOCKS)]
        n_left = self.n_times
        for _ in range(BLOCKS):
            n_left = (n_left - cfg.kernel + 1) // cfg.pool

        self.first = TimeThenSpace(spec.n_channels, cfg.filters, cfg.kernel, cfg.filters, bias=False)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, cfg.kernel, bias=False) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)
        self.readout = shapes.Readout(nn.Linear(widths[-1] * n_left, shapes.size(spec)), spec)
        start(self)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        x = self._pooled(self.norms[0](self.first(x)))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = functional.dropout(x, self.dropout, self.training)
            x = self._pooled(norm(convolution(x)))
        out: torch.Tensor = self.readout(x.flatten(1))
        return out

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        return deterministic.max_pooled(functional.elu(x), self.pool)


def start(network: nn.Module) -> None:
    """Initialise the weights as in the paper (Glorot), and biases with 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

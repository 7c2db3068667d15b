"""EEG Conformer: filters in time and over channels, then a transformer over time (Song 2023, TNSRE 31:710).

The authors' code and braindecode's divide the products of queries and keys by different roots: `scale` chooses one.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_fraction
from eegdecode.models.parts import attention, shapes
from eegdecode.models.parts.filters import TimeThenSpace
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Conformer:
    """EEG Conformer (Song 2023): the filters of Shallow, then a transformer over time; made for 250 Hz."""

    name: Literal["conformer"] = "conformer"
    filters: int = 40  # filters in time, and as many over channels; also the width of the transformer
    kernel: int = 25  # samples of a filter in time
    pool: int = 75  # samples that are averaged to one token
    stride: int = 15  # samples from one token to the next
    layers: int = 6  # blocks of the transformer
    heads: int = 10  # attention heads, which share the width (filters) evenly
    scale: Literal["emb", "head"] = "emb"
    """Attention scores are divided by the root of the width (`emb`), as in the authors' code, or of the width of a head
    (`head`), as in braindecode."""
    dropout: float = 0.5
    """Share dropped of the tokens, and of the attention and the layers of each block; the two hidden layers have their
    own 0.5 and 0.3."""
    hidden: tuple[int, int] = (256, 32)  # sizes of the two layers between the tokens and the output
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        need_at_least_one(
            filters=self.filters, kernel=self.kernel, pool=self.pool, stride=self.stride, layers=self.layers
        )
        need_at_least_one(heads=self.heads, hidden=min(self.hidden))
        need_fraction(dropout=self.dropout)
        if self.filters % self.heads:
            raise ValueError(f"heads share filters evenly, but got {self.heads} heads for {self.filters} filters")


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output]."""

    heads, last = ("wide", "narrow", "readout"), ("blocks",)

    def __init__(self, cfg: Conformer, spec: SignalSpec) -> None:
        super().__init__()
        self.n_channels, self.pool, self.stride, self.dropout = spec.n_channels, cfg.pool, cfg.stride, cfg.dropout
        at_least = cfg.kernel - 1 + cfg.pool
        self.n_times = shapes.need_length(spec, "conformer", at_least)
        n_tokens = (self.n_times - at_least) // cfg.stride + 1
        width, (wide, narrow) = cfg.filters, cfg.hidden

        self.first = TimeThenSpace(spec.n_channels, width, cfg.kernel, width)
        self.norm = nn.BatchNorm1d(width)
        self.project = nn.Linear(width, width)
        self.blocks = attention.blocks(
            cfg.layers,
            width,
            cfg.heads,
            eps=1e-5,
            checkpoint=cfg.checkpoint,
            scale=width**-0.5 if cfg.scale == "emb" else None,
            dropout=cfg.dropout,
        )
        self.wide, self.narrow = nn.Linear(n_tokens * width, wide), nn.Linear(wide, narrow)
        self.readout = shapes.Readout(nn.Linear(narrow, shapes.size(spec)), spec)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        x = functional.avg_pool1d(functional.elu(self.norm(self.first(x))), self.pool, self.stride)
        x = self.project(functional.dropout(x, self.dropout, self.training).mT)
        for block in self.blocks:
            x = block(x)
        x = functional.dropout(functional.elu(self.wide(x.flatten(1))), 0.5, self.training)
        x = functional.dropout(functional.elu(self.narrow(x)), 0.3, self.training)
        out: torch.Tensor = self.readout(x)
        return out

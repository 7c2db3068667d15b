"""EEG Conformer: filters in time and over channels, then a transformer over time (Song 2023, TNSRE 31:710).

The authors' code and braindecode's divide the products of queries and keys by different roots: `scale` says whose.
"""

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models import Conformer
from eegdecode.models.parts import attention, shapes
from eegdecode.models.parts.filters import TimeThenSpace
from eegdecode.signals import SignalSpec


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

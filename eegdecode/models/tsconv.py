"""TSConv of NICE: filters in time, an average over time, filters over channels, then a projection (Song 2024, ICLR).

With 63 channels, 250 samples and 768 outputs it has the 1,802,496 parameters of the authors' encoder and projector.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_fraction
from eegdecode.models.parts import shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class TSConv:
    """NICE's TSConv (Song 2024): temporal and spatial filters, and a projection; made for 250 Hz."""

    name: Literal["tsconv"] = "tsconv"
    filters: int = 40  # filters in time, and as many over channels
    kernel: int = 25  # samples of a filter in time
    pool: int = 51  # samples that are averaged
    stride: int = 5  # samples from one average to the next
    dropout: float = 0.5  # share of features dropped after the filters, and in the projection
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        need_at_least_one(filters=self.filters, kernel=self.kernel, pool=self.pool, stride=self.stride)
        need_fraction(dropout=self.dropout)


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output]."""

    heads = ("readout", "residual", "norm")

    def __init__(self, cfg: TSConv, spec: SignalSpec) -> None:
        super().__init__()
        self.n_channels, self.pool, self.stride, self.dropout = spec.n_channels, cfg.pool, cfg.stride, cfg.dropout
        at_least = cfg.kernel - 1 + cfg.pool
        self.n_times = shapes.need_length(spec, "tsconv", at_least)
        n_left = (self.n_times - at_least) // cfg.stride + 1
        size = shapes.size(spec)
        self.time = nn.Conv2d(1, cfg.filters, (1, cfg.kernel))
        self.norm_time = nn.BatchNorm2d(cfg.filters)
        self.space = nn.Conv2d(cfg.filters, cfg.filters, (spec.n_channels, 1))
        self.norm_space = nn.BatchNorm2d(cfg.filters)
        self.mix = nn.Conv2d(cfg.filters, cfg.filters, 1)
        self.readout = nn.Linear(n_left * cfg.filters, size)
        self.residual = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.shape = shapes.Readout(nn.Identity(), spec)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        x = functional.avg_pool2d(self.time(x.mT[:, None]), (1, self.pool), (1, self.stride))
        x = functional.elu(self.norm_time(x))
        x = functional.elu(self.norm_space(self.space(x)))
        x = self.mix(functional.dropout(x, self.dropout, self.training))
        x = self.readout(x[:, :, 0].mT.flatten(1))
        x = x + functional.dropout(self.residual(functional.gelu(x)), self.dropout, self.training)
        out: torch.Tensor = self.shape(self.norm(x))
        return out

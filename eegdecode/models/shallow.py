"""Shallow ConvNet: the log power of learnt filters (Schirrmeister 2017, Hum Brain Mapp 38:5391)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_fraction
from eegdecode.models.deep4 import start
from eegdecode.models.parts import shapes
from eegdecode.models.parts.filters import TimeThenSpace
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Shallow:
    """The log power of learnt filters, "Shallow ConvNet" (Schirrmeister 2017); made for 250 Hz."""

    name: Literal["shallow"] = "shallow"
    filters: int = 40  # filters in time, and as many over channels
    kernel: int = 25  # samples of a filter in time; 25 are 0.1 s at 250 Hz
    pool: int = 75  # samples over which the power is averaged; 75 are 0.3 s at 250 Hz
    stride: int = 15  # samples from one mean to the next
    dropout: float = 0.5  # share of features dropped before the read-out
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        need_at_least_one(filters=self.filters, kernel=self.kernel, pool=self.pool, stride=self.stride)
        need_fraction(dropout=self.dropout)


LEAST_POWER = 1e-6


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output]."""

    heads = ("readout",)

    def __init__(self, cfg: Shallow, spec: SignalSpec) -> None:
        super().__init__()
        self.n_channels, self.pool, self.stride, self.dropout = spec.n_channels, cfg.pool, cfg.stride, cfg.dropout
        at_least = cfg.kernel - 1 + cfg.pool
        self.n_times = shapes.need_length(spec, "shallow", at_least)
        n_left = (self.n_times - at_least) // cfg.stride + 1
        self.first = TimeThenSpace(spec.n_channels, cfg.filters, cfg.kernel, cfg.filters, bias=False)
        self.norm = nn.BatchNorm1d(cfg.filters)
        self.readout = shapes.Readout(nn.Linear(cfg.filters * n_left, shapes.size(spec)), spec)
        start(self)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        power = functional.avg_pool1d(self.norm(self.first(x)).square(), self.pool, self.stride)
        x = functional.dropout(power.clamp(min=LEAST_POWER).log(), self.dropout, self.training)
        out: torch.Tensor = self.readout(x.flatten(1))
        return out

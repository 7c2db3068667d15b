"""LF-CNN and VAR-CNN: sources unmixed from the channels, filtered in time, pooled (Zubarev 2019, NeuroImage 197:425).

What a source looks like at the sensors is `network.patterns(x)`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_fraction
from eegdecode.models.parts import deterministic, filters, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class LFCNN:
    """LF-CNN (Zubarev 2019): each source has its own filter in time. Its L1 penalty is not implemented: use
    optim.weight_decay instead."""

    latents: int = 32  # sources that are unmixed from the channels
    kernel: int = 7  # samples of a filter in time
    pool: int = 2  # samples of max pooling
    dropout: float = 0.5  # share of features dropped before the read-out
    name: Literal["lfcnn"] = "lfcnn"
    output_kind: ClassVar[str] = "outputs"
    one_filter_a_source: ClassVar[bool] = True  # else filters in time go over all sources

    def __post_init__(self) -> None:
        need_at_least_one(latents=self.latents, kernel=self.kernel, pool=self.pool)
        need_fraction(dropout=self.dropout)


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output]."""

    heads = ("readout",)

    def __init__(self, cfg: LFCNN, spec: SignalSpec) -> None:
        super().__init__()
        self.n_channels, self.pool, self.dropout = spec.n_channels, cfg.pool, cfg.dropout
        self.n_times = shapes.need_length(spec, cfg.name)
        self.around = ((cfg.kernel - 1) // 2, cfg.kernel // 2)
        self.unmix = nn.Linear(spec.n_channels, cfg.latents)
        groups = cfg.latents if cfg.one_filter_a_source else 1
        self.time = nn.Conv1d(cfg.latents, cfg.latents, cfg.kernel, groups=groups)
        n_left = -(-self.n_times // cfg.pool)
        self.readout = shapes.Readout(nn.Linear(cfg.latents * n_left, shapes.size(spec)), spec)
        for layer in (self.unmix, self.time, self.readout.linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.constant_(layer.bias, 0.1)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        x = functional.relu(self.time(functional.pad(self.unmix(x).mT, self.around)))
        x = deterministic.max_pooled(x, self.pool, ceil_mode=True)
        x = functional.dropout(x, self.dropout, self.training)
        out: torch.Tensor = self.readout(x.flatten(1))
        return out

    @torch.no_grad()
    def patterns(self, x: torch.Tensor) -> torch.Tensor:
        """Return [channel, latent]: how each source appears at the sensors, in these windows."""
        return filters.patterns(self.unmix.weight, x)

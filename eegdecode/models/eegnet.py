"""EEGNet: filters in time, over channels for each of them, in time again (Lawhern 2018, J Neural Eng 15:056013).

Filters over channels have a norm of at most 1, and the weights of a class of at most 0.25. Also for steady-state
potentials (Waytowich 2018, J Neural Eng 15:066031), as eegnet_ssvep.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_fraction
from eegdecode.models.parts import norms, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class EEGNet:
    """Filters in time, over channels, in time again (Lawhern 2018); its EEGNet-8,2 by default."""

    name: Literal["eegnet"] = "eegnet"
    filters: int = 8  # filters in time; F1 of the paper
    spatial: int = 2  # filters over channels for each filter in time; D of the paper, whose F2 is filters * spatial
    kernel: int | None = None  # samples of a filter in time; None: half a second
    dropout: float = 0.25
    """Share of features dropped after each of the two poolings; the paper has 0.5 within a subject."""
    padding: Literal["same", "symmetric"] = "same"
    """For an even kernel: `same` as in Keras, one sample more after than before; `symmetric` as in braindecode, which
    adds a sample."""
    output_kind: ClassVar[str] = "outputs"
    kernel_s: ClassVar[float] = 0.5
    """Length of a filter in time, unless `kernel` is set."""
    bounded: ClassVar[bool] = True
    """Whether the weights of a class have a norm of at most 0.25."""
    SYNONYMS: ClassVar[dict[str, str]] = {
        "F1": "filters is F1 of the paper, the number of filters in time",
        "D": "spatial is D of the paper, the number of filters over channels for each filter in time",
        "F2": "F2 of the paper is filters times spatial",
        "kernel_length": "kernel is the length of a filter in time, in samples",
        "drop_prob": "dropout is the share of features dropped after each pooling",
    }

    def __post_init__(self) -> None:
        need_at_least_one(filters=self.filters, spatial=self.spatial, kernel=self.kernel)
        need_fraction(dropout=self.dropout)


FIRST_POOL, SECOND_POOL, SECOND_KERNEL = 4, 8, 16


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output]."""

    heads, last = ("readout",), ("depth", "point", "norm_point")

    def __init__(self, cfg: EEGNet, spec: SignalSpec) -> None:
        super().__init__()
        self.n_channels, self.dropout = spec.n_channels, cfg.dropout
        self.n_times = shapes.need_length(spec, cfg.name, at_least=FIRST_POOL * SECOND_POOL)
        kernel = cfg.kernel or max(1, round(spec.sfreq * cfg.kernel_s))
        n_filters = cfg.filters * cfg.spatial
        self.around_first, longer = _around(kernel, cfg.padding)
        self.around_second, longer_again = _around(SECOND_KERNEL, cfg.padding)
        n_left = ((self.n_times + longer) // FIRST_POOL + longer_again) // SECOND_POOL

        self.time = nn.Conv2d(1, cfg.filters, (1, kernel), bias=False)
        self.norm_time = _batch_norm(cfg.filters)
        self.space = norms.Conv2d(
            cfg.filters, n_filters, (spec.n_channels, 1), max_norm=1.0, groups=cfg.filters, bias=False
        )
        self.norm_space = _batch_norm(n_filters)
        self.depth = nn.Conv2d(n_filters, n_filters, (1, SECOND_KERNEL), groups=n_filters, bias=False)
        self.point = nn.Conv2d(n_filters, n_filters, 1, bias=False)
        self.norm_point = _batch_norm(n_filters)
        last = (n_filters * n_left, shapes.size(spec))
        bounded = spec.class_values and cfg.bounded
        self.readout = shapes.Readout(norms.Linear(*last, max_norm=0.25) if bounded else nn.Linear(*last), spec)

        for layer in (self.time, self.space, self.depth, self.point, self.readout.linear):
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.readout.linear.bias)  # type: ignore[arg-type]
        self.space.after_step(0.0)
        if isinstance(self.readout.linear, norms.Linear):
            self.readout.linear.after_step(0.0)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        x = self.norm_time(self.time(functional.pad(x.mT[:, None], self.around_first)))
        x = functional.avg_pool2d(functional.elu(self.norm_space(self.space(x))), (1, FIRST_POOL))
        x = functional.dropout(x, self.dropout, self.training)
        x = self.norm_point(self.point(self.depth(functional.pad(x, self.around_second))))
        x = functional.avg_pool2d(functional.elu(x), (1, SECOND_POOL))
        x = functional.dropout(x, self.dropout, self.training)
        out: torch.Tensor = self.readout(x.flatten(1))
        return out


def _around(kernel: int, padding: str) -> tuple[tuple[int, int], int]:
    """Return the samples of padding before and after, and how many more samples come out than went in."""
    if padding == "symmetric":
        return (kernel // 2, kernel // 2), 1 - kernel % 2
    return ((kernel - 1) // 2, kernel // 2), 0


def _batch_norm(n_filters: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n_filters, eps=1e-3, momentum=0.01)  # the values of Keras

"""The brain module of Défossez 2023 (Nat Mach Intell 5:1097), which decodes speech from MEG and EEG."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.parts import shapes
from eegdecode.models.parts.merger import Merger
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class BrainModule:
    """The brain module of Défossez 2023: spatial attention, a layer per subject, dilated convolutions.

    The defaults are the paper's.
    """

    name: Literal["brainmodule"] = "brainmodule"
    merger: bool = True  # spatial attention by sensor positions; else a linear layer, which needs no positions
    virtual_channels: int = 270  # outputs of the spatial attention, or of the linear layer that replaces it
    frequencies: int = 32  # waves on each axis in the Fourier embedding of a position; 32 make 2 * 32 * 32 numbers
    dropout_radius: float = 0.2
    """In each step of training, sensors this near to a random position are dropped; the head is 1 wide."""
    subject_layer: bool = True  # a linear layer for each subject, behind the spatial attention
    hidden: int = 320  # channels of each convolution
    layers: int = 10  # convolutions, of dilations 1, 2, 4, 8, 16, and again; a gate after each second layer
    skip: Literal["identity", "projection", "gated"] = "identity"
    """The input of a layer is added to its output: `identity`, where both have the same size, as in the paper;
    `projection`, through a linear layer; `gated`, in a learnt proportion to the output (highway, Srivastava 2015)."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("virtual_channels", "frequencies", "hidden", "layers")}
        if min(sizes.values()) < 1:
            raise ValueError(f"{', '.join(sizes)} must be at least 1, got {', '.join(map(str, sizes.values()))}")
        if not 0 <= self.dropout_radius < 1:
            raise ValueError(f"dropout_radius must lie in [0, 1), got {self.dropout_radius}")


DILATIONS = (1, 2, 4, 8, 16)


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, step, output], or the outputs of a window's mean over time."""

    heads, last = ("wide", "readout"), ("layers",)

    def __init__(self, cfg: BrainModule, spec: SignalSpec) -> None:
        super().__init__()
        self.spec, self.n_times = spec, None
        n_merged = cfg.virtual_channels
        self.merger = Merger(spec, n_merged, cfg.frequencies, cfg.dropout_radius) if cfg.merger else nn.Identity()
        self.mix = nn.Linear(n_merged if cfg.merger else spec.n_channels, n_merged)
        self.of_subject = None
        if cfg.subject_layer:
            self.of_subject = nn.Parameter(torch.randn(len(spec.subjects), n_merged, n_merged) / math.sqrt(n_merged))
        sizes = [n_merged] + [cfg.hidden] * cfg.layers
        self.layers = nn.ModuleList(
            Layer(n_in, n_out, DILATIONS[depth % 5], cfg.skip, gated=depth % 2 == 1)
            for depth, (n_in, n_out) in enumerate(pairwise(sizes))
        )
        self.wide = nn.Linear(cfg.hidden, 2 * cfg.hidden)
        self.readout = nn.Linear(2 * cfg.hidden, spec.n_outputs)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels)
        n_times = x.shape[1]
        x = self.mix(self.merger(x))
        if self.of_subject is not None:
            x = torch.bmm(x, self.of_subject[subject])
        x = x.mT
        for layer in self.layers:
            x = layer(x)
        x = functional.gelu(self.wide(x.mT))
        # The read-out is linear, so it may come after the mean over time
        out: torch.Tensor = self.readout(shapes.at_steps(x, self.spec, n_times))
        return out


class Layer(nn.Module):
    """A dilated convolution over time with a skip connection, [window, feature, time]; some end with a gate."""

    def __init__(self, n_in: int, n_out: int, dilation: int, skip: str, gated: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, 3, padding=dilation, dilation=dilation)
        self.norm = nn.BatchNorm1d(n_out)
        self.skip = SKIPS[skip](n_in, n_out)
        self.gate = nn.Conv1d(n_out, 2 * n_out, 3, padding=1) if gated else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.skip(x, functional.gelu(self.norm(self.conv(x))))
        return x if self.gate is None else functional.glu(self.gate(x), dim=1)


class Identity(nn.Module):
    """Adds the input if it has the same size, as in the paper."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.fits = n_in == n_out

    def forward(self, x: torch.Tensor, convolved: torch.Tensor) -> torch.Tensor:
        return convolved + x if self.fits else convolved


class Projection(nn.Module):
    """Adds a linear projection of the input, so that the first layer has a skip connection too."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.project = nn.Conv1d(n_in, n_out, 1)

    def forward(self, x: torch.Tensor, convolved: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = convolved + self.project(x)
        return added


class Gated(nn.Module):
    """A learnt mixture of the output and the input, for each feature at each time (highway, Srivastava 2015)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.project = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.share = nn.Conv1d(n_in, n_out, 1)

    def forward(self, x: torch.Tensor, convolved: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.project(x)
        return projected + self.share(x).sigmoid() * (convolved - projected)


SKIPS = {"identity": Identity, "projection": Projection, "gated": Gated}

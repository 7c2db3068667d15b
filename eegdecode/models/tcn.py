"""TCN: dilated convolutions over time, causal or not (Bai 2018, arXiv 1803.01271).

Activations are normalised at each sample, instead of the paper's weight normalisation.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.parts import shapes, streaming
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class TCN:
    """Convolutions over time, each block reaching twice as far as the last (Bai 2018)."""

    name: Literal["tcn"] = "tcn"
    causal: bool = True  # no later samples are read, so the network can stream
    width: int = 32  # features at each sample, the same in all blocks
    blocks: int = 5
    """Blocks of two convolutions; one more doubles what the network sees, which is 249 samples for 5 of kernel 5."""
    kernel: int = 5
    """Samples that a convolution reads: neighbours in the first block, twice as far apart in each next one."""
    dropout: float = 0.1  # share of features dropped after each convolution
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        for name, value in {"width": self.width, "blocks": self.blocks, "kernel": self.kernel}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


Memory = list[torch.Tensor]


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, step, output], or their mean over time."""

    heads, last = ("readout",), ("blocks", "norm")
    samples = 1

    def __init__(self, cfg: TCN, spec: SignalSpec) -> None:
        super().__init__()
        self.spec, self.n_times, self.causal = spec, None, cfg.causal
        self.embed = nn.Linear(spec.n_channels, cfg.width)
        self.blocks = nn.ModuleList(
            Block(cfg.width, cfg.kernel, 2**depth, cfg.dropout, cfg.causal) for depth in range(cfg.blocks)
        )
        self.norm = nn.LayerNorm(cfg.width)
        self.readout = nn.Linear(cfg.width, spec.n_outputs)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels)
        n_times = x.shape[1]
        out, _ = self.follow(x, None)
        if self.causal and self.spec.is_sequence:
            known = torch.cat([streaming.nothing_yet(out), out], dim=1)
            return streaming.at_steps(known, self.spec, 1, 0, self.spec.n_steps(n_times), 0)
        return shapes.at_steps(out, self.spec, n_times)

    def follow(self, x: torch.Tensor, memory: Memory | None) -> tuple[torch.Tensor, Memory]:
        x = self.embed(x)
        states: Memory = []
        for depth, block in enumerate(self.blocks):
            x, *more = block(x, *(memory[2 * depth : 2 * depth + 2] if memory else ()))
            states += more
        return self.readout(self.norm(x)), states


class Block(nn.Module):
    """Two convolutions of the same dilation, with a residual connection."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(width)
        self.conv1 = Convolution(width, kernel, dilation, causal)
        self.norm2 = nn.LayerNorm(width)
        self.conv2 = Convolution(width, kernel, dilation, causal)

    def forward(
        self, x: torch.Tensor, past1: torch.Tensor | None = None, past2: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inner, past1 = self.conv1(functional.relu(self.norm1(x)), past1)
        inner = functional.dropout(inner, self.dropout, self.training)
        convolved, past2 = self.conv2(functional.relu(self.norm2(inner)), past2)
        return x + functional.dropout(convolved, self.dropout, self.training), past1, past2


class Convolution(nn.Module):
    """A convolution over [window, time, feature]. The samples before the window are given, or zeros."""

    def __init__(self, width: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.reach, self.causal = (kernel - 1) * dilation, causal
        self.conv = nn.Conv1d(width, width, kernel, dilation=dilation)

    def forward(self, x: torch.Tensor, past: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output, and the past for the next call."""
        if past is None:
            before = self.reach if self.causal else self.reach // 2
            x = functional.pad(x, (0, 0, before, self.reach - before))
        else:
            x = torch.cat([past, x], dim=1)
        return self.conv(x.mT).mT, x[:, x.shape[1] - self.reach :]

"""A one-dimensional denoising UNet over time (Ho 2020, arXiv 2006.11239): for a waveform, which has one feature, or a
spectrogram, whose bands are features.

Every block is conditioned on the signal and the diffusion step by scaling and shifting its channels. The last layer of
each block and of the network starts at 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_heads
from eegdecode.models.parts import denoising
from eegdecode.models.parts.attention import Attention
from eegdecode.signals import SignalSpec

GROUPS = 8
"""Channels of a UNet that are normalised together."""


@dataclass(frozen=True)
class UNet:
    """A UNet over time (Ho 2020, in one dimension), for a waveform, or for a spectrogram whose bands are channels."""

    name: Literal["unet"] = "unet"
    widths: tuple[int, ...] = (64, 128, 256)  # channels of each level, from the finest to the coarsest; multiples of 8
    factor: int = 2  # ratio of the rates of two neighbouring levels: 2 for a spectrogram, 4 for a waveform
    blocks: int = 2  # blocks of each level on the way down, and as many on the way up
    heads: int = 4  # attention heads at the coarsest level
    output_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if not self.widths or any(width < GROUPS or width % GROUPS for width in self.widths):
            raise ValueError(f"widths must be multiples of {GROUPS}, at least one of them, got {list(self.widths)}")
        if self.factor < 2 or self.factor % 2:
            raise ValueError(f"factor must be an even number, got {self.factor}")
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {self.blocks}")
        need_heads(self.widths[-1], self.heads, "the last of widths")

    @property
    def hop(self) -> int:
        """The number of samples of the target for a sample of the coarsest level."""
        return int(self.factor ** (len(self.widths) - 1))


class Network(nn.Module):
    """(signal, subject, noisy, t) -> the noise, [window, step, feature]."""

    heads, last = ("readout",), ("up", "norm")

    def __init__(self, cfg: UNet, spec: SignalSpec) -> None:
        super().__init__()
        denoising.need_sequence(spec, cfg.name)
        self.spec, self.n_times, self.hop = spec, None, cfg.hop
        first, last = cfg.widths[0], cfg.widths[-1]
        condition_width = 4 * first
        self.step = denoising.Step(condition_width)
        self.told = denoising.Told(spec, cfg.hop, condition_width)
        self.start = nn.Conv1d(spec.n_outputs, first, 3, padding=1)
        coarser = (*cfg.widths[1:], None)
        self.down = nn.ModuleList(
            Down(width, below, cfg, condition_width) for width, below in zip(cfg.widths, coarser, strict=True)
        )
        self.middle = nn.ModuleList(
            [Block(last, last, condition_width), Everywhere(last, cfg.heads), Block(last, last, condition_width)]
        )
        self.up = nn.ModuleList(
            Up(width, below, cfg, condition_width) for width, below in zip(cfg.widths[::-1], coarser[::-1], strict=True)
        )
        self.norm = nn.GroupNorm(GROUPS, first)
        self.readout = denoising.from_zero(nn.Conv1d(first, spec.n_outputs, 3, padding=1))

    def forward(self, x: torch.Tensor, subject: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        denoising.check(noisy, t, self.spec)
        y = denoising.padded(noisy.mT, self.hop, 2)
        condition = self.told(x, y.shape[2] // self.hop) + self.step(t)[:, :, None]
        y = self.start(y)
        skips: list[torch.Tensor] = []
        for level in self.down:
            y = level(y, condition, skips)
        for part in self.middle:
            y = part(y, condition)
        for level in self.up:
            y = level(y, condition, skips)
        noise: torch.Tensor = self.readout(functional.silu(self.norm(y)))
        return noise[:, :, : noisy.shape[1]].mT


class Down(nn.Module):
    """Blocks of one level, then the path to a coarser one. The output of each block is kept for the way up."""

    def __init__(self, width: int, coarser: int | None, cfg: UNet, condition_width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, width, condition_width) for _ in range(cfg.blocks))
        self.coarser = None
        if coarser is not None:
            self.coarser = nn.Conv1d(width, coarser, 2 * cfg.factor, cfg.factor, padding=cfg.factor // 2)

    def forward(self, y: torch.Tensor, condition: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        for block in self.blocks:
            y = block(y, condition)
            skips.append(y)
        return y if self.coarser is None else self.coarser(y)


class Up(nn.Module):
    """The path from a coarser level, then blocks that also read the outputs of the same level on the way down."""

    def __init__(self, width: int, coarser: int | None, cfg: UNet, condition_width: int) -> None:
        super().__init__()
        self.finer = None
        if coarser is not None:
            self.finer = nn.ConvTranspose1d(coarser, width, 2 * cfg.factor, cfg.factor, padding=cfg.factor // 2)
        self.blocks = nn.ModuleList(Block(2 * width, width, condition_width) for _ in range(cfg.blocks))

    def forward(self, y: torch.Tensor, condition: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        if self.finer is not None:
            y = self.finer(y)
        for block in self.blocks:
            y = block(torch.cat([y, skips.pop()], dim=1), condition)
        return y


class Block(nn.Module):
    """Two convolutions with a residual connection; the condition scales and shifts the channels between the two."""

    def __init__(self, n_in: int, n_out: int, condition_width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, n_in), nn.GroupNorm(GROUPS, n_out)
        self.conv1 = nn.Conv1d(n_in, n_out, 3, padding=1)
        self.conv2 = denoising.from_zero(nn.Conv1d(n_out, n_out, 3, padding=1))
        self.told = nn.Conv1d(condition_width, 2 * n_out, 1)
        self.around = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, y: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = denoising.at_rate(self.told(functional.silu(condition)), y.shape[2]).chunk(2, dim=1)
        inner = self.norm2(self.conv1(functional.silu(self.norm1(y)))) * (1 + scale) + shift
        out: torch.Tensor = self.around(y) + self.conv2(functional.silu(inner))
        return out


class Everywhere(nn.Module):
    """Self-attention over the samples of the coarsest level."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.attn = Attention(width, heads)
        denoising.from_zero(self.attn.proj)

    def forward(self, y: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = y + self.attn(self.norm(y).mT).mT
        return out

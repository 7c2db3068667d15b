"""A UNet that takes noise off in time (Ho 2020, arXiv 2006.11239, in one dimension): of a waveform, which has one
feature, or of a spectrogram, whose bands are features.

Every block hears the signal and the diffusion step as a scale and a shift of its channels. The last layer of each block
and of the whole starts at 0.
"""

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config.generators import GROUPS, UNet
from eegdecode.models.parts import denoising
from eegdecode.models.parts.attention import Attention
from eegdecode.signals import SignalSpec


class Network(nn.Module):
    """(signal, subject, noisy, t) -> the noise, [window, step, feature]."""

    heads, last = ("readout",), ("up", "norm")

    def __init__(self, cfg: UNet, spec: SignalSpec) -> None:
        super().__init__()
        denoising.need_sequence(spec, cfg.name)
        self.spec, self.n_times, self.hop = spec, None, cfg.hop
        first, last = cfg.widths[0], cfg.widths[-1]
        told = 4 * first
        self.step = denoising.Step(told)
        self.told = denoising.Told(spec, cfg.hop, told)
        self.start = nn.Conv1d(spec.n_outputs, first, 3, padding=1)
        coarser = (*cfg.widths[1:], None)
        self.down = nn.ModuleList(
            Down(width, below, cfg, told) for width, below in zip(cfg.widths, coarser, strict=True)
        )
        self.middle = nn.ModuleList([Block(last, last, told), Everywhere(last, cfg.heads), Block(last, last, told)])
        self.up = nn.ModuleList(
            Up(width, below, cfg, told) for width, below in zip(cfg.widths[::-1], coarser[::-1], strict=True)
        )
        self.norm = nn.GroupNorm(GROUPS, first)
        self.readout = denoising.from_zero(nn.Conv1d(first, spec.n_outputs, 3, padding=1))

    def forward(self, x: torch.Tensor, subject: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        denoising.check(noisy, t, self.spec)
        y = denoising.padded(noisy.mT, self.hop, 2)
        told = self.told(x, y.shape[2] // self.hop) + self.step(t)[:, :, None]
        y = self.start(y)
        kept: list[torch.Tensor] = []
        for level in self.down:
            y = level(y, told, kept)
        for part in self.middle:
            y = part(y, told)
        for level in self.up:
            y = level(y, told, kept)
        noise: torch.Tensor = self.readout(functional.silu(self.norm(y)))
        return noise[:, :, : noisy.shape[1]].mT


class Down(nn.Module):
    """Blocks of one level, then the way to a coarser one. What each block gives is kept for the way up."""

    def __init__(self, width: int, coarser: int | None, cfg: UNet, told: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, width, told) for _ in range(cfg.blocks))
        self.coarser = None
        if coarser is not None:
            self.coarser = nn.Conv1d(width, coarser, 2 * cfg.factor, cfg.factor, padding=cfg.factor // 2)

    def forward(self, y: torch.Tensor, told: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        for block in self.blocks:
            y = block(y, told)
            kept.append(y)
        return y if self.coarser is None else self.coarser(y)


class Up(nn.Module):
    """The way from a coarser level, then blocks that see what those of the same level gave on the way down."""

    def __init__(self, width: int, coarser: int | None, cfg: UNet, told: int) -> None:
        super().__init__()
        self.finer = None
        if coarser is not None:
            self.finer = nn.ConvTranspose1d(coarser, width, 2 * cfg.factor, cfg.factor, padding=cfg.factor // 2)
        self.blocks = nn.ModuleList(Block(2 * width, width, told) for _ in range(cfg.blocks))

    def forward(self, y: torch.Tensor, told: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        if self.finer is not None:
            y = self.finer(y)
        for block in self.blocks:
            y = block(torch.cat([y, kept.pop()], dim=1), told)
        return y


class Block(nn.Module):
    """Two convolutions beside a way around them; what is told scales and shifts the channels between the two."""

    def __init__(self, n_in: int, n_out: int, told: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, n_in), nn.GroupNorm(GROUPS, n_out)
        self.conv1 = nn.Conv1d(n_in, n_out, 3, padding=1)
        self.conv2 = denoising.from_zero(nn.Conv1d(n_out, n_out, 3, padding=1))
        self.told = nn.Conv1d(told, 2 * n_out, 1)
        self.around = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, y: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        scale, shift = denoising.at_rate(self.told(functional.silu(told)), y.shape[2]).chunk(2, dim=1)
        inner = self.norm2(self.conv1(functional.silu(self.norm1(y)))) * (1 + scale) + shift
        out: torch.Tensor = self.around(y) + self.conv2(functional.silu(inner))
        return out


class Everywhere(nn.Module):
    """Every sample of the coarsest level sees every other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.attn = Attention(width, heads)
        denoising.from_zero(self.attn.proj)

    def forward(self, y: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = y + self.attn(self.norm(y).mT).mT
        return out

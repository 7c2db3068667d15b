"""A diffusion transformer over patches of a spectrogram (DiT; Peebles and Xie 2023, arXiv 2212.09748), 8 x 8 as in
Musimple: 800 samples of 80 mel bands are 1000 patches.

Each block is conditioned on the diffusion step and on the signal at the time of each patch, by adaLN-zero: the scale,
shift and gate of its output start at 0, so that a block starts as the identity.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from eegdecode.models.config import need_heads
from eegdecode.models.parts import denoising
from eegdecode.models.parts.attention import MLP, Attention
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class DiT:
    """A transformer over patches of a spectrogram (Peebles and Xie 2023); the sizes are those of their DiT-S."""

    name: Literal["dit"] = "dit"
    width: int = 384  # features of a patch; a multiple of 4 and of heads
    layers: int = 12  # blocks, of attention and a two-layer MLP each
    heads: int = 6  # attention heads, which share the width evenly
    patch: tuple[int, int] = (8, 8)
    """Samples and bands of a patch: 8 x 8 cut 800 samples of 80 bands into 1000 patches, smaller ones into more."""
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4 or self.layers < 1:
            raise ValueError(f"width must be a multiple of 4 and layers at least 1, got {self.width} and {self.layers}")
        if min(self.patch) < 1:
            raise ValueError(f"a patch has at least 1 x 1 values, got {self.patch[0]} x {self.patch[1]}")
        need_heads(self.width, self.heads, "width")

    @property
    def hop(self) -> int:
        """The number of samples of a patch."""
        return self.patch[0]


class Network(nn.Module):
    """(signal, subject, noisy, t) -> the noise, [window, step, feature]."""

    heads, last = ("modulation", "readout"), ("blocks",)

    def __init__(self, cfg: DiT, spec: SignalSpec) -> None:
        super().__init__()
        denoising.need_sequence(spec, cfg.name)
        self.spec, self.n_times, self.patch, self.checkpoint = spec, None, cfg.patch, cfg.checkpoint
        n_values = cfg.patch[0] * cfg.patch[1]
        self.step = denoising.Step(cfg.width)
        self.told = denoising.Told(spec, cfg.hop, cfg.width)
        self.embedding = nn.Linear(n_values, cfg.width)
        self.blocks = nn.ModuleList(Block(cfg.width, cfg.heads) for _ in range(cfg.layers))
        self.modulation = denoising.from_zero(nn.Linear(cfg.width, 2 * cfg.width))
        self.readout = denoising.from_zero(nn.Linear(cfg.width, n_values))

    def forward(self, x: torch.Tensor, subject: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        denoising.check(noisy, t, self.spec)
        y = self.embedding(patchify(noisy, self.patch))
        y = y + places(y.shape[1], y.shape[2], y.shape[3], y.device)
        condition = functional.silu(self.told(x, y.shape[1]).mT + self.step(t)[:, None])
        for block in self.blocks:
            y = (
                checkpoint(block, y, condition, use_reentrant=False)
                if self.checkpoint and self.training
                else block(y, condition)
            )
        scale, shift = self.modulation(condition)[:, :, None].chunk(2, dim=-1)
        noise = unpatchify(self.readout(_normed(y) * (1 + scale) + shift), self.patch)
        return noise[:, : noisy.shape[1], : noisy.shape[2]]


class Block(nn.Module):
    """Attention and two layers, each scaled, shifted and gated by the condition. [window, time, band, width]."""

    is_block: ClassVar[bool] = True

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = MLP(width, 4 * width)
        self.modulation = denoising.from_zero(nn.Linear(width, 6 * width))

    def forward(self, y: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """`condition`: [window, time, width]; the patches of one time have the same condition."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition)[:, :, None].chunk(6, dim=-1)
        y = y + gate1 * self.attn((_normed(y) * (1 + scale1) + shift1).flatten(1, 2)).view_as(y)
        out: torch.Tensor = y + gate2 * self.mlp(_normed(y) * (1 + scale2) + shift2)
        return out


def patchify(x: torch.Tensor, patch: tuple[int, int]) -> torch.Tensor:
    """[window, step, feature] -> [window, time, band, value]; zeros where the last patches reach beyond the end."""
    for dim, length in enumerate(patch, 1):
        x = denoising.padded(x, length, dim)
    return x.unflatten(2, (-1, patch[1])).unflatten(1, (-1, patch[0])).transpose(2, 3).flatten(3)


def unpatchify(patches: torch.Tensor, patch: tuple[int, int]) -> torch.Tensor:
    """Invert `patchify`."""
    return patches.unflatten(3, patch).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def places(n_times: int, n_bands: int, width: int, device: torch.device) -> torch.Tensor:
    """Return [time, band, width]: the position of each patch, half for the time and half for the band, as sines and
    cosines."""
    frequencies = 1e4 ** -torch.linspace(0, 1, width // 4 + 1, device=device)[:-1]
    time = denoising.waves(torch.arange(n_times, device=device), frequencies)[:, None].expand(-1, n_bands, -1)
    band = denoising.waves(torch.arange(n_bands, device=device), frequencies)[None].expand(n_times, -1, -1)
    return torch.cat([time, band], dim=2)


def _normed(y: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(y, y.shape[-1:], eps=1e-6)

"""The encoder of a masked autoencoder on patches of time, a linear layer at every patch.

The encoder of SC-MBM in MinD-Vis (Chen et al. 2023), or of DreamDiffusion (Bai et al. 2023). mae_pretrain.py trains it
without a target.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_even_heads
from eegdecode.models.parts import attention, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MAE:
    """The encoder of a masked autoencoder, a linear layer at every patch."""

    preset: Literal["scmbm", "dreamdiffusion"] = "scmbm"
    """`scmbm`, of MinD-Vis: patches of 16 samples, 0.75 of them masked; `dreamdiffusion`: of 4 samples, and pretraining
    needs a mask_ratio."""
    patch: int | None = None  # samples of a patch; None: 16 in scmbm, 4 in dreamdiffusion
    wrap: bool = False  # pad a window with its start up to a whole patch; otherwise such a window is refused
    width: int = 1024  # features of a token; 1024 in both papers
    depth: int = 24  # blocks of the encoder; 24 in both papers
    heads: int = 16  # attention heads of the encoder, which share the width evenly; 16 in both papers
    mlp_ratio: float = 1.0
    """Hidden features of a block's MLP, as a multiple of the width; 1 in both papers, 4 in most transformers."""
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    name: Literal["mae"] = "mae"
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        need_at_least_one(patch=self.patch_samples, width=self.width, depth=self.depth, heads=self.heads)
        need_even_heads(self.width, self.heads)
        if self.mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio must be above 0, got {self.mlp_ratio}")

    @property
    def patch_samples(self) -> int:
        return {"scmbm": 16, "dreamdiffusion": 4}[self.preset] if self.patch is None else self.patch


class Patches(nn.Module):
    """[window, time, channel] -> [window, patch, number]: all channels of some samples, sample after sample."""

    def __init__(self, cfg: MAE, spec: SignalSpec) -> None:
        super().__init__()
        self.samples, self.n_channels = cfg.patch_samples, spec.n_channels
        self.n_times = shapes.need_length(spec, cfg.name, at_least=1 if cfg.wrap else self.samples)
        self.n_patches = -(-self.n_times // self.samples)
        self.n_more = self.n_patches * self.samples - self.n_times
        if self.n_more and not cfg.wrap:
            raise ValueError(
                f"a window of {self.n_times} samples is {self.n_times / self.samples:g} patches of {self.samples}: "
                f"take {self.n_times + self.n_more - self.samples} or {self.n_times + self.n_more} samples, or set "
                f"model.wrap=true, which repeats its start at its end up to {self.n_times + self.n_more}"
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        if self.n_more:
            x = torch.cat([x] * (1 + -(-self.n_more // self.n_times)), dim=1)[:, : self.n_times + self.n_more]
        return x.unflatten(1, (self.n_patches, self.samples)).flatten(2)


class Encoder(nn.Module):
    """Encodes the tokens of all patches, or of the visible ones, after a class token."""

    places: torch.Tensor

    def __init__(self, cfg: MAE, n_channels: int, n_patches: int) -> None:
        super().__init__()
        self.patch_embed = nn.Linear(cfg.patch_samples * n_channels, cfg.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, cfg.width))
        self.register_buffer("places", places(n_patches, cfg.width), persistent=False)
        self.blocks = attention.blocks(
            cfg.depth, cfg.width, cfg.heads, cfg.mlp_ratio, eps=1e-5, checkpoint=cfg.checkpoint
        )
        self.norm = nn.LayerNorm(cfg.width)
        initialise(self, self.cls_token)

    def forward(self, cut: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """[window, patch, number], [window, seen] -> [window, 1 + patch or seen, feature]."""
        tokens = self.patch_embed(cut) + self.places[1:]
        if seen is not None:
            tokens = shapes.rows(tokens, seen)
        first = (self.cls_token + self.places[:1]).expand(tokens.shape[0], -1, -1)
        x = torch.cat([first.to(tokens.dtype), tokens], dim=1)
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.norm(x)
        return out


def places(n_patches: int, width: int) -> torch.Tensor:
    """Return [1 + patch, feature]: the position of each patch as sines and cosines; 0 for the class token."""
    speeds = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.arange(n_patches, dtype=torch.float64)[:, None] * speeds
    return functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, 0, 1, 0)).float()


def initialise(module: nn.Module, token: nn.Parameter) -> None:
    nn.init.normal_(token, std=0.02)
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, step, output], or their mean over patches."""

    heads, last = ("readout",), ("encoder.blocks", "encoder.norm")

    def __init__(self, cfg: MAE, spec: SignalSpec) -> None:
        super().__init__()
        self.spec = spec
        self.patches = Patches(cfg, spec)
        self.n_times = self.patches.n_times
        self.encoder = Encoder(cfg, spec.n_channels, self.patches.n_patches)
        self.readout = nn.Linear(cfg.width, spec.n_outputs)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        features = self.encoder(self.patches(x))[:, 1:]
        return shapes.at_steps(self.readout(features), self.spec, self.n_times)

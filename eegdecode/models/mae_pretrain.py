"""A masked autoencoder on patches of time: most are masked, and a small decoder reconstructs them from the rest.

SC-MBM of MinD-Vis (Chen et al. 2023) and the autoencoder of DreamDiffusion (Bai et al. 2023), after He et al. 2022.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import nn

from eegdecode import noise
from eegdecode.models.config import need_at_least_one, need_even_heads
from eegdecode.models.mae import MAE, Encoder, Patches, initialise, places
from eegdecode.models.parts import attention
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MAEPretrain(MAE):
    """A masked autoencoder: SC-MBM of MinD-Vis (Chen 2023), or that of DreamDiffusion (Bai 2023)."""

    name: Literal["mae_pretrain"] = "mae_pretrain"  # type: ignore[assignment]
    mask_ratio: float | None = None
    """Share of the patches that are masked; None: 0.75 in scmbm; required in dreamdiffusion."""
    decoder_width: int = 512  # features of a token in the decoder
    decoder_depth: int = 8  # blocks of the decoder
    decoder_heads: int = 16  # attention heads of the decoder, which share decoder_width evenly
    output_kind: ClassVar[str] = "masked"

    def __post_init__(self) -> None:
        super().__post_init__()
        need_at_least_one(
            decoder_width=self.decoder_width, decoder_depth=self.decoder_depth, decoder_heads=self.decoder_heads
        )
        need_even_heads(self.decoder_width, self.decoder_heads)
        if self.mask_ratio is None and self.preset == "dreamdiffusion":
            raise ValueError(
                "the code of DreamDiffusion masks 0.75 of the patches, its config file 0.1: say which, "
                "with mask_ratio=0.75 or mask_ratio=0.1"
            )
        if not 0 < self.hidden < 1:
            raise ValueError(f"mask_ratio must lie between 0 and 1, got {self.mask_ratio}")

    @property
    def hidden(self) -> float:
        return 0.75 if self.mask_ratio is None else self.mask_ratio


MASKING = 24


class Masked(NamedTuple):
    decoded: torch.Tensor  # [window, patch, number]
    patches: torch.Tensor  # the original values; the same shape
    hidden: torch.Tensor  # [window, patch], 1 if hidden


class Decoder(nn.Module):
    """Decodes the numbers of all patches from the visible ones, with mask tokens in place of the hidden ones."""

    places: torch.Tensor

    def __init__(self, cfg: MAEPretrain, n_numbers: int, n_patches: int) -> None:
        super().__init__()
        width = cfg.decoder_width
        self.embed = nn.Linear(cfg.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("places", places(n_patches, width), persistent=False)
        self.blocks = attention.blocks(
            cfg.decoder_depth, width, cfg.decoder_heads, cfg.mlp_ratio, eps=1e-5, checkpoint=cfg.checkpoint
        )
        self.norm = nn.LayerNorm(width)
        self.pred = nn.Linear(width, n_numbers)
        initialise(self, self.mask_token)

    def forward(self, encoded: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """[window, 1 + seen, feature], [window, seen] -> [window, patch, number]."""
        x = self.embed(encoded)
        first, known = x[:, :1], x[:, 1:]
        every = self.mask_token.expand(x.shape[0], len(self.places) - 1, -1).to(x.dtype)
        x = torch.cat([first, every.scatter(1, seen[:, :, None].expand_as(known), known)], dim=1) + self.places
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.pred(self.norm(x[:, 1:]))
        return out


class Network(nn.Module):
    """([window, time, channel], [window], [window] keys) -> Masked."""

    heads, last = ("decoder.pred",), ("decoder.blocks", "decoder.norm")

    def __init__(self, cfg: MAEPretrain, spec: SignalSpec) -> None:
        super().__init__()
        self.patches = Patches(cfg, spec)
        self.n_times, n_patches = self.patches.n_times, self.patches.n_patches
        self.n_seen = int(n_patches * (1 - cfg.hidden) + 1e-6)  # not one less where 0.3 is a little less than 0.3
        if not 0 < self.n_seen < n_patches:
            raise ValueError(
                f"of {n_patches} patches a mask_ratio of {cfg.hidden} leaves {self.n_seen} to be seen: "
                "some must be seen and some hidden, so lengthen the window or change mask_ratio"
            )
        self.encoder = Encoder(cfg, spec.n_channels, n_patches)
        self.decoder = Decoder(cfg, cfg.patch_samples * spec.n_channels, n_patches)

    def forward(self, x: torch.Tensor, subject: torch.Tensor, key: torch.Tensor) -> Masked:
        cut = self.patches(x)
        seen = noise.permutation(key, MASKING, cut.shape[1])[:, : self.n_seen]
        decoded = self.decoder(self.encoder(cut, seen), seen)
        return Masked(decoded, cut, cut.new_ones(cut.shape[:2]).scatter(1, seen, 0.0))

"""Diffusion models that generate sound or spectrograms from noise, conditioned on a signal.

Each has a `hop`: the number of samples of the target for one condition.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class DiffWave:
    """Dilated convolutions over the waveform (Kong 2021), with the sizes of its public vocoder."""

    name: Literal["diffwave"] = "diffwave"
    channels: int = 64  # residual channels of each layer; 64 in the paper's base model, 128 in its large one
    layers: int = 30  # residual layers, of one dilated convolution each
    cycle: int = 10  # layers after which dilations begin again: 1, 2, 4, … 2^(cycle - 1), then from 1
    conditional: bool = True  # conditioned on the signal; else it generates any sound like those of training
    checkpoint: bool = False  # recompute layers in the backward pass: less memory, about a third more time
    hop: ClassVar[int] = 256
    output_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if min(self.channels, self.layers, self.cycle) < 1:
            raise ValueError(
                f"channels, layers and cycle must be at least 1, got {self.channels}, {self.layers} and {self.cycle}"
            )


@dataclass(frozen=True)
class UNet:
    """A UNet over time (Ho 2020, in one dimension): of a waveform, or of a spectrogram whose bands are channels."""

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
        _check_heads(self.widths[-1], self.heads, "the last of widths")

    @property
    def hop(self) -> int:
        """A sample of the coarsest level."""
        return int(self.factor ** (len(self.widths) - 1))


GROUPS = 8
"""Of channels that are normalised together, in a UNet."""


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
        _check_heads(self.width, self.heads, "width")

    @property
    def hop(self) -> int:
        """The samples of a patch."""
        return self.patch[0]


Generator = DiffWave | UNet | DiT


def _check_heads(width: int, heads: int, name: str) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"{name} ({width}) must be a multiple of heads, got {heads} heads")

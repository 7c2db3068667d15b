"""Self-supervised networks, and their encoders for decoding.

Each comes twice: NAME_pretrain is pretrained with the objective of that name, NAME decodes with its encoder.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple


class EEGPTSize(NamedTuple):
    width: int
    summaries: int  # summary tokens of a time patch
    encoder: int  # blocks
    predictor: int
    reconstructor: int
    heads: int


EEGPTVariant = Literal["tiny1", "tiny2", "tiny3", "little", "base1", "base2", "base3", "large"]
EEGPT_SIZES: dict[EEGPTVariant, EEGPTSize] = {
    "tiny1": EEGPTSize(64, 1, 2, 2, 4, 4),
    "tiny2": EEGPTSize(64, 4, 2, 2, 4, 4),
    "tiny3": EEGPTSize(64, 4, 8, 8, 8, 4),
    "little": EEGPTSize(128, 4, 8, 8, 8, 4),
    "base1": EEGPTSize(256, 1, 6, 6, 6, 4),
    "base2": EEGPTSize(256, 4, 8, 8, 8, 4),
    "base3": EEGPTSize(512, 1, 6, 6, 6, 8),
    "large": EEGPTSize(512, 4, 8, 8, 8, 8),
}
"""The authors published the weights of large."""


@dataclass(frozen=True)
class EEGPT:
    """The encoder of EEGPT (Wang 2024) under a small head; made for windows of 4 s at 256 Hz, in millivolt."""

    name: Literal["eegpt"] = "eegpt"
    variant: EEGPTVariant = "large"
    """Size of the network, as the authors name it; they published the weights of `large`."""
    train: Literal["probe", "last", "all"] = "all"
    """`probe`: the encoder is frozen, the head alone is trained; `last`: also the encoder's last block and norm; `all`:
    everything."""
    spatial_filter: Literal[0, 19, 58] = 19
    """Virtual channels of a learnt spatial filter, 58 as in pretraining or 19 of the 10-20 system; 0: no filter,
    channels are known by their names."""
    unknown: Literal["drop", "error"] = "drop"
    """Without a filter: drop channels whose names EEGPT does not know, with a warning, or refuse them (`error`)."""
    patch_stride: int = 64  # samples from one patch of 64 to the next; 32 for the paper's P300 and ERN
    probe: int = 16  # features that the head makes of each time patch
    dropout: float = 0.5  # share of the encoder's features dropped before the head
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        _need_at_least_one(patch_stride=self.patch_stride, probe=self.probe)
        _need_fraction(dropout=self.dropout)


@dataclass(frozen=True)
class EEGPTPretrain:
    """EEGPT for pretraining: encoder of the visible patches, momentum encoder of all, predictor, reconstructor."""

    name: Literal["eegpt_pretrain"] = "eegpt_pretrain"
    variant: EEGPTVariant = "large"
    """Size of the network, as the authors name it; they published the weights of `large`."""
    unknown: Literal["drop", "error"] = "drop"
    """Drop channels whose names EEGPT does not know, with a warning, or refuse them (`error`)."""
    seen_times: float = 0.5  # share of the time patches that are visible
    seen_channels: int = 12  # channels that are visible at each visible time; 12 is a fifth of the paper's 58
    asked: float = 0.2
    """Share of the hidden channels at visible times that are reconstructed, beside all at hidden times."""
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "eegpt"

    def __post_init__(self) -> None:
        _need_at_least_one(seen_channels=self.seen_channels)
        if not 0 < self.seen_times < 1 or not 0 <= self.asked <= 1:
            raise ValueError(
                f"seen_times must lie in (0, 1) and asked in [0, 1], got {self.seen_times} and {self.asked}"
            )


@dataclass(frozen=True)
class _Masked:
    """The sizes of a masked autoencoder on patches of time, those of MinD-Vis and DreamDiffusion by default."""

    preset: Literal["scmbm", "dreamdiffusion"] = "scmbm"
    """`scmbm`, of MinD-Vis: patches of 16 samples, 0.75 of them masked; `dreamdiffusion`: of 4 samples, and pretraining
    needs a mask_ratio."""
    patch: int | None = None  # samples of a patch; None: 16 in scmbm, 4 in dreamdiffusion
    wrap: bool = False  # pad a window with its start up to a whole patch; else such a window is refused
    width: int = 1024  # features of a token; 1024 in both papers
    depth: int = 24  # blocks of the encoder; 24 in both papers
    heads: int = 16  # attention heads of the encoder, which share the width evenly; 16 in both papers
    mlp_ratio: float = 1.0
    """Hidden features of a block's MLP, as a multiple of the width; 1 in both papers, 4 in most transformers."""
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time

    def __post_init__(self) -> None:
        _need_at_least_one(patch=self.patch_samples, width=self.width, depth=self.depth, heads=self.heads)
        _need_even_heads(self.width, self.heads)
        if self.mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio must be above 0, got {self.mlp_ratio}")

    @property
    def patch_samples(self) -> int:
        return {"scmbm": 16, "dreamdiffusion": 4}[self.preset] if self.patch is None else self.patch


@dataclass(frozen=True)
class MAE(_Masked):
    """The encoder of a masked autoencoder, a linear layer at every patch."""

    name: Literal["mae"] = "mae"
    output_kind: ClassVar[str] = "outputs"


@dataclass(frozen=True)
class MAEPretrain(_Masked):
    """A masked autoencoder: SC-MBM of MinD-Vis (Chen 2023), or that of DreamDiffusion (Bai 2023)."""

    name: Literal["mae_pretrain"] = "mae_pretrain"
    mask_ratio: float | None = None
    """Share of the patches that are masked; None: 0.75 in scmbm; required in dreamdiffusion."""
    decoder_width: int = 512  # features of a token in the decoder
    decoder_depth: int = 8  # blocks of the decoder
    decoder_heads: int = 16  # attention heads of the decoder, which share decoder_width evenly
    output_kind: ClassVar[str] = "masked"

    def __post_init__(self) -> None:
        super().__post_init__()
        _need_at_least_one(
            decoder_width=self.decoder_width, decoder_depth=self.decoder_depth, decoder_heads=self.decoder_heads
        )
        _need_even_heads(self.decoder_width, self.decoder_heads)
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


@dataclass(frozen=True)
class _TimeFrequency:
    """Two encoders, of a signal and of its spectrum."""

    form: Literal["paper", "released"] = "paper"
    """`paper`: each window has its embedding on its own; `released`: as in the published code, where attention and
    batch norm go over the windows of a batch."""


@dataclass(frozen=True)
class TFC(_TimeFrequency):
    """The two encoders of TF-C (Zhang 2022) under its classifier."""

    name: Literal["tfc"] = "tfc"
    output_kind: ClassVar[str] = "outputs"


@dataclass(frozen=True)
class TFCPretrain(_TimeFrequency):
    """TF-C (Zhang 2022) for pretraining: embeddings of a signal and its spectrum are made similar."""

    name: Literal["tfc_pretrain"] = "tfc_pretrain"
    output_kind: ClassVar[str] = "tfc"


def _need_at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _need_fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}")


def _need_even_heads(width: int, heads: int) -> None:
    if width % heads or width % 2:
        raise ValueError(f"a width must be even and a multiple of its heads, got {width} for {heads} heads")

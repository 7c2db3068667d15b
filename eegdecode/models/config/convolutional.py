"""Networks of filters in time and over channels."""

from dataclasses import dataclass
from typing import ClassVar, Literal


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
    """Of an even kernel: `same` as in Keras, one sample more after than before; `symmetric` as in braindecode, which
    adds a sample."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        _need_at_least_one(filters=self.filters, spatial=self.spatial, kernel=self.kernel)
        _need_fraction(dropout=self.dropout)


@dataclass(frozen=True)
class EEGNetSSVEP:
    """EEGNet for steady-state potentials (Waytowich 2018): many filters of a second, no bound on the last layer."""

    name: Literal["eegnet_ssvep"] = "eegnet_ssvep"
    filters: int = 96  # filters in time; F1 of the paper, which has 96
    spatial: int = 1  # filters over channels for each filter in time; D of the paper, which has 1
    kernel: int | None = None  # samples of a filter in time; None: a second
    dropout: float = 0.5  # share of features dropped after each of the two poolings; the paper has 0.5
    padding: Literal["same", "symmetric"] = "same"
    """Of an even kernel: `same` as in Keras, one sample more after than before; `symmetric` as in braindecode, which
    adds a sample."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        _need_at_least_one(filters=self.filters, spatial=self.spatial, kernel=self.kernel)
        _need_fraction(dropout=self.dropout)


@dataclass(frozen=True)
class Deep4:
    """Four blocks of convolution and pooling, "Deep ConvNet" (Schirrmeister 2017); made for 250 Hz."""

    name: Literal["deep4"] = "deep4"
    filters: int = 25
    """Filters in time, and as many over channels, in the first block; each next block has twice as many."""
    kernel: int = 10  # samples of a filter in time, in each block
    pool: int = 3  # samples of max pooling at the end of each block
    dropout: float = 0.5  # share of features dropped before each block but the first
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        _need_at_least_one(filters=self.filters, kernel=self.kernel, pool=self.pool)
        _need_fraction(dropout=self.dropout)


@dataclass(frozen=True)
class Shallow:
    """The logarithm of the power behind learnt filters, "Shallow ConvNet" (Schirrmeister 2017); made for 250 Hz."""

    name: Literal["shallow"] = "shallow"
    filters: int = 40  # filters in time, and as many over channels
    kernel: int = 25  # samples of a filter in time; 25 are 0.1 s at 250 Hz
    pool: int = 75  # samples over which the power is averaged; 75 are 0.3 s at 250 Hz
    stride: int = 15  # samples from one mean to the next
    dropout: float = 0.5  # share of features dropped before the read-out
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        _need_at_least_one(filters=self.filters, kernel=self.kernel, pool=self.pool, stride=self.stride)
        _need_fraction(dropout=self.dropout)


@dataclass(frozen=True)
class Conformer:
    """EEG Conformer (Song 2023): the filters of Shallow, then a transformer over time; made for 250 Hz."""

    name: Literal["conformer"] = "conformer"
    filters: int = 40  # filters in time, and as many over channels; also the width of the transformer
    kernel: int = 25  # samples of a filter in time
    pool: int = 75  # samples that are averaged to one token
    stride: int = 15  # samples from one token to the next
    layers: int = 6  # blocks of the transformer
    heads: int = 10  # attention heads, which share the width (filters) evenly
    scale: Literal["emb", "head"] = "emb"
    """Attention scores are divided by the root of the width (`emb`), as in the authors' code, or of the width of a head
    (`head`), as in braindecode."""
    dropout: float = 0.5
    """Share dropped of the tokens, and of the attention and the layers of each block; the two hidden layers have their
    own 0.5 and 0.3."""
    hidden: tuple[int, int] = (256, 32)  # sizes of the two layers between the tokens and the output
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        _need_at_least_one(
            filters=self.filters, kernel=self.kernel, pool=self.pool, stride=self.stride, layers=self.layers
        )
        _need_at_least_one(heads=self.heads, hidden=min(self.hidden))
        _need_fraction(dropout=self.dropout)
        if self.filters % self.heads:
            raise ValueError(f"heads share filters evenly, but got {self.heads} heads for {self.filters} filters")


@dataclass(frozen=True)
class _Latent:
    """Sources unmixed from the channels, filtered in time, pooled (Zubarev 2019). Its penalty on the sum of absolute
    weights is not here: optim.weight_decay bounds them instead."""

    latents: int = 32  # sources that are unmixed from the channels
    kernel: int = 7  # samples of a filter in time
    pool: int = 2  # samples of max pooling
    dropout: float = 0.5  # share of features dropped before the read-out
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        _need_at_least_one(latents=self.latents, kernel=self.kernel, pool=self.pool)
        _need_fraction(dropout=self.dropout)


@dataclass(frozen=True)
class LFCNN(_Latent):
    """LF-CNN (Zubarev 2019): each source has its own filter in time."""

    name: Literal["lfcnn"] = "lfcnn"


@dataclass(frozen=True)
class VARCNN(_Latent):
    """VAR-CNN (Zubarev 2019): filters in time go over all sources."""

    name: Literal["varcnn"] = "varcnn"


def _need_at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _need_fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}")

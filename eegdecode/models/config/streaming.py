"""Networks that can stream a signal: they need no later samples."""

from dataclasses import dataclass
from typing import ClassVar, Literal


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


@dataclass(frozen=True)
class Transformer:
    """A transformer over time (Vaswani 2017); tokens are patches of all channels, with rotary positions (Su 2021)."""

    name: Literal["transformer"] = "transformer"
    causal: bool = False  # no later samples are read, so the network can stream
    past: int = 256  # if causal: how many tokens each token attends to, itself and those just before it
    patch: int = 8  # samples of a token
    width: int = 64  # features of a token; a multiple of 2 * heads
    heads: int = 4  # attention heads, which share the width evenly
    layers: int = 4  # blocks, of attention and a two-layer MLP each
    dropout: float = 0.1  # share dropped of the attention, and of the MLP and the residuals of each block
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        for name in ("past", "patch", "width", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"heads share a width in even parts, but got {self.heads} heads for a width of {self.width}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

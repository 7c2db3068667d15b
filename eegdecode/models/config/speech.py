"""The networks that decode speech from MEG."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class BrainModule:
    """The brain module of Défossez 2023: spatial attention, a layer per subject, dilated convolutions.

    The defaults are the paper's.
    """

    name: Literal["brainmodule"] = "brainmodule"
    merger: bool = True  # spatial attention by sensor positions; else a linear layer, which needs no positions
    virtual_channels: int = 270  # outputs of the spatial attention, or of the linear layer in its stead
    frequencies: int = 32  # waves on each axis in the Fourier embedding of a position; 32 make 2 * 32 * 32 numbers
    dropout_radius: float = 0.2
    """In each step of training, sensors this near to a random position are dropped; the head is 1 wide."""
    subject_layer: bool = True  # a linear layer for each subject, behind the spatial attention
    hidden: int = 320  # channels of each convolution
    layers: int = 10  # convolutions, of dilations 1, 2, 4, 8, 16, and again; a gate after each second layer
    skip: Literal["identity", "projection", "gated"] = "identity"
    """The input of a layer is added to its output: `identity`, where both have the same size, as in the paper;
    `projection`, through a linear layer; `gated`, in a learnt proportion to the output (highway, Srivastava 2015)."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("virtual_channels", "frequencies", "hidden", "layers")}
        if min(sizes.values()) < 1:
            raise ValueError(f"{', '.join(sizes)} must be at least 1, got {', '.join(map(str, sizes.values()))}")
        if not 0 <= self.dropout_radius < 1:
            raise ValueError(f"dropout_radius must lie in [0, 1), got {self.dropout_radius}")

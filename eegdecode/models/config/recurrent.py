"""Networks that read a signal sample by sample."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class BiLSTM:
    """Stacked bidirectional LSTMs and a linear read-out at every sample (Daly 2023, who used 4 x 250)."""

    name: Literal["bilstm"] = "bilstm"
    hidden: int = 32  # units of each direction, in each layer; the paper has 250
    layers: int = 2  # bidirectional LSTMs, each reads the outputs of the one before; the paper has 4
    dropout: float = 0.0  # share of features dropped between layers
    subject_layer: bool = False
    """A linear layer for each subject before the LSTMs (Défossez 2023), which starts as the identity."""
    output_kind: ClassVar[str] = "outputs"
    """The kind of its outputs, which must be the input kind of the objective."""

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1:
            raise ValueError(f"hidden and layers must be at least 1, got {self.hidden} and {self.layers}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.dropout and self.layers == 1:
            raise ValueError(f"dropout works between layers, but got dropout {self.dropout} with 1 layer")

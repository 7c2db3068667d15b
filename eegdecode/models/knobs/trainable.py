"""Which parameters of a model training moves."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Trainable:
    """Which parameters training moves; all others stay as they are, bit for bit.

    Parameters
    ----------
    train
        `all`; `head`: what makes the outputs, and what joins those of several encoders; `last`: that, the last block
        and the norm behind it; `lora`: the head, and a correction of low rank to every other linear layer (Hu 2021,
        arXiv 2106.09685).
    part
        The part of the network that this is said of, as `encoder` of a joined model; all of it where empty.
    rest
        What lies outside of that part.
    rank, alpha, layers
        Of LoRA: the rank of a correction; its size, alpha / rank; the linear layers whose names have one of these words
        in them, all where there are none.
    """

    train: Literal["all", "head", "last", "lora"] = "all"
    part: str = ""
    rest: Literal["frozen", "trained"] = "frozen"
    rank: int = 8
    alpha: float = 16.0
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, got {self.rank} and {self.alpha}")

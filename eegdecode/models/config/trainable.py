"""Which parameters of a model are trained, and which are frozen."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Trainable:
    """Which parameters are trained; all others are frozen and stay the same, bit for bit.

    Parameters
    ----------
    train
        `all`: every parameter; `head`: what makes the outputs, and what joins those of several encoders; `last`: the
        head, the last block and the norm behind it; `lora`: the head, and a low-rank update of every other linear layer
        (Hu 2021, arXiv 2106.09685).
    unfreeze_at
        For `head` and `last`: the steps at which more is unfrozen. At each step one more block, from the last to the
        first; at the last step, or if there is only one, all the rest.
    part
        The part of the network that this applies to, as `encoder` of a joined model; empty: the whole network.
    rest
        With a part: whether the rest of the network is trained or frozen.
    rank
        For LoRA: the rank of the update of each layer; more can change more, with more parameters.
    alpha
        For LoRA: the update is scaled by alpha / rank.
    layers
        For LoRA: the linear layers whose names contain one of these words, as `qkv`; empty: all but the head.
    """

    FORMER: ClassVar[dict[str, str]] = {"free_at": "unfreeze_at"}
    train: Literal["all", "head", "last", "lora"] = "all"
    unfreeze_at: tuple[int, ...] = ()
    part: str = ""
    rest: Literal["frozen", "trained"] = "frozen"
    rank: int = 8
    alpha: float = 16.0
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, got {self.rank} and {self.alpha}")
        if self.unfreeze_at and self.train not in ("head", "last"):
            raise ValueError(
                f"unfreeze_at needs train=head or last, which leave something to unfreeze, got train={self.train}"
            )
        if any(step <= before for before, step in pairwise((0, *self.unfreeze_at))):
            raise ValueError(f"unfreeze_at lists steps, each later than the one before, got {list(self.unfreeze_at)}")

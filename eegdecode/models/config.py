"""The parts that model configs share, and the parameters that are trained. Each config is in its model's file."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Protocol

from hpc.config.choices import Choices


class ModelConfig(Protocol):
    """The config of a model: a frozen dataclass in the file of its network."""

    output_kind: ClassVar[str]
    """The kind of its outputs, which must be the input kind of the objective."""

    @property
    def name(self) -> str: ...


NOT_PROVIDED = {
    "eegpt2": "eegpt2 is not provided: the autoregressive EEGPT of Yue et al. (2024, arXiv 2410.19779; 138 electrodes, "
    "up to 1.1 billion parameters) has no public code that we know of. It only shares its name with the EEGPT of Wang "
    "et al. (NeurIPS 2024): use model=eegpt if you meant that",
    "neurogpt": "neurogpt is not provided: the code of Neuro-GPT (Cui et al. 2023, arXiv 2311.03764) is under GPL-3, "
    "so it cannot be part of this package, and braindecode has no model of it. Its encoder is an EEG Conformer: use "
    "model=braindecode with model.model=EEGConformer. `python -m hpc.launch inspect FILE` tells what its checkpoint "
    "holds",
}


def _is_simple(cls: Any, output_kind: str) -> bool:
    """Whether a model has outputs of that kind, and is not made of other models."""
    return getattr(cls, "output_kind", "") == output_kind and not getattr(cls, "composite", False)


MODELS = Choices("eegdecode.models", not_provided=NOT_PROVIDED, needs=("output_kind",))
Model = Annotated[ModelConfig, MODELS]
Encoder = Annotated[
    ModelConfig,
    Choices(
        "eegdecode.models",
        only=lambda cls: getattr(cls, "output_kind", "") == "outputs" and not getattr(cls, "composite", False),
    ),
]
"""A model that decodes a signal, and is not composed of other models."""


class GeneratorConfig(ModelConfig, Protocol):
    """The config of a diffusion model that generates sound or spectrograms, conditioned on a signal."""

    @property
    def hop(self) -> int:
        """The number of samples of the target for one condition."""


Generator = Annotated[
    GeneratorConfig,
    Choices(
        "eegdecode.models",
        only=lambda cls: getattr(cls, "output_kind", "") == "noise" and not getattr(cls, "composite", False),
    ),
]
How = Literal["add", "concat", "gated"]
"""How the outputs of several encoders are combined."""


@dataclass(frozen=True)
class Trainable:
    """Which parameters are trained; all others are frozen and stay the same, bit for bit.

    Parameters
    ----------
    train
        `all`: every parameter; `head`: the modules that make the outputs, and those that combine several encoders;
        `last`: the head, the last block and the norm after it; `lora`: the head, and a low-rank update of every other
        linear layer (Hu 2021, arXiv 2106.09685); `dora`: as lora, and the length of each row of the weights (Liu 2024,
        arXiv 2402.09353); `ia3`: the head, and a factor of each output of every other linear layer (Liu 2022, arXiv
        2205.05638); `ridge`: the last layer of the head, solved by ridge regression instead of trained.
    unfreeze_at
        For `head` and `last`: the steps at which more is unfrozen. At each step one more block, from the last to the
        first; at the last step, or if there is only one, all the rest.
    part
        The part of the network that this applies to, as `encoder` of a joined model; empty: the whole network.
    rest
        With a part: whether the rest of the network is trained or frozen.
    rank
        For LoRA and DoRA: the rank of the update of each layer; a larger one has more parameters.
    alpha
        For LoRA and DoRA: the update is scaled by alpha / rank.
    layers
        For LoRA, DoRA and IA3: the linear layers whose names contain one of these words, as `qkv`; empty: all but the
        head.
    """

    FORMER: ClassVar[dict[str, str]] = {"free_at": "unfreeze_at"}
    train: Literal["all", "head", "last", "lora", "dora", "ia3", "ridge"] = "all"
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
        if self.train == "ridge" and self.part:
            raise ValueError(f"train=ridge is of the whole network's head: leave out part, which is {self.part!r}")
        if any(step <= before for before, step in pairwise((0, *self.unfreeze_at))):
            raise ValueError(f"unfreeze_at lists steps, each later than the one before, got {list(self.unfreeze_at)}")


def need_at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def need_fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}")


def need_heads(width: int, heads: int, name: str) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"{name} ({width}) must be a multiple of heads, got {heads} heads")


def need_even_heads(width: int, heads: int) -> None:
    if width % heads or width % 2:
        raise ValueError(f"a width must be even and a multiple of its heads, got {width} for {heads} heads")


def need_sizes(width: int, heads: int, layers: int, dropout: float, **times_s: float) -> None:
    need_at_least_one(heads=heads, layers=layers)
    if width < 1 or width % (2 * heads):
        raise ValueError(f"heads share a width in even parts, but got {heads} heads for a width of {width}")
    need_fraction(dropout=dropout)
    for name, time_s in times_s.items():
        if time_s <= 0:
            raise ValueError(f"{name} must be above 0 s, got {time_s}")

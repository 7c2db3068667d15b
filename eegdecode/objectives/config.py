"""The parts that the configs of objectives share. Each config is in its objective's file."""

from typing import Annotated, ClassVar, Literal, Protocol

from eegdecode.signals import SignalSpec
from hpc.config.choices import Choices

ScoredAs = Literal["classes", "retrieval"]


class ObjectiveConfig(Protocol):
    """The config of an objective: a frozen dataclass in the file of its loss.

    More class variables or settings are optional. `scored_as`: what the outputs mean, if the target does not say it
    already. `"classes"`: a logit for each class, so that the split needs every class and the test set is scored by
    balanced accuracy; `"retrieval"`: a vector that finds its own among all targets. `takes_soft_labels`: with classes,
    the target of a window may be the share of each, which mixup gives. `compares_windows`: the loss is of several
    windows together. `standardize` and `balanced`: the statistics of the training targets that it needs. `figures`: the
    names of what it watches besides the loss.
    """

    input_kind: ClassVar[str]
    """The kind of model output that it needs."""

    @property
    def name(self) -> str: ...

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """Return the spec of the model, from that of the data. Raises ValueError for a target that it cannot learn."""


def scored_as(objective: ObjectiveConfig) -> ScoredAs | None:
    """Return what the outputs mean; None: what the target is."""
    declared: ScoredAs | None = getattr(objective, "scored_as", None)
    if declared not in ("classes", "retrieval", None):
        raise ValueError(f"scored_as of {objective.name} must be classes or retrieval, or left out, got {declared!r}")
    return declared


def takes_soft_labels(objective: ObjectiveConfig) -> bool:
    """Whether the target of a window may be a share of each class."""
    return scored_as(objective) == "classes" and bool(getattr(objective, "takes_soft_labels", False))


_CLASSES = "the cross-entropy of classes is objective=classification"
OTHER_WORDS = {
    "mse": "the mean squared error is objective=regression with objective.loss=mse",
    "l1": "the mean absolute error is objective=regression with objective.loss=l1",
    **dict.fromkeys(("ce", "cross_entropy", "crossentropy", "CrossEntropyLoss"), _CLASSES),
}
OBJECTIVES = Choices("eegdecode.objectives", not_provided=OTHER_WORDS, needs=("input_kind",))
AnyObjective = Annotated[ObjectiveConfig, OBJECTIVES]

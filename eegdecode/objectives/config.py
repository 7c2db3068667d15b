"""The parts that the configs of objectives share. Each config is in its objective's file."""

from typing import Annotated, ClassVar, Protocol

from eegdecode.signals import SignalSpec
from hpc.config.choices import Choices


class ObjectiveConfig(Protocol):
    """The config of an objective: a frozen dataclass in the file of its loss.

    Three more class variables or settings are optional. `compares_windows`: the loss is of several windows together.
    `standardize` and `balanced`: the statistics of the training targets that it needs.
    """

    input_kind: ClassVar[str]
    """The kind of model output that it needs."""

    @property
    def name(self) -> str: ...

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """Return the spec of the model, from that of the data. Raises ValueError for a target that it cannot learn."""


_CLASSES = "the cross-entropy of classes is objective=classification"
OTHER_WORDS = {
    "mse": "the mean squared error is objective=regression with objective.loss=mse",
    "l1": "the mean absolute error is objective=regression with objective.loss=l1",
    **dict.fromkeys(("ce", "cross_entropy", "crossentropy", "CrossEntropyLoss"), _CLASSES),
}
OBJECTIVES = Choices("eegdecode.objectives", not_provided=OTHER_WORDS, needs=("input_kind",))
AnyObjective = Annotated[ObjectiveConfig, OBJECTIVES]

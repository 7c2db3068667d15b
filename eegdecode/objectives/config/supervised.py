"""Supervised objectives: regression, classification, and contrastive learning."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Regression:
    """Predict the numbers of the target: sample by sample if it is a time course, else those of the window."""

    name: Literal["regression"] = "regression"
    loss: Literal["correlation", "mse", "l1", "cosine"] = "correlation"
    """`correlation`: 1 minus Pearson's r, blind to offset and scale; `cosine`: 1 minus the cosine, blind to scale; both
    over time, or over the features of a window that has one row of them. `mse` and `l1` are blind to neither:
    standardise a target that is far from 0, or whose features differ in size."""
    standardize: bool = False
    """Standardise the target by mean and standard deviation of each feature in the training set; outputs have the
    target's units."""
    input_kind: ClassVar[str] = "outputs"
    """The kind of model output that it needs."""

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """The spec of the model, from that of the data."""
        if not spec.n_outputs:
            raise ValueError("regression needs a target: name one (target=envelope)")
        if self.loss in ("correlation", "cosine") and spec.n_outputs == 1 and not spec.is_sequence:
            raise ValueError(
                f"{self.loss} compares several numbers of a window, but this target is 1: take objective.loss=mse or l1"
            )
        return spec


@dataclass(frozen=True)
class Classification:
    """Classify windows."""

    name: Literal["classification"] = "classification"
    focus: float = 0.0
    """Gamma of the focal loss (Lin 2017: 2); larger: windows that are right already weigh less; 0: cross-entropy."""
    label_smoothing: float = 0.0  # share of a label that is spread over all classes
    balanced: bool = False  # weight classes by inverse frequency: n / (classes x n of the class)
    input_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        if self.focus < 0:
            raise ValueError(f"focus must be 0 or above, got {self.focus}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """One output a class."""
        if len(spec.class_values) < 2:
            reason = "follows the signal in time" if spec.is_sequence else f"has {spec.n_outputs} number(s) a window"
            if len(spec.class_values) == 1:
                reason = f"is always {spec.classes[0]}"
            raise ValueError(
                f"classification needs a target of 2 classes or more, but this one {reason}: "
                "name a label of the trials, or take objective=regression or clip"
            )
        return replace(spec, n_outputs=len(spec.class_values))


@dataclass(frozen=True)
class Clip:
    """Match each window to its own among the targets of the batch: outputs similar to it, dissimilar to the others.

    While training, the targets of all ranks are candidates, so that the number of GPUs changes nothing.
    """

    name: Literal["clip"] = "clip"
    form: Literal["symmetric", "speech"] = "symmetric"
    """`symmetric` (Radford 2021): by the cosine over the temperature, from window to target and back; `speech`
    (Défossez 2023): by the product with the target at length 1, from window to target only."""
    temperature: float = 0.07
    """What the cosines of the symmetric form are divided by; smaller: the nearest wrong targets weigh more."""
    mask_equal: bool = True  # equal targets in a batch, as of a stimulus shown twice, are not negatives of each other
    input_kind: ClassVar[str] = "outputs"
    compares_windows: ClassVar[bool] = True
    """The loss needs several windows."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        if not spec.n_outputs:
            raise ValueError("clip matches windows to targets: name one (target=envelope)")
        if spec.n_outputs == 1 and not spec.is_sequence:
            raise ValueError(
                "clip compares targets by their direction, but one number a window, as in this target, has none: "
                "take objective=regression or classification"
            )
        return spec

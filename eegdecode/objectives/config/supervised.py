"""Objectives that are told what to decode: numbers, classes, or which of many candidates."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Regression:
    """Give the numbers of the target: sample by sample where it follows the signal in time, else those of the window.

    correlation and cosine compare over time, or over the features of a window that has one row of them: 1 less
    Pearson's r, blind to offset and scale, and 1 less the cosine, blind to scale. mse and l1 are blind to neither:
    where a target is far from 0, or its features are of unlike size, standardise it.
    """

    name: Literal["regression"] = "regression"
    loss: Literal["correlation", "mse", "l1", "cosine"] = "correlation"
    standardize: bool = False  # by mean and spread of each feature in training; what is decoded has the target's units
    input_kind: ClassVar[str] = "outputs"
    """What a model has to give for it."""

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """What the model has to fit, given the data as they are."""
        if not spec.n_outputs:
            raise ValueError("regression follows a target: name one (target=envelope)")
        if self.loss in ("correlation", "cosine") and spec.n_outputs == 1 and not spec.is_sequence:
            raise ValueError(
                f"{self.loss} compares several numbers of a window, but this target is 1: take objective.loss=mse or l1"
            )
        return spec


@dataclass(frozen=True)
class Classification:
    """Tell the class of a window."""

    name: Literal["classification"] = "classification"
    focus: float = 0.0  # the focal loss, by how much what is told well counts less (Lin 2017: 2); 0: cross-entropy
    label_smoothing: float = 0.0  # the share of the truth that is spread over all classes
    balanced: bool = False  # a window counts less the more of its class there are: n / (classes x n of the class)
    input_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        if self.focus < 0:
            raise ValueError(f"focus must be 0 or above, got {self.focus}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """One output a class."""
        if len(spec.class_values) < 2:
            found = "follows the signal in time" if spec.is_sequence else f"has {spec.n_outputs} number(s) a window"
            if len(spec.class_values) == 1:
                found = f"is always {spec.classes[0]}"
            raise ValueError(
                f"classification needs a target of 2 classes or more, but this one {found}: "
                "name a label of the trials, or take objective=regression or clip"
            )
        return replace(spec, n_outputs=len(spec.class_values))


@dataclass(frozen=True)
class Clip:
    """Tell which of the batch's targets is a window's own: what is decoded is to be like it, and unlike the others.

    `symmetric` (Radford 2021): by the cosine over the temperature, from window to target and back. `speech` (Défossez
    2023): by the product with the target at length 1, from window to target only. While training, the targets of all
    ranks are candidates, so that the number of GPUs changes nothing.
    """

    name: Literal["clip"] = "clip"
    form: Literal["symmetric", "speech"] = "symmetric"
    temperature: float = 0.07  # of the symmetric form; the other has none
    mask_equal: bool = True  # a target that is in the batch twice, as of a stimulus shown twice, is no wrong answer
    input_kind: ClassVar[str] = "outputs"
    compares_windows: ClassVar[bool] = True
    """A window on its own would say nothing."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        if not spec.n_outputs:
            raise ValueError("clip looks for a window's own target: name one (target=envelope)")
        if spec.n_outputs == 1 and not spec.is_sequence:
            raise ValueError(
                "clip tells targets by their direction, but one number a window, as of this target, has none: "
                "take objective=regression or classification"
            )
        return spec

"""The parts that the configs of augmentations share. Each config is in its augmentation's file."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from hpc.config.choices import Choices

Partner = Literal["any", "same class"]
"""A window of the same step that a window is mixed with: any, or one of its own class."""


class AugmentationConfig(Protocol):
    """The config of an augmentation: a frozen dataclass in the file of its function.

    If it mixes windows, it has two more class variables or properties: `partners`, the kind of each window that a
    window is mixed with; and `mixes_targets`, whether targets are mixed too, so that classes become soft labels.
    """

    @property
    def name(self) -> str: ...


AUGMENTATIONS = Choices("eegdecode.augmentations", package="eegdecode.training.augmentations")
Augment = Annotated[AugmentationConfig, AUGMENTATIONS]


def partners_of(step: AugmentationConfig) -> tuple[Partner, ...]:
    """Return the kind of each window that a window is mixed with."""
    chosen: tuple[Partner, ...] = getattr(step, "partners", ())
    return chosen


def mixes_targets(step: AugmentationConfig) -> bool:
    """Whether a window's target becomes a mixture of several."""
    return bool(getattr(step, "mixes_targets", False))


def check_order(steps: Sequence[AugmentationConfig]) -> None:
    """Refuse an order that gives windows the targets of others."""
    for number, step in enumerate(steps):
        mixed = sorted({before.name for before in steps[:number] if mixes_targets(before)})
        if mixed and "same class" in partners_of(step):
            raise ValueError(
                f"list {step.name} before {' and '.join(mixed)}: after, it would put windows of one class under a "
                f"target that is mixed, got augment {', '.join(step.name for step in steps)}"
            )

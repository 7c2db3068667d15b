"""What is done to the windows of training, on the device, in the order in which it is listed.

All chance is a function of seed, step and the window's place in the global batch: the same on any number of ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Mixup:
    """Each window, and its target, mixed with another of the same step; the share is Beta(alpha, alpha) (Zhang 2018).
    Classes become shares of classes."""

    name: Literal["mixup"] = "mixup"
    alpha: float = 0.2

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


@dataclass(frozen=True)
class CutMix:
    """A stretch of time of each window comes from another of the same step; targets mix by its length (Yun 2019)."""

    name: Literal["cutmix"] = "cutmix"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


@dataclass(frozen=True)
class Recombine:
    """Each window put together of as many segments, each from some window of its class in the same step (Song 2023:
    segmentation and reconstruction). These come as they were read: what is listed before does not change them."""

    name: Literal["recombine"] = "recombine"
    segments: int = 8
    p: float = 0.5  # of the windows

    def __post_init__(self) -> None:
        if self.segments < 2 or not 0 < self.p <= 1:
            raise ValueError(f"needs 2 segments at least and p in (0, 1], got {self.segments} and {self.p}")


@dataclass(frozen=True)
class TimeShift:
    """Signals move against their targets by up to so much, each way; what leaves at one end comes in at the other."""

    name: Literal["time_shift"] = "time_shift"
    most_s: float = 0.05

    def __post_init__(self) -> None:
        if self.most_s <= 0:
            raise ValueError(f"most_s must be above 0 s, got {self.most_s}")


@dataclass(frozen=True)
class ChannelDropout:
    """Each channel of a window is silent with that probability; the others are raised so that the sum stays."""

    name: Literal["channel_dropout"] = "channel_dropout"
    p: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.p < 1:
            raise ValueError(f"p must lie between 0 and 1, got {self.p}")


@dataclass(frozen=True)
class Noise:
    """White noise, in units of the standard deviation of the window's channel."""

    name: Literal["noise"] = "noise"
    std: float = 0.1

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")


@dataclass(frozen=True)
class FrequencyShift:
    """The spectrum of a window moves by up to so much, each way (Rommel 2022)."""

    name: Literal["frequency_shift"] = "frequency_shift"
    most_hz: float = 1.0

    def __post_init__(self) -> None:
        if self.most_hz <= 0:
            raise ValueError(f"most_hz must be above 0 Hz, got {self.most_hz}")


@dataclass(frozen=True)
class SpecAugment:
    """Stretches of time and of neighbouring channels are silent, as for spectrograms (Park 2019)."""

    name: Literal["specaugment"] = "specaugment"
    times: int = 1
    longest_s: float = 0.2
    bands: int = 1
    widest: int = 4  # channels

    def __post_init__(self) -> None:
        if not 0 <= self.times <= 4 or not 0 <= self.bands <= 4 or self.longest_s <= 0 or self.widest < 1:
            raise ValueError(
                "times and bands must be 0 to 4 each, longest_s above 0 s and widest 1 at least, "
                f"got {self.times}, {self.bands}, {self.longest_s} and {self.widest}"
            )


Augment = Mixup | CutMix | Recombine | TimeShift | ChannelDropout | Noise | FrequencyShift | SpecAugment


def check_order(steps: Sequence[Augment]) -> None:
    """Refuse an order that gives windows the targets of others."""
    names = [step.name for step in steps]
    for number, name in enumerate(names):
        if name == "recombine" and (mixed := {"mixup", "cutmix"} & set(names[:number])):
            raise ValueError(
                f"list recombine before mixup and cutmix: after {' and '.join(sorted(mixed))} it would put windows of "
                f"one class under a target that is mixed, got augment {', '.join(names)}"
            )

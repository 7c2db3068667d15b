"""Augmentations of training windows, applied on the device in the order they are listed.

All randomness is derived from (seed, step, index in the global batch): the same on any number of ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Mixup:
    """Mix each window and its target with another of the same step; the share is Beta(alpha, alpha) (Zhang 2018).
    Classes become soft labels."""

    name: Literal["mixup"] = "mixup"
    alpha: float = 0.2  # both parameters of the Beta distribution of the share; larger: more even mixtures

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


@dataclass(frozen=True)
class CutMix:
    """Replace a stretch of time of each window by that of another of the same step; targets mix by its length (Yun
    2019)."""

    name: Literal["cutmix"] = "cutmix"
    alpha: float = 1.0  # both parameters of the Beta distribution of the share that is kept; 1: uniform

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


@dataclass(frozen=True)
class Recombine:
    """Assemble a window from so many segments, each of some window of its class in the same step (Song 2023:
    segmentation and reconstruction). Segments are taken as read: augmentations listed before do not change them."""

    name: Literal["recombine"] = "recombine"
    segments: int = 8  # equal segments of a window
    p: float = 0.5  # fraction of the windows that are assembled anew

    def __post_init__(self) -> None:
        if self.segments < 2 or not 0 < self.p <= 1:
            raise ValueError(f"needs 2 segments at least and p in (0, 1], got {self.segments} and {self.p}")


@dataclass(frozen=True)
class TimeShift:
    """Shift signals against their targets by up to so much, either way; what leaves at one end enters at the other."""

    name: Literal["time_shift"] = "time_shift"
    most_s: float = 0.05  # largest shift in seconds, one sample at least

    def __post_init__(self) -> None:
        if self.most_s <= 0:
            raise ValueError(f"most_s must be above 0 s, got {self.most_s}")


@dataclass(frozen=True)
class ChannelDropout:
    """Set each channel of a window to 0 with that probability; the others are scaled up to keep the expected sum."""

    name: Literal["channel_dropout"] = "channel_dropout"
    p: float = 0.1  # probability that a channel is set to 0

    def __post_init__(self) -> None:
        if not 0 < self.p < 1:
            raise ValueError(f"p must lie between 0 and 1, got {self.p}")


@dataclass(frozen=True)
class Noise:
    """Add white noise, in units of the standard deviation of the window's channel."""

    name: Literal["noise"] = "noise"
    std: float = 0.1  # standard deviation of the noise, over that of the window's channel

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")


@dataclass(frozen=True)
class FrequencyShift:
    """Shift the spectrum of a window by up to so much, either way (Rommel 2022)."""

    name: Literal["frequency_shift"] = "frequency_shift"
    most_hz: float = 1.0  # largest shift in Hz

    def __post_init__(self) -> None:
        if self.most_hz <= 0:
            raise ValueError(f"most_hz must be above 0 Hz, got {self.most_hz}")


@dataclass(frozen=True)
class SpecAugment:
    """Set stretches of time and of neighbouring channels to 0, as SpecAugment does for spectrograms (Park 2019)."""

    name: Literal["specaugment"] = "specaugment"
    times: int = 1  # number of stretches of time, 4 at most
    longest_s: float = 0.2  # longest stretch of time in seconds
    bands: int = 1  # number of stretches of channels, 4 at most
    widest: int = 4  # largest stretch of channels, as their number

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

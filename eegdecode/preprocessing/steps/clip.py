"""Clip large values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class Clip:
    """Clip larger values, as `scale` does; for where another step comes after it."""

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("clamp",)
    name: Literal["clip"] = "clip"
    limit: float = 20.0  # largest size of a value, in the units of the step before

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise ValueError(f"limit must be above 0, got {self.limit}")


def apply(cfg: Clip, stream: Stream, trials: Sequence[Trial]) -> Stream:
    return replace(stream, read=lambda first, stop: stream.read(first, stop).clip(-cfg.limit, cfg.limit))


def of_windows(cfg: Clip, windows: SingleWindows) -> SingleWindows:
    return replace(windows, clip=min(windows.clip, cfg.limit))

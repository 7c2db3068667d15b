"""Steps on single windows instead of a recording, for who gives nothing else, as the judge of a challenge."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class SingleWindows:
    """What steps do to single windows: a sample is mapped over the channels, then a window is scaled, then clipped.

    Parameters
    ----------
    stream
        Begins as the unit matrix. A step that maps channels is applied to it, so it becomes the matrix of all of them:
        row k is what channel k contributes to the new channels.
    band_hz
        The pass band of the windows as they are given.
    giver
        Who gives them, for messages.
    scale
        The method by which a window is scaled, that of the step `scale`; empty: not at all.
    clip
        Larger values are clipped to it.
    """

    stream: Stream
    band_hz: tuple[float, float]
    giver: str
    scale: Literal["", "robust", "standard"] = ""
    clip: float = math.inf

    def through(self, apply: Callable[[Any, Stream, Sequence[Trial]], Stream], cfg: Any) -> "SingleWindows":
        """After a step that maps channels, the same for each sample."""
        return replace(self, stream=apply(cfg, self.unscaled(cfg.name).stream, ()))

    def unscaled(self, step: str) -> "SingleWindows":
        """Itself; refuses a step that comes after scale or clip."""
        if self.scale or self.clip < math.inf:
            raise self.refused(step, "comes after scale or clip")
        return self

    def refused(self, step: str, why: str) -> ValueError:
        return ValueError(f"the step {step} {why}, but {self.giver} gives single windows: preprocess without it there")

    def narrowed(self, filter: str) -> ValueError:
        """The error about a filter that removes some of the band."""
        low, high = self.band_hz
        return ValueError(
            f"{filter} removes more than {self.giver}, who gives {low:g} to {high:g} Hz, in windows too short to "
            f"filter: preprocess with {{name: bandpass, low_hz: {low:g}, high_hz: null}}"
        )

"""Centre each channel, and scale it to unit spread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from eegdecode.preprocessing import statistics
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class Scale:
    """Centre each channel, and scale it to unit spread."""

    FORMER: ClassVar[dict[str, str]] = {"clamp": "clip"}
    name: Literal["scale"] = "scale"
    clip: float = 20.0  # in units of a channel's spread; larger values are artefacts and are clipped to it
    method: Literal["robust", "standard"] = "robust"
    """Robust: by median and quartiles, so that blinks do not set the scale; standard: by mean and standard
    deviation."""
    needs_whole: ClassVar[bool] = True
    unitless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.clip <= 0:
            raise ValueError(f"clip must be above 0, got {self.clip}")


def apply(cfg: Scale, stream: Stream, trials: Sequence[Trial]) -> Stream:
    if cfg.method == "standard":
        middle, spread = statistics.moments(stream)
    else:
        low, middle, high = statistics.quantiles(stream, (0.25, 0.5, 0.75))
        spread = (high - low) / 1.349  # the standard deviation, were it normal
    flat = spread <= 1e-7 * np.abs(middle)  # a dead channel stays zero
    centre = middle.astype(np.float32)
    factor = np.where(flat, 0, 1 / np.where(flat, 1, spread)).astype(np.float32)

    def read(first: int, stop: int) -> np.ndarray:
        data = (stream.read(first, stop) - centre).astype(np.float32, copy=False)
        data *= factor
        return data.clip(-cfg.clip, cfg.clip, out=data)

    return replace(stream, read=read)


def of_windows(cfg: Scale, windows: SingleWindows) -> SingleWindows:
    """Each window by its own spread, instead of that of the recording."""
    return replace(windows.unscaled(cfg.name), scale=cfg.method, clip=cfg.clip)

"""Multiply all channels by a factor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class Gain:
    """Multiply all channels by a factor: from volt to the unit that a model was trained with."""

    name: Literal["gain"] = "gain"
    factor: float = 1e3  # what samples are multiplied by; 1000 is volt to millivolt, as for EEGPT
    unitless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.factor) or self.factor == 0:
            raise ValueError(f"factor must be a number other than 0, got {self.factor}")


def apply(cfg: Gain, stream: Stream, trials: Sequence[Trial]) -> Stream:
    return replace(stream, read=lambda first, stop: stream.read(first, stop) * np.float32(cfg.factor))

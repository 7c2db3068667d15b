"""A target: its config, and its values on the clock of the recording."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eegdecode.signals import Sensor, Stream, Trial


@dataclass(frozen=True)
class MyRamp:
    """The time since the beginning of the recording."""

    name: Literal["mylab_ramp"] = "mylab_ramp"
    sfreq: float = 10.0  # Hz


def make(cfg: MyRamp, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    def read(first: int, stop: int) -> np.ndarray:
        return (np.arange(first, stop, dtype=np.float32) / np.float32(cfg.sfreq * duration_s))[:, None]

    return Stream(("ramp",), cfg.sfreq, round(duration_s * cfg.sfreq), read, {"ramp": Sensor("misc")})

"""The number of the film's frame that was shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.data.events.events import FPS
from eegdecode.data.targets.parts import clock
from eegdecode.signals import Sensor, Stream, Trial


@dataclass(frozen=True)
class Frame:
    """The number of the film's frame that was shown, from 0; -1 where none was."""

    name: Literal["frame"] = "frame"
    sfreq: float = 64.0  # rate in Hz at which it is stored
    fps: float | None = None  # frames a second; by default from the events or the film's name

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or (self.fps is not None and self.fps <= 0):
            raise ValueError(f"frame needs rates above 0, got sfreq {self.sfreq} Hz and {self.fps} fps")


def make(cfg: Frame, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    def number(trial: Trial, times_s: np.ndarray) -> np.ndarray:
        labelled = trial.labels.get(FPS)
        given = float(labelled) if cfg.fps is None and labelled is not None else cfg.fps
        return np.floor(times_s * stimuli.fps(trial.stimulus, given) + 1e-6)[:, None]

    return clock.on_clock(trials, duration_s, cfg.sfreq, {"frame0": Sensor("stim")}, number, outside=-1.0)

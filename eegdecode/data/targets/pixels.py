"""The frames of the film that was shown, small."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.data.io.readers import decoded
from eegdecode.data.io.recordings import stimulus_file
from eegdecode.data.targets.parts import clock
from eegdecode.signals import Sensor, Stream, Trial


@dataclass(frozen=True)
class Pixels:
    """The frames of the film that was shown, each pixel from 0 to 1: [time, height x width (x colour)]. Needs the
    package av: the extra `film`."""

    name: Literal["pixels"] = "pixels"
    sfreq: float = 8.0  # rate in Hz at which they are stored
    width: int = 16  # pixels
    height: int = 9  # pixels
    grey: bool = True  # one value a pixel; false: red, green and blue

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or not (1 <= self.width <= 4096 and 1 <= self.height <= 4096):
            raise ValueError(
                f"pixels needs a rate above 0 Hz and 1 to 4096 pixels a side, got {self.sfreq} Hz and "
                f"{self.width} x {self.height}"
            )


def make(cfg: Pixels, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    colours = ("",) if cfg.grey else ("r", "g", "b")
    names = [f"pixel{y}-{x}{c}" for y in range(cfg.height) for x in range(cfg.width) for c in colours]

    def opened(stimulus: str) -> Stream:
        film = decoded.frames(stimulus_file(study, stimulus), cfg.width, cfg.height, cfg.grey)
        rows = film.pixels.reshape(len(film.pixels), -1)
        return Stream(
            tuple(names), film.fps, len(rows), lambda first, stop: np.asarray(rows[first:stop], np.float32) / 255
        )

    sensors = dict.fromkeys(names, Sensor("misc"))
    return clock.of_stimuli(cfg.name, opened, trials, duration_s, cfg.sfreq, sensors, nearest=True)


def files(cfg: Pixels, trials: Sequence[Trial], study: Path) -> set[Path]:
    return {stimulus_file(study, stimuli.whole(trial.stimulus)[0]) for trial in trials}


def stimulus_end(cfg: Pixels, stimulus: str, study: Path) -> tuple[Path, float]:
    path = stimulus_file(study, stimulus)
    film = decoded.frames(path, cfg.width, cfg.height, cfg.grey)
    return path, len(film.pixels) / film.fps

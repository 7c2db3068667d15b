"""What targets that are computed from the sound of each trial have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eegdecode.data.events import stimuli
from eegdecode.data.io import audio
from eegdecode.data.targets.parts import clock
from eegdecode.signals import Sensor, Stream, Trial


def features(
    name: str,
    n_features: int,
    compute: Callable[[Stream], Stream],
    trials: Sequence[Trial],
    study: Path,
    duration_s: float,
    sfreq: float,
    nearest: bool | None = None,
) -> Stream:
    """The features of the sounds of trials, on the recording's clock; `compute` gives those of a whole sound."""

    def opened(stimulus: str) -> Stream:
        return compute(audio.open_sound(audio.file_of(study, stimulus)))

    sensors = {f"{name}{index}": Sensor("misc") for index in range(n_features)}
    return clock.of_stimuli(name, opened, trials, duration_s, sfreq, sensors, nearest=nearest)


def files(cfg: Any, trials: Sequence[Trial], study: Path) -> set[Path]:
    return {audio.file_of(study, stimuli.whole(trial.stimulus)[0]) for trial in trials}


def stimulus_end(cfg: Any, stimulus: str, study: Path) -> tuple[Path, float]:
    path = audio.file_of(study, stimulus)
    return path, audio.header(path).duration_s

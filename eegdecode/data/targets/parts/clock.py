"""What trials present, on the clock of the recording: the values of a stimulus while it is presented, 0 elsewhere."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.data.targets.parts.lookup import inside
from eegdecode.signals import Sensor, Stream, Trial

OPEN_STIMULI = 4  # stimuli whose streams stay open, as trials of one stimulus are near each other
"""Each keeps the blocks that it computed last, see `blocks`."""


def of_stimuli(
    name: str,
    opened: Callable[[str], Stream],
    trials: Sequence[Trial],
    duration_s: float,
    sfreq: float,
    sensors: Mapping[str, Sensor] | None = None,
    start_s: float = 0.0,
    nearest: bool | None = None,
) -> Stream:
    """The streams of stimuli, on the recording's clock.

    Parameters
    ----------
    name
        Of the target, for messages.
    opened
        Gives the stream of a stimulus by its name.
    sensors
        Its features; by default those of the first stimulus.
    start_s
        The time of its first row in seconds from the start of the stimulus.
    nearest
        See `lookup`.
    """
    opened = functools.lru_cache(maxsize=OPEN_STIMULI)(opened)
    features = opened(stimuli.whole(trials[0].stimulus)[0]).sensors if sensors is None else sensors

    def values_at(trial: Trial, times_s: np.ndarray) -> np.ndarray:
        stimulus, _ = stimuli.whole(trial.stimulus)
        rows = opened(stimulus)
        if rows.n_channels != len(features):
            raise ValueError(
                f"{name} has {len(features)} features for the first stimulus, but {rows.n_channels} for {stimulus}: "
                "compute all with one model"
            )
        return inside(rows, times_s - start_s, nearest)

    return on_clock(trials, duration_s, sfreq, features, values_at)


def on_clock(
    trials: Sequence[Trial],
    duration_s: float,
    sfreq: float,
    sensors: Mapping[str, Sensor],
    values_at: Callable[[Trial, np.ndarray], np.ndarray],
    outside: float = 0.0,
) -> Stream:
    """`values_at(trial, seconds of its stimulus)` on the recording's clock, within trials only."""
    in_order = sorted(trials, key=lambda trial: trial.start)
    for trial, following in pairwise(in_order):
        if trial.start + trial.duration > following.start + 0.5 / sfreq:
            raise ValueError(
                f"trials at {trial.start:.2f} s and {following.start:.2f} s overlap, but a stream has one stimulus "
                "at a time: take a target with one value a trial, or trials that do not overlap"
            )
    spans = [_span(trial, sfreq) for trial in in_order]

    def read(first: int, stop: int) -> np.ndarray:
        data = np.full((stop - first, len(sensors)), outside, np.float32)
        for trial, (begin, end) in zip(in_order, spans, strict=True):
            begin, end = max(begin, first), min(end, stop)
            if begin < end:
                _, piece_s = stimuli.whole(trial.stimulus)
                since_s = np.arange(begin, end) / sfreq - trial.start
                data[begin - first : end - first] = values_at(trial, piece_s + since_s * speed(trial))
        return data

    return Stream(tuple(sensors), sfreq, round(duration_s * sfreq), read, sensors)


def _span(trial: Trial, sfreq: float) -> tuple[int, int]:
    """The samples within a trial, its end excluded: no sample is in two trials."""
    begin, end = (math.ceil(time_s * sfreq - 1e-6) for time_s in (trial.start, trial.start + trial.duration))
    return begin, end


def speed(trial: Trial) -> float:
    """Seconds of the stimulus a second of the recording."""
    return float(trial.labels.get(stimuli.SPEED, 1.0))

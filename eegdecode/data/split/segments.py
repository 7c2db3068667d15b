"""A segment is a trial, or a part of one, in the training, validation or test set."""

import math
from bisect import bisect_left
from dataclasses import dataclass

from eegdecode.data.config import EpochWindows, Windows
from eegdecode.data.store.dataset import Stored
from eegdecode.signals import Trial


@dataclass(frozen=True)
class Segment:
    """One trial of one recording, or the part `within` it; `recording` is an index in the store's order."""

    recording: int
    trial: Trial
    within: tuple[float, float] = (0.0, 1.0)  # start and stop, as fractions of the trial

    @property
    def seconds(self) -> tuple[float, float]:
        """The start and stop in the recording."""
        start, stop = (self.trial.start + share * self.trial.duration for share in self.within)
        return start, stop


def n_samples(length_s: float, sfreq: float) -> int:
    return round(length_s * sfreq)


def first_sample(trial: Trial, stored: Stored) -> int:
    """Return the first sample at or after a trial's start; one earlier if the trial would otherwise exceed the
    recording."""
    first = math.ceil(trial.start * stored.sfreq - 1e-6)
    return first - (first + n_samples(trial.duration, stored.sfreq) == stored.n_times + 1)


def bounds(segment: Segment, stored: Stored) -> tuple[int, int]:
    """Return the first sample and the end of a segment. Trials of one duration have equally many samples.

    Where that is rounded up, the last sample may be the first of the next trial, and belongs to that one.
    """
    trial = segment.trial
    first = first_sample(trial, stored)
    end = min(first + n_samples(trial.duration, stored.sfreq), stored.n_times)
    after = bisect_left(stored.in_order, trial.start + trial.duration - 1e-6, key=lambda other: other.start)
    if after < len(stored.in_order):
        end = min(end, first_sample(stored.in_order[after], stored))
    start, stop = (first + round(share * (end - first)) for share in segment.within)
    return start, stop


def epoch(cfg: EpochWindows, segment: Segment, stored: Stored) -> tuple[int, int]:
    """Return the first sample and the length of the window around a trial's first sample."""
    start = first_sample(segment.trial, stored) + n_samples(cfg.tmin_s, stored.sfreq)
    return start, n_samples(cfg.tmax_s - cfg.tmin_s, stored.sfreq)


def extent(cfg: Windows, segment: Segment, stored: Stored) -> tuple[int, int]:
    """Return the first sample and the end of what a set reads of a trial: the trial, and its epoch if it has one."""
    first, end = bounds(segment, stored)
    if isinstance(cfg, EpochWindows):
        start, n_times = epoch(cfg, segment, stored)
        first, end = min(first, start), max(end, start + n_times)
    return first, end

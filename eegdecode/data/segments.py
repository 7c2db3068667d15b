"""A segment is a trial of a recording, or a stretch of one, that a part gets; which samples are its own, and which its
window looks at."""

import math
from dataclasses import dataclass

from eegdecode.data import LockedWindows, Windows
from eegdecode.data.stored import Stored
from eegdecode.signals import Trial


@dataclass(frozen=True)
class Segment:
    """One trial of one recording, or from where to where in it; `recording` counts in the store's order."""

    recording: int
    trial: Trial
    within: tuple[float, float] = (0.0, 1.0)  # of the trial

    @property
    def seconds(self) -> tuple[float, float]:
        """Of the recording, from and to."""
        start, stop = (self.trial.start + share * self.trial.duration for share in self.within)
        return start, stop


def n_samples(length_s: float, sfreq: float) -> int:
    return round(length_s * sfreq)


def bounds(segment: Segment, stored: Stored, length_s: float) -> tuple[int, int]:
    """The first and the last sample at which a window of that length can start and stay within the trial."""
    (start, stop), sfreq = segment.seconds, stored.sfreq
    first_sample = math.ceil(start * sfreq - 1e-6)
    end = min(math.floor(stop * sfreq + 1e-6), stored.n_times)
    return first_sample, end - n_samples(length_s, sfreq)


def locked(cfg: LockedWindows, segment: Segment, stored: Stored) -> tuple[int, int]:
    """The first sample and the length of the window around a trial's start."""
    return round((segment.trial.start + cfg.tmin_s) * stored.sfreq), n_samples(cfg.tmax_s - cfg.tmin_s, stored.sfreq)


def looked_at(cfg: Windows, segment: Segment, stored: Stored) -> tuple[int, int]:
    """From which sample to which a part sees what it has of a trial: the trial, and its window where that is locked."""
    first, end = bounds(segment, stored, 0.0)
    if isinstance(cfg, LockedWindows):
        start, n_times = locked(cfg, segment, stored)
        first, end = min(first, start), max(end, start + n_times)
    return first, end

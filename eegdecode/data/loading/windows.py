"""Cut windows from trials. A window is a recording, a first sample and a length; draw.py decides when each is drawn.

No window crosses the end of a trial, or of a segment of one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eegdecode.data.config import BucketedWindows, EpochWindows, GridWindows, Windows
from eegdecode.data.split.segments import Segment, bounds, epoch, n_samples
from eegdecode.data.store.dataset import Store, Stored


class Places(NamedTuple):
    """Windows, one a row. `trial` is an index in the recording, `start` and `n_times` are samples."""

    recording: np.ndarray
    trial: np.ndarray
    start: np.ndarray
    n_times: np.ndarray

    def take(self, rows: np.ndarray | slice) -> "Places":
        return Places(*(column[rows] for column in self))


@dataclass(frozen=True)
class Views:
    """Windows as an indexable dataset: `views[i]` is a view of the file's bytes. Its pickle holds no samples."""

    store: Store
    places: Places

    def __len__(self) -> int:
        return len(self.places.start)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return [time, channel], read-only; a copy in float32 if the file has int16."""
        recording, _, start, n_times = (int(column[index]) for column in self.places)
        stored = self.store.recordings[recording]
        window = slice(start, start + n_times)
        return stored.signal[window] if stored.scale is None else stored.read(window.start, window.stop)


def cut(cfg: Windows, segments: Sequence[Segment], recordings: Sequence[Stored]) -> tuple[Places, np.ndarray]:
    """Return all windows of a grid, or all epochs; for other kinds the whole trials, from which windows are drawn.

    The second value is the index of the segment of each.
    """
    numbers: dict[int, dict[object, int]] = {}
    rows: list[tuple[int, ...]] = []
    for which, segment in enumerate(segments):
        stored = recordings[segment.recording]
        if segment.recording not in numbers:
            numbers[segment.recording] = {trial: number for number, trial in enumerate(stored.trials)}
        number = numbers[segment.recording][segment.trial]
        for start, n_times in _stretches(cfg, segment, stored):
            rows.append((segment.recording, number, start, n_times, which))
    if isinstance(cfg, EpochWindows) and not cfg.overlap:
        _refuse_overlap(rows, recordings)
    *places, origin = np.array(rows, np.int64).reshape(-1, 5).T.copy()
    return Places(*places), origin


def _stretches(cfg: Windows, segment: Segment, stored: Stored) -> Iterator[tuple[int, int]]:
    """Yield first sample and length of each window of one trial."""
    trial, sfreq = segment.trial, stored.sfreq
    if isinstance(cfg, EpochWindows):
        start, n_times = epoch(cfg, segment, stored)
        if start < 0 or start + n_times > stored.n_times:
            raise ValueError(
                f"the window from {cfg.tmin_s:g} to {cfg.tmax_s:g} s after {_say(trial.stimulus, trial.start, stored)} "
                f"leaves the recording, which lasts {stored.n_times / sfreq:.2f} s: shorten it, or leave the trial out"
            )
        yield start, n_times
        return
    first, end = bounds(segment, stored)
    if isinstance(cfg, BucketedWindows):
        yield first, end - first
        return
    n_times = n_samples(cfg.length_s, sfreq)
    if n_times < 1:
        raise ValueError(f"a window of {cfg.length_s} s has no sample at {sfreq:g} Hz: lengthen it")
    if end - first < n_times:
        raise ValueError(
            f"a window of {cfg.length_s} s does not fit into {trial.stimulus} of {stored.name}, which lasts "
            f"{trial.duration:.2f} s ({n_times} samples, where there are {end - first}): shorten the window"
        )
    if not isinstance(cfg, GridWindows):
        yield first, end - first
        return
    stride = n_times if cfg.stride_s is None else n_samples(cfg.stride_s, sfreq)
    if stride < 1:
        raise ValueError(f"stride_s is {cfg.stride_s} s, less than a sample at {sfreq:g} Hz: lengthen it")
    for start in range(first, end - n_times + 1, stride):
        yield start, n_times


def n_baseline(cfg: Windows, sfreq: float) -> int:
    """Return the number of samples of the baseline at a window's start; 0 for no baseline correction."""
    return max(1, n_samples(cfg.baseline_s, sfreq)) if cfg.baseline_s else 0


def whole(segment: Segment, stored: Stored) -> Places:
    """Return all of a trial as one window."""
    first, end = bounds(segment, stored)
    row = (segment.recording, stored.trials.index(segment.trial), first, end - first)
    return Places(*(np.array([value]) for value in row))


def in_patches(n_times: int, cfg: Windows, sfreq: float) -> int:
    """Return the number of samples of a window, filled up to whole patches."""
    up = -(-n_times // cfg.patch) * cfg.patch
    if up != n_times and not cfg.wrap:
        nearest = " or ".join(f"{n / sfreq:g} s ({n} samples)" for n in (up - cfg.patch, up) if n)
        raise ValueError(
            f"a window of {n_times} samples is {n_times / cfg.patch:g} patches of {cfg.patch}: take {nearest}, "
            f"or set windows.wrap=true, which repeats its start at its end up to {up}"
        )
    return up


def _refuse_overlap(rows: Sequence[tuple[int, ...]], recordings: Sequence[Stored]) -> None:
    """Refuse a window that reaches into another trial, which may be in another set."""
    sorted_trials: dict[int, tuple[list[int], np.ndarray, np.ndarray, np.ndarray]] = {}
    for recording, number, start, n_times, _ in rows:
        stored = recordings[recording]
        if recording not in sorted_trials:
            by_start = sorted(range(len(stored.trials)), key=lambda index: stored.trials[index].start)
            stretches = [bounds(Segment(recording, stored.trials[index]), stored) for index in by_start]
            starts, ends = np.array(stretches).T
            sorted_trials[recording] = (by_start, np.argsort(by_start), starts, np.maximum.accumulate(ends))
        by_start, place_of, starts, last_ends = sorted_trials[recording]
        place = int(place_of[number])
        before = place > 0 and last_ends[place - 1] > start
        if before or (place + 1 < len(starts) and starts[place + 1] < start + n_times):
            trial, other = stored.trials[number], stored.trials[by_start[place - 1 if before else place + 1]]
            raise ValueError(
                f"the window of {_say(trial.stimulus, trial.start, stored)} reaches into {other.stimulus} "
                f"at {other.start:.2f} s: shorten it, or set windows.overlap=true"
            )


def _say(stimulus: str, start: float, stored: Stored) -> str:
    return f"{stimulus} at {start:.2f} s of {stored.name}"

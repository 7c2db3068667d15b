"""Which window is drawn at which step, and its samples. Pure in (seed, step): no state, any step at once."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eegdecode.data.splits import Segment
from eegdecode.data.stored import Store, Stored

_ORDER, _START = 2, 3  # tell the draws of one seed from each other


def train_windows(
    segments: Sequence[Segment], stored: Sequence[Stored], length_s: float, batch: int, seed: int, step: int
) -> list[tuple[int, int]]:
    """The global batch of a step, as (recording, first sample). A rank takes its `[rank::size]` of it.

    Every segment comes once an epoch, in an order of that epoch; the window starts at random within the trial.
    """
    shortest = min(segments, key=lambda segment: segment.trial.duration)
    first_sample, last_start = bounds(shortest, stored[shortest.recording], length_s)
    if last_start < first_sample:
        name = stored[shortest.recording].name
        raise ValueError(
            f"a window of {length_s} s does not fit into {shortest.trial.stimulus} of {name}, "
            f"which lasts {shortest.trial.duration:.2f} s: shorten the window"
        )
    place = np.random.default_rng(np.random.SeedSequence([seed, _START, step])).random(batch)
    drawn: list[tuple[int, int]] = []
    for index, fraction in zip(range(step * batch, (step + 1) * batch), place, strict=True):
        epoch, position = divmod(index, len(segments))
        if not drawn or position == 0:
            order = np.random.default_rng(np.random.SeedSequence([seed, _ORDER, epoch])).permutation(len(segments))
        segment = segments[order[position]]
        first_sample, last_start = bounds(segment, stored[segment.recording], length_s)
        drawn.append((segment.recording, first_sample + int(fraction * (last_start - first_sample + 1))))
    return drawn


def bounds(segment: Segment, stored: Stored, length_s: float) -> tuple[int, int]:
    """The first and the last sample at which a window of that length can start and stay within the trial."""
    trial, sfreq = segment.trial, stored.sfreq
    first_sample = math.ceil(trial.start * sfreq - 1e-6)
    end = min(math.floor((trial.start + trial.duration) * sfreq + 1e-6), stored.n_times)
    return first_sample, end - n_samples(length_s, sfreq)


def n_samples(length_s: float, sfreq: float) -> int:
    return round(length_s * sfreq)


class Gathered(NamedTuple):
    """Windows of one length, in fresh arrays."""

    signal: np.ndarray  # [window, time, channel]
    target: np.ndarray  # [window, time, feature]
    subject: np.ndarray  # [window], a place in the subjects of the store


def gather(store: Store, recording: Sequence[int], starts: Sequence[int], length: int, target: str) -> Gathered:
    """The samples of windows, copied from the files."""
    spec = store.recordings[recording[0]]
    x = np.empty((len(starts), length, len(spec.channels)), np.float32)
    y = np.empty((len(starts), length, spec.n_outputs(target)), np.float32)
    for row, (index, start) in enumerate(zip(recording, starts, strict=True)):
        stored = store.recordings[index]
        if stored.target_sfreq(target) != stored.sfreq:
            raise ValueError(
                f"{stored.name} has its signal at {stored.sfreq:g} Hz "
                f"but {target} at {stored.target_sfreq(target):g} Hz: preprocess both to the same rate"
            )
        x[row] = stored.signal[start : start + length]
        y[row] = stored.target(target)[start : start + length]
    place = {subject: index for index, subject in enumerate(store.subjects)}
    return Gathered(x, y, np.array([place[store.recordings[index].subject] for index in recording]))

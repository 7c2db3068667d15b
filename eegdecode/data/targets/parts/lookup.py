"""Look up the values of a stream, or of a signal, at any times."""

import numpy as np

from eegdecode.signals import Signal, Stream

NEAR = 1024  # samples; those further apart are read separately


def inside(rows: Stream, times_s: np.ndarray, nearest: bool | None = None) -> np.ndarray:
    """The values within the stream, and 0 outside. The last row lasts as long as the others."""
    within = (times_s > -1e-9) & (times_s < rows.duration - 1e-9)
    values = np.zeros((len(times_s), rows.n_channels), np.float32)
    if all(rows.sensor(name).kind == "stim" for name in rows.channels):
        times_s = np.floor(times_s * rows.sfreq + 1e-6) / rows.sfreq  # a state holds until the next
    values[within] = lookup(rows, times_s[within], nearest)
    return values


def lookup(rows: Stream, times_s: np.ndarray, nearest: bool | None = None) -> np.ndarray:
    """[time, feature] at any times: interpolated linearly, or the nearest sample; states (frames) take the nearest."""
    if not len(times_s):
        return np.empty((0, rows.n_channels), np.float32)
    at = np.clip(np.asarray(times_s, float) * rows.sfreq, 0, rows.n_times - 1)
    closest = np.floor(at + 0.5).astype(int)
    states = np.array([rows.sensor(name).kind == "stim" if nearest is None else nearest for name in rows.channels])
    exact = np.abs(at - closest) < 1e-6
    if states.all() or exact.all():
        return _samples(rows, closest)
    before = np.where(exact, closest, np.floor(at).astype(int))
    after = np.minimum(before + 1, rows.n_times - 1)
    low, high = _samples(rows, before), _samples(rows, after)
    part = np.where(exact, 0, at - before)[:, None]
    return np.where(states, np.where(part < 0.5, low, high), low + part * (high - low)).astype(np.float32)


def _samples(rows: Stream, index: np.ndarray) -> np.ndarray:
    """The samples at these indices; neighbours are read in one piece."""
    if index.max() - index.min() < 4 * len(index) + NEAR:
        first = int(index.min())
        return rows.read(first, int(index.max()) + 1)[index - first].astype(np.float32)
    needed = np.unique(index)
    near = np.split(needed, np.flatnonzero(np.diff(needed) > NEAR) + 1)
    values = np.concatenate([rows.read(int(some[0]), int(some[-1]) + 1)[some - some[0]] for some in near])
    return values[np.searchsorted(needed, index)].astype(np.float32)


def value_at(signal: Signal, times_s: np.ndarray) -> np.ndarray:
    """[time, feature] at any times, interpolated from a strongly oversampled signal."""
    clock = np.arange(signal.n_times) / signal.sfreq
    return np.stack([np.interp(times_s, clock, feature) for feature in signal.data.T], axis=1)

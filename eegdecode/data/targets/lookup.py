"""The values of a stream at any times."""

import numpy as np

from eegdecode.signals import Stream

NEAR = 1024  # samples; what is further apart is read apart


def inside(rows: Stream, times_s: np.ndarray, nearest: bool | None = None) -> np.ndarray:
    """Its values where it has some, else 0. The last row lasts as long as the others do."""
    there = (times_s > -1e-9) & (times_s < rows.duration - 1e-9)
    found = np.zeros((len(times_s), rows.n_channels), np.float32)
    if all(rows.sensor(name).kind == "stim" for name in rows.channels):
        times_s = np.floor(times_s * rows.sfreq + 1e-6) / rows.sfreq  # a state holds until the next
    found[there] = lookup(rows, times_s[there], nearest)
    return found


def lookup(found: Stream, times_s: np.ndarray, nearest: bool | None = None) -> np.ndarray:
    """[time, feature] at any times: between two samples in proportion, or the nearest: of states as frames, always."""
    if not len(times_s):
        return np.empty((0, found.n_channels), np.float32)
    at = np.clip(np.asarray(times_s, float) * found.sfreq, 0, found.n_times - 1)
    closest = np.floor(at + 0.5).astype(int)
    states = np.array([found.sensor(name).kind == "stim" if nearest is None else nearest for name in found.channels])
    exact = np.abs(at - closest) < 1e-6
    if states.all() or exact.all():
        return _samples(found, closest)
    before = np.where(exact, closest, np.floor(at).astype(int))
    after = np.minimum(before + 1, found.n_times - 1)
    low, high = _samples(found, before), _samples(found, after)
    part = np.where(exact, 0, at - before)[:, None]
    return np.where(states, np.where(part < 0.5, low, high), low + part * (high - low)).astype(np.float32)


def _samples(found: Stream, index: np.ndarray) -> np.ndarray:
    """Some samples; those near each other are read at once."""
    if index.max() - index.min() < 4 * len(index) + NEAR:
        first = int(index.min())
        return found.read(first, int(index.max()) + 1)[index - first].astype(np.float32)
    needed = np.unique(index)
    near = np.split(needed, np.flatnonzero(np.diff(needed) > NEAR) + 1)
    rows = np.concatenate([found.read(int(some[0]), int(some[-1]) + 1)[some - some[0]] for some in near])
    return rows[np.searchsorted(needed, index)].astype(np.float32)

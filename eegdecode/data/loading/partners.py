"""The partners with which augmentations mix windows: the same on any number of ranks."""

from collections.abc import Sequence

import numpy as np

from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.order import key, permuted
from eegdecode.data.loading.windows import Places
from eegdecode.data.store.dataset import Stored

_ANY, _SAME = 12, 13  # separate the draws of one seed from each other, and from those of draw.py


class Partners:
    """For each window of a step, partners from the same step, as a Draw for a second Loader.

    Parameters
    ----------
    draw
        The draw of training; its windows have one length.
    same
        For each partner, whether it must be of the window's class; if not, each window is the partner of exactly one.
    target, recordings
        The source of the classes, if they are needed.
    """

    def __init__(self, draw: Draw, same: Sequence[bool], target: str, recordings: Sequence[Stored]) -> None:
        if draw.one_length is None:
            raise ValueError("windows that are mixed must have one length: choose other windows than buckets")
        self.draw, self.cfg, self.same = draw, draw.cfg, tuple(same)
        self.batch, self.longest = draw.batch * len(self.same), draw.longest
        self._classes: dict[int, np.ndarray] = {}
        self._target, self._recordings = target, recordings
        if any(self.same) and f"values/{target}" not in recordings[0].blocks:
            raise ValueError(
                f"windows are to be mixed with those of their class, but {target or 'no target'} has no classes: leave "
                "out the augmentation that does so, as recombine, or decode a label"
            )

    def length(self, batch: Places) -> int:
        return self.longest

    def at(self, steps: Sequence[int] | np.ndarray) -> Places:
        """Return the first partner of each window, then the second: `[rank::size]` belongs to that rank's windows."""
        steps = np.asarray(steps, np.int64)
        n, drawn = self.draw.batch, self.draw.at(steps)
        rows = np.arange(n)
        chosen = np.empty((len(steps), len(self.same), n), np.int64)
        for number, same in enumerate(self.same):
            if same:
                for index, step in enumerate(steps):
                    classes = self._classes_of(drawn.take(slice(index * n, index * n + n)))
                    chosen[index, number] = _mates(classes, key(self.draw.seed, _SAME, number, step * n + rows))
            else:
                keys = key(self.draw.seed, _ANY, number, steps)[:, None]
                chosen[:, number] = permuted(n, np.broadcast_to(rows, (len(steps), n)), keys)
        return drawn.take((chosen + (np.arange(len(steps)) * n)[:, None, None]).ravel())

    def _classes_of(self, places: Places) -> np.ndarray:
        classes = np.empty(len(places.start))
        for row, (recording, trial) in enumerate(zip(places.recording.tolist(), places.trial.tolist(), strict=True)):
            if recording not in self._classes:
                self._classes[recording] = np.array(self._recordings[recording].values(self._target)[:, 0])
            classes[row] = self._classes[recording][trial]
        return classes


def _mates(classes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return for each row a random row of its class."""
    members = np.argsort(classes, kind="stable")
    _, of, counts = np.unique(classes, return_inverse=True, return_counts=True)
    firsts = np.cumsum(counts) - counts
    within = ((keys >> np.uint64(32)) * counts[of].astype(np.uint64) >> np.uint64(32)).astype(np.int64)
    return members[firsts[of] + within]

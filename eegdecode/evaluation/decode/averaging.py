"""Average the windows of a subject that show the same stimulus, before they are decoded: what is noise becomes smaller.

    averaging = by_stimulus(batches, data)
    averaging.batches                            the same windows, those of a stimulus in one batch
    averaging.mean(number, signal)               of a batch [window, …]: one row a stimulus

THINGS-EEG2's test pictures are shown eighty times each, and decoded so.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eegdecode.data.loading.windows import Places
from eegdecode.data.store.dataset import Store


@dataclass(frozen=True)
class Averaging:
    """`firsts`: of each batch, the row at which the windows of each stimulus begin."""

    batches: list[Places]
    firsts: list[np.ndarray]

    @property
    def counts(self) -> np.ndarray:
        """How many windows each average is of."""
        pairs = zip(self.firsts, self.batches, strict=True)
        return np.concatenate([np.diff([*first.tolist(), len(places.start)]) for first, places in pairs])

    def mean(self, number: int, values: np.ndarray) -> np.ndarray:
        """[window, …] -> [average, …]"""
        first = self.firsts[number]
        sums = np.add.reduceat(values, first, axis=0, dtype=np.float64)
        n = np.diff([*first.tolist(), len(values)]).reshape(-1, *(1,) * (values.ndim - 1))
        return (sums / n).astype(values.dtype)

    def sentence(self) -> str:
        counts = self.counts
        many = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        return (
            f"Windows of a subject with the same stimulus are averaged before they are decoded: {counts.sum()} windows "
            f"are {len(counts)} averages of {many}."
        )


def by_stimulus(batches: Sequence[Places], data: Store) -> Averaging:
    """The windows in the order of subjects, stimuli, and their place within a trial; whole averages in each batch."""
    every = Places(*(np.concatenate(columns) for columns in zip(*batches, strict=True)))
    size = max(len(places.start) for places in batches)
    met: Counter[tuple[int, int]] = Counter()
    keys: list[tuple[str, str, int]] = [("", "", 0)] * len(every.start)
    for row in np.lexsort((every.start, every.trial, every.recording)):
        recording, trial = int(every.recording[row]), int(every.trial[row])
        stored = data.recordings[recording]
        keys[row] = stored.subject, stored.trials[trial].stimulus, met[recording, trial]
        met[recording, trial] += 1
    groups: dict[tuple[str, str, int], list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    averaging = Averaging([], [])
    rows: list[int] = []
    first: list[int] = []
    for number, key in enumerate(sorted(groups), 1):
        first.append(len(rows))
        rows += groups[key]
        if len(rows) >= size or number == len(groups):
            averaging.batches.append(every.take(np.array(rows)))
            averaging.firsts.append(np.array(first))
            rows, first = [], []
    return averaging

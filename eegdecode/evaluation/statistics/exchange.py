"""What a null may permute: the largest parts of a design that could have had each other's classes.

Windows of a trial share its class, the trials of a block theirs, and if a recording has one class, so do all of its
windows: they drift together, so only whole trials, blocks or recordings are exchangeable. It goes by the order of the
classes alone, never by the outputs.

    trials      of a recording, if their order is as random as chance makes it
    blocks      of a recording, if its classes change less often than that: those of one length, or each run of a class
    recordings  of a subject, if each has one class
    subjects    if all of a subject's windows have one
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import exp, gcd, lgamma

import numpy as np

from eegdecode.evaluation.statistics.nulls import ALPHA, draws

BLOCKS = 11  # separates these draws from others of the same seed
N_ORDERS = 999
MOST_EXACT = 30.0  # a logarithm: numbers that are whole in float64
KINDS = ("trial", "block", "recording", "subject")


@dataclass(frozen=True)
class Units:
    """The exchangeable units of a test set.

    Parameters
    ----------
    of
        [window]: its unit.
    within
        [window]: the units with the same number here exchange their classes.
    counts
        How many trials, blocks, recordings and subjects are units.
    log_orders
        The logarithm of how many different orders of classes there are.
    confound
        What goes along with the classes alike everywhere, so that no permutation can tell it from them; else empty.
    """

    of: np.ndarray
    within: np.ndarray
    counts: dict[str, int]
    log_orders: float
    confound: str = ""

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many orders allow."""
        return 1 / round(exp(self.log_orders)) if self.log_orders < MOST_EXACT else exp(-self.log_orders)

    def __str__(self) -> str:
        names = [f"{n} {kind}{'s' if n != 1 else ''}" for kind, n in self.counts.items() if n]
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def units(
    classes: np.ndarray,
    trials: np.ndarray,
    recordings: np.ndarray,
    subjects: np.ndarray,
    starts: np.ndarray,
    blocks: Sequence[str] = (),
) -> Units:
    """The units of windows, from what they belong to and when they start, each [window]; `blocks` has names where the
    events say which block a trial is of, else empty strings."""
    order = np.lexsort((trials, starts, recordings))
    sequences = [_Sequence.of(classes, trials, rows) for rows in _by(recordings, order)]
    varying = [each for each in sequences if each.n_classes > 1]
    in_blocks = _change_seldom(varying)
    of, within = np.full(len(classes), -1), np.full(len(classes), -1)
    counts: Counter[str] = Counter()
    for number, each in enumerate(varying):
        named = [blocks[row] for row in each.first] if len(blocks) else []
        parts, kind = _parts(each, named, in_blocks)
        of[each.rows] = counts.total() + parts[each.trial]
        within[each.rows] = number
        counts[kind] += int(parts.max()) + 1
    constant = np.concatenate([each.rows for each in sequences if each.n_classes == 1] or [np.empty(0, int)])
    alone, in_order = [], []  # of subjects who have one class in all of these
    for rows in _by(subjects, constant):
        if len(np.unique(classes[rows])) == 1:
            alone.append(rows)
            continue
        firsts, parts = np.unique(recordings[rows], return_index=True, return_inverse=True)[1:]
        in_order.append(classes[rows][firsts])
        parts = parts.reshape(-1)
        of[rows], within[rows] = counts.total() + parts, len(sequences) + subjects[rows]
        counts["recording"] += int(parts.max()) + 1
    for rows in alone:
        of[rows], within[rows] = counts.total(), len(sequences) + int(subjects.max()) + 1
        counts["subject"] += 1
    confound = ""
    if in_blocks and _alike([each.runs for each in varying]):
        confound = f"time: the classes come in the same order in all {len(varying)} recordings"
    elif _alike(in_order):
        confound = f"the recording: its classes come in the same order in all {len(in_order)} subjects"
    return Units(of, within, {kind: counts[kind] for kind in KINDS}, _log_orders(classes, of, within), confound)


@dataclass(frozen=True)
class _Sequence:
    """The trials of a recording in time."""

    rows: np.ndarray  # [window]
    trial: np.ndarray  # [window]: the place of its trial in time
    first: np.ndarray  # [trial]: its first window
    classes: np.ndarray  # [trial]

    @classmethod
    def of(cls, classes: np.ndarray, trials: np.ndarray, rows: np.ndarray) -> "_Sequence":
        _, first, trial = np.unique(trials[rows], return_index=True, return_inverse=True)
        place = np.argsort(np.argsort(first))
        begins = rows[np.sort(first)]
        own = classes[begins]
        trial = place[trial.reshape(-1)]
        if np.any(own[trial] != classes[rows]):
            raise ValueError(
                "the windows of a trial have different classes: number as one trial only those of one class"
            )
        return cls(rows, trial, begins, own)

    @property
    def n_classes(self) -> int:
        return len(np.unique(self.classes))

    @property
    def runs(self) -> np.ndarray:
        """The class of each run of trials with one class."""
        return self.classes[np.concatenate([[0], np.flatnonzero(np.diff(self.classes)) + 1])]

    @property
    def n_changes(self) -> int:
        return int(np.count_nonzero(np.diff(self.classes)))


def _by(names: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each name, in the order they come in."""
    for name in np.unique(names[rows]):
        yield rows[names[rows] == name]


def _alike(orders: Sequence[np.ndarray]) -> bool:
    return len(orders) > 1 and all(np.array_equal(orders[0], other) for other in orders[1:])


def _change_seldom(sequences: Sequence[_Sequence]) -> bool:
    """Whether the classes of the trials change less often than in a random order of the same, over all recordings."""
    if not sequences:
        return False
    rng, null = draws(0, BLOCKS), np.zeros(N_ORDERS, int)
    for each in sequences:
        orders = rng.random((N_ORDERS, len(each.classes))).argsort(axis=1)
        null += np.count_nonzero(np.diff(each.classes[orders], axis=1), axis=1)
    n_changes = sum(each.n_changes for each in sequences)
    return bool((1 + np.count_nonzero(null <= n_changes)) / (1 + N_ORDERS) < ALPHA)


def _parts(each: _Sequence, named: Sequence[str], in_blocks: bool) -> tuple[np.ndarray, str]:
    """[trial]: the number of its unit; and what these units are."""
    if any(named):
        parts = np.unique(named, return_inverse=True)[1].reshape(-1)
        if all(len(np.unique(each.classes[parts == part])) == 1 for part in np.unique(parts)):
            return parts, "block"
    if not in_blocks:
        return np.arange(len(each.classes)), "trial"
    begins = np.concatenate([[0], np.flatnonzero(np.diff(each.classes)) + 1])
    lengths = np.diff(np.append(begins, len(each.classes)))
    length = reduce(gcd, lengths.tolist())
    if length > 1:
        return np.arange(len(each.classes)) // length, "block"
    return np.repeat(np.arange(len(begins)), lengths), "block"


def _log_orders(classes: np.ndarray, of: np.ndarray, within: np.ndarray) -> float:
    """Of each group n! over the product of the factorials of how often each class occurs among its units."""
    first = np.unique(of, return_index=True)[1]
    total = 0.0
    for group in np.unique(within[first]):
        own = np.unique(classes[first][within[first] == group], return_counts=True)[1]
        total += lgamma(own.sum() + 1) - sum(lgamma(n + 1) for n in own)
    return total

"""Null distributions: a metric on data in which nothing can be decoded, many draws at once, from a seed alone.

Rotation     the target rotated in time, which keeps its loudness and rhythm: for metrics of time courses.
             For values of windows too, as both they and the signal may drift.
Permutation  the pieces, or the classes, permuted: for ranks, hits and confusion matrices.
"""

from collections.abc import Sequence
from itertools import permutations as every_order
from math import factorial

import numpy as np

from eegdecode.evaluation.statistics.correlation import unit

ALPHA = 0.05
ROTATIONS, PERMUTATIONS = 6, 7  # separate these draws from others of the same seed
SHORTEST = 8  # windows: shorter recordings have too few rotations
CHUNK = 1 << 24  # numbers at a time


def p_value(value: np.ndarray | float, null: np.ndarray) -> np.ndarray:
    """The share of draws [null, ...] that reach the value [...], which counts as a draw, so p > 0 (Phipson 2010).

    A draw that is equal up to rounding reaches it; all draws reach NaN.
    """
    reached = value - 1e-9 * np.maximum(1, np.abs(value))
    return (1 + np.sum(~(null < reached), axis=0)) / (1 + len(null))


def fewest_orders_note(orders: int, of: str) -> str:
    """A note for when nothing could be above chance, as there are too few permutations."""
    if orders > 1 / ALPHA:
        return ""
    return f"; of {of} p cannot be less than {1 / orders:.2g}, so this can never be above chance"


def draws(seed: int, what: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, what]))


def rotated(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """r with the target rotated by every number of samples, [..., time, feature] -> [..., time]; mean over features."""
    return products(unit(outputs), unit(targets))


def products(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """`rotated` for inputs that are scaled already: sums over time of one times the other, rotated."""
    spectra = np.fft.rfft(outputs, axis=-2) * np.fft.rfft(targets, axis=-2).conj()
    return np.fft.irfft(spectra, n=targets.shape[-2], axis=-2).mean(axis=-1)


def shifts(parts: np.ndarray, n_times: int, nearest: int) -> np.ndarray:
    """Samples to rotate by, from parts in [0, 1) of what is allowed: `nearest` at least, to either side."""
    nearest = min(nearest, n_times // 4)
    return nearest + (parts * (n_times - 2 * nearest)).astype(int)


def permutations(n: int, n_null: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """[null, n]: orders of n things; with groups [n], such as their subjects, within each of them only."""
    return _orders(draws(seed, PERMUTATIONS), n_null, n, groups)


def _orders(rng: np.random.Generator, n_null: int, n: int, groups: np.ndarray | None) -> np.ndarray:
    keys = rng.random((n_null, n))
    if groups is None:
        return keys.argsort(axis=1)
    number = np.unique(groups, return_inverse=True)[1].reshape(-1)
    orders = np.empty((n_null, n), np.int64)
    orders[:, np.argsort(number, kind="stable")] = (number + keys).argsort(axis=1)
    return orders


def pieces_dealt(table: np.ndarray, own: np.ndarray, n_null: int, seed: int) -> np.ndarray:
    """[null, trial]: the metric of each trial with the pieces permuted, alike for all trials of a piece.

    `table` [trial, piece] is the metric that each piece would have if it were the true one: ranking.ranks_of_all,
    retrieval.hits_of_all. If there are few pieces, each other permutation is taken once.
    """
    n = table.shape[1]
    few = 1 < factorial(n) <= n_null
    dealt = (np.array(list(every_order(range(n)))[1:]) if few else permutations(n, n_null, seed))[:, own]
    return table[np.arange(len(table)), dealt]


def correlations_dealt(
    outputs: np.ndarray, truth: np.ndarray, recordings: Sequence[np.ndarray], n_null: int, seed: int
) -> np.ndarray:
    """[null]: r over the rows of some recordings, [row, feature], the mean over features, with permuted targets.

    `recordings` has the rows of each in time. Slow drifts are autocorrelated, and correlate with other drifts by
    chance: so the target of a recording is rotated, and reversed in half of the draws. If a recording is too short for
    that, the targets of all are permuted among all.
    """
    rng, rows, null = draws(seed, PERMUTATIONS), np.concatenate(recordings), []
    own, scaled = unit(outputs[rows]), unit(truth[rows])
    lengths, step = [len(each) for each in recordings], max(1, CHUNK // scaled.size)
    for begin in range(0, n_null, step):
        n = min(step, n_null - begin)
        orders = _turned(rng, n, lengths) if min(lengths) >= SHORTEST else _orders(rng, n, len(rows), None)
        null.append(np.einsum("rf,nrf->n", own, scaled[orders]) / scaled.shape[1])
    return np.concatenate(null)


def _turned(rng: np.random.Generator, n_null: int, lengths: Sequence[int]) -> np.ndarray:
    """[null, row]: the order of rows, each stretch rotated at random, forwards or backwards."""
    stretches = []
    for first, n in zip(np.cumsum(lengths) - lengths, lengths, strict=True):
        start, way = rng.integers(n, size=(n_null, 1)), 1 - 2 * rng.integers(2, size=(n_null, 1))
        stretches.append(first + (start + way * np.arange(n)) % n)
    return np.concatenate(stretches, axis=1)


def confusions_dealt(
    truth: np.ndarray,
    predicted: np.ndarray,
    n_classes: int,
    n_null: int,
    seed: int,
    trials: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """[null, true class, predicted class]: counts with the classes permuted among trials, within groups if given.

    `trials` [window] numbers the trial of each window: windows of a trial share a class and are not independent.
    """
    if trials is None:
        trials = np.arange(len(truth))
    _, first, trial = np.unique(trials, return_index=True, return_inverse=True)
    trial, label = trial.reshape(-1), truth[first]
    if np.any(label[trial] != truth):
        raise ValueError("the windows of a trial have different classes: number as one trial only those of one class")
    counts = np.bincount(trial * n_classes + predicted, minlength=len(first) * n_classes).reshape(-1, n_classes)
    rng, group = draws(seed, PERMUTATIONS), None if groups is None else groups[first]
    confusions = np.empty((n_null, n_classes, n_classes), np.int64)
    step = max(1, CHUNK // len(first))
    for begin in range(0, n_null, step):
        dealt = label[_orders(rng, min(step, n_null - begin), len(first), group)]
        for number in range(n_classes):
            confusions[begin : begin + step, number] = (dealt == number).astype(np.float64) @ counts
    return confusions

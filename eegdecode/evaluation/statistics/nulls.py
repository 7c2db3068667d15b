"""Null distributions: a metric on data in which nothing can be decoded, many draws at once, from a seed alone.

Rotation     the target rotated in time, which keeps its loudness and rhythm: for metrics of time courses.
Signs        for values of windows, which drift as the signal may: the target's cosine transform over time with other
             signs, so that it drifts as before, but otherwise.
Permutation  the pieces, or the classes, permuted among exchangeable units: for ranks, hits and confusion matrices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import factorial, prod

import numpy as np
from scipy import stats
from scipy.fft import dct

from eegdecode.evaluation.statistics.correlation import unit

ALPHA = 0.05
ROTATIONS, PERMUTATIONS = 6, 7  # separate these draws from others of the same seed
SHORTEST = 8  # windows: shorter recordings have too few signs
CHUNK = 1 << 24  # numbers at a time


def p_value(value: np.ndarray | float, null: np.ndarray) -> np.ndarray:
    """The share of draws [null, ...] that reach the value [...], which counts as a draw, so p > 0 (Phipson 2010).

    A draw that is equal up to rounding reaches it; all draws reach NaN.
    """
    reached = value - 1e-9 * np.maximum(1, np.abs(value))
    return (1 + np.sum(~(null < reached), axis=0)) / (1 + len(null))


@dataclass(frozen=True)
class Permuted:
    """What a null permutes, in words; the smallest p that so few orders allow; and what is confounded with the target:
    no permutation can tell them apart."""

    units: str
    smallest_p: float
    confound: str = ""

    @classmethod
    def all_of(cls, n: int, what: str) -> "Permuted":
        return cls(f"{n} {what}", 1 / factorial(n))


def draws(seed: int, what: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, what]))


def rotated(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """r with the target rotated by every number of samples, [..., time, feature] -> [..., time]; mean over features."""
    return products(unit(outputs), unit(targets))


def products(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """`rotated` for inputs that are scaled already: sums over time of one times the other, rotated."""
    spectra = np.fft.rfft(outputs, axis=-2) * np.fft.rfft(targets, axis=-2).conj()
    return np.fft.irfft(spectra, n=targets.shape[-2], axis=-2).mean(axis=-1)


def rotations(stimuli: Sequence[str], n_null: int, seed: int) -> dict[str, np.ndarray]:
    """For each piece where its rotations start, as parts of what is allowed: see `shifts`."""
    names = sorted(set(stimuli))
    return dict(zip(names, draws(seed, ROTATIONS).random((len(names), n_null)), strict=True))


def shifts(parts: np.ndarray, n_times: int, nearest: int) -> np.ndarray:
    """Samples to rotate by, from parts in [0, 1) of what is allowed: `nearest` at least, to either side."""
    nearest = min(nearest, n_times // 4)
    return nearest + (parts * (n_times - 2 * nearest)).astype(int)


def permutations(n: int, n_null: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """[null, n]: orders of n things; with groups [n], such as their subjects, within each of them only."""
    return _orders(draws(seed, PERMUTATIONS), n_null, n, groups)


def orders(n: int, n_null: int, seed: int) -> np.ndarray:
    """[null, n]: orders of n things; if there are few, each other one once, so that p is exact and of no seed."""
    few = arrangements(np.arange(n), None, n_null)
    return permutations(n, n_null, seed) if few is None else few


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
    dealt = orders(table.shape[1], n_null, seed)[:, own]
    return table[np.arange(len(table)), dealt]


def slid(recordings: Sequence[np.ndarray], own: np.ndarray, n_null: int, seed: int) -> np.ndarray:
    """[null, row]: rows whose targets each row gets instead of its own. Each recording slides along itself, forwards
    and then backwards, so that neighbours stay neighbours; those with the same order of targets `own` [row] alike. If
    there are few ways, each other one is taken once."""
    n_places = {order: 2 * len(order) for order in _of_recordings(recordings, own)}
    if n_slides(recordings, own) <= n_null:
        starts = np.array(list(product(*map(range, n_places.values()))))[1:]
    else:
        starts = draws(seed, PERMUTATIONS).integers(0, list(n_places.values()), size=(n_null, len(n_places)))
    of_order = dict(zip(n_places, starts.T, strict=True))
    rows = np.tile(np.arange(len(own)), (len(starts), 1))
    for each, order in zip(recordings, _of_recordings(recordings, own), strict=True):
        n = len(each)
        place = (of_order[order][:, None] + np.arange(n)) % (2 * n)
        rows[:, each] = each[np.minimum(place, 2 * n - 1 - place)]
    return rows


def n_slides(recordings: Sequence[np.ndarray], own: np.ndarray) -> int:
    """Return in how many ways recordings slide along themselves."""
    return prod(2 * len(order) for order in set(_of_recordings(recordings, own)))


def _of_recordings(recordings: Sequence[np.ndarray], own: np.ndarray) -> list[tuple[int, ...]]:
    """The order of the targets of each recording."""
    return [tuple(own[each].tolist()) for each in recordings]


def neighbours_are_alike(truth: np.ndarray, recordings: Sequence[np.ndarray]) -> bool:
    """Whether the targets [row, feature] of neighbours in time have larger cosines than in a random order (p < .05)."""
    above, variance = 0.0, 0.0
    for order in {truth[rows].tobytes(): truth[rows] for rows in recordings}.values():  # each order once
        n = len(order)
        if n < SHORTEST:
            continue
        x = order - order.mean(axis=0, dtype=np.float64)
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        x /= np.where(lengths > 0, lengths, np.inf)
        squares = (x**2).sum(axis=1)
        mean = ((x.sum(axis=0) ** 2).sum() - squares.sum()) / (n * (n - 1))  # over all pairs
        mean_square = (((x.T @ x) ** 2).sum() - (squares**2).sum()) / (n * (n - 1))
        above += float((x[1:] * x[:-1]).sum() - (n - 1) * mean)
        variance += float((n - 1) * (mean_square - mean**2))
    return variance > 0 and above / np.sqrt(variance) > stats.norm.isf(ALPHA)


def correlations_dealt(
    outputs: np.ndarray, truth: np.ndarray, recordings: Sequence[np.ndarray], n_null: int, seed: int
) -> np.ndarray:
    """[null]: r over the rows of some recordings, [row, feature], the mean over features, with targets that drift as
    these do, but otherwise.

    `recordings` has the rows of each in time. Slow drifts are autocorrelated, and correlate with other drifts by
    chance. The cosine transform over time has a number for each rhythm, which of a drift are as good as uncorrelated;
    so the signs of those of the target are drawn, alike for all features. Rotating it instead puts its end beside its
    beginning, a jump that no drift has: twice too many null studies were above chance. If a recording is too short for
    either, the targets of all are permuted among all.
    """
    rng, rows = draws(seed, PERMUTATIONS), np.concatenate(recordings)
    if min(map(len, recordings)) < SHORTEST:
        own, scaled, null = unit(outputs[rows]), unit(truth[rows]), []
        step = max(1, CHUNK // scaled.size)
        for begin in range(0, n_null, step):
            orders = _orders(rng, min(step, n_null - begin), len(rows), None)
            null.append(np.einsum("rf,nrf->n", own, scaled[orders]) / scaled.shape[1])
        return np.concatenate(null)
    decoded, true = (np.concatenate([*_rhythms(x - x[rows].mean(axis=0), recordings)]) for x in (outputs, truth))
    scale = np.linalg.norm(decoded, axis=0) * np.linalg.norm(true, axis=0)
    products = (decoded * true / np.where(scale > 0, scale, np.inf)).mean(axis=1)
    null, step = [], max(1, CHUNK // len(products))
    for begin in range(0, n_null, step):
        signs = 1 - 2 * rng.integers(0, 2, (min(step, n_null - begin), len(products)), dtype=np.int8)
        null.append(signs @ products)
    return np.concatenate(null)


def _rhythms(x: np.ndarray, recordings: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The cosine transform over time of each recording, without its mean; and how these means differ, as numbers that
    are uncorrelated if they are. `x` [row, feature] has the mean 0 over all."""
    means = []
    for rows in recordings:
        transformed = dct(x[rows], axis=0, norm="ortho")
        means.append(transformed[0])
        yield transformed[1:]
    lengths = np.sqrt([len(rows) for rows in recordings])
    basis = np.linalg.qr(np.column_stack([lengths, np.eye(len(lengths))[:, 1:]]))[0]  # the first is the mean of all
    yield basis[:, 1:].T @ np.array(means)


def confusions_dealt(
    truth: np.ndarray,
    predicted: np.ndarray,
    n_classes: int,
    n_null: int,
    seed: int,
    trials: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    *,
    exactly: bool = True,
) -> np.ndarray:
    """[null, true class, predicted class]: counts with the classes permuted among trials, within groups if given.

    `trials` [window] numbers the trial of each window: windows of a trial share a class and are not independent. If
    there are few orders of the classes, each other one is taken once; not `exactly`, there are always n_null.
    """
    if trials is None:
        trials = np.arange(len(truth))
    _, first, trial = np.unique(trials, return_index=True, return_inverse=True)
    trial, label = trial.reshape(-1), truth[first]
    if np.any(label[trial] != truth):
        raise ValueError("the windows of a trial have different classes: number as one trial only those of one class")
    counts = np.bincount(trial * n_classes + predicted, minlength=len(first) * n_classes).reshape(-1, n_classes)
    rng, group = draws(seed, PERMUTATIONS), None if groups is None else groups[first]
    few = arrangements(label, group, n_null) if exactly else None
    n_draws = n_null if few is None else len(few)
    confusions = np.empty((n_draws, n_classes, n_classes), np.int64)
    step = max(1, CHUNK // len(first))
    for begin in range(0, n_draws, step):
        if few is None:
            dealt = label[_orders(rng, min(step, n_draws - begin), len(first), group)]
        else:
            dealt = few[begin : begin + step]
        for number in range(n_classes):
            confusions[begin : begin + step, number] = (dealt == number).astype(np.float64) @ counts
    return confusions


def arrangements(labels: np.ndarray, groups: np.ndarray | None, most: int) -> np.ndarray | None:
    """[arrangement, unit]: every other order of the labels, within groups; None if there are more than `most`, or no
    other."""
    group = np.zeros(len(labels), int) if groups is None else groups
    parts = [np.flatnonzero(group == number) for number in np.unique(group)]
    n = 1
    for rows in parts:
        n *= factorial(len(rows)) // prod(map(factorial, np.unique(labels[rows], return_counts=True)[1].tolist()))
        if n > most:
            return None
    if n == 1:
        return None
    every = np.tile(labels, (n, 1))
    for number, orders_of_parts in enumerate(product(*(_distinct(labels[rows].tolist()) for rows in parts))):
        for rows, order in zip(parts, orders_of_parts, strict=True):
            every[number, rows] = order
    return every[(every != labels).any(axis=1)]


def _distinct(labels: list[int]) -> Iterator[tuple[int, ...]]:
    """Every order of labels of which some are equal, each once."""
    if not labels:
        yield ()
    for first in sorted(set(labels)):
        rest = labels.copy()
        rest.remove(first)
        for others in _distinct(rest):
            yield (first, *others)

"""What the decoders of classes share: the space of their signals, and classifiers whose setting is chosen on the
validation set, as a network's step is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RANK = 1e-9
"""Of the largest eigenvalue: below, a direction was taken out, as by a reference, an interpolation or an ICA. What is
left there is the rounding of float32, which MNE's own estimate of the rank takes for signal."""
CHUNK = 256
"""Windows that are computed on at once."""


PENALTIES = (1.0, 0.1, 0.01, 10.0, 0.001)
"""C of logistic regressions; the first is scikit-learn's."""
SHRINKAGES = ("auto", 0.1, 0.5, 0.9, 0.01)
"""Of the covariance of an LDA; the first is Ledoit and Wolf's, the one of MOABB."""
USUAL = len(PENALTIES)
"""So many settings are tried for a network with one; if several of it were tried, more are."""
FEWEST = 8
"""Validation windows on which a setting is chosen; with fewer it is the first."""


@dataclass(frozen=True)
class HeldOut:
    """Windows [window, time, channel] that are held out of a fit, and their classes [window]; a setting is chosen on
    them out of the first so many."""

    x: np.ndarray
    y: np.ndarray
    n_settings: int


def logistic(held_out: HeldOut | None = None) -> list[Any]:
    from sklearn.linear_model import LogisticRegression

    n_more = _n_more(held_out)
    penalties = (*PENALTIES, *(float(10**each) for each in between(-5.0, 4.0, n_more)))
    return [LogisticRegression(C=c, class_weight="balanced", max_iter=1000) for c in penalties]


def lda(n_classes: int, held_out: HeldOut | None = None) -> list[Any]:
    """Classes count alike, as in the balanced accuracy."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    priors = np.full(n_classes, 1 / n_classes)
    shrinkages = (*SHRINKAGES, *between(0.0, 1.0, _n_more(held_out)))
    return [LinearDiscriminantAnalysis(solver="lsqr", shrinkage=each, priors=priors) for each in shrinkages]


def _n_more(held_out: HeldOut | None) -> int:
    return 0 if held_out is None else max(0, held_out.n_settings - USUAL)


def between(low: float, high: float, n: int) -> list[float]:
    """So many numbers between two, each in a gap that those before it leave (van der Corput), a third off the middle:
    the usual settings are round numbers."""

    def place(number: int) -> float:
        return sum((number >> bit & 1) / 2 ** (bit + 1) for bit in range(number.bit_length()))

    return [low + (high - low) * ((place(number) + 1 / 3) % 1) for number in range(1, n + 1)]


def fitted(
    classifiers: Sequence[Any],
    features: np.ndarray,
    y: np.ndarray,
    held_out: HeldOut | None,
    features_of: Callable[[np.ndarray], np.ndarray],
) -> Any:
    """Fit the classifiers; return the one with the lowest loss on held-out windows, else the first."""
    if held_out is None or held_out.n_settings < 2 or len(held_out.y) < FEWEST:
        return classifiers[0].fit(features, y)
    tried = [each.fit(features, y) for each in classifiers[: held_out.n_settings]]
    of_held_out = features_of(held_out.x)
    return tried[
        int(np.argmin([loss(each.predict_log_proba(of_held_out), each.classes_, held_out.y) for each in tried]))
    ]


def loss(log_probabilities: np.ndarray, occur: np.ndarray, y: np.ndarray) -> float:
    """Cross-entropy, the mean over classes, so that rare ones count as much as frequent ones."""
    n_classes = 1 + max(int(occur.max()), int(y.max()))
    own = of_all_classes(log_probabilities, occur, n_classes)[np.arange(len(y)), y]
    return float(-np.mean([own[y == each].mean() for each in np.unique(y)]))


def two_or_more(y: np.ndarray) -> np.ndarray:
    """The classes that occur."""
    occur = np.unique(y)
    if len(occur) < 2:
        raise ValueError(f"two classes are needed in the training set, got {len(occur)}")
    return occur


def spanned(x: np.ndarray, most: int | None = None) -> np.ndarray:
    """An orthonormal basis [source, channel] of what windows [window, channel, time] of mean 0 span; at most so many
    sources, those with the largest variance."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), CHUNK):
        part = np.asarray(x[first : first + CHUNK], np.float64)
        total += np.tensordot(part, part, axes=([0, 2], [0, 2]))
    values, vectors = np.linalg.eigh(total)
    if not values[-1] > 0:
        raise ValueError("the signals of the training set are constant")
    n = min(int((values > RANK * values[-1]).sum()), most or len(values))
    return np.ascontiguousarray(vectors[:, -n:].T)


def of_all_classes(log_probabilities: np.ndarray, occur: np.ndarray, n_classes: int) -> np.ndarray:
    """Columns of the classes that occurred -> columns of all."""
    filled = np.full((len(log_probabilities), n_classes), float(np.log(np.finfo(np.float32).tiny)))
    filled[:, occur] = np.maximum(log_probabilities, filled[:, occur])
    return filled

"""What classifiers say of each class and how sure they are: precision and recall, ROC curves, calibration.

Outputs are log probabilities, [window, class].
"""

from dataclasses import dataclass

import numpy as np

from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.statistics.confusion import confusion_of, predicted, truth
from eegdecode.training.validator import auroc

N_BINS = 10  # of the largest probability, each as wide as the others
MOST_POINTS = 200  # of a ROC curve
FALSE_POSITIVES = np.linspace(0, 1, 51)
"""The shares at which a mean ROC curve has its points."""
MOST_CLASSES = 20  # that have a curve


@dataclass(frozen=True)
class Calibration:
    """ECE, the expected calibration error (Guo 2017): how far the probability of the class that is predicted is from
    the share of windows in which it is the right one, the mean over windows. And this for each bin of probabilities
    that has windows: how many, the mean probability, and the share that is right. `roc`: the mean of the ROC curves of
    all classes, each against the rest, at FALSE_POSITIVES; empty if only one occurs."""

    ece: float
    n: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    roc: tuple[float, ...]


@dataclass(frozen=True)
class OfClass:
    """A class against the rest; NaN is None."""

    name: str
    n_windows: int
    n_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None


def calibration(decoded: Decoded) -> Calibration:
    probabilities = np.exp(decoded.output - np.logaddexp.reduce(decoded.output, axis=1, keepdims=True))
    largest, right = probabilities.max(axis=1), predicted(decoded) == truth(decoded)
    bins = np.minimum((largest * N_BINS).astype(int), N_BINS - 1)
    n = np.bincount(bins, minlength=N_BINS)
    filled = np.flatnonzero(n)
    sums, rights = (np.bincount(bins, each, minlength=N_BINS)[filled] for each in (largest, right))
    ece = float(np.abs(sums - rights).sum() / len(largest))
    n = n[filled]
    return Calibration(
        ece, tuple(n.tolist()), tuple((sums / n).tolist()), tuple((rights / n).tolist()), _mean_roc(decoded)
    )


def _mean_roc(decoded: Decoded) -> tuple[float, ...]:
    true, curves = truth(decoded), []
    for number in np.unique(true).tolist():
        if not (true == number).all():
            x, y = roc(decoded.output[:, number], true == number)
            last = np.append(np.flatnonzero(np.diff(x)), len(x) - 1)  # the highest point over each x
            curves.append(np.interp(FALSE_POSITIVES, x[last], y[last]))
    return tuple(np.mean(curves, axis=0).tolist()) if curves else ()


def of_classes(decoded: Decoded) -> tuple[OfClass, ...]:
    counts, true = confusion_of(decoded), truth(decoded)
    every = []
    for number, name in enumerate(decoded.classes):
        right, n, n_predicted = int(counts[number, number]), int(counts[number].sum()), int(counts[:, number].sum())
        area = auroc(decoded.output[:, number], true == number)
        every.append(
            OfClass(
                name,
                n,
                n_predicted,
                right / n_predicted if n_predicted else None,
                right / n if n else None,
                2 * right / (n + n_predicted) if n + n_predicted else None,
                None if np.isnan(area) else area,
            )
        )
    return tuple(every)


def roc(scores: np.ndarray, is_own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of others above each threshold, and of its own: from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of windows with equal scores
    own = np.cumsum(is_own[order])[ends]
    others = ends + 1 - own
    x = np.concatenate([[0.0], others / max(1, int(others[-1]))])
    y = np.concatenate([[0.0], own / max(1, int(own[-1]))])
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).astype(int))
    return x[rows], y[rows]

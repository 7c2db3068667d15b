"""Classification metrics from counts alone, so that those of several ranks or files add up. Defined as in scikit-learn.

    tally = Tally.of(truth, log_probabilities) + Tally.of(…)
    balanced_accuracy(tally.confusion), tally.auroc

Confusion matrices are counts [..., true class, predicted class], so that many permutations are scored at once.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """What AUROC needs of one class: for each score, the number of windows of the class and of others."""

    scores: np.ndarray
    own: np.ndarray
    others: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, is_own: np.ndarray) -> "Curve":
        return cls(scores, is_own.astype(np.int64), (~is_own).astype(np.int64))._merged()

    def __add__(self, other: "Curve") -> "Curve":
        parts = zip((self.scores, self.own, self.others), (other.scores, other.own, other.others), strict=True)
        return Curve(*map(np.concatenate, parts))._merged()

    def _merged(self) -> "Curve":
        scores, place = np.unique(self.scores, return_inverse=True)
        own, others = (np.bincount(place, counts, len(scores)).astype(np.int64) for counts in (self.own, self.others))
        return Curve(scores, own, others)

    @property
    def area(self) -> float:
        """The probability that a window of the class has a higher score than one of others, ties counting half; NaN if
        there are none of either."""
        pairs = float(self.own.sum()) * float(self.others.sum())
        below = np.cumsum(self.others) - self.others
        return float(np.sum(self.own * (below + 0.5 * self.others)) / pairs) if pairs else float("nan")


@dataclass(frozen=True)
class Tally:
    """Counts over windows: a confusion matrix [true class, predicted class], and a curve for each class."""

    confusion: np.ndarray
    curves: tuple[Curve, ...]

    @classmethod
    def of(cls, truth: np.ndarray, log_probabilities: np.ndarray) -> "Tally":
        """From classes [window] and log probabilities [window, class]; any monotonic function of these will do."""
        truth, n_classes = np.asarray(truth, np.int64).reshape(-1), log_probabilities.shape[1]
        if len(truth) and not 0 <= truth.min() <= truth.max() < n_classes:
            raise ValueError(f"classes from {truth.min()} to {truth.max()}, but there are outputs for {n_classes}")
        predicted = log_probabilities.argmax(axis=1)
        curves = (Curve.of(log_probabilities[:, number], truth == number) for number in range(n_classes))
        return cls(confusion(truth, predicted, n_classes), tuple(curves))

    def __add__(self, other: "Tally") -> "Tally":
        curves = (one + another for one, another in zip(self.curves, other.curves, strict=True))
        return Tally(self.confusion + other.confusion, tuple(curves))

    @property
    def auroc(self) -> float:
        """Each class against the rest, the mean over those that occur: 1 is perfect, chance is 0.5."""
        areas = np.array([curve.area for curve in self.curves])
        return float(areas[~np.isnan(areas)].mean()) if not np.isnan(areas).all() else float("nan")


def confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts [true class, predicted class]."""
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def balanced_accuracy(confusions: np.ndarray) -> np.ndarray:
    """The mean recall over the classes that occur. From 0 to 1; chance is 1 / their number."""
    occur = confusions.sum(axis=-1)
    recall = np.diagonal(confusions, axis1=-2, axis2=-1) / np.maximum(occur, 1)
    return recall.sum(axis=-1) / (occur > 0).sum(axis=-1)


def kappa(confusions: np.ndarray) -> np.ndarray:
    """Cohen's kappa: agreement above that expected by chance. At most 1; chance is 0, also for constant outputs."""
    total = confusions.sum(axis=(-2, -1))
    agreed = np.trace(confusions, axis1=-2, axis2=-1) / total
    expected = (confusions.sum(axis=-1) * confusions.sum(axis=-2)).sum(axis=-1) / total**2
    return np.where(expected < 1, (agreed - expected) / np.where(expected < 1, 1 - expected, 1), 0.0)


def weighted_f1(confusions: np.ndarray) -> np.ndarray:
    """The F1 of each class, weighted by its frequency. From 0 to 1; chance depends on the frequencies: permute."""
    occur, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    f1 = 2 * np.diagonal(confusions, axis1=-2, axis2=-1) / np.maximum(occur + predicted, 1)
    return (occur * f1).sum(axis=-1) / occur.sum(axis=-1)

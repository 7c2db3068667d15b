"""The F1 of each class, weighted by its frequency."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.confusion import confusion_of, dealt


def weighted_f1(confusions: np.ndarray) -> np.ndarray:
    """From 0 to 1; chance depends on the frequencies: permute."""
    occur, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    f1 = 2 * np.diagonal(confusions, axis1=-2, axis2=-1) / np.maximum(occur + predicted, 1)
    return (occur * f1).sum(axis=-1) / occur.sum(axis=-1)


def score(decoded: Decoded, cfg: Scoring) -> float:
    return float(weighted_f1(confusion_of(decoded)))


def chance(decoded: Decoded, cfg: Scoring) -> float:
    return float(null(decoded, cfg).mean())


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return weighted_f1(dealt(decoded, cfg))


WEIGHTED_F1 = Metric(
    "weighted_f1",
    "Weighted F1",
    "the harmonic mean of precision and recall, weighted by class frequency.",
    ("classes",),
    score,
    chance,
    null,
    order=20,
)

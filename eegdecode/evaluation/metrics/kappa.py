"""Cohen's kappa."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.confusion import confusion_of, dealt


def kappa(confusions: np.ndarray) -> np.ndarray:
    """Agreement above that expected by chance. At most 1; chance is 0, also for constant outputs."""
    total = confusions.sum(axis=(-2, -1))
    agreed = np.trace(confusions, axis1=-2, axis2=-1) / total
    expected = (confusions.sum(axis=-1) * confusions.sum(axis=-2)).sum(axis=-1) / total**2
    return np.where(expected < 1, (agreed - expected) / np.where(expected < 1, 1 - expected, 1), 0.0)


def score(decoded: Decoded, cfg: Scoring) -> float:
    return float(kappa(confusion_of(decoded)))


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return kappa(dealt(decoded, cfg))


KAPPA = Metric(
    "kappa",
    "Cohen's kappa",
    "agreement above that expected by chance, 1 for perfect agreement.",
    ("classes",),
    score,
    chance=0.0,
    null=null,
    order=10,
)

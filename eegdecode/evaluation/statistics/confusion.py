"""Confusion matrices: counts [..., true class, predicted class], so that many permutations are scored at once."""

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, once
from eegdecode.evaluation.statistics import grouping, nulls


@once
def truth(decoded: Decoded) -> np.ndarray:
    """[window]: its class."""
    return decoded.truth[:, 0].astype(np.int64)


@once
def predicted(decoded: Decoded) -> np.ndarray:
    """[window]: the class with the highest score."""
    return decoded.output.argmax(axis=1)


@once
def confusion_of(decoded: Decoded) -> np.ndarray:
    """[true class, predicted class] over all windows."""
    true, n_classes = truth(decoded), decoded.output.shape[1]
    if not 0 <= true.min() <= true.max() < n_classes:
        raise ValueError(f"classes from {true.min()} to {true.max()}, but there are outputs for {n_classes}")
    return confusion(true, predicted(decoded), n_classes)


@once
def dealt(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    """[draw, true class, predicted class]: with the classes permuted among the units that are exchangeable."""
    true, answers, n_classes = truth(decoded), predicted(decoded), decoded.output.shape[1]
    units = grouping.units(decoded)
    return nulls.confusions_dealt(true, answers, n_classes, cfg.n_null, cfg.seed, units.of, units.within)


def confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts [true class, predicted class]."""
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)

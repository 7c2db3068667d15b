"""The area under the ROC curve, each class against the rest."""

import numpy as np
from scipy.stats import rankdata

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.confusion import truth


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """From classes [window] and scores [window, class]; the mean over the classes that occur: 1 is perfect, chance is
    0.5. Log probabilities will do, as any monotonic function of a score gives the same."""
    areas = np.array([area(scores[:, number], truth == number) for number in range(scores.shape[1])])
    return float(areas[~np.isnan(areas)].mean()) if not np.isnan(areas).all() else float("nan")


def area(scores: np.ndarray, is_own: np.ndarray) -> float:
    """The probability that a window of the class has a higher score than one of others, ties counting half, which is
    Mann and Whitney's U over the number of pairs; NaN if there are none of either."""
    n_own = int(is_own.sum())
    pairs = n_own * (len(is_own) - n_own)
    return float((rankdata(scores)[is_own].sum() - n_own * (n_own + 1) / 2) / pairs) if pairs else float("nan")


def score(decoded: Decoded, cfg: Scoring) -> float:
    return auroc(truth(decoded), decoded.output)


AUROC = Metric(
    "auroc",
    "AUROC",
    "how often a window of a class has a higher score for it than a window of another class.",
    ("classes",),
    score,
    chance=0.5,
    order=30,
)

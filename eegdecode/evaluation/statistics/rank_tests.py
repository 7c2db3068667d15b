"""Several decoders over several data sets: mean ranks, Friedman's test, the critical difference (Demšar, JMLR 7:1).

Values are [data set, decoder], the higher the better; rank 1 is the highest, and equal ones share their ranks.
"""

import numpy as np
from scipy import stats

from eegdecode.evaluation.statistics.nulls import ALPHA


def ranks(values: np.ndarray) -> np.ndarray:
    """[data set, decoder]"""
    return stats.rankdata(-np.asarray(values, float), axis=1)


def friedman(values: np.ndarray) -> tuple[float, float, float]:
    """Friedman's χ², corrected for ties; F of it after Iman and Davenport, which is less conservative; and the p of
    that: whether any decoder differs from the others. NaN, with p 1, where all are equal everywhere."""
    own = ranks(values)
    n, k = own.shape
    if n < 2 or k < 3:
        raise ValueError(f"Friedman's test needs 2 data sets and 3 decoders at least, got {n} and {k}")
    if np.all(own == own[0, 0]):
        return float("nan"), float("nan"), 1.0
    chi2 = float(stats.friedmanchisquare(*own.T).statistic)
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else float("inf")  # the same order everywhere
    return chi2, f, float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))


def critical_difference(n_sets: int, n_decoders: int, alpha: float = ALPHA) -> float:
    """Mean ranks that differ by less are not told apart (Nemenyi)."""
    q = stats.studentized_range.ppf(1 - alpha, n_decoders, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_decoders * (n_decoders + 1) / (6 * n_sets)))


def stouffer(p: np.ndarray, weights: np.ndarray) -> float:
    """One p of several independent ones [data set], all of the same side (Stouffer)."""
    p = np.clip(np.asarray(p, float), 1e-12, 1 - 1e-12)  # all flips of a sign reach p 1
    return float(stats.combine_pvalues(p, "stouffer", weights).pvalue)

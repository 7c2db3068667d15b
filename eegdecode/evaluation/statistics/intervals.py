"""Statistics over subjects: confidence intervals of the mean, tests against chance, correction for many subjects.

Subjects are the independent samples. Windows or trials of one subject are not, and would make intervals too narrow.
"""

import numpy as np
from scipy import stats

from eegdecode.evaluation.statistics.nulls import draws, p_value

SIGNS = 9  # separates these draws from others of the same seed
CHUNK = 1 << 24  # numbers at a time


def of_mean(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The confidence interval of the mean over subjects, [subject, ...] -> low and high [...], by Student's t, which
    holds for few subjects, where a bootstrap is far too narrow; NaN for fewer than three."""
    values = np.asarray(values, np.float64)
    n = len(values)
    if n < 3:
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(n)
    reach = stats.t.ppf((1 + level) / 2, n - 1) * error
    return mean - reach, mean + reach


def sign_flip(differences: np.ndarray, n_draws: int = 10_000, seed: int = 0, widen: float = 1.0) -> float:
    """One-sided p of a sign-flip permutation test that the mean over subjects is above 0, [subject].

    Differences are values minus chance, or one decoder's minus another's. All sign flips are tried if there are no more
    than `n_draws`; p is never below 1 / 2^subjects. `widen`: the null is so much wider, as for folds, which are not
    independent.
    """
    differences = np.asarray(differences, np.float64)
    n = len(differences)
    if np.isnan(differences).any():
        return 1.0
    total = differences.sum() / widen
    reached = total - 1e-12 * np.abs(differences).sum()  # equal but for rounding
    if 2**n <= n_draws:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(signs @ differences >= reached))
    rng, null = draws(seed, SIGNS), []
    step = max(1, CHUNK // n)
    for begin in range(0, n_draws, step):
        signs = 1 - 2 * rng.integers(0, 2, (min(step, n_draws - begin), n), dtype=np.int8)
        null.append(signs @ differences)
    return float(p_value(reached, np.concatenate(null)))


def two_sided(differences: np.ndarray, widen: float = 1.0) -> float:
    """Two-sided p of the sign-flip test that the mean is 0, against a null that is so much wider."""
    return min(1.0, 2 * min(sign_flip(sign * differences, widen=widen) for sign in (1, -1)))


def wilcoxon(differences: np.ndarray) -> float:
    """One-sided p of Wilcoxon's signed-rank test that the differences [subject] are above 0; 1 if all are 0."""
    differences = np.asarray(differences, np.float64)
    return float(stats.wilcoxon(differences, alternative="greater").pvalue) if np.any(differences != 0) else 1.0


def holm(p: np.ndarray) -> np.ndarray:
    """p corrected for multiple comparisons, which keeps the family-wise error rate (Holm 1979)."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted

"""Whether one decoder is better than another on the same windows: differences over subjects, or over other units."""

from dataclasses import dataclass

import numpy as np

from eegdecode.evaluation.statistics import intervals

FEWEST = 6
"""Pairs: of fewer, no flip of signs is as rare as one in twenty, to both sides."""


@dataclass(frozen=True)
class Difference:
    """One decoder minus another: the mean, its 95 % confidence interval by Student's t, and the two-sided p of a
    sign-flip test. Without p where there are too few units. `units`: how many, and of what."""

    value: float
    units: str
    low: float | None = None
    high: float | None = None
    p: float | None = None


def difference(one: np.ndarray, other: np.ndarray, units: str) -> Difference:
    """Of the values of each unit [unit], the larger the better."""
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    value, what = float(differences.mean()), f"{len(differences)} {units}"
    if len(differences) < FEWEST:
        return Difference(value, what)
    low, high = (float(edge) for edge in intervals.of_mean(differences))
    return Difference(value, what, low, high, intervals.two_sided(differences))

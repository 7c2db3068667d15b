"""Pearson's r of numbers over the windows of all subjects together. Left out if each subject has one value."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics import grouping
from eegdecode.evaluation.statistics.correlation import correlation, unit


def score(decoded: Decoded, cfg: Scoring) -> float | None:
    if grouping.is_of_people(decoded):
        return None
    return float(correlation(decoded.output, decoded.truth).mean())


def chance(decoded: Decoded, cfg: Scoring) -> float:
    """That of a decoder that knows only the mean of each recording."""
    truth = decoded.truth
    means = np.empty(truth.shape)
    for recording in grouping.in_time(decoded):
        means[recording] = truth[recording].mean(axis=0)
    by_means = np.sum(unit(decoded.output) * (means - means.mean(axis=0)), axis=0)
    return float(np.mean(by_means / np.linalg.norm(truth - truth.mean(axis=0), axis=0)))


R_POOLED = Metric(
    "r_pooled",
    "r, pooled",
    "the same over the windows of all subjects together. Its chance level is that of the mean of each recording.",
    ("values",),
    score,
    chance,
    order=10,
)

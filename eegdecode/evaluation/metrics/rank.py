"""The rank of the right candidate among all, for retrieval."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.retrieval import candidates, similarities


def score(decoded: Decoded, cfg: Scoring) -> float:
    fit, own = similarities(decoded), candidates(decoded)[1]
    true = fit[np.arange(len(own)), own][:, None]
    rank = ((fit < true).sum(axis=1) + 0.5 * ((fit == true).sum(axis=1) - 1)) / (fit.shape[1] - 1)
    return float(rank.mean())


RANK = Metric(
    "rank",
    "Rank",
    "the share of the other candidates that are less similar to the output than the right one.",
    ("retrieval",),
    score,
    chance=0.5,
    order=30,
)

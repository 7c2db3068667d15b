"""Rank accuracy: how many of the other test pieces fit a decoded trial worse than the true one."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring, mel_gain_db, once
from eegdecode.evaluation.statistics import ranking
from eegdecode.evaluation.statistics.ranking import Fit


@once
def by_r(decoded: Decoded) -> Fit:
    """By r in time."""
    outputs, pieces, own = ranking.together(decoded.trials)
    return Fit(ranking.by_correlation(outputs, pieces), own)


def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
    """A single piece has no rank; sounds are ranked by their spectra."""
    return None if mel_gain_db.applies(decoded) or by_r(decoded).n_pieces < 2 else by_r(decoded).ranks()


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return by_r(decoded).null_of_ranks(cfg)


RANK_ACCURACY = Metric(
    "rank_accuracy",
    "Rank accuracy",
    "the share of the other test pieces that fit a decoded trial worse than the true piece does, by r in time; all cut "
    "to the length of the shortest.",
    ("sequence",),
    score,
    0.5,
    null,
    each_subject=True,
    order=10,
)

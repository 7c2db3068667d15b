"""Metrics of how a decoded trial fits the test pieces by spectra or spectrograms: the fit of the true piece, and its
rank among all. See eegdecode/evaluation/statistics/daly.py."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.daly import fits


def of_fit(way: str, name: str, label: str, how: str, order: float) -> Metric:
    """The fit of the true piece. Its chance level is that of other pieces."""

    def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
        return fits(decoded)[way].own() if way in fits(decoded) else None

    def chance(decoded: Decoded, cfg: Scoring) -> float:
        return fits(decoded)[way].of_others()

    def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
        return fits(decoded)[way].null(cfg)

    return Metric(name, label, how, ("sequence",), score, chance, null, order=order)


def of_rank(way: str, name: str, label: str, how: str, order: float) -> Metric:
    """The rank of the true piece by its fit."""

    def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
        return fits(decoded)[way].ranks() if way in fits(decoded) else None

    def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
        return fits(decoded)[way].null_of_ranks(cfg)

    return Metric(name, label, how, ("sequence",), score, 0.5, null, order=order)

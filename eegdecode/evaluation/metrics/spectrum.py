"""Pearson's r of decoded and true power spectra (Daly, Sci Rep 13:624), and the rank of the true piece by it.

The chance level of r is the value of other pieces, which is far above 0, as all music has similar spectra.
"""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.daly import fits


def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
    return fits(decoded)["spectrum"].own() if "spectrum" in fits(decoded) else None


def chance(decoded: Decoded, cfg: Scoring) -> float:
    return fits(decoded)["spectrum"].of_others()


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return fits(decoded)["spectrum"].null(cfg)


SPECTRUM_R = Metric(
    "spectrum_r",
    "r of spectra",
    "Pearson's correlation of power spectra (Daly 2023). Its chance level is that of other test pieces, and far above "
    "0, as all music has similar spectra.",
    ("sequence",),
    score,
    chance,
    null,
    order=30,
)


def rank(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
    return fits(decoded)["spectrum"].ranks() if "spectrum" in fits(decoded) else None


def null_of_rank(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return fits(decoded)["spectrum"].null_of_ranks(cfg)


SPECTRUM_RANK = Metric(
    "spectrum_rank",
    "Rank, of spectra",
    "as rank accuracy, by the r of spectra.",
    ("sequence",),
    rank,
    0.5,
    null_of_rank,
    order=31,
)

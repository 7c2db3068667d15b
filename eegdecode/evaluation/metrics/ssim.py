"""Structural similarity of decoded and true spectrograms (Wang 2004), and the rank of the true piece by it.

The latter is the rank accuracy of Daly (Sci Rep 13:624).
"""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring
from eegdecode.evaluation.statistics.daly import fits


def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
    return fits(decoded)["ssim"].own() if "ssim" in fits(decoded) else None


def chance(decoded: Decoded, cfg: Scoring) -> float:
    return fits(decoded)["ssim"].of_others()


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return fits(decoded)["ssim"].null(cfg)


SSIM = Metric(
    "ssim",
    "SSIM",
    "structural similarity of spectrograms, in 7 × 7 windows. Its chance level is that of other test pieces.",
    ("sequence",),
    score,
    chance,
    null,
    order=40,
)


def rank(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
    return fits(decoded)["ssim"].ranks() if "ssim" in fits(decoded) else None


def null_of_rank(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return fits(decoded)["ssim"].null_of_ranks(cfg)


SSIM_RANK = Metric(
    "ssim_rank",
    "Rank, of spectrograms",
    "as rank accuracy, by SSIM: the rank accuracy of Daly 2023.",
    ("sequence",),
    rank,
    0.5,
    null_of_rank,
    order=41,
)

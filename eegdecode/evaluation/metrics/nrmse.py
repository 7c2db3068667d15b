"""The normalised root mean squared error of numbers."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring


def nrmse(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The root of the mean squared error over rows, in standard deviations of the target, [row, ...] -> [...].

    0 is perfect; always predicting the mean gives 1, which is chance; it can be above 1 (EEG challenge 2025).
    """
    spread = target.std(axis=0)
    if np.any(np.ptp(target, axis=0) == 0):
        raise ValueError(
            f"nrmse is in standard deviations of the target, but over {len(target)} rows it is constant: "
            "take rows with different values"
        )
    return np.sqrt(np.mean((output - target) ** 2, axis=0)) / spread


def score(decoded: Decoded, cfg: Scoring) -> float:
    return float(np.mean(nrmse(decoded.output, decoded.truth)))


NRMSE = Metric(
    "nrmse",
    "nRMSE",
    "the root mean squared error in standard deviations of the target, 1 for always predicting the mean.",
    ("values",),
    score,
    chance=1.0,
    lower_is_better=True,
    order=20,
)

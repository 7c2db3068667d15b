"""Log-spectral distance of decoded sounds (Gray and Markel 1976)."""

import numpy as np

from eegdecode.evaluation.metrics._sounds import of_sounds
from eegdecode.evaluation.statistics.sound import FLOOR, powers


def log_spectral_distance_db(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """How far the levels of frequencies lie apart, root mean square, mean over frames, [..., time] -> [...].

    Each sound in dB of its loudest, and no softer than 50 dB below, so that loudness does not count. 0 for identical
    ones; 50 at most. Chance is what other pieces give.
    """
    one, other = (_levels_db(x, sfreq) for x in (output, target))
    return np.sqrt(((one - other) ** 2).mean(axis=-1)).mean(axis=-1)


def _levels_db(x: np.ndarray, sfreq: float) -> np.ndarray:
    power, _ = powers(x, sfreq)
    largest = power.max(axis=(-2, -1), keepdims=True)
    return 10 * np.log10(np.maximum(power / np.where(largest > 0, largest, 1), FLOOR))


def way(output: np.ndarray, target: np.ndarray, sfreq: float) -> dict[str, float]:
    return {"lsd_db": float(log_spectral_distance_db(output, target, sfreq))}


LSD = of_sounds(
    "lsd_db",
    "Log-spectral distance",
    "the root mean square distance of the levels of all frequencies, mean over frames.",
    way,
    order=4,
    unit="dB",
    lower_is_better=True,
)

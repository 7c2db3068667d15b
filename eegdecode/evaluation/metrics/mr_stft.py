"""Multi-resolution STFT distance of decoded sounds (Yamamoto 2020), by which neural vocoders are trained and judged."""

import numpy as np

from eegdecode.evaluation.metrics._sounds import of_sounds
from eegdecode.evaluation.statistics.sound import FLOOR, powers

WINDOWS_S = (0.01, 0.025, 0.05)  # 240, 600 and 1200 samples at 24 kHz, as in the paper
HOPS = 5  # a window


def multi_resolution_stft(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """Spectral convergence and the distance of log magnitudes, their sum in the mean over three resolutions,
    [..., time] -> [...].

    Both sounds are as loud, and no softer than 50 dB below their loudest. 0 for identical ones, no upper end. Chance is
    what other pieces give.
    """
    return np.mean([_distance(output, target, sfreq, window_s) for window_s in WINDOWS_S], axis=0)


def _distance(output: np.ndarray, target: np.ndarray, sfreq: float, window_s: float) -> np.ndarray:
    one, other = (_magnitudes(x, sfreq, window_s) for x in (output, target))
    convergence = np.linalg.norm(one - other, axis=(-2, -1)) / np.linalg.norm(other, axis=(-2, -1))
    return convergence + np.abs(np.log(one) - np.log(other)).mean(axis=(-2, -1))


def _magnitudes(x: np.ndarray, sfreq: float, window_s: float) -> np.ndarray:
    """[..., frame, frequency], with a mean power of 1; all 1 for silence."""
    power, _ = powers(x, sfreq, window_s, window_s / HOPS)
    largest = power.max(axis=(-2, -1), keepdims=True)
    power = np.where(largest > 0, np.maximum(power, FLOOR * largest), 1.0)
    return np.sqrt(power / power.mean(axis=(-2, -1), keepdims=True))


def way(output: np.ndarray, target: np.ndarray, sfreq: float) -> dict[str, float]:
    return {"mr_stft": float(multi_resolution_stft(output, target, sfreq))}


MR_STFT = of_sounds(
    "mr_stft",
    "Multi-resolution STFT distance",
    "spectral convergence and the distance of log magnitudes, over windows of 10, 25 and 50 ms (Yamamoto 2020).",
    way,
    order=5,
    lower_is_better=True,
)

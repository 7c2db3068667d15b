"""Metrics of time courses: correlation in time and of spectra, normalised errors, SI-SDR. Numpy only."""

import numpy as np


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's r over time, [..., time, feature] -> [..., feature]; 0 where one of the two is constant.

    From -1 to 1; chance is 0, but wide where both are slow: see nulls.py.
    """
    return np.sum(unit(one) * unit(other), axis=-2)


def spectral(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's r of the power spectra over frequencies above 0, [..., time, feature] -> [..., feature] (Daly 2023).

    From -1 to 1. Chance is far above 0, as all slow signals have similar spectra: Daly reports .84 at an r in time of
    .04. Compare with permuted trials.
    """
    return correlation(powers(one), powers(other))


def powers(x: np.ndarray) -> np.ndarray:
    """Power at the frequencies above 0, [..., time, feature] -> [..., frequency, feature]."""
    spectra = np.fft.rfft(np.asarray(x, np.float64), axis=-2)[..., 1:, :]
    return spectra.real**2 + spectra.imag**2


def unit(x: np.ndarray) -> np.ndarray:
    """Mean 0 and length 1 over time; all 0 where it was constant."""
    x = x - x.mean(axis=-2, keepdims=True)
    length = np.linalg.norm(x, axis=-2, keepdims=True)
    return x / np.where(length > 1e-12, length, np.inf)


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


def si_sdr_db(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio in dB over time, [..., time] -> [...]; means are taken off.

    What of the output is the target at any scale, over what is not (Le Roux 2019). The higher the better, from minus to
    plus infinity; r² / (1 - r²) in dB, so noise of n samples has about -10 lg(n).
    """
    output, target = (np.asarray(x, np.float64) for x in (output, target))
    output, target = (x - x.mean(axis=-1, keepdims=True) for x in (output, target))
    tiny = np.finfo(np.float64).tiny
    scale = np.sum(output * target, axis=-1, keepdims=True) / np.maximum(
        np.sum(target**2, axis=-1, keepdims=True), tiny
    )
    signal = np.sum((scale * target) ** 2, axis=-1)
    rest = np.sum((scale * target - output) ** 2, axis=-1)
    return 10 * np.log10(np.maximum(signal, tiny) / np.maximum(rest, tiny))

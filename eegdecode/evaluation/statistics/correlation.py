"""Correlation in time and of spectra. Numpy only."""

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

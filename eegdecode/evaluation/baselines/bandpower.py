"""Log power in five frequency bands of each channel, then logistic regression: a baseline for any classes.

baseline = BandPower.fit(x, y, sfreq=128.0)
baseline.log_probabilities(x)       [window, class]
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from eegdecode.evaluation.baselines.classes import HeldOut, fitted, logistic, of_all_classes, two_or_more

BANDS_HZ = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0)}


@dataclass(frozen=True)
class BandPower:
    sfreq: float
    mean: np.ndarray
    spread: np.ndarray
    regression: Any
    n_classes: int

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, sfreq: float, n_classes: int | None = None, held_out: HeldOut | None = None
    ) -> "BandPower":
        """From windows [window, time, channel] and classes [window]; rare classes count as much as frequent ones."""
        two_or_more(y)
        powers = log_powers(x, sfreq)
        mean, spread = powers.mean(axis=0), powers.std(axis=0)
        spread[spread == 0] = 1

        def standard(other: np.ndarray) -> np.ndarray:
            return (log_powers(other, sfreq) - mean) / spread

        regression = fitted(logistic(held_out), (powers - mean) / spread, y, held_out, standard)
        return cls(sfreq, mean, spread, regression, int(np.max(y)) + 1 if n_classes is None else n_classes)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """[window, class]; a class that did not occur in training has a very small one."""
        powers = (log_powers(x, self.sfreq) - self.mean) / self.spread
        return of_all_classes(self.regression.predict_log_proba(powers), self.regression.classes_, self.n_classes)


def log_powers(x: np.ndarray, sfreq: float) -> np.ndarray:
    """[window, time, channel] -> [window, band and channel], of those bands in which the windows have frequencies."""
    x = np.asarray(x, np.float64)
    hann = np.hanning(x.shape[1] + 2)[1:-1, None]
    spectra = np.fft.rfft((x - x.mean(axis=1, keepdims=True)) * hann, axis=1)
    power = spectra.real**2 + spectra.imag**2
    means = np.concatenate([power[:, within].mean(axis=1) for within in bands(x.shape[1], sfreq).values()], axis=1)
    return np.log(np.maximum(means, np.finfo(np.float64).tiny))


def bands(n_times: int, sfreq: float) -> dict[str, np.ndarray]:
    """The bands in which windows of so many samples have frequencies, and a mask of these frequencies."""
    hz = np.fft.rfftfreq(n_times, 1 / sfreq)
    inside = {name: (hz >= low) & (hz < high) for name, (low, high) in BANDS_HZ.items()}
    present = {name: within for name, within in inside.items() if within.any()}
    if not present:
        raise ValueError(f"a window of {n_times / sfreq:g} s at {sfreq:g} Hz has no frequency of a band: lengthen it")
    return present

"""Common spatial patterns (CSP) with linear discriminant analysis: a baseline for motor imagery (Blankertz 2008).

    csp = CSP.fit(x, y, sfreq=128.0)
    csp.log_probabilities(x)            [window, class]

Filters whose variance separates each class from all others; then an LDA with shrinkage on the log variances.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg
from scipy import signal as dsp

N_SOURCES = 4  # a class: half of what is strongest in it, half of what is weakest
BAND_HZ = (8.0, 30.0)  # the mu and the beta rhythm
RANK = 1e-9  # of the largest eigenvalue: below, a direction was taken out, as by a reference


@dataclass(frozen=True)
class CSP:
    """Filters [source, channel], and the LDA behind them."""

    sfreq: float
    band_hz: tuple[float, float] | None
    filters: np.ndarray
    lda: Any
    n_classes: int

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        sfreq: float,
        n_classes: int | None = None,
        band_hz: tuple[float, float] | None = BAND_HZ,
    ) -> "CSP":
        """From windows [window, time, channel] and classes [window]; band_hz None takes the signals as they are."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        occur = np.unique(y)
        if len(occur) < 2:
            raise ValueError(f"CSP needs two classes in the training set, got {len(occur)}")
        each = _covariances(_banded(x, sfreq, band_hz))
        means = np.stack([each[y == number].mean(axis=0) for number in occur])
        filters = _filters(means)
        # Shrunk as Ledoit and Wolf do, which is what keeps few trials from fooling it
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(_log_variances(each, filters), y)
        return cls(sfreq, band_hz, filters, lda, int(occur.max()) + 1 if n_classes is None else n_classes)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """[window, class]; a class that did not occur in training has a very small one."""
        features = _log_variances(_covariances(_banded(x, self.sfreq, self.band_hz)), self.filters)
        return of_all_classes(self.lda.predict_log_proba(features), self.lda.classes_, self.n_classes)


def of_all_classes(log_probabilities: np.ndarray, occur: np.ndarray, n_classes: int) -> np.ndarray:
    """Columns of the classes that occurred -> columns of all."""
    filled = np.full((len(log_probabilities), n_classes), float(np.log(np.finfo(np.float32).tiny)))
    filled[:, occur] = np.maximum(log_probabilities, filled[:, occur])
    return filled


def _banded(x: np.ndarray, sfreq: float, band_hz: tuple[float, float] | None) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if band_hz is None:
        return x
    if not 0 < band_hz[0] < band_hz[1] < sfreq / 2:
        raise ValueError(f"CSP's band from {band_hz[0]:g} to {band_hz[1]:g} Hz must lie below {sfreq / 2:g} Hz")
    sos = dsp.butter(4, band_hz, "bandpass", fs=sfreq, output="sos")
    return dsp.sosfiltfilt(sos, x, axis=1, padlen=min(x.shape[1] - 1, round(3 * sfreq / band_hz[0])))


def _covariances(x: np.ndarray) -> np.ndarray:
    """Of each window [window, channel, channel], with trace 1, so that no window counts for its size."""
    x = x - x.mean(axis=1, keepdims=True)
    covariances = x.swapaxes(1, 2) @ x
    total = np.trace(covariances, axis1=1, axis2=2)[:, None, None]
    return covariances / np.where(total > 0, total, 1)


def _filters(means: np.ndarray) -> np.ndarray:
    """[source, channel] from the classes' covariances: each class against the mean of all, in the space they span."""
    together = means.mean(axis=0)
    values, vectors = np.linalg.eigh(together)
    significant = values > RANK * values[-1]
    whiten = vectors[:, significant] / np.sqrt(values[significant])
    filters = []
    for mean in means if len(means) > 2 else means[:1]:  # two classes need the filters of one only
        _, sources = linalg.eigh(whiten.T @ mean @ whiten)
        half = min(N_SOURCES // 2, sources.shape[1] // 2) or 1
        ends = np.unique(np.r_[np.arange(half), np.arange(sources.shape[1] - half, sources.shape[1])])
        filters.append((whiten @ sources[:, ends]).T)
    return np.concatenate(filters)


def _log_variances(covariances: np.ndarray, filters: np.ndarray) -> np.ndarray:
    variances = np.einsum("sc,wcd,sd->ws", filters, covariances, filters, optimize=True)
    return np.log(np.maximum(variances, np.finfo(np.float64).tiny))

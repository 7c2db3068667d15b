"""Common spatial patterns (CSP) with linear discriminant analysis (LDA): a baseline for motor imagery.

    csp = CSP.fit(x, y, sfreq=128.0)
    csp.log_probabilities(x)            [window, class]

`mne.decoding.CSP` between 8 and 30 Hz, then the LDA of scikit-learn on the log variances, both with shrinkage: what
MOABB calls DLCSPauto + shLDA.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import signal as dsp

from eegdecode.evaluation.baselines.classes import CHUNK, HeldOut, fitted, lda, of_all_classes, spanned, two_or_more

BAND_HZ = (8.0, 30.0)  # the mu and the beta rhythm
N_COMPONENTS = 6  # MOABB's number; of more classes than that, one for each
FLOOR = np.log(1e-6)  # components have a variance of about 1; a window in which nothing was recorded has none


@dataclass(frozen=True)
class CSP:
    """The space that the channels span, [source, channel], and the pipeline of scikit-learn behind it."""

    sfreq: float
    band_hz: tuple[float, float] | None
    space: np.ndarray
    pipeline: Any
    n_classes: int

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        sfreq: float,
        n_classes: int | None = None,
        band_hz: tuple[float, float] | None = BAND_HZ,
        held_out: HeldOut | None = None,
    ) -> "CSP":
        """From windows [window, time, channel] and classes [window]; band_hz None takes the signals as they are."""
        import mne
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        occur = two_or_more(y)
        banded = _banded(x, sfreq, band_hz)
        space = spanned(banded)
        filters = mne.decoding.CSP(
            min(max(N_COMPONENTS, len(occur)), len(space)),
            reg="oas",
            cov_est="epoch",
            rank={"mag": len(space)},  # as MNE calls channels that it knows nothing of
            component_order="alternate" if len(occur) == 2 else "mutual_info",
        )
        powers = make_pipeline(filters, FunctionTransformer(_floored))
        with mne.use_log_level("error"), np.errstate(divide="ignore"):
            features = powers.fit_transform(space @ banded, y)
            of_others = partial(_features, powers, space, sfreq, band_hz)
            classifier = fitted(lda(len(occur), held_out), features, y, held_out, of_others)
        pipeline = make_pipeline(*powers, classifier)
        return cls(sfreq, band_hz, space, pipeline, int(occur.max()) + 1 if n_classes is None else n_classes)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """[window, class]; a class that did not occur in training has a very small one."""
        with np.errstate(divide="ignore"):
            log_p = self.pipeline.predict_log_proba(self.space @ _banded(x, self.sfreq, self.band_hz))
        return of_all_classes(log_p, self.pipeline.classes_, self.n_classes)


def _features(
    powers: Any, space: np.ndarray, sfreq: float, band_hz: tuple[float, float] | None, x: np.ndarray
) -> np.ndarray:
    features: np.ndarray = powers.transform(space @ _banded(x, sfreq, band_hz))
    return features


def _floored(log_variances: np.ndarray) -> np.ndarray:
    return np.maximum(log_variances, FLOOR)


def _banded(x: np.ndarray, sfreq: float, band_hz: tuple[float, float] | None) -> np.ndarray:
    """[window, time, channel] -> [window, channel, time], without the mean of each window."""
    sos = None
    if band_hz is not None:
        if not 0 < band_hz[0] < band_hz[1] < sfreq / 2:
            raise ValueError(f"CSP's band from {band_hz[0]:g} to {band_hz[1]:g} Hz must lie below {sfreq / 2:g} Hz")
        sos = dsp.butter(4, band_hz, "bandpass", fs=sfreq, output="sos")
        padding = min(x.shape[1] - 1, round(3 * sfreq / band_hz[0]))
    banded = np.empty((len(x), x.shape[2], x.shape[1]))
    for first in range(0, len(x), CHUNK):  # a filter needs several times the memory of what it filters
        part = np.asarray(x[first : first + CHUNK], np.float64).swapaxes(1, 2)
        if sos is not None:
            part = dsp.sosfiltfilt(sos, part, axis=2, padlen=padding)
        banded[first : first + CHUNK] = part - part.mean(axis=2, keepdims=True)
    return banded

"""Steady-state responses to lights or sounds of known frequencies: three baselines.

    hz = frequencies(("13", "17 Hz", "rest"))       (13.0, 17.0, None)
    baseline = FBCCA.fit(x, y, sfreq, hz)           or TRCA.fit, FilterBank.fit
    baseline.log_probabilities(x)                   [window, class]

FBCCA      the canonical correlation with sines and cosines of each frequency and its harmonics, in several bands that
           begin ever higher (Chen 2015)
TRCA       the correlation with the mean response to each class, through the filter that is most alike in all of its
           windows (Nakanishi 2018); it needs windows that are locked to the stimulus
FilterBank covariances of the signals filtered around each frequency, in a tangent space (Congedo 2013)

All end in logistic regression, so a class without a frequency, as rest, can be decoded too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg
from scipy import signal as dsp

from eegdecode.evaluation.baselines.classes import HeldOut, fitted, logistic, of_all_classes, spanned, two_or_more
from eegdecode.evaluation.baselines.riemann import Riemann, centred

LOWEST_HZ, HIGHEST_HZ = 5.0, 80.0
"""Names of classes that are numbers in this range are taken for frequencies."""
N_BANDS, N_HARMONICS = 5, 5  # of Chen 2015
TOP_HZ = 88.0
HALF_WIDTH_HZ = 0.5  # of a filter around a frequency, as in MOABB

Frequencies = tuple[float | None, ...]


def frequencies(classes: Sequence[str]) -> Frequencies:
    """The frequency that the name of each class is; empty if that is so for less than two of them."""
    hz = tuple(_frequency(name) for name in classes)
    known = {each for each in hz if each is not None}
    return hz if len(known) > 1 and len(known) == sum(each is not None for each in hz) else ()


def _frequency(name: str) -> float | None:
    number = re.fullmatch(r"(?:\D*[ _-])?(\d+(?:\.\d+)?) ?(?:hz)?", name.strip(), re.IGNORECASE)
    return float(number[1]) if number and LOWEST_HZ <= float(number[1]) <= HIGHEST_HZ else None


@dataclass(frozen=True)
class FBCCA:
    sfreq: float
    hz: Frequencies
    regression: Any

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, sfreq: float, hz: Frequencies, held_out: HeldOut | None = None
    ) -> "FBCCA":
        """From windows [window, time, channel] and classes [window]."""
        two_or_more(y)

        def features(of: np.ndarray) -> np.ndarray:
            return canonical(of, sfreq, [each for each in hz if each is not None])

        return cls(sfreq, hz, fitted(logistic(held_out), features(x), y, held_out, features))

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        features = canonical(x, self.sfreq, [each for each in self.hz if each is not None])
        return of_all_classes(self.regression.predict_log_proba(features), self.regression.classes_, len(self.hz))


def canonical(x: np.ndarray, sfreq: float, hz: Sequence[float], bands: "Bands | None" = None) -> np.ndarray:
    """[window, frequency]: the square of the canonical correlation with each, the weighted sum over bands."""
    times = np.arange(x.shape[1]) / sfreq
    waves = []
    for each in hz:
        angles = 2 * np.pi * each * np.outer(times, np.arange(1, N_HARMONICS + 1))
        below = angles[:, np.arange(1, N_HARMONICS + 1) * each < sfreq / 2]
        wave = np.concatenate([np.sin(below), np.cos(below)], axis=1)
        waves.append(np.linalg.qr(wave - wave.mean(axis=0))[0])
    total = np.zeros((len(x), len(hz)))
    for weight, banded in bands or _in_bands(x, sfreq, hz):
        left, values, _ = np.linalg.svd(banded, full_matrices=False)
        left = left * (values > 1e-6 * np.maximum(values[:, :1], 1e-300))[:, None]  # channels that are sums of others
        for place, wave in enumerate(waves):
            total[:, place] += weight * np.linalg.svd(wave.T @ left, compute_uv=False)[:, 0] ** 2
    return total


Bands = list[tuple[float, np.ndarray]]


def _in_bands(x: np.ndarray, sfreq: float, hz: Sequence[float]) -> Bands:
    """Bands that begin below the lowest frequency and its multiples: the weight of each, and the windows in it."""
    lowest, top = 0.9 * min(hz), min(TOP_HZ, 0.45 * sfreq)
    bands = []
    for number in range(1, N_BANDS + 1):
        if number * lowest >= 0.8 * top and number > 1:
            break
        sos = dsp.butter(4, (min(number * lowest, 0.5 * top), top), "bandpass", fs=sfreq, output="sos")
        filtered = dsp.sosfiltfilt(sos, np.asarray(x, np.float64), axis=1, padlen=min(x.shape[1] - 1, round(sfreq)))
        bands.append((number**-1.25 + 0.25, filtered - filtered.mean(axis=1, keepdims=True)))
    return bands


@dataclass(frozen=True)
class TRCA:
    """`templates`: of each class that occurs the mean response [time, channel], and its filter [channel]; by band."""

    sfreq: float
    hz: Frequencies
    space: np.ndarray
    templates: Any
    regression: Any

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, sfreq: float, hz: Frequencies, held_out: HeldOut | None = None
    ) -> "TRCA":
        """From windows [window, time, channel] and classes [window]."""
        occur = two_or_more(y)
        place = np.zeros(len(y), int)  # every second window of a class is in the other half
        for each in occur:
            place[y == each] = np.arange(int((y == each).sum())) % 2
        if min(int(((y == each) & (place == 1)).sum()) for each in occur) < 1:
            raise ValueError("two windows of each class are needed in the training set")
        space = spanned(centred(x))
        x = x @ space.T
        known = [each for each in hz if each is not None]
        features = np.zeros((len(y), len(occur)))
        for half in (0, 1):  # no window is compared with a mean that it is part of
            learned = _templates(x[place != half], y[place != half], sfreq, known)
            features[place == half] = _alike(x[place == half], learned, sfreq, known)
        templates = _templates(x, y, sfreq, known)
        regression = fitted(
            logistic(held_out), features, y, held_out, lambda other: _alike(other @ space.T, templates, sfreq, known)
        )
        return cls(sfreq, hz, space, templates, regression)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        known = [each for each in self.hz if each is not None]
        features = _alike(x @ self.space.T, self.templates, self.sfreq, known)
        return of_all_classes(self.regression.predict_log_proba(features), self.regression.classes_, len(self.hz))


Templates = list[tuple[np.ndarray, np.ndarray]]


def _templates(x: np.ndarray, y: np.ndarray, sfreq: float, hz: Sequence[float]) -> Templates:
    """In each band: the mean response to each class that occurs [class, time, channel], and the filters of all classes
    [channel, class], with which each is compared (the ensemble of Nakanishi 2018)."""
    every = []
    for _, banded in _in_bands(x, sfreq, hz):
        means = np.stack([banded[y == each].mean(axis=0) for each in np.unique(y)])
        filters = []
        for number, each in enumerate(np.unique(y)):
            own = banded[y == each]
            within = np.tensordot(own, own, axes=([0, 1], [0, 1]))
            total = len(own) ** 2 * means[number].T @ means[number]
            within += 1e-6 * np.trace(within) / len(within) * np.eye(len(within))
            filters.append(linalg.eigh(total, within)[1][:, -1])
        every.append((means, np.stack(filters, axis=1)))
    return every


def _alike(x: np.ndarray, templates: Templates, sfreq: float, hz: Sequence[float]) -> np.ndarray:
    """[window, class]: r with the mean response, both filtered, the weighted sum over bands."""
    total = 0.0
    for (weight, banded), (means, filters) in zip(_in_bands(x, sfreq, hz), templates, strict=True):
        own, others = ((each @ filters).reshape(len(each), -1) for each in (banded, means))
        own, others = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-300) for each in (own, others))
        total = total + weight * (own @ others.T)
    return np.asarray(total)


@dataclass(frozen=True)
class FilterBank:
    sfreq: float
    hz: Frequencies
    riemann: Riemann

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, sfreq: float, hz: Frequencies, held_out: HeldOut | None = None
    ) -> "FilterBank":
        """From windows [window, time, channel] and classes [window]."""
        of_held_out = (
            None if held_out is None else HeldOut(stacked(held_out.x, sfreq, hz), held_out.y, held_out.n_settings)
        )
        return cls(sfreq, hz, Riemann.fit(stacked(x, sfreq, hz), y, len(hz), of_held_out))

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        return self.riemann.log_probabilities(stacked(x, self.sfreq, self.hz))


def stacked(x: np.ndarray, sfreq: float, hz: Frequencies) -> np.ndarray:
    """[window, time, frequency and channel]: the signals around each frequency."""
    parts = []
    for each in (each for each in hz if each is not None):
        band = each - HALF_WIDTH_HZ, each + HALF_WIDTH_HZ
        sos = dsp.butter(2, band, "bandpass", fs=sfreq, output="sos")
        padding = min(x.shape[1] - 1, round(2 * sfreq))
        parts.append(dsp.sosfiltfilt(sos, np.asarray(x, np.float64), axis=1, padlen=padding))
    return np.concatenate(parts, axis=2)

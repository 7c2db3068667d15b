"""Rank accuracy (Daly, Sci Rep 13:624): the rank of the true piece among all pieces, for each decoded trial.

Outputs are [trial, time, feature] and pieces [piece, time, feature], all cut to the shortest, so that none is
recognised by its length. Each way to compare them gives [trial, piece], the higher the better, for `ranks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal as dsp
from scipy.stats import rankdata

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import DecodedTrial
from eegdecode.evaluation.statistics import nulls, ssim
from eegdecode.evaluation.statistics.correlation import powers, unit

BAND_HZ = (0.035, 4.75)  # of the paper, where it was chosen by looking at two of the participants
SMALLEST = 7  # rows and columns of a picture that SSIM is defined for
CHUNK = 1 << 20  # numbers at a time


@dataclass(frozen=True)
class Fit:
    """How each decoded trial fits each piece [trial, piece], the higher the better; and the place [trial] of the true
    piece. Nulls permute the pieces, alike for all trials of one."""

    table: np.ndarray
    place: np.ndarray

    @property
    def n_pieces(self) -> int:
        return self.table.shape[1]

    def own(self) -> np.ndarray:
        """[trial]: with the true piece."""
        return self.table[np.arange(len(self.place)), self.place]

    def of_others(self) -> float:
        """The mean over the other pieces."""
        return float((self.table.sum() - self.own().sum()) / (self.table.size - len(self.place)))

    def null(self, cfg: Scoring) -> np.ndarray:
        """[draw]: the mean over trials."""
        return nulls.pieces_dealt(self.table, self.place, cfg.n_null, cfg.seed).mean(axis=1)

    def ranks(self) -> np.ndarray:
        """[trial]: see `ranks`."""
        return ranks(self.table, self.place)

    def null_of_ranks(self, cfg: Scoring) -> np.ndarray:
        """[draw]: the mean rank over trials."""
        return nulls.pieces_dealt(ranks_of_all(self.table), self.place, cfg.n_null, cfg.seed).mean(axis=1)


def together(trials: Sequence[DecodedTrial], most: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs [trial, time, feature], pieces [piece, time, feature], and the place [trial] of the true one.

    All are cut to the shortest piece, so that none is recognised by its length; and to `most` samples.
    """
    pieces = {trial.stimulus: trial.target for trial in reversed(trials)}
    n_times = min(len(trial.target) for trial in trials)
    n_times = n_times if most is None else min(most, n_times)
    outputs = np.stack([trial.output[:n_times] for trial in trials])
    targets = np.stack([target[:n_times] for target in pieces.values()])
    return outputs, targets, np.array([list(pieces).index(trial.stimulus) for trial in trials])


def daly(
    outputs: np.ndarray, pieces: np.ndarray, sfreq: float, mode: ssim.Mode = "skimage", window_s: float = 4.0
) -> dict[str, np.ndarray]:
    """[trial, piece]: the r of spectra, and where pieces are long enough the SSIM of spectrograms, as in the paper."""
    decoded, true = prepared(outputs, sfreq), prepared(pieces, sfreq)
    fits = {"spectrum": by_spectrum(decoded, true)}
    if outputs.shape[1] >= window_s * sfreq * (1 + SMALLEST / 8):
        fits["ssim"] = by_ssim(decoded, true, sfreq, mode, window_s)
    return fits


def ranks(fit: np.ndarray, own: np.ndarray) -> np.ndarray:
    """[trial]: the share of other pieces that fit worse than the true one, ties counting half; NaN for one piece only.

    From 0 to 1, and 1 where the true one fits best; chance is 0.5. `own` [trial] is the true piece's place.
    """
    true = np.take_along_axis(fit, np.asarray(own)[:, None], axis=1)
    # The piece itself ties with itself: half a point that is taken off again
    worse = (fit < true).sum(axis=1) + 0.5 * (fit == true).sum(axis=1) - 0.5
    return worse / (fit.shape[1] - 1) if fit.shape[1] > 1 else np.full(len(fit), np.nan)


def ranks_of_all(fit: np.ndarray) -> np.ndarray:
    """[trial, piece]: the rank each piece would have if it were the true one, for nulls that shuffle the pieces."""
    return (rankdata(fit, axis=1) - 1) / (fit.shape[1] - 1)


def by_correlation(outputs: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """[trial, piece]: r in time, the mean over features."""
    n_features = outputs.shape[-1]
    return unit(outputs).reshape(len(outputs), -1) @ unit(pieces).reshape(len(pieces), -1).T / n_features


def by_spectrum(outputs: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """[trial, piece]: r of power spectra, the mean over features."""
    return by_correlation(powers(outputs), powers(pieces))


def by_ssim(
    outputs: np.ndarray, pieces: np.ndarray, sfreq: float, mode: ssim.Mode = "skimage", window_s: float = 4.0
) -> np.ndarray:
    """[trial, piece]: SSIM of spectrograms, the mean over features; of what `prepared` gives, as in the paper."""
    decoded, true = spectrograms(outputs, sfreq, window_s), spectrograms(pieces, sfreq, window_s)
    data_range = float(np.ptp(true)) or 1.0
    features = range(outputs.shape[-1])
    return np.mean([ssim.ssim_of_all(decoded[:, f], true[:, f], data_range, mode) for f in features], axis=0)


def prepared(x: np.ndarray, sfreq: float, band_hz: tuple[float, float] = BAND_HZ) -> np.ndarray:
    """Mean 0 and variance 1 over time, then the band alone, without shift; [..., time, feature] as it came."""
    low, high = band_hz
    if not 0 < low < high < sfreq / 2:
        raise ValueError(
            f"a band from {low:g} to {high:g} Hz needs values at more than {2 * high:g} Hz, got {sfreq:g} Hz: "
            "decode at a higher rate, or take a narrower band"
        )
    sos = dsp.butter(3, band_hz, "bandpass", fs=sfreq, output="sos")
    scaled = unit(np.asarray(x, np.float64)) * np.sqrt(x.shape[-2])
    # Ends are mirrored upright: upside down, a fast swing cut off at its top is a step, which rings for seconds
    return dsp.sosfiltfilt(sos, scaled, axis=-2, padtype="even", padlen=min(x.shape[-2] - 1, round(sfreq / low)))


def spectrograms(x: np.ndarray, sfreq: float, window_s: float = 4.0, up_to_hz: float = BAND_HZ[1]) -> np.ndarray:
    """Amplitudes, [..., time, feature] -> [..., feature, frequency, frame]: Hann windows, an eighth of one apart.

    Frequencies are those above 0 up to the end of the band. The paper names no window; 4 s resolve 0.25 Hz.
    """
    *batch, n_times, n_features = x.shape
    window = min(round(window_s * sfreq), n_times)
    n_frequencies = int(up_to_hz * window / sfreq + 1e-6)
    # As one product with sines and cosines: few frequencies are wanted of many
    angles = 2 * np.pi / window * np.outer(np.arange(window), np.arange(1, n_frequencies + 1))
    hann = dsp.windows.hann(window, sym=False)[:, None] * (4 / window)
    waves = np.concatenate([hann * np.cos(angles), hann * np.sin(angles)], axis=1)
    signals = np.moveaxis(x, -1, -2).reshape(-1, n_times)
    frames = np.lib.stride_tricks.sliding_window_view(signals, window, axis=1)[:, :: max(1, window // 8)]
    amplitudes = np.empty((len(signals), n_frequencies, frames.shape[1]))
    step = max(1, CHUNK // (frames.shape[1] * window))
    for first in range(0, len(signals), step):
        both = np.ascontiguousarray(frames[first : first + step]) @ waves
        amplitudes[first : first + step] = np.hypot(both[..., :n_frequencies], both[..., n_frequencies:]).swapaxes(1, 2)
    return amplitudes.reshape(*batch, n_features, *amplitudes.shape[1:])

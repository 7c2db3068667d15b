"""Similarity of two sounds in six respects, after the Audio-Similarity package (its 1.0 is withdrawn): our own code.

Each is between 0 and 1, and 1 for identical sounds. The chance level of most is far above 0, as unrelated music has
similar chroma and contrast: compare with other pieces. `perceptual` is not STOI, as there, but its idea on mel bands.
"""

import numpy as np

from eegdecode.evaluation.metrics import Metric
from eegdecode.evaluation.metrics._sounds import of_sounds
from eegdecode.evaluation.statistics.correlation import correlation
from eegdecode.evaluation.statistics.sound import HOP_S, NOTES_S, mel_powers, powers

WEIGHTS = {
    "zero_crossings": 0.2,
    "rhythm": 0.2,
    "chroma": 0.2,
    "energy": 0.1,
    "contrast": 0.1,
    "perceptual": 0.2,
}
"""Weights of the package for the weighted sum; their sum is 1."""
LOWEST_NOTE_HZ = 130.81  # C3
CONTRAST_HZ = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0)
SEGMENT_S = 0.384  # of STOI, about a syllable
SLOWEST_S = 2.0  # between two beats


def similarity(output: np.ndarray, target: np.ndarray, sfreq: float) -> dict[str, np.ndarray]:
    """Each respect and their weighted sum, [..., time] twice -> [...] each."""
    output, target = np.broadcast_arrays(np.asarray(output, np.float64), np.asarray(target, np.float64))
    similarities = {
        "zero_crossings": zero_crossings(output, target, sfreq),
        "rhythm": rhythm(output, target, sfreq),
        "chroma": chroma(output, target, sfreq),
        "energy": energy(output, target, sfreq),
        "contrast": contrast(output, target, sfreq),
        "perceptual": perceptual(output, target, sfreq),
    }
    return similarities | {
        "weighted": np.sum([weight * similarities[name] for name, weight in WEIGHTS.items()], axis=0)
    }


def zero_crossings(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """1 less how far the rates of zero crossings lie apart, as a part of the larger, mean over frames."""
    hop = max(1, round(HOP_S * sfreq))
    rates = []
    for x in (output, target):
        crossed = np.diff(x >= 0, axis=-1)
        n_frames = crossed.shape[-1] // hop
        rates.append(crossed[..., : n_frames * hop].reshape(*x.shape[:-1], n_frames, hop).sum(axis=-1))
    larger = np.maximum(*rates)
    return 1 - np.mean(np.abs(rates[0] - rates[1]) / np.maximum(larger, 1), axis=-1)


def rhythm(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """r of how onsets repeat themselves over up to two seconds, 0 where negative."""
    return _positive_r(*(_repetition(np.log(mel_powers(x, sfreq))) for x in (output, target)))


def _repetition(log_mel: np.ndarray) -> np.ndarray:
    """The autocorrelation of what grew louder, [..., frame, band] -> [..., lag from one frame upwards]."""
    onsets = np.maximum(np.diff(log_mel, axis=-2), 0).mean(axis=-1)
    onsets = onsets - onsets.mean(axis=-1, keepdims=True)
    spectra = np.fft.rfft(onsets, 2 * onsets.shape[-1])
    repeated = np.fft.irfft(np.abs(spectra) ** 2)
    return repeated[..., 1 : 1 + min(round(SLOWEST_S / HOP_S), onsets.shape[-1])]


def chroma(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """The cosine between the powers of the twelve notes, whatever their octave, mean over frames."""
    one, other = (_notes(x, sfreq) for x in (output, target))
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    cosine = np.sum(one * other, axis=-1) / np.where(lengths > 0, lengths, 1)
    both_silent = (np.linalg.norm(one, axis=-1) == 0) & (np.linalg.norm(other, axis=-1) == 0)
    return np.where(both_silent, 1.0, cosine).mean(axis=-1)


def _notes(x: np.ndarray, sfreq: float) -> np.ndarray:
    """[..., frame, note]"""
    power, hz = powers(x, sfreq, NOTES_S)
    audible = hz >= LOWEST_NOTE_HZ
    note = np.round(12 * np.log2(hz[audible] / LOWEST_NOTE_HZ)).astype(int) % 12
    return power[..., audible] @ (note[:, None] == np.arange(12)).astype(np.float64)


def energy(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """r of loudness over frames, 0 where negative."""
    return _positive_r(*(np.sqrt(powers(x, sfreq)[0].sum(axis=-1)) for x in (output, target)))


def contrast(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """How far peaks stand above valleys in each octave (Jiang 2002): 1 less the mean difference, as a part of both."""
    one, other = (_contrasts(x, sfreq) for x in (output, target))
    apart = np.abs(one - other).sum(axis=(-2, -1))
    both = (np.abs(one) + np.abs(other)).sum(axis=(-2, -1))
    return 1 - apart / np.where(both > 0, both, 1)


def _contrasts(x: np.ndarray, sfreq: float) -> np.ndarray:
    """[..., frame, octave], in nepers."""
    power, hz = powers(x, sfreq)
    power = power + 1e-10 * power.max(axis=(-2, -1), keepdims=True) + np.finfo(np.float64).tiny
    octaves = []
    for low, high in zip(CONTRAST_HZ, (*CONTRAST_HZ[1:], np.inf), strict=True):
        inside = (hz >= low) & (hz < min(high, sfreq / 2))
        if inside.sum() < 3:
            continue
        band = np.log(np.sort(power[..., inside], axis=-1))
        few = max(1, round(0.2 * band.shape[-1]))
        octaves.append(band[..., -few:].mean(axis=-1) - band[..., :few].mean(axis=-1))
    return np.stack(octaves, axis=-1)


def perceptual(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """r of each mel band's loudness over 0.38 s, mean over bands and segments, 0 where negative (after Taal 2011)."""
    segment = round(SEGMENT_S / HOP_S)
    one, other = (np.log(mel_powers(x, sfreq)) for x in (output, target))
    n = max(1, one.shape[-2] // segment)
    length = min(segment, one.shape[-2])
    one, other = (x[..., : n * length, :].reshape(*x.shape[:-2], n, length, x.shape[-1]) for x in (one, other))
    constant = (np.ptp(one, axis=-2) == 0) & (np.ptp(other, axis=-2) == 0)  # nothing to be unlike in
    r = np.where(constant, 1.0, correlation(one, other))
    return np.maximum(r.mean(axis=(-2, -1)), 0)


def _positive_r(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """r along the last axis, 0 where negative; 1 for two that are constant."""
    constant = (np.ptp(one, axis=-1) == 0) & (np.ptp(other, axis=-1) == 0)
    return np.where(constant, 1.0, np.maximum(correlation(one[..., None], other[..., None])[..., 0], 0))


def way(output: np.ndarray, target: np.ndarray, sfreq: float) -> dict[str, float]:
    return {f"like_{name}": float(value) for name, value in similarity(output, target, sfreq).items()}


def _like(name: str, label: str, how: str, order: float) -> Metric:
    return of_sounds(f"like_{name}", label, how, way, order)


ZERO_CROSSINGS = _like(
    "zero_crossings", "Similarity of zero crossings", "one minus the relative difference of their rates.", 70
)
RHYTHM = _like("rhythm", "Similarity of rhythm", "r of the autocorrelations of onsets within two seconds.", 71)
CHROMA = _like("chroma", "Similarity of chroma", "the cosine between the powers of the twelve notes.", 72)
ENERGY = _like("energy", "Similarity of loudness", "r of loudness over frames.", 73)
CONTRAST = _like("contrast", "Similarity of contrast", "of the height of peaks above valleys in each octave.", 74)
PERCEPTUAL = _like("perceptual", "Perceptual similarity", "r of the loudness of mel bands over syllables of 0.4 s.", 75)
WEIGHTED = _like("weighted", "Overall similarity", "the weighted sum of these six, each 1 for the same sound.", 76)

"""Mel-cepstral distortion of decoded sounds (Kubichek 1993)."""

import numpy as np
from scipy import fft

from eegdecode.evaluation.metrics._sounds import of_sounds
from eegdecode.evaluation.statistics.sound import N_MELS, mel_powers

N_CEPSTRA = 13


def mel_cepstral_distortion_db(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """The distance of mel cepstra 1 to 12 in dB, mean over frames, [..., time] -> [...].

    How far the levels of bands lie apart, root mean square, in the smooth shape of the spectrum alone. 0 for identical
    ones, also at another loudness; no upper end. Chance is what other pieces give.
    """
    cepstra = (fft.dct(np.log(mel_powers(x, sfreq)), norm="ortho")[..., 1:N_CEPSTRA] for x in (output, target))
    apart = np.subtract(*cepstra) / np.sqrt(2 * N_MELS)  # to that of log |H| = c0 + c1 cos + c2 cos ...
    return 10 / np.log(10) * np.sqrt(2 * np.sum(apart**2, axis=-1)).mean(axis=-1)


def way(output: np.ndarray, target: np.ndarray, sfreq: float) -> dict[str, float]:
    return {"mcd_db": float(mel_cepstral_distortion_db(output, target, sfreq))}


MCD = of_sounds(
    "mcd_db",
    "Mel-cepstral distortion",
    "the distance of the smoothed spectra, mean over frames.",
    way,
    order=3,
    unit="dB",
    lower_is_better=True,
)

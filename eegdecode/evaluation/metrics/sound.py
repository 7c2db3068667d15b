"""Compare a decoded sound with the true one: mel-cepstral distortion, PESQ, and the spectra that other metrics use.

Sounds are [..., time] at `sfreq`, both of one length and in step with each other: nothing is moved to fit.
"""

import importlib.util

import numpy as np
from scipy import fft

FRAME_S, HOP_S = 0.046, 0.0115  # 1024 and 256 samples at 22.05 kHz
JUDGED_S = 10.0  # of a trial, from its start: more tells little more, and takes long
N_MELS = 40
N_CEPSTRA = 13
FLOOR = 1e-5  # of the largest power: 50 dB below, what is softer counts as this
PESQ_HZ = {8000: "nb", 16000: "wb"}


def mel_cepstral_distortion_db(output: np.ndarray, target: np.ndarray, sfreq: float) -> np.ndarray:
    """The distance of mel cepstra 1 to 12 in dB, mean over frames, [..., time] -> [...] (Kubichek 1993).

    How far the levels of bands lie apart, root mean square, in the smooth shape of the spectrum alone. 0 for identical
    ones, also at another loudness; no upper end. Chance is what other pieces give.
    """
    cepstra = (fft.dct(np.log(mel_powers(x, sfreq)), norm="ortho")[..., 1:N_CEPSTRA] for x in (output, target))
    apart = np.subtract(*cepstra) / np.sqrt(2 * N_MELS)  # to that of log |H| = c0 + c1 cos + c2 cos ...
    return 10 / np.log(10) * np.sqrt(2 * np.sum(apart**2, axis=-1)).mean(axis=-1)


def pesq(output: np.ndarray, target: np.ndarray, sfreq: float) -> float:
    """How good speech sounds (ITU-T P.862), from about 1 to 4.5; chance is what other pieces give. At 8 kHz narrow, at
    16 kHz wide band. A judgement of telephone speech: of music it says little."""
    if sfreq not in PESQ_HZ:
        raise ValueError(f"PESQ is defined at 8000 and 16000 Hz, got {sfreq:g} Hz: resample both sounds to 16000 Hz")
    if importlib.util.find_spec("pesq") is None:
        raise ValueError("PESQ needs the package pesq: pip install hpc-eegdecode[audio]")
    import pesq as itu

    output, target = (np.asarray(x, np.float32) for x in (output, target))
    if not (output.any() and target.any()):
        raise ValueError("PESQ compares two sounds, but one of them is silent: leave it out")
    try:
        return float(itu.pesq(int(sfreq), target, output, PESQ_HZ[int(sfreq)]))
    except itu.NoUtterancesError:
        raise ValueError("PESQ finds nothing like speech in the true sound: leave it out") from None


def powers(x: np.ndarray, sfreq: float, frame_s: float = FRAME_S) -> tuple[np.ndarray, np.ndarray]:
    """Power [..., frame, frequency] of Hann windows, and the frequencies in Hz."""
    x = np.asarray(x, np.float64)
    window, hop = round(frame_s * sfreq), max(1, round(HOP_S * sfreq))
    if x.shape[-1] < window:
        raise ValueError(f"a sound of {x.shape[-1]} samples is shorter than one frame of {frame_s:g} s, {window}")
    frames = np.lib.stride_tricks.sliding_window_view(x, window, axis=-1)[..., ::hop, :]
    spectra = np.fft.rfft(frames * np.hanning(window))
    return spectra.real**2 + spectra.imag**2, np.fft.rfftfreq(window, 1 / sfreq)


def mel_powers(x: np.ndarray, sfreq: float) -> np.ndarray:
    """[..., frame, mel band], no less than FLOOR of the largest; all 1 for silence."""
    power, hz = powers(x, sfreq)
    bands = power @ mel_bands(hz, sfreq).T
    largest = bands.max(axis=(-2, -1), keepdims=True)
    return np.where(largest > 0, np.maximum(bands / np.where(largest > 0, largest, 1), FLOOR), 1.0)


def mel_bands(hz: np.ndarray, sfreq: float) -> np.ndarray:
    """[band, frequency]: triangles, equally far apart on the mel scale from 0 to half the rate."""
    edges = _mel_edges_hz(N_MELS, sfreq)
    # No narrower than frequencies lie apart, or low bands would be empty
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    low, high = np.minimum(low, centre - hz[1]), np.maximum(high, centre + hz[1])
    return np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))


def mel_centres_hz(n_bands: int, sfreq: float) -> np.ndarray:
    """Where so many bands lie, from 0 to half the rate."""
    return _mel_edges_hz(n_bands, sfreq)[1:-1]


def _mel_edges_hz(n_bands: int, sfreq: float) -> np.ndarray:
    highest = 2595 * np.log10(1 + sfreq / 2 / 700)
    return 700 * (10 ** (np.linspace(0, highest, n_bands + 2) / 2595) - 1)

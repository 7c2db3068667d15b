"""The spectra of sounds [..., time] at `sfreq`, in frames and in mel bands."""

import numpy as np

FRAME_S, HOP_S = 0.046, 0.0115  # 1024 and 256 samples at 22.05 kHz
JUDGED_S = 10.0  # of a trial, from its start: more tells little more, and takes long
N_MELS = 40
FLOOR = 1e-5  # of the largest power: 50 dB below, what is softer counts as this
NOTES_S = 0.186  # a frame that separates neighbouring notes


def powers(
    x: np.ndarray, sfreq: float, frame_s: float = FRAME_S, hop_s: float = HOP_S
) -> tuple[np.ndarray, np.ndarray]:
    """Power [..., frame, frequency] of Hann windows, and the frequencies in Hz."""
    x = np.asarray(x, np.float64)
    window, hop = round(frame_s * sfreq), max(1, round(hop_s * sfreq))
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

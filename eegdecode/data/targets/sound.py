"""Features of sound: envelope, mel bands, the waveform at another rate. Computed a block at a time."""

import functools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy import signal as dsp

from eegdecode.data.config import Audio, Envelope, Mel
from eegdecode.signals import Signal, Stream

COMPRESSION = 0.6  # loudness grows with about this power of pressure
BLOCK_S, MARGIN_S = 60.0, 3.0  # of a block, and of the context around it that avoids seams
CACHED_BLOCKS = 4


def stream(cfg: Audio | Envelope | Mel, sound: Stream) -> Stream:
    """The feature stream of a sound, in blocks on a fixed grid: the numbers do not depend on which pieces are read."""
    match cfg:
        case Audio():
            return _waveform(cfg, sound)
        case Envelope():
            step = max(1, int(sound.sfreq / (128 * cfg.cutoff_hz)))  # deviates 4e-4 from a straight line in between

            def loudness(samples: np.ndarray) -> np.ndarray:
                return envelope(samples, sound.sfreq, cfg.cutoff_hz).data[::step]

            return _in_blocks(("envelope0",), sound, step, loudness)
        case Mel():
            step = _hop(cfg, sound.sfreq)
            names = tuple(f"mel{index}" for index in range(cfg.n_mels))
            return _in_blocks(names, sound, step, lambda samples: mel(cfg, samples, sound.sfreq).data)


def _in_blocks(names: tuple[str, ...], sound: Stream, step: int, compute: Callable[[np.ndarray], np.ndarray]) -> Stream:
    """Row k of the stream is at sample k * step of the sound."""
    n_rows, block = math.ceil(sound.n_times / step), math.ceil(BLOCK_S * sound.sfreq / step)
    margin = math.ceil(MARGIN_S * sound.sfreq / step)

    @functools.lru_cache(maxsize=CACHED_BLOCKS)
    def rows(number: int) -> np.ndarray:
        first, stop = number * block, min((number + 1) * block, n_rows)
        since = max(0, first - margin)
        samples = sound.read(since * step, min(sound.n_times, (stop + margin) * step))[:, 0]
        return compute(samples)[first - since : stop - since].astype(np.float32)

    return _of_blocks(names, sound.sfreq / step, n_rows, block, rows)


def _of_blocks(
    names: tuple[str, ...], sfreq: float, n_rows: int, block: int, rows: Callable[[int], np.ndarray]
) -> Stream:
    def read(first: int, stop: int) -> np.ndarray:
        parts = [
            rows(number)[max(0, first - number * block) : stop - number * block]
            for number in range(first // block, math.ceil(stop / block))
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(names)), np.float32)

    return Stream(names, sfreq, n_rows, read)


def _waveform(cfg: Audio, sound: Stream) -> Stream:
    """The waveform at the wanted rate, by polyphase filters."""
    ratio = Fraction(int(cfg.sfreq), int(sound.sfreq))
    up, down = ratio.numerator, ratio.denominator
    n_rows = math.ceil(sound.n_times * ratio)
    block_s, margin_s = int(BLOCK_S), int(MARGIN_S)  # whole seconds start at a sample in both rates

    @functools.lru_cache(maxsize=CACHED_BLOCKS)
    def rows(number: int) -> np.ndarray:
        since_s = max(0, number * block_s - margin_s)
        stop = min(sound.n_times, ((number + 1) * block_s + margin_s) * int(sound.sfreq))
        samples = sound.read(since_s * int(sound.sfreq), stop)[:, 0]
        resampled = samples if up == down else dsp.resample_poly(samples, up, down)
        first = (number * block_s - since_s) * int(cfg.sfreq)
        last = min((number + 1) * block_s * int(cfg.sfreq), n_rows) - since_s * int(cfg.sfreq)
        return resampled[first:last, None].astype(np.float32)

    return _of_blocks(("audio0",), cfg.sfreq, n_rows, block_s * int(cfg.sfreq), rows)


def envelope(audio: np.ndarray, audio_hz: float, cutoff_hz: float) -> Signal:
    """|Hilbert|, compressed, low-passed with zero phase; at the rate of the sound, for `value_at` to interpolate."""
    fast_length = 1 << (len(audio) - 1).bit_length()
    loudness = np.abs(dsp.hilbert(audio, fast_length)[: len(audio)]) ** COMPRESSION
    sos = dsp.butter(3, cutoff_hz, fs=audio_hz, output="sos")
    smooth = dsp.sosfiltfilt(sos, loudness, padlen=min(len(audio) - 1, int(audio_hz / cutoff_hz)))
    return Signal(smooth[:, None], audio_hz, ("envelope",))


def mel(target: Mel, audio: np.ndarray, audio_hz: float) -> Signal:
    """log(1 + power / 60 dB below full scale), so that silence is 0, as outside of trials."""
    try:
        import torch
        from torchaudio.transforms import MelSpectrogram
    except ImportError as error:
        raise ImportError(f"the mel target needs torchaudio ({error}): run env/setup.sh") from None
    hop = _hop(target, audio_hz)
    n_fft = 1 << int(0.064 * audio_hz).bit_length()  # 64 ms at least, to resolve low notes
    spectrogram = MelSpectrogram(int(audio_hz), n_fft, hop_length=hop, n_mels=target.n_mels, normalized="window")
    power = spectrogram(torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))).numpy()
    return Signal(np.log1p(power.T * 1e6), audio_hz / hop, tuple(f"mel{index}" for index in range(target.n_mels)))


def _hop(target: Mel, audio_hz: float) -> int:
    return max(1, int(audio_hz / (8 * target.sfreq)))


def value_at(sound: Signal, times: np.ndarray) -> np.ndarray:
    """[time, feature] at any times, interpolated from a strongly oversampled signal."""
    clock = np.arange(sound.n_times) / sound.sfreq
    return np.stack([np.interp(times, clock, feature) for feature in sound.data.T], axis=1)

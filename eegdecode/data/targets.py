"""What is decoded: a stream computed from the stimulus's sound, put on the clock of the recording."""

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import signal as dsp

from eegdecode.data import Envelope, Mel
from eegdecode.data.recordings import stimulus_file
from eegdecode.signals import Signal, Trial

COMPRESSION = 0.6  # loudness grows as about this power of pressure


def stream(target: Envelope | Mel, trials: Sequence[Trial], study: Path, duration: float) -> Signal:
    """The stimulus's stream over a whole recording: sample k is its value at k / sfreq, zero outside the trials."""
    times = np.arange(round(duration * target.sfreq)) / target.sfreq
    n_features = target.n_mels if isinstance(target, Mel) else 1
    data = np.zeros((len(times), n_features), np.float32)
    for trial in trials:
        audio, audio_hz = read_audio(stimulus_file(study, trial.stimulus))
        sound = mel(target, audio, audio_hz) if isinstance(target, Mel) else envelope(audio, audio_hz, target.cutoff_hz)
        during = (times >= trial.start - 1e-9) & (times < trial.start + min(trial.duration, len(audio) / audio_hz))
        data[during] = value_at(sound, times[during] - trial.start)
    return Signal(data, target.sfreq, tuple(f"{target.name}{index}" for index in range(n_features)))


def value_at(sound: Signal, times: np.ndarray) -> np.ndarray:
    """[time, feature] at any times, from a signal that is sampled many times faster than it changes."""
    clock = np.arange(sound.n_times) / sound.sfreq
    return np.stack([np.interp(times, clock, feature) for feature in sound.data.T], axis=1)


def envelope(audio: np.ndarray, audio_hz: float, cutoff_hz: float) -> Signal:
    """|Hilbert|, compressed, low-passed without shift; at the rate of the sound, for `value_at` to read anywhere."""
    fast_length = 1 << (len(audio) - 1).bit_length()
    loudness = np.abs(dsp.hilbert(audio, fast_length)[: len(audio)]) ** COMPRESSION
    sos = dsp.butter(3, cutoff_hz, fs=audio_hz, output="sos")
    smooth = dsp.sosfiltfilt(sos, loudness, padlen=min(len(audio) - 1, int(audio_hz / cutoff_hz)))
    return Signal(smooth[:, None], audio_hz, ("envelope",))


def mel(target: Mel, audio: np.ndarray, audio_hz: float) -> Signal:
    """log(1 + power / 60 dB below full scale), so that silence is 0, as it is outside the trials."""
    try:
        import torch
        from torchaudio.transforms import MelSpectrogram
    except ImportError as error:
        raise ImportError(f"the mel target needs torchaudio ({error}): run env/setup.sh") from None
    hop = max(1, int(audio_hz / (8 * target.sfreq)))
    n_fft = 1 << int(0.064 * audio_hz).bit_length()  # 64 ms at least: tells low notes apart
    spectrogram = MelSpectrogram(int(audio_hz), n_fft, hop_length=hop, n_mels=target.n_mels, normalized="window")
    power = spectrogram(torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))).numpy()
    return Signal(np.log1p(power.T * 1e6), audio_hz / hop, tuple(f"mel{index}" for index in range(target.n_mels)))


def read_audio(path: Path) -> tuple[np.ndarray, float]:
    """A 16-bit WAV as (samples within ±1, Hz); several channels are averaged."""
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                raise wave.Error(f"{8 * file.getsampwidth()}-bit samples, where 16 are wanted")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            return samples.mean(axis=1) / 32768, float(file.getframerate())
    except (wave.Error, EOFError) as error:
        cause = str(error) or "it is cut off"
        raise ValueError(f"{path} cannot be read as sound ({cause}): write it as 16-bit PCM WAV") from None

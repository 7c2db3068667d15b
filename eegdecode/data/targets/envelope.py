"""The envelope of the sound: its loudness, compressed as by the ear, and low-passed."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import signal as dsp

from eegdecode.data.targets.parts import blocks, sounds
from eegdecode.data.targets.parts.sounds import files, stimulus_end
from eegdecode.signals import Signal, Stream, Trial

__all__ = ["Envelope", "envelope", "files", "make", "stimulus_end"]


@dataclass(frozen=True)
class Envelope:
    """The envelope of the sound: its loudness, one value a sample, power-law compressed as by the ear."""

    name: Literal["envelope"] = "envelope"
    sfreq: float = 64.0  # rate in Hz: that of the preprocessed EEG, so that a window has as many samples of both
    cutoff_hz: float = 8.0  # low-pass in Hz: cortex follows sound up to about this frequency

    def __post_init__(self) -> None:
        if not 0 < self.cutoff_hz < self.sfreq / 2:
            raise ValueError(f"cutoff_hz must lie below half of sfreq ({self.sfreq / 2} Hz), got {self.cutoff_hz}")


COMPRESSION = 0.6  # loudness grows with about this power of pressure


def make(cfg: Envelope, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    return sounds.features(cfg.name, 1, functools.partial(_of_sound, cfg), trials, study, duration_s, cfg.sfreq)


def _of_sound(cfg: Envelope, sound: Stream) -> Stream:
    step = max(1, int(sound.sfreq / (128 * cfg.cutoff_hz)))  # deviates 4e-4 from a straight line in between

    def loudness(samples: np.ndarray) -> np.ndarray:
        return envelope(samples, sound.sfreq, cfg.cutoff_hz).data[::step]

    return blocks.in_blocks(("envelope0",), sound, step, loudness)


def envelope(audio: np.ndarray, audio_hz: float, cutoff_hz: float) -> Signal:
    """|Hilbert|, compressed, low-passed with zero phase; at the rate of the sound, for `value_at` to interpolate."""
    fast_length = 1 << (len(audio) - 1).bit_length()
    loudness = np.abs(dsp.hilbert(audio, fast_length)[: len(audio)]) ** COMPRESSION
    sos = dsp.butter(3, cutoff_hz, fs=audio_hz, output="sos")
    smooth = dsp.sosfiltfilt(sos, loudness, padlen=min(len(audio) - 1, int(audio_hz / cutoff_hz)))
    return Signal(smooth[:, None], audio_hz, ("envelope",))

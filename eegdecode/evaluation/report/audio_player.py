"""Audio players for a page: WAV embedded in the page, and sound reconstructed from mel spectrograms."""

import base64
import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import signal as dsp

from eegdecode.data.events import stimuli
from eegdecode.data.io import audio
from hpc.rank.context import Input, input_path
from hpc.runs import records
from hpc.runs.rundir import RunDir

PLAYED_S = 4.0  # of a trial, from its start: a page that is sent on is small
HIGHEST_HZ = 16000.0  # of what is played
ROUNDS = 32  # of both searches, for what lies within a band and for a phase
TINY = 1e-12


@dataclass(frozen=True)
class Player:
    label: str
    wav: str  # base64


def player(samples: np.ndarray, sfreq: float, label: str) -> Player:
    """The first seconds of a sound [time], as loud as can be."""
    sound = np.asarray(samples[: round(PLAYED_S * sfreq)], np.float64)
    if sfreq > HIGHEST_HZ:
        sound, sfreq = dsp.resample_poly(sound, round(HIGHEST_HZ), round(sfreq)), HIGHEST_HZ
    return Player(label, base64.b64encode(wav(sound, round(sfreq))).decode())


def wav(sound: np.ndarray, sfreq: int) -> bytes:
    """16 bit, one channel; its largest sample is at 0.9."""
    loudest = float(np.abs(sound).max()) or 1.0
    file = io.BytesIO()
    with wave.open(file, "wb") as to:
        to.setnchannels(1)
        to.setsampwidth(2)
        to.setframerate(sfreq)
        to.writeframes(np.round(sound / loudest * 0.9 * 32767).astype("<i2").tobytes())
    return file.getvalue()


def rate_hz(runs: Sequence[RunDir], stimulus: str) -> float | None:
    """The rate of the sound file that a mel target was made from, which defines its bands; None without the study."""
    for run in runs:
        study = records.plan(run).get("inputs", {}).get("study")
        if study is None:
            continue
        path = audio.file_of(input_path(Input(study), run.path.parent), stimuli.whole(stimulus)[0])
        if Path(path).is_file():
            return audio.header(path).sfreq
    return None


def from_mel(log_mel: np.ndarray, sfreq: float, sound_hz: float) -> np.ndarray:
    """A sound [time] at `sound_hz` whose mel target [time, band] at `sfreq` is about this (Griffin and Lim 1984).

    What the target lacks is lost: the phase, and all that is finer than a band and a sample of it.
    """
    import torch
    from torchaudio import functional

    n_fft = 1 << int(0.064 * sound_hz).bit_length()  # as the target was made, see data/targets/mel.py
    hop, n_mels = n_fft // 4, log_mel.shape[1]
    rows = log_mel[: round(PLAYED_S * sfreq)]
    times = np.arange(0, len(rows) / sfreq, hop / sound_hz)
    clock = np.arange(len(rows)) / sfreq
    smooth = np.stack([np.interp(times, clock, band) for band in rows.T], axis=1)
    bands = functional.melscale_fbanks(n_fft // 2 + 1, 0.0, sound_hz / 2, n_mels, int(sound_hz)).double().numpy()
    wanted = np.expm1(np.maximum(smooth, 0)) / 1e6  # [frame, band]
    power = np.ones((len(wanted), len(bands)))  # [frame, frequency], nowhere below 0 (Lucy 1974)
    for _ in range(ROUNDS):
        ratio = wanted / np.maximum(power @ bands, TINY)
        power *= ratio @ bands.T / np.maximum(bands.sum(axis=1), TINY)
    window = torch.hann_window(n_fft)
    power *= float(window.square().sum())  # targets are powers of windows of length 1
    waveform: torch.Tensor = functional.griffinlim(
        torch.from_numpy(power.T.astype(np.float32)), window, n_fft, hop, n_fft,
        power=2.0, n_iter=ROUNDS, momentum=0.99, length=None, rand_init=False,
    )  # fmt: skip
    return waveform.double().numpy()

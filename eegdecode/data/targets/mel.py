"""The log-mel spectrogram of the sound."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eegdecode.data.targets.parts import blocks, sounds
from eegdecode.data.targets.parts.sounds import files, stimulus_end
from eegdecode.signals import Signal, Stream, Trial

__all__ = ["Mel", "files", "make", "mel", "stimulus_end"]


@dataclass(frozen=True)
class Mel:
    """The log-mel spectrogram of the sound: n_mels values a sample."""

    name: Literal["mel"] = "mel"
    sfreq: float = 64.0  # rate in Hz at which it is stored
    n_mels: int = 16  # number of mel bands

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or self.n_mels < 1:
            raise ValueError(
                f"mel needs a rate above 0 Hz and 1 band or more, got {self.sfreq} Hz and {self.n_mels} bands"
            )


def make(cfg: Mel, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    of_sound = functools.partial(_of_sound, cfg)
    return sounds.features(cfg.name, cfg.n_mels, of_sound, trials, study, duration_s, cfg.sfreq)


def _of_sound(cfg: Mel, sound: Stream) -> Stream:
    names = tuple(f"mel{index}" for index in range(cfg.n_mels))
    return blocks.in_blocks(names, sound, _hop(cfg, sound.sfreq), lambda samples: mel(cfg, samples, sound.sfreq).data)


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

"""The mel spectrogram of a recording of sound, as vocoders are conditioned on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from eegdecode.data.targets.parts import blocks
from eegdecode.signals import Sensor, Stream, Trial


@dataclass(frozen=True)
class MelSpectrogram:
    """The log-mel spectrogram of a study of sound alone, with the numbers of DiffWave's public vocoder: from 0, 100 dB
    below full scale, to 1."""

    name: Literal["mel"] = "mel"
    n_mels: int = 80  # number of mel bands
    hop: int = 256  # samples of sound from one frame to the next
    n_fft: int = 1024  # samples of sound in a frame
    low_hz: float = 20.0  # lower edge of the lowest band; the highest ends at half the rate
    unitless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n_mels < 1 or not 0 < self.hop <= self.n_fft or self.low_hz < 0:
            raise ValueError(
                f"mel needs a band or more and a hop of 1 to n_fft samples, got {self.n_mels} bands, hop {self.hop}, "
                f"n_fft {self.n_fft} and low_hz {self.low_hz:g}"
            )


def apply(cfg: MelSpectrogram, stream: Stream, trials: Sequence[Trial]) -> Stream:
    if stream.n_channels != 1 or stream.sensor(stream.channels[0]).kind != "sound":
        raise ValueError(
            f"mel: the channels are {', '.join(stream.channels[:8])}, but it is of recordings of sound alone (.wav, "
            ".flac, .ogg): leave out this step"
        )
    names = tuple(f"mel{index}" for index in range(cfg.n_mels))
    made = blocks.in_blocks(names, stream, cfg.hop, lambda samples: _mel(cfg, samples, stream.sfreq))
    return replace(made, sensors=dict.fromkeys(names, Sensor("sound")))


def _mel(cfg: MelSpectrogram, samples: np.ndarray, sfreq: float) -> np.ndarray:
    import torch
    import torchaudio

    transform = torchaudio.transforms.MelSpectrogram(
        round(sfreq), cfg.n_fft, hop_length=cfg.hop, f_min=cfg.low_hz, f_max=sfreq / 2, n_mels=cfg.n_mels, power=1.0,
        normalized=True,
    )  # fmt: skip
    power = transform(torch.from_numpy(np.ascontiguousarray(samples, np.float32))).numpy().T
    return np.clip((20 * np.log10(np.maximum(power, 1e-5)) + 80) / 100, 0.0, 1.0)

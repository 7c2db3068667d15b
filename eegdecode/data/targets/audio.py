"""The waveform of the sound, at another rate."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import signal as dsp

from eegdecode.data.targets.parts import blocks, sounds
from eegdecode.data.targets.parts.sounds import files, stimulus_end
from eegdecode.signals import Stream, Trial

__all__ = ["Audio", "files", "make", "stimulus_end"]


@dataclass(frozen=True)
class Audio:
    """The waveform of the sound."""

    name: Literal["audio"] = "audio"
    sfreq: float = 16000.0  # sampling rate in Hz, a whole number

    def __post_init__(self) -> None:
        if self.sfreq != int(self.sfreq) or self.sfreq < 1:
            raise ValueError(f"the rate of sound must be a whole number of Hz, got {self.sfreq}")


def make(cfg: Audio, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    # The nearest sample is at most half a sample off (31 µs at 16 kHz); interpolating would lose high frequencies
    waveform = functools.partial(_waveform, cfg)
    return sounds.features(cfg.name, 1, waveform, trials, study, duration_s, cfg.sfreq, nearest=True)


def _waveform(cfg: Audio, sound: Stream) -> Stream:
    """The waveform at the wanted rate, by polyphase filters."""
    ratio = Fraction(int(cfg.sfreq), int(sound.sfreq))
    up, down = ratio.numerator, ratio.denominator
    n_rows = math.ceil(sound.n_times * ratio)
    block_s, margin_s = int(blocks.BLOCK_S), int(blocks.MARGIN_S)  # whole seconds start at a sample in both rates

    @functools.lru_cache(maxsize=blocks.CACHED_BLOCKS)
    def rows(number: int) -> np.ndarray:
        since_s = max(0, number * block_s - margin_s)
        stop = min(sound.n_times, ((number + 1) * block_s + margin_s) * int(sound.sfreq))
        samples = sound.read(since_s * int(sound.sfreq), stop)[:, 0]
        resampled = samples if up == down else dsp.resample_poly(samples, up, down)
        first = (number * block_s - since_s) * int(cfg.sfreq)
        last = min((number + 1) * block_s * int(cfg.sfreq), n_rows) - since_s * int(cfg.sfreq)
        return resampled[first:last, None].astype(np.float32)

    return blocks.of_blocks(("audio0",), cfg.sfreq, n_rows, block_s * int(cfg.sfreq), rows)

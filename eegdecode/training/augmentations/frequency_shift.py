"""Shift the frequencies of windows (Rommel 2022)."""

from dataclasses import dataclass
from typing import Literal

import torch

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class FrequencyShift:
    """Shift the spectrum of a window by up to most_hz, up or down (Rommel 2022)."""

    name: Literal["frequency_shift"] = "frequency_shift"
    most_hz: float = 1.0  # largest shift in Hz

    def __post_init__(self) -> None:
        if self.most_hz <= 0:
            raise ValueError(f"most_hz must be above 0 Hz, got {self.most_hz}")


def apply(cfg: FrequencyShift, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    by_hz = (2 * noise.uniform(batch.rng_key, what)[:, 0] - 1) * cfg.most_hz
    return batch._replace(signal=frequency_shifted(batch.signal, by_hz, spec.sfreq))


def frequency_shifted(x: torch.Tensor, by_hz: torch.Tensor, sfreq: float) -> torch.Tensor:
    """Shift the spectrum: the real part of the modulated analytic signal."""
    n_times = x.shape[1]
    n = 1 << (n_times - 1).bit_length()
    spectrum = torch.fft.fft(x, n, dim=1)
    spectrum[:, 1 : n // 2] *= 2
    spectrum[:, n // 2 + 1 :] = 0
    seconds = torch.arange(n_times, device=x.device) / sfreq
    turn = torch.exp(2j * torch.pi * by_hz[:, None] * seconds)
    return (torch.fft.ifft(spectrum, dim=1)[:, :n_times] * turn[:, :, None]).real

"""Keep a pass band, as mne's `filter_data`."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from scipy import signal as dsp

from eegdecode.preprocessing import designs
from eegdecode.preprocessing.designs import Edge, Filter
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps.config import Method


@dataclass(frozen=True)
class Bandpass:
    """Keep the frequencies between low_hz and high_hz; null leaves that side open."""

    name: Literal["bandpass"] = "bandpass"
    low_hz: float | None = 0.5  # lower edge in Hz: below are drifts from sweat and electrodes
    high_hz: float | None = 20.0  # upper edge in Hz: above is mostly muscle
    method: Method = "fir"
    """Both have zero phase. fir: linear phase, centred, as mne's; iir: a Butterworth filter of order 3, run forward and
    backward."""
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("l_freq", "highpass", "hp", "low"), "low_hz is the lower edge in Hz, l_freq of MNE"),
        **dict.fromkeys(("h_freq", "lowpass", "lp", "high"), "high_hz is the upper edge in Hz, h_freq of MNE"),
    }

    def __post_init__(self) -> None:
        low, high = self.low_hz, self.high_hz
        if low is high is None or not 0 < (low or 1e-9) < (high or float("inf")) or 0 in (low, high):
            raise ValueError(f"a pass-band runs from low_hz to high_hz, got {low} to {high}")


ORDER = 3  # of the IIR, run forward and backward, so 6 in effect: 36 dB an octave


def as_filter(cfg: Bandpass, sfreq: float) -> Filter:
    if cfg.method == "fir":
        return designs.fir(_edges(cfg, sfreq), sfreq)
    kind, edges = _butter(cfg.low_hz, cfg.high_hz)
    return designs.iir(dsp.butter(ORDER, edges, kind, fs=sfreq, output="sos"), sfreq)


def _edges(cfg: Bandpass, sfreq: float) -> list[Edge]:
    edges: list[Edge] = []
    if cfg.low_hz is not None:
        edges.append((cfg.low_hz - min(max(0.25 * cfg.low_hz, 2.0), cfg.low_hz), cfg.low_hz, 1))
        designs.need_below_nyquist(cfg.low_hz, sfreq, f"bandpass from {cfg.low_hz:g} Hz")
    if cfg.high_hz is not None:
        designs.need_below_nyquist(cfg.high_hz, sfreq, f"bandpass up to {cfg.high_hz:g} Hz")
        edges.append((cfg.high_hz, cfg.high_hz + min(max(0.25 * cfg.high_hz, 2.0), sfreq / 2 - cfg.high_hz), -1))
    return edges


def _butter(low_hz: float | None, high_hz: float | None) -> tuple[str, object]:
    if low_hz is None or high_hz is None:
        return ("lowpass", high_hz) if low_hz is None else ("highpass", low_hz)
    return "bandpass", (low_hz, high_hz)


def of_windows(cfg: Bandpass, windows: SingleWindows) -> SingleWindows:
    low, high = cfg.low_hz or 0.0, cfg.high_hz or math.inf
    if low > windows.band_hz[0] or high < windows.band_hz[1]:
        raise windows.narrowed(f"bandpass from {low:g} to {high:g} Hz")
    return windows

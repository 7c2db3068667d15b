"""Remove the mains frequency and its harmonics, as mne's `notch_filter`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import signal as dsp

from eegdecode.preprocessing import designs
from eegdecode.preprocessing.designs import Edge, Filter
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps.config import Method


@dataclass(frozen=True)
class Notch:
    """Remove the mains frequency and its harmonics."""

    name: Literal["notch"] = "notch"
    hz: float = 50.0  # mains frequency, 50 or 60 Hz
    method: Method = "fir"
    """Both have zero phase. fir: linear phase, centred, as mne's; iir: a notch of quality 30, run forward and
    backward."""
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("freqs", "freq", "notch_freq"), "hz is the mains frequency; its harmonics are removed too")
    }

    def __post_init__(self) -> None:
        if self.hz <= 0:
            raise ValueError(f"the mains frequency must be above 0 Hz, got {self.hz}")


WIDTH = 1 / 200  # of the frequency
EDGE_HZ = 0.5
QUALITY = 30  # of the IIR, centre over width: 50 Hz loses 1.7 Hz


def as_filter(cfg: Notch, sfreq: float) -> Filter:
    centres = mains(cfg.hz, sfreq)
    if cfg.method == "fir":
        return designs.fir(_edges(centres, sfreq), sfreq)
    return designs.iir(np.concatenate([dsp.tf2sos(*dsp.iirnotch(hz, QUALITY, sfreq)) for hz in centres]), sfreq)


def mains(hz: float, sfreq: float) -> np.ndarray:
    """The mains frequency and its harmonics that fit below half the rate."""
    designs.need_below_nyquist(hz, sfreq, f"notch at {hz:g} Hz")
    centres = np.arange(hz, sfreq / 2, hz)
    return centres[(centres == hz) | (centres * (1 + WIDTH / 2) + EDGE_HZ < sfreq / 2)]


def _edges(centres: np.ndarray, sfreq: float) -> list[Edge]:
    edges: list[Edge] = []
    for hz in centres:
        low, high = hz * (1 - WIDTH / 2), hz * (1 + WIDTH / 2)
        edges += [(low - EDGE_HZ, low, -1), (high, min(high + EDGE_HZ, sfreq / 2), 1)]
    return edges


def of_windows(cfg: Notch, windows: SingleWindows) -> SingleWindows:
    if cfg.hz < windows.band_hz[1]:
        raise windows.narrowed(f"notch at {cfg.hz:g} Hz")
    return windows

"""Resample to another rate."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from eegdecode.preprocessing.designs import Resampling
from eegdecode.preprocessing.single_windows import SingleWindows


@dataclass(frozen=True)
class Resample:
    """Resample to another rate; sample k of the result is at k / sfreq."""

    name: Literal["resample"] = "resample"
    sfreq: float = 64.0  # new sampling rate in Hz
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("fs", "srate", "rate", "hz", "freq"), "sfreq is the new sampling rate in Hz")
    }

    def __post_init__(self) -> None:
        if self.sfreq <= 0:
            raise ValueError(f"sfreq must be above 0 Hz, got {self.sfreq}")


def as_filter(cfg: Resample, sfreq: float) -> Resampling:
    return Resampling(cfg.sfreq)


def of_windows(cfg: Resample, windows: SingleWindows) -> SingleWindows:
    return windows  # they come at the rate that a model reads

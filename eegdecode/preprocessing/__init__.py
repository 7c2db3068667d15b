"""The knobs of preprocessing: each step is one dataclass, a config lists them in the order they run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Reference:
    """Subtract the average over channels, sample by sample: what all share comes from the reference electrode."""

    name: Literal["reference"] = "reference"


@dataclass(frozen=True)
class Notch:
    """Remove the mains and its harmonics."""

    name: Literal["notch"] = "notch"
    hz: float = 50.0

    def __post_init__(self) -> None:
        if self.hz <= 0:
            raise ValueError(f"the mains hum above 0 Hz, got {self.hz}")


@dataclass(frozen=True)
class Bandpass:
    """Keep what lies between the two."""

    name: Literal["bandpass"] = "bandpass"
    low_hz: float = 0.5  # below are drifts of sweat and electrodes
    high_hz: float = 20.0  # above is mostly muscle

    def __post_init__(self) -> None:
        if not 0 < self.low_hz < self.high_hz:
            raise ValueError(f"a pass-band runs from low_hz to high_hz, got {self.low_hz} to {self.high_hz}")


@dataclass(frozen=True)
class Resample:
    """Bring to another rate; sample k of the result stands at k / sfreq."""

    name: Literal["resample"] = "resample"
    sfreq: float = 64.0  # Hz

    def __post_init__(self) -> None:
        if self.sfreq <= 0:
            raise ValueError(f"sfreq must be above 0 Hz, got {self.sfreq}")


@dataclass(frozen=True)
class Scale:
    """Each channel around its median, in units of its robust spread: blinks do not set the scale."""

    name: Literal["scale"] = "scale"
    clamp: float = 20.0  # in those units; what is larger is an artefact and is cut to it

    def __post_init__(self) -> None:
        if self.clamp <= 0:
            raise ValueError(f"clamp must be above 0, got {self.clamp}")


Step = Reference | Notch | Bandpass | Resample | Scale

"""The configs of preprocessing: each step is one dataclass, `Preprocess` lists them in the order they run."""

import math
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from eegdecode.data.config import Envelope, Events, Matlab, Target
from eegdecode.signals import BRAIN, Kind
from hpc.rank.context import Input

Method = Literal["fir", "iir"]
"""Both without shift: a linear-phase filter about its centre, as mne's; or Butterworth run forth and back."""


@dataclass(frozen=True)
class Aliases:
    """One name for each place: T3 becomes T7, `EEG FP1-Ref` Fp1. `table` has more of them, {old: new}."""

    name: Literal["aliases"] = "aliases"
    table: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Pick:
    """Keep the channels of these kinds that `names` lists or `regex` matches, or all; but never those in `drop`."""

    name: Literal["pick"] = "pick"
    kinds: tuple[Kind, ...] = BRAIN
    names: tuple[str, ...] = ()
    regex: str = ""
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in get_args(Kind)]:
            raise ValueError(f"pick kinds among {', '.join(get_args(Kind))}, but got {', '.join(unknown)}")
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"{self.regex!r} is no regular expression: {error}") from None


@dataclass(frozen=True)
class SetChannels:
    """Keep these channels, in this order, and leave out the others; `1020` stands for the 19 of the 10-20 system."""

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("montage",)
    name: Literal["set_channels"] = "set_channels"
    channels: tuple[str, ...] = ("1020",)
    missing: Literal["error", "interpolate"] = "error"

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("set_channels needs the names of channels, or 1020, but got none")


@dataclass(frozen=True)
class BadChannels:
    """Find what is flat, much louder or quieter than the others, or unlike all others, and interpolate it.

    What the recording itself calls bad is always among them.
    """

    name: Literal["bad_channels"] = "bad_channels"
    z: float = 5.0  # in robust standard deviations of the channels' log loudness
    correlation: float = 0.3  # with the channel that is most alike; 0 asks for none
    block_s: float = 10.0  # each is judged on its own, the median counts
    most: float = 0.34  # of all channels; more cannot be made up from what is left

    def __post_init__(self) -> None:
        if self.z <= 0 or self.block_s <= 0 or not 0 <= self.correlation < 1 or not 0 < self.most < 1:
            raise ValueError(
                "z and block_s are above 0, correlation and most within 0 to 1, "
                f"got {self.z}, {self.block_s}, {self.correlation} and {self.most}"
            )


@dataclass(frozen=True)
class Reference:
    """Subtract the average, sample by sample: what all share comes from the reference electrode.

    Over `channels`, or over all of the same kind. What has no reference electrode (MEG, EOG, …) stays as it is.
    """

    name: Literal["reference"] = "reference"
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notch:
    """Remove the mains and its harmonics."""

    name: Literal["notch"] = "notch"
    hz: float = 50.0
    method: Method = "fir"

    def __post_init__(self) -> None:
        if self.hz <= 0:
            raise ValueError(f"the mains hum above 0 Hz, got {self.hz}")


@dataclass(frozen=True)
class Bandpass:
    """Keep what lies between the two; null leaves that side open."""

    name: Literal["bandpass"] = "bandpass"
    low_hz: float | None = 0.5  # below are drifts of sweat and electrodes
    high_hz: float | None = 20.0  # above is mostly muscle
    method: Method = "fir"

    def __post_init__(self) -> None:
        low, high = self.low_hz, self.high_hz
        if low is high is None or not 0 < (low or 1e-9) < (high or float("inf")) or 0 in (low, high):
            raise ValueError(f"a pass-band runs from low_hz to high_hz, got {low} to {high}")


@dataclass(frozen=True)
class Resample:
    """Bring to another rate; sample k of the result stands at k / sfreq."""

    name: Literal["resample"] = "resample"
    sfreq: float = 64.0  # Hz

    def __post_init__(self) -> None:
        if self.sfreq <= 0:
            raise ValueError(f"sfreq must be above 0 Hz, got {self.sfreq}")


@dataclass(frozen=True)
class ICA:
    """Take out the independent components that are no brain: those that follow the EOG or ECG, and the spiky ones."""

    name: Literal["ica"] = "ica"
    follows: float = 0.5  # correlation with an EOG or ECG channel from which on it goes
    kurtosis: float = 20.0  # in excess of the normal; blinks and heart beats are spikes
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.follows <= 1 or self.kurtosis <= 0:
            raise ValueError(f"follows is a correlation, kurtosis above 0, got {self.follows} and {self.kurtosis}")


@dataclass(frozen=True)
class Sources:
    """From sensors to regions of the cortex, by eLORETA on the average head fsaverage."""

    folder: str  # fsaverage itself, as mne fetches it
    regions: tuple[str, ...] = ()  # as `superiortemporal-lh`; all of the parcellation where none is named
    parcellation: str = "aparc"
    snr: float = 3.0
    name: Literal["sources"] = "sources"

    def __post_init__(self) -> None:
        if self.snr <= 0:
            raise ValueError(f"snr must be above 0, got {self.snr}")


@dataclass(frozen=True)
class Scale:
    """Each channel around its centre, in units of its spread.

    robust: median and quartiles, so that blinks do not set the scale; standard: mean and standard deviation.
    """

    FORMER: ClassVar[dict[str, str]] = {"clamp": "clip"}
    name: Literal["scale"] = "scale"
    clip: float = 20.0  # in those units; larger values are artefacts and are clipped to it
    method: Literal["robust", "standard"] = "robust"

    def __post_init__(self) -> None:
        if self.clip <= 0:
            raise ValueError(f"clip must be above 0, got {self.clip}")


@dataclass(frozen=True)
class Gain:
    """Multiply all channels: from volt, in which everything is read, to the unit that a model was trained with."""

    name: Literal["gain"] = "gain"
    factor: float = 1e3  # volt to millivolt, as EEGPT wants them

    def __post_init__(self) -> None:
        if not math.isfinite(self.factor) or self.factor == 0:
            raise ValueError(f"factor is a number other than 0, got {self.factor}")


@dataclass(frozen=True)
class Clip:
    """Clip larger values, as `scale` does; for where another step comes after it."""

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("clamp",)
    name: Literal["clip"] = "clip"
    limit: float = 20.0  # in the units of the step before

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise ValueError(f"limit must be above 0, got {self.limit}")


@dataclass(frozen=True)
class Align:
    """Euclidean alignment: whitened by the mean covariance of the recording's trials, so that subjects look alike."""

    name: Literal["align"] = "align"


Step = (
    Aliases | Pick | SetChannels | BadChannels | Reference | Notch | Bandpass | Resample
    | ICA | Sources | Scale | Gain | Clip | Align
)  # fmt: skip


@dataclass(frozen=True)
class Preprocess:
    study: Input
    files: str = ""  # how recordings are called in a folder that is not BIDS: EEGdata/{subject}/*_{run}.set
    exclude: tuple[str, ...] = ()  # names of recordings (sub-03*) or of subjects that are left out
    skip_failed: bool = False  # a store without what cannot be used, which the survey names; else that is an error
    events: Events | None = None  # where the trials come from: events.tsv, unless you say otherwise
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say themselves
    steps: tuple[Step, ...] = (Reference(), Notch(), Bandpass(), Resample(), Scale())
    targets: tuple[Target, ...] = (Envelope(),)
    int16: bool = False  # keep signals as whole numbers with a scale: half the bytes, and the error is stated

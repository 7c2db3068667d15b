"""The configs of preprocessing: each step is a dataclass; `Preprocess` lists them in the order in which they run."""

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from eegdecode.data.config import Events, Matlab
from eegdecode.data.targets import Target
from eegdecode.data.targets.envelope import Envelope
from eegdecode.signals import BRAIN, Kind
from hpc.config.choices import Choices
from hpc.rank.context import Input

Method = Literal["fir", "iir"]
"""Both have zero phase: a centred linear-phase filter, as mne's; or an IIR filter run forward and backward."""


@dataclass(frozen=True)
class Aliases:
    """Rename channels to the 10-20 system: T3 to T7, `EEG FP1-Ref` to Fp1. `table` has more names, {old: new}."""

    name: Literal["aliases"] = "aliases"
    table: dict[str, str] = field(default_factory=dict, hash=False)  # {old: new}, before what the 10-20 system says


@dataclass(frozen=True)
class Pick:
    """Keep the channels of these kinds, all or those that `names` lists or `regex` matches, without those in `drop`."""

    name: Literal["pick"] = "pick"
    kinds: tuple[Kind, ...] = BRAIN  # kinds of channel to keep; by default all that measure the brain
    names: tuple[str, ...] = ()
    """Names of channels to keep, besides those of `regex`; where both are empty, all of these kinds."""
    regex: str = ""  # regular expression for the names of channels to keep; a match anywhere in the name is enough
    drop: tuple[str, ...] = ()  # names of channels to leave out

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in get_args(Kind)]:
            raise ValueError(f"pick takes kinds among {', '.join(get_args(Kind))}, but got {', '.join(unknown)}")
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"{self.regex!r} is not a regular expression: {error}") from None


@dataclass(frozen=True)
class SetChannels:
    """Keep these channels, in this order, and leave out the others; `1020` stands for the 19 of the 10-20 system."""

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("montage",)
    name: Literal["set_channels"] = "set_channels"
    channels: tuple[str, ...] = ("1020",)  # names in their order; `1020`: the 19 of the 10-20 system
    missing: Literal["error", "interpolate"] = "error"  # a channel that is not there: refuse, or interpolate it

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("set_channels needs the names of channels, or 1020, but got none")


@dataclass(frozen=True)
class BadChannels:
    """Find channels that are flat, much louder or quieter than the others, or unlike all others, and interpolate them.

    Channels that the recording itself calls bad are always among them.
    """

    name: Literal["bad_channels"] = "bad_channels"
    z: float = 5.0
    """A channel whose log loudness is more than this many robust standard deviations from the others' is bad."""
    correlation: float = 0.3  # least correlation of a good channel with its most similar one; 0 switches this test off
    block_s: float = 10.0  # length of a block in seconds; the median over blocks counts
    most: float = 0.34  # largest fraction of bad channels; with more of them, the recording is refused

    def __post_init__(self) -> None:
        if self.z <= 0 or self.block_s <= 0 or not 0 <= self.correlation < 1 or not 0 < self.most < 1:
            raise ValueError(
                "z and block_s are above 0, correlation and most within 0 to 1, "
                f"got {self.z}, {self.block_s}, {self.correlation} and {self.most}"
            )


@dataclass(frozen=True)
class Reference:
    """Re-reference: subtract the average over `channels`, or over all of the same kind, from each sample.

    Channels without a reference electrode (MEG, EOG, …) stay as they are.
    """

    name: Literal["reference"] = "reference"
    channels: tuple[str, ...] = ()  # names of reference channels; where empty, all of the same kind


@dataclass(frozen=True)
class Notch:
    """Remove the mains frequency and its harmonics."""

    name: Literal["notch"] = "notch"
    hz: float = 50.0  # mains frequency, 50 or 60 Hz
    method: Method = "fir"
    """Both have zero phase. fir: linear phase, centred, as mne's; iir: a notch of quality 30, run forward and
    backward."""

    def __post_init__(self) -> None:
        if self.hz <= 0:
            raise ValueError(f"the mains frequency must be above 0 Hz, got {self.hz}")


@dataclass(frozen=True)
class Bandpass:
    """Keep the frequencies between low_hz and high_hz; null leaves that side open."""

    name: Literal["bandpass"] = "bandpass"
    low_hz: float | None = 0.5  # lower edge in Hz: below are drifts from sweat and electrodes
    high_hz: float | None = 20.0  # upper edge in Hz: above is mostly muscle
    method: Method = "fir"
    """Both have zero phase. fir: linear phase, centred, as mne's; iir: a Butterworth filter of order 3, run forward and
    backward."""

    def __post_init__(self) -> None:
        low, high = self.low_hz, self.high_hz
        if low is high is None or not 0 < (low or 1e-9) < (high or float("inf")) or 0 in (low, high):
            raise ValueError(f"a pass-band runs from low_hz to high_hz, got {low} to {high}")


@dataclass(frozen=True)
class Resample:
    """Resample to another rate; sample k of the result is at k / sfreq."""

    name: Literal["resample"] = "resample"
    sfreq: float = 64.0  # new sampling rate in Hz

    def __post_init__(self) -> None:
        if self.sfreq <= 0:
            raise ValueError(f"sfreq must be above 0 Hz, got {self.sfreq}")


@dataclass(frozen=True)
class ICA:
    """Remove the independent components that are artefacts: those that follow the EOG or ECG, and those with spikes."""

    name: Literal["ica"] = "ica"
    follows: float = 0.5  # a component with this correlation to an EOG or ECG channel, or more, is removed
    kurtosis: float = 20.0  # a component of this excess kurtosis or more is removed: blinks and heart beats
    seed: int = 0  # seed of FastICA

    def __post_init__(self) -> None:
        if not 0 < self.follows <= 1 or self.kurtosis <= 0:
            raise ValueError(
                f"follows must be within 0 to 1 and kurtosis above 0, got {self.follows} and {self.kurtosis}"
            )


@dataclass(frozen=True)
class Sources:
    """Source estimates of cortical regions, by eLORETA on the average head fsaverage."""

    folder: str  # the folder of fsaverage, as mne fetches it
    regions: tuple[str, ...] = ()  # names of regions, as `superiortemporal-lh`; by default all of the parcellation
    parcellation: str = "aparc"  # name of the parcellation in FreeSurfer: aparc, aparc.a2009s
    snr: float = 3.0  # signal-to-noise ratio, which sets mne's lambda2 to 1 / snr²; a lower one regularises more
    name: Literal["sources"] = "sources"

    def __post_init__(self) -> None:
        if self.snr <= 0:
            raise ValueError(f"snr must be above 0, got {self.snr}")


@dataclass(frozen=True)
class Scale:
    """Centre each channel, and scale it to unit spread."""

    FORMER: ClassVar[dict[str, str]] = {"clamp": "clip"}
    name: Literal["scale"] = "scale"
    clip: float = 20.0  # in units of a channel's spread; larger values are artefacts and are clipped to it
    method: Literal["robust", "standard"] = "robust"
    """Robust: by median and quartiles, so that blinks do not set the scale; standard: by mean and standard
    deviation."""

    def __post_init__(self) -> None:
        if self.clip <= 0:
            raise ValueError(f"clip must be above 0, got {self.clip}")


@dataclass(frozen=True)
class Gain:
    """Multiply all channels by a factor: from volt to the unit that a model was trained with."""

    name: Literal["gain"] = "gain"
    factor: float = 1e3  # what samples are multiplied by; 1000 is volt to millivolt, as for EEGPT

    def __post_init__(self) -> None:
        if not math.isfinite(self.factor) or self.factor == 0:
            raise ValueError(f"factor must be a number other than 0, got {self.factor}")


@dataclass(frozen=True)
class Clip:
    """Clip larger values, as `scale` does; for where another step comes after it."""

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("clamp",)
    name: Literal["clip"] = "clip"
    limit: float = 20.0  # largest size of a value, in the units of the step before

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise ValueError(f"limit must be above 0, got {self.limit}")


@dataclass(frozen=True)
class Align:
    """Euclidean alignment: whiten by the mean covariance of the recording's trials, so that subjects become alike."""

    name: Literal["align"] = "align"


Step = (
    Aliases | Pick | SetChannels | BadChannels | Reference | Notch | Bandpass | Resample
    | ICA | Sources | Scale | Gain | Clip | Align
)  # fmt: skip


@dataclass(frozen=True)
class Preprocess:
    study: Input  # a synthesize run, or the folder of a study
    files: str = ""  # the names of recordings in a folder that is not BIDS: EEGdata/{subject}/*_{run}.set
    exclude: tuple[str, ...] = ()  # names of recordings (sub-03*) or subjects to leave out
    skip_failed: bool = False
    """Leave out recordings that cannot be used, and name them in the survey; else they are an error."""
    events: Events | None = None  # where trials come from; by default events.tsv
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say
    steps: tuple[Annotated[Step, Choices("eegdecode.steps", package="")], ...] = (
        Reference(),
        Notch(),
        Bandpass(),
        Resample(),
        Scale(),
    )
    """Steps of preprocessing, in the order in which they run."""
    targets: tuple[Target, ...] = (Envelope(),)
    """What can be decoded; a training names one of them."""
    int16: bool = False  # store signals as int16 with a scale: half the bytes; the file states the error

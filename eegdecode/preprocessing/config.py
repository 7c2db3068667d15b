"""The config of preprocessing: which steps run, in their order. Each is in a file of its own, in `steps`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eegdecode.data.config import EventsOrDefault, Matlab, Reading, Table
from eegdecode.data.targets import Target
from eegdecode.data.targets.envelope import Envelope
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.config import Step
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.scale import Scale
from hpc.rank.context import Input


@dataclass(frozen=True)
class Preprocess:
    study: Input  # a synthesize run, or the folder of a study
    files: str = ""
    """The names of recordings in a folder that is not BIDS, as EEGdata/{subject}/*_{run}.set, or a table of them, as
    files.tsv with the columns path, subject, condition …"""
    exclude: tuple[str, ...] = ()  # names of recordings (sub-03*) or subjects to leave out
    skip_failed: bool = False
    """Leave out recordings that cannot be used, and name them in the survey; else they are an error."""
    events: EventsOrDefault = None  # where trials come from; by default events.tsv
    bad_spans: Literal["reject", "mask", "ignore"] = "reject"
    """What becomes of trials with a bad span, an annotation BAD_… or what the step reject has marked. Reject: the trial
    is dropped, as in MNE; mask: the span is cut out, and the rests are trials; ignore: they stay."""
    shortest_s: float = 4.0  # with bad_spans=mask, rests of a trial that are shorter than this are dropped, in seconds
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say
    table: Table = field(default_factory=Table)  # what .csv, .tsv, .parquet, .npy and .npz do not say
    units: dict[str, str] = field(default_factory=dict)
    """The unit of the numbers in the files, by the names of channels: {"*": mV}, {"EMG*": V}. It is final."""
    kinds: dict[str, str] = field(default_factory=dict)
    """The kinds of channels, by their names: {"GYR*": misc, EXG1: eog}. It is final."""
    steps: tuple[Step, ...] = (
        Reference(),
        Notch(),
        Bandpass(),
        Resample(),
        Scale(),
    )
    """Steps of preprocessing, in the order in which they run."""
    targets: tuple[Target, ...] = (Envelope(),)
    """What can be decoded; a training names one of them."""
    features: tuple[Input, ...] = ()
    """Runs of the stage features, whose targets are added to these. Where they are all that is decoded, set
    targets=[]."""
    labels: tuple[str, ...] = ()
    """More labels of every trial, besides those that targets name: fields in braces of `files`, as task, and columns of
    files.tsv or participants.tsv, as age; for a split or a balance by them."""
    int16: bool = False  # store signals as int16 with a scale: half the bytes; the file states the error

    ADDED_LATER: ClassVar[tuple[str, ...]] = (
        "table", "units", "kinds", "labels", "bad_spans", "shortest_s", "features"
    )  # fmt: skip
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("l_freq", "low_hz", "highpass"), "it is of the step bandpass: {name: bandpass, low_hz: 0.5}"),
        **dict.fromkeys(("h_freq", "high_hz", "lowpass"), "it is of the step bandpass: {name: bandpass, high_hz: 40}"),
        **dict.fromkeys(("freqs", "notch", "notch_freq"), "it is of the step notch: {name: notch, hz: 50}"),
        **dict.fromkeys(("sfreq", "resample"), "it is of the step resample: {name: resample, sfreq: 128}"),
        **dict.fromkeys(
            ("ref_channels", "reference"), "it is of the step reference: {name: reference, channels: [M1, M2]}"
        ),
        "n_components": "the step ica has as many components as the recording has rank: {name: ica, kurtosis: 20}",
        **dict.fromkeys(
            ("tmin", "tmax", "baseline"),
            "epochs are cut in training: train.windows=epochs has tmin_s, tmax_s and baseline_s",
        ),
        **dict.fromkeys(
            ("reject", "flat", "muscle_z", "autoreject"),
            "it is of the step reject: {name: reject, reject: {eeg: 150e-6}}",
        ),
        "reject_by_annotation": "bad_spans=reject drops trials with a BAD_ annotation, bad_spans=ignore leaves them",
        "event_id": "events say where trials are, and a target {name: label, column: …} what is decoded",
    }
    """Names in other tools, which the error translates."""

    def __post_init__(self) -> None:
        if self.shortest_s <= 0:
            raise ValueError(f"shortest_s is above 0 s, got {self.shortest_s:g}")

    @property
    def reading(self) -> Reading:
        return Reading(self.matlab, self.table, self.units, self.kinds)

"""The configs of reading: what .mat files do not say, and where trials come from."""

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from hpc.config.choices import Unnamed


@dataclass(frozen=True)
class Matlab:
    """What a .mat file does not say: which variable holds the samples, at what rate, in which unit."""

    data: str = ""  # the variable [channel x time (x trial)], as X or EEG.data; by default the only large one
    sfreq: float = 0.0  # sampling rate in Hz; 0: that of the variable fs, srate or the like
    unit: Literal["uV", "mV", "V", "fT", "T"] = "uV"  # unit of the samples; fT and T: channels are magnetometers
    channels: tuple[str, ...] = ()  # names of the channels; by default those of a list called labels or the like
    axes: tuple[Literal["trial", "channel", "time"], ...] = ()
    """The axes of the variable in their order, as [trial, channel, time]; by default trials are the third, and of the
    first two, channels are those that are named, or the shorter one."""
    ADDED_LATER: ClassVar[tuple[str, ...]] = ("channels", "axes")

    def __post_init__(self) -> None:
        if not 0 <= self.sfreq < math.inf:
            raise ValueError(f"matlab.sfreq is a rate in Hz (0: the file says it), got {self.sfreq}")
        if self.axes and (len(set(self.axes)) < len(self.axes) or not {"channel", "time"} <= set(self.axes)):
            raise ValueError(
                f"matlab.axes has channel and time once, and trial if there are some, got {', '.join(self.axes)}"
            )


@dataclass(frozen=True)
class BidsEvents:
    """Trials are the rows of events.tsv; its other columns become their labels. Without an events.tsv, they are the
    events of a file next to the recording (-eve.fif, .eve), or of the markers in its .mat."""

    name: Literal["bids"] = "bids"
    stimulus: str = "stim_file"
    """The column with what was presented; a row without a value there is no trial. Without stim_file: trial_type, or
    else value."""
    only: tuple[str, ...] = ()  # which of these stimuli are trials, as `music*`; where empty, all
    duration_s: float | None = None  # duration in seconds of every trial; by default, that of its event
    overlap: bool = False  # trials may overlap, as when images follow each other faster than the brain responds

    def __post_init__(self) -> None:
        _check_duration(self.duration_s)


@dataclass(frozen=True)
class AnnotationEvents:
    """Trials are annotations of the recording, or the time from one annotation to the next that matches `end`."""

    stimuli: dict[str, str]  # pattern of the text, as `story*`: the stimulus, in which `{text}` is the text itself
    name: Literal["annotations"] = "annotations"
    end: str = ""  # pattern of the annotation that ends a trial; where empty, a trial lasts as long as its own
    duration_s: float | None = None  # duration in seconds of every trial; by default, that of its annotation
    overlap: bool = False  # trials may overlap; false: overlapping trials are refused

    def __post_init__(self) -> None:
        _check_duration(self.duration_s)
        if not self.stimuli:
            raise ValueError('stimuli says which annotations are trials, as {"story*": "{text}"}, but it is empty')


@dataclass(frozen=True)
class CodeEvents:
    """Trials are levels of an analogue channel, which stays at one level while a stimulus is presented."""

    codes: dict[float, str]  # level, in the unit that the file or channels.tsv gives for the channel: stimulus
    channel: str = "music"  # name of the analogue channel
    name: Literal["codes"] = "codes"
    rest: float = 0.0  # the level between stimuli
    shortest_s: float = 1.0  # seconds; shorter levels are transitions from one level to the next

    def __post_init__(self) -> None:
        if not self.codes or self.rest in self.codes:
            raise ValueError(f"codes needs levels other than rest ({self.rest:g}), got {self.codes}")
        if self.shortest_s <= 0:
            raise ValueError(f"shortest_s must be above 0 s, got {self.shortest_s}")


@dataclass(frozen=True)
class TriggerEvents:
    """Trials begin with a trigger; its value says which stimulus it is.

    Parameters
    ----------
    channel
        The trigger channel; by default the only one in the recording.
    fallback
        The channel to use where `channel` is flat, as a photodiode on the screen.
    bits
        A bit mask for a digital channel: 255 keeps the lowest eight bits.
    threshold
        For an analogue channel: values above it are a trigger; by default half-way between its two levels.
    gap_s
        Seconds; a trigger that comes sooner than this after another is a bounce of it.
    codes
        {value: stimulus}; other values are no trials. Where empty, all are, and the value is the stimulus's name.
    file
        A table (.tsv, .csv) or .mat with a value for each sample: `channel` is then its column or variable. The path
        starts at the study's folder and may contain `{subject}` and the like. Not needed for a variable of the .mat
        that the recording is in.
    """

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("file",)
    name: Literal["triggers"] = "triggers"
    channel: str = ""
    fallback: str = ""
    bits: int | None = None
    threshold: float | None = None
    gap_s: float = 0.005
    codes: dict[str, str] = field(default_factory=dict)
    duration_s: float | None = None  # duration of a trial in seconds; by default that of its trigger
    overlap: bool = False  # trials may overlap; false: overlapping trials are refused
    file: str = ""

    def __post_init__(self) -> None:
        _check_duration(self.duration_s)
        _check_trigger(self.bits, self.gap_s)


@dataclass(frozen=True)
class FileEvents:
    """Trials are the events of a file: -eve.fif or .eve, a table (.tsv, .csv), or markers or an event array in a .mat.

    Parameters
    ----------
    file
        Its path from the study's folder, which may contain `{subject}` and the like. By default it is the file of
        events next to the recording, or the .mat that the recording is in.
    onset
        The column or variable with the times, as stimpos or mrk.pos, or an event array [event x (onset, …, code)]; by
        default it is recognised by its name.
    code
        The column or variable with the codes, as stimcode or mrk.y; likewise.
    unit
        The unit of the times. Samples of a .mat count from 1. By default seconds in a table, and in a .mat samples if
        all are whole numbers.
    codes
        {code: stimulus}; other codes are no trials. Where empty, all are, and the code is the stimulus's name.
    """

    name: Literal["file"] = "file"
    file: str = ""
    onset: str = ""
    code: str = ""
    unit: Literal["", "samples", "s", "ms"] = ""
    codes: dict[str, str] = field(default_factory=dict)
    duration_s: float | None = None  # duration in seconds of every trial; by default, that of its event
    overlap: bool = False  # trials may overlap; false: overlapping trials are refused

    def __post_init__(self) -> None:
        _check_duration(self.duration_s)


@dataclass(frozen=True)
class FilmEvents:
    """A trial is a film that sends a pulse every few frames: its speed is taken from the pulses, not from the file."""

    films: tuple[str, ...] = ()  # names of the films, in the order in which they were shown
    column: str = ""
    """Instead of `films`: the column of events.tsv with their names, as stim_file; its column fps has their rate."""
    name: Literal["film"] = "film"
    channel: str = ""  # the trigger channel; by default the only one in the recording
    fallback: str = ""  # the channel to use where `channel` is flat, as a photodiode on the screen
    bits: int | None = None  # bit mask for a digital channel: 255 keeps the lowest eight bits
    threshold: float | None = None  # of an analogue channel: above it is a pulse; by default half-way between levels
    gap_s: float = 0.005  # seconds; a pulse that comes sooner than this after another is a bounce of it
    fps: float | None = None  # frames a second; by default from events.tsv or the film's name
    frames_per_pulse: int = 2  # frames from one pulse to the next

    def __post_init__(self) -> None:
        _check_trigger(self.bits, self.gap_s)
        if bool(self.films) == bool(self.column):
            raise ValueError(
                "set either films, the names of the films in the order they were shown, or column, the column of "
                f"events.tsv that has them, but got {self.films} and {self.column!r}"
            )
        if (self.fps is not None and self.fps <= 0) or self.frames_per_pulse < 1:
            raise ValueError(
                f"fps must be above 0 and frames_per_pulse 1 or more, got {self.fps} fps and a pulse "
                f"every {self.frames_per_pulse}"
            )


@dataclass(frozen=True)
class FixedLengthEvents:
    """Trials are pieces of a fixed length, of the whole recording or of each trial of `of`. A shorter rest is dropped.

    Pieces are cut on the clock of the stimulus, so that a piece of a film is the same for every subject.
    """

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("segments",)
    name: Literal["fixed_length"] = "fixed_length"
    length_s: float = 60.0  # length of a piece in seconds
    of: BidsEvents | AnnotationEvents | CodeEvents | TriggerEvents | FileEvents | FilmEvents | None = None
    """The trials that are cut; None: the whole recording."""

    def __post_init__(self) -> None:
        if self.length_s <= 0:
            raise ValueError(f"length_s must be above 0 s, got {self.length_s}")


Events = BidsEvents | AnnotationEvents | CodeEvents | TriggerEvents | FileEvents | FilmEvents | FixedLengthEvents
EventsOrDefault = Annotated[Events | None, Unnamed("bids")]
"""None: the default. Settings without a name are those of `bids`, which the default is as well."""


def _check_duration(duration_s: float | None) -> None:
    if duration_s is not None and duration_s <= 0:
        raise ValueError(f"duration_s must be above 0 s, got {duration_s}")


def _check_trigger(bits: int | None, gap_s: float) -> None:
    if bits is not None and bits < 1:
        raise ValueError(f"bits is a mask of one bit at least, as 255 for the lowest eight, got {bits}")
    if gap_s < 0:
        raise ValueError(f"gap_s must be 0 s or more, got {gap_s}")

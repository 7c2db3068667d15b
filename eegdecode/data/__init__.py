"""The knobs of the data: what study to make, what its trials are, what to decode, how to split. Light to import."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Study:
    """A made-up music-listening study: every subject hears every piece once, in an order of their own."""

    n_subjects: int = 6
    n_pieces: int = 20
    piece_s: tuple[float, float] = (10.0, 16.0)  # shortest and longest piece; unlike lengths, as real music
    n_channels: int = 16  # EEG, of the 10-20 system; one EOG and one belt channel come on top
    sfreq: float = 250.0  # Hz
    response_uv: float = 2.0  # RMS of the answer to the music at its strongest channel; what hides it is 10–20 µV
    lag_s: float = 0.15  # the answer peaks this long after the sound
    line_hz: float = 50.0  # mains
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_subjects < 1 or self.n_pieces < 1:
            raise ValueError(f"a study needs subjects and pieces, got {self.n_subjects} and {self.n_pieces}")
        if not 2 <= self.piece_s[0] <= self.piece_s[1]:
            raise ValueError(f"piece_s is (shortest, longest), 2 s at least, got {self.piece_s}")
        if not 4 <= self.n_channels <= 20:
            raise ValueError(f"n_channels must be in 4–20, the places of the 10-20 system, got {self.n_channels}")
        if self.sfreq != int(self.sfreq) or self.sfreq < 2.5 * self.line_hz:
            raise ValueError(
                f"sfreq must be whole (EDF holds records of 1 s) and show the mains at {self.line_hz} Hz, "
                f"so at least {2.5 * self.line_hz} Hz, got {self.sfreq}"
            )
        if self.response_uv < 0 or not 0 <= self.lag_s <= 0.5:
            raise ValueError(
                f"response_uv must be 0 or more, lag_s in 0–0.5 s, got {self.response_uv} and {self.lag_s}"
            )


# ---- Events: where a recording's trials come from. In a name, `{run}` and the like stand for what the recording's is


@dataclass(frozen=True)
class BidsEvents:
    """Trials are rows of events.tsv; its other columns become their labels."""

    name: Literal["bids"] = "bids"
    stimulus: str = "stim_file"  # the column that says what was presented; a row that says nothing there is no trial
    only: tuple[str, ...] = ()  # which of it are trials, as `music*`; all where empty
    duration_s: float | None = None  # of events that mark a moment: those whose duration is 0 or n/a
    overlap: bool = False  # trials may overlap, as where images follow each other faster than the brain answers

    def __post_init__(self) -> None:
        _check_duration(self.duration_s)


@dataclass(frozen=True)
class AnnotationEvents:
    """Trials are annotations of the recording; or what lies between two, of which the second matches `end`."""

    stimuli: dict[str, str]  # what the text is like, as `story*`: the stimulus, where `{text}` is the text itself
    name: Literal["annotations"] = "annotations"
    end: str = ""  # where empty, a trial lasts as long as its annotation
    duration_s: float | None = None  # of annotations that mark a moment
    overlap: bool = False

    def __post_init__(self) -> None:
        _check_duration(self.duration_s)
        if not self.stimuli:
            raise ValueError('stimuli says which annotations are trials, as {"story*": "{text}"}, but it is empty')


@dataclass(frozen=True)
class CodeEvents:
    """Trials are levels of an analogue channel that stays at one level for as long as a stimulus lasts."""

    codes: dict[float, str]  # level in the channel's unit: stimulus
    channel: str = "music"
    name: Literal["codes"] = "codes"
    rest: float = 0.0  # the level between stimuli
    shortest_s: float = 1.0  # what passes faster is on the way from one level to the next

    def __post_init__(self) -> None:
        if not self.codes or self.rest in self.codes:
            raise ValueError(f"codes needs levels other than that of rest ({self.rest:g}), got {self.codes}")
        if self.shortest_s <= 0:
            raise ValueError(f"shortest_s must be above 0 s, got {self.shortest_s}")


@dataclass(frozen=True)
class TriggerEvents:
    """Trials begin with a trigger; which one, tells the value it has.

    Parameters
    ----------
    channel
        Where the triggers are; the only trigger channel where empty.
    fallback
        The channel to look at where that one is flat, as a light sensor on the screen.
    bits
        Of a digital channel, only these count: 255 is the lowest eight.
    threshold
        Of an analogue channel, what is above it is a trigger; half-way between its two levels where not given.
    gap_s
        A trigger so soon after another is its bounce.
    """

    name: Literal["triggers"] = "triggers"
    channel: str = ""
    fallback: str = ""
    bits: int | None = None
    threshold: float | None = None
    gap_s: float = 0.005
    codes: dict[str, str] = field(default_factory=dict)  # value: stimulus; its number is its name where empty
    duration_s: float | None = None  # as long as the trigger lasts where not given
    overlap: bool = False

    def __post_init__(self) -> None:
        _check_duration(self.duration_s)
        _check_trigger(self.bits, self.gap_s)


@dataclass(frozen=True)
class FilmEvents:
    """A trial is a film that gives a pulse every so many frames: the pulses, not the file, say how fast it ran.

    `channel` to `gap_s` are those of TriggerEvents.
    """

    films: tuple[str, ...]  # in the order they were shown
    name: Literal["film"] = "film"
    channel: str = ""
    fallback: str = ""
    bits: int | None = None
    threshold: float | None = None
    gap_s: float = 0.005
    fps: float | None = None  # frames a second; where not given, the film's name has to tell
    frames_per_pulse: int = 2

    def __post_init__(self) -> None:
        _check_trigger(self.bits, self.gap_s)
        if not self.films:
            raise ValueError("films needs the names of the films that were shown, in their order")
        if (self.fps is not None and self.fps <= 0) or self.frames_per_pulse < 1:
            raise ValueError(
                f"a film has frames and a pulse every one or more, got {self.fps} fps and a pulse "
                f"every {self.frames_per_pulse}"
            )


@dataclass(frozen=True)
class Segments:
    """Trials are pieces of one length, of the whole recording or of each of its trials. A shorter rest is left out."""

    name: Literal["segments"] = "segments"
    length_s: float = 60.0
    of: BidsEvents | AnnotationEvents | CodeEvents | TriggerEvents | FilmEvents | None = None

    def __post_init__(self) -> None:
        if self.length_s <= 0:
            raise ValueError(f"length_s must be above 0 s, got {self.length_s}")


Events = BidsEvents | AnnotationEvents | CodeEvents | TriggerEvents | FilmEvents | Segments


def _check_duration(duration_s: float | None) -> None:
    if duration_s is not None and duration_s <= 0:
        raise ValueError(f"duration_s must be above 0 s, got {duration_s}")


def _check_trigger(bits: int | None, gap_s: float) -> None:
    if bits is not None and bits < 1:
        raise ValueError(f"bits is a mask of one bit at least, as 255 for the lowest eight, got {bits}")
    if gap_s < 0:
        raise ValueError(f"gap_s must be 0 s or more, got {gap_s}")


# ---- Targets: what is decoded. Files are named from the study's folder; `{stem}` in a name is the stimulus's


@dataclass(frozen=True)
class Audio:
    """The sound itself."""

    name: Literal["audio"] = "audio"
    sfreq: float = 16000.0  # Hz

    def __post_init__(self) -> None:
        if self.sfreq != int(self.sfreq) or self.sfreq < 1:
            raise ValueError(f"the rate of sound is a whole number of Hz, got {self.sfreq}")


@dataclass(frozen=True)
class Envelope:
    """How loud the sound is over time: one value a sample, power-law compressed as the ear does."""

    name: Literal["envelope"] = "envelope"
    sfreq: float = 64.0  # Hz; the rate of the preprocessed EEG, so that a window has the same samples of both
    cutoff_hz: float = 8.0  # cortex follows sound up to about here

    def __post_init__(self) -> None:
        if not 0 < self.cutoff_hz < self.sfreq / 2:
            raise ValueError(f"cutoff_hz must lie below half of sfreq ({self.sfreq / 2} Hz), got {self.cutoff_hz}")


@dataclass(frozen=True)
class Mel:
    """The log-mel spectrogram of the sound: n_mels values a sample."""

    name: Literal["mel"] = "mel"
    sfreq: float = 64.0  # Hz
    n_mels: int = 16

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or self.n_mels < 1:
            raise ValueError(f"mel needs a rate above 0 Hz and a band, got {self.sfreq} Hz and {self.n_mels} bands")


@dataclass(frozen=True)
class Frame:
    """Which frame of the film was shown, counted from 0; -1 where none was."""

    name: Literal["frame"] = "frame"
    sfreq: float = 64.0  # Hz
    fps: float | None = None  # frames a second; where not given, the events or the film's name have to tell

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or (self.fps is not None and self.fps <= 0):
            raise ValueError(f"frame needs rates above 0, got sfreq {self.sfreq} Hz and {self.fps} fps")


@dataclass(frozen=True)
class Extra:
    """Any stream that was measured or computed elsewhere: [time, feature] in a .npy, or columns with names in a .tsv.

    It belongs to the recording and starts with it, unless its file's name has `{stimulus}` or `{stem}`: then there is
    one for each stimulus.

    Parameters
    ----------
    sfreq
        The rate at which it is kept.
    file_sfreq
        The rate it has in the file, where that is another.
    start_s
        The time of its first row after the start of the recording, or of the stimulus.
    hold
        Its rows are states, as frames, of which each lasts until the next: nothing lies between two.
    """

    file: str
    sfreq: float
    name: Literal["extra"] = "extra"
    title: str = ""  # under which it is kept; that of the file where empty
    file_sfreq: float | None = None
    start_s: float = 0.0
    hold: bool = False

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or (self.file_sfreq is not None and self.file_sfreq <= 0):
            raise ValueError(f"extra needs rates above 0 Hz, got sfreq {self.sfreq} and file_sfreq {self.file_sfreq}")


@dataclass(frozen=True)
class Label:
    """One value a trial: a column of the events, or its stimulus. Numbers stay, names become numbers of classes."""

    name: Literal["label"] = "label"
    column: str = "stimulus"


@dataclass(frozen=True)
class Embedding:
    """One vector a trial, what a model of images, text or sound makes of its stimulus.

    Either one .npy [stimulus, feature] with an `index`, a .tsv whose column `stimulus` says whose each row is; or one
    .npy [feature] for each stimulus, where `{stimulus}` or `{stem}` stands in its name.
    """

    file: str
    index: str = ""
    name: Literal["embedding"] = "embedding"
    title: str = ""  # under which it is kept; that of the file where empty

    def __post_init__(self) -> None:
        if bool(self.index) == ("{" in self.file):
            raise ValueError(
                f"embedding needs an index, or {{stem}} in its file's name, one of them: got file {self.file!r} "
                f"and index {self.index!r}"
            )


@dataclass(frozen=True)
class Image:
    """Which image was shown, as a number of its class; that its file is there is checked."""

    name: Literal["image"] = "image"
    file: str = "stimuli/{stimulus}"


Target = Audio | Envelope | Mel | Frame | Extra | Label | Embedding | Image


# ---- Splits


@dataclass(frozen=True)
class Split:
    """Which trials train, which choose (val), which are looked at once (test).

    Parameters
    ----------
    by
        What a part gets as a whole: every trial of a piece, every trial of a subject, or single trials.
    train, val, test
        Fractions of what `by` names; val and test get at least one each.
    shared
        What may stand in two parts. The same stimulus or subject in two parts is refused unless it stands here.
    """

    by: Literal["stimulus", "subject", "trial"] = "stimulus"
    train: float = 0.67
    val: float = 0.13
    test: float = 0.2
    shared: tuple[Literal["subject", "stimulus"], ...] = ("subject",)
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train, self.val, self.test) <= 0 or abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(
                f"train, val and test must be above 0 and make 1 together, got {self.train}, {self.val}, {self.test}"
            )

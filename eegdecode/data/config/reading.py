"""How recordings are read, and where their trials come from."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Matlab:
    """What a .mat file does not say by itself: which variable holds the samples, at what rate, in which unit."""

    data: str = ""  # the variable [channel x time (x trial)], as X or EEG.data; without it the only large one
    sfreq: float = 0.0  # Hz; 0: of the variable fs, srate or the like
    unit: Literal["uV", "mV", "V", "fT", "T"] = "uV"

    def __post_init__(self) -> None:
        if self.sfreq < 0:
            raise ValueError(f"matlab.sfreq is a rate in Hz (0: the file says it), got {self.sfreq}")


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

    codes: dict[float, str]  # level, in the unit that the file or channels.tsv says of the channel: stimulus
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

    films: tuple[str, ...] = ()  # in the order they were shown
    column: str = ""  # instead: that of events.tsv that names them, as stim_file; its column fps says their rate
    name: Literal["film"] = "film"
    channel: str = ""
    fallback: str = ""
    bits: int | None = None
    threshold: float | None = None
    gap_s: float = 0.005
    fps: float | None = None  # frames a second; where not given, events.tsv or the film's name has to tell
    frames_per_pulse: int = 2

    def __post_init__(self) -> None:
        _check_trigger(self.bits, self.gap_s)
        if bool(self.films) == bool(self.column):
            raise ValueError(
                "films needs the names of the films that were shown, in their order, or column the one of events.tsv "
                f"that has them: one of the two, but got {self.films} and {self.column!r}"
            )
        if (self.fps is not None and self.fps <= 0) or self.frames_per_pulse < 1:
            raise ValueError(
                f"a film has frames and a pulse every one or more, got {self.fps} fps and a pulse "
                f"every {self.frames_per_pulse}"
            )


@dataclass(frozen=True)
class FixedLengthEvents:
    """Trials are pieces of one length, of the whole recording or of each of its trials. A shorter rest is left out.

    They are counted on the clock of the stimulus, so that a piece of a film is the same for all who saw it.
    """

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("segments",)
    name: Literal["fixed_length"] = "fixed_length"
    length_s: float = 60.0
    of: BidsEvents | AnnotationEvents | CodeEvents | TriggerEvents | FilmEvents | None = None

    def __post_init__(self) -> None:
        if self.length_s <= 0:
            raise ValueError(f"length_s must be above 0 s, got {self.length_s}")


Events = BidsEvents | AnnotationEvents | CodeEvents | TriggerEvents | FilmEvents | FixedLengthEvents


def _check_duration(duration_s: float | None) -> None:
    if duration_s is not None and duration_s <= 0:
        raise ValueError(f"duration_s must be above 0 s, got {duration_s}")


def _check_trigger(bits: int | None, gap_s: float) -> None:
    if bits is not None and bits < 1:
        raise ValueError(f"bits is a mask of one bit at least, as 255 for the lowest eight, got {bits}")
    if gap_s < 0:
        raise ValueError(f"gap_s must be 0 s or more, got {gap_s}")

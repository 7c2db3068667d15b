"""The data classes of the science: signals, trials, recordings. Frozen, self-checking, numpy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

Kind = Literal["eeg", "mag", "grad", "ecog", "seeg", "eog", "ecg", "emg", "ref", "sound", "source", "stim", "misc"]
UNITS: dict[Kind, str] = {"mag": "T", "grad": "T/m", "sound": "", "source": "", "stim": "", "misc": ""}
"""The unit of the samples by kind of channel; volt for kinds that are not listed."""
BRAIN: tuple[Kind, ...] = ("eeg", "mag", "grad", "ecog", "seeg", "source")
"""The kinds of channels that are decoded by default."""


@dataclass(frozen=True)
class Sensor:
    """The kind and position of a channel. `position`: metres from the head's centre, x right, y front."""

    kind: Kind = "eeg"
    position: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"a channel is one of {', '.join(get_args(Kind))}, but got {self.kind!r}")

    @property
    def unit(self) -> str:
        return UNITS.get(self.kind, "V")


@dataclass(frozen=True)
class BadSpan:
    """A part of a recording that must not be used, in seconds from its first sample.

    `reason` is one word, by which spans are counted: the annotation, as BAD_blink, or the criterion, as amplitude.
    `detail` is a phrase with the numbers.
    """

    start: float
    stop: float
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Decisions:
    """What steps have decided about a recording, each with its reason. See eegdecode/preprocessing/record.py.

    Parameters
    ----------
    channels
        Of each bad channel its name, what was done with it, and why.
    components
        Of each independent component its map, spectrum and reasons, and whether it was kept or dropped.
    spans
        The bad spans.
    notes
        Sentences on how the channels came about.
    """

    channels: tuple[Mapping[str, Any], ...] = ()
    components: tuple[Mapping[str, Any], ...] = ()
    spans: tuple[BadSpan, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Decisions") -> "Decisions":
        return Decisions(
            self.channels + other.channels,
            self.components + other.components,
            self.spans + other.spans,
            self.notes + other.notes,
        )


@dataclass(frozen=True)
class Stream:
    """A signal that is read piece by piece, because a recording of a day does not fit into memory.

    Parameters
    ----------
    channels, sfreq, n_times
        Names in order, rate in Hz, length in samples.
    read
        `read(first, stop)` returns these samples as floats, [time, channel]: EEG in volt, MEG in tesla. Pieces can be
        read in any order, and the numbers are always the same.
    sensors
        The sensors of the channels; a channel that is missing here is EEG at an unknown position.
    bads
        Names of channels that the recording marks as bad.
    decisions
        What steps have decided about it so far.
    recording, subject
        The name of the recording, by which tables of decisions name it, and of its subject, whose head it is.
    info
        The mne.Info of a file that mne read, for the steps that need its coils.
    """

    channels: tuple[str, ...]
    sfreq: float
    n_times: int
    read: Callable[[int, int], np.ndarray]
    sensors: Mapping[str, Sensor] = field(default_factory=dict)
    bads: tuple[str, ...] = ()
    decisions: Decisions = Decisions()
    recording: str = ""
    subject: str = ""
    info: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_channels(self.channels, self.sfreq)

    @property
    def n_channels(self) -> int:
        return len(self.channels)

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.n_times / self.sfreq

    @property
    def unrepaired(self) -> tuple[str, ...]:
        """The bad channels that no step has repaired yet."""
        repaired = {channel["name"] for channel in self.decisions.channels}
        return tuple(name for name in self.bads if name not in repaired)

    def sensor(self, channel: str) -> Sensor:
        return self.sensors.get(channel, Sensor())

    def signal(self) -> "Signal":
        """Read all of it into memory."""
        data = np.ascontiguousarray(self.read(0, self.n_times), dtype=np.float32)
        return Signal(data, self.sfreq, self.channels, self.sensors)


@dataclass(frozen=True)
class Signal:
    """Samples in memory and in time order, `data[time, channel]`, of named channels at one rate."""

    data: np.ndarray
    sfreq: float
    channels: tuple[str, ...]
    sensors: Mapping[str, Sensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data.ndim != 2 or self.data.shape[1] != len(self.channels):
            raise ValueError(
                f"a signal is [time, channel]: got {self.data.shape} for {len(self.channels)} channel names"
            )
        _check_channels(self.channels, self.sfreq)

    @property
    def n_times(self) -> int:
        return self.data.shape[0]

    @property
    def n_channels(self) -> int:
        return self.data.shape[1]

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.n_times / self.sfreq

    def stream(self) -> Stream:
        return Stream(self.channels, self.sfreq, self.n_times, lambda first, stop: self.data[first:stop], self.sensors)


def _check_channels(channels: tuple[str, ...], sfreq: float) -> None:
    if sfreq <= 0:
        raise ValueError(f"sfreq must be above 0 Hz, got {sfreq}")
    if len(set(channels)) != len(channels):
        twice = sorted({name for name in channels if channels.count(name) > 1})
        raise ValueError(f"channel names must differ, but these occur twice: {', '.join(twice)}")


@dataclass(frozen=True)
class Trial:
    """The time in which one stimulus was presented, in seconds from the recording's first sample.

    `labels` are the other columns of its event: ratings, classes, conditions.
    """

    start: float
    duration: float
    stimulus: str
    labels: Mapping[str, str | float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.start < 0 or self.duration <= 0:
            raise ValueError(
                f"trial {self.stimulus!r}: a start of {self.start} s and a duration of {self.duration} s are impossible"
            )


@dataclass(frozen=True)
class Recording:
    """One continuous recording of one subject, its trials, and target streams on the same clock.

    Sample k of a target is at k / target.sfreq seconds after the recording's first sample, whatever its rate.
    """

    name: str
    subject: str
    signal: Stream
    trials: tuple[Trial, ...]
    session: str = ""
    run: str = ""
    targets: Mapping[str, Stream] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Targets with one row a trial, [trial, feature]."""

    def __post_init__(self) -> None:
        for name, rows in self.values.items():
            if rows.ndim != 2 or len(rows) != len(self.trials):
                raise ValueError(
                    f"{self.name}: {name} is [trial, feature], got {rows.shape} for {len(self.trials)} trials"
                )
        for trial in self.trials:
            if trial.start + trial.duration > self.signal.duration + 0.5 / self.signal.sfreq:
                raise ValueError(
                    f"{self.name}: trial {trial.stimulus!r} ends at {trial.start + trial.duration:.2f} s, "
                    f"after the recording ({self.signal.duration:.2f} s)"
                )


SOUND_HZ = 4000
"""A target of one feature that is sampled faster than that is a sound."""


@dataclass(frozen=True)
class SignalSpec:
    """The shapes of a model's input and output, known before any data is read.

    Parameters
    ----------
    channels, sfreq
        Names in order, rate in Hz.
    n_outputs
        Features of the target: of each sample, or of the whole window if `target_sfreq` is 0.
    subjects
        All subjects; a batch gives the subject of each window as an index into this tuple.
    target_sfreq
        The rate of the target in Hz; 0 if the target is one row a window.
    n_times
        Samples of a window; None if windows differ in length.
    kinds, positions
        Kinds and positions of the channels, if known.
    class_values, classes
        For a target of classes: the numbers that stand for them in the data, ascending, and their names.
    target_mean, target_std, class_weights
        Statistics of the training set, if the objective needs them: for each feature of the target; for each class.
    unit
        Of the samples: V, T, or 1 after a step that scales; empty if it is not known.
    """

    channels: tuple[str, ...]
    sfreq: float
    n_outputs: int
    subjects: tuple[str, ...] = ()
    target_sfreq: float = 0.0
    n_times: int | None = None
    kinds: tuple[Kind, ...] = ()
    positions: tuple[tuple[float, float, float] | None, ...] = ()
    class_values: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()
    unit: str = field(default="", compare=False)

    @property
    def n_channels(self) -> int:
        return len(self.channels)

    @property
    def is_sequence(self) -> bool:
        """Whether the target follows the signal in time."""
        return self.target_sfreq > 0

    @property
    def is_sound(self) -> bool:
        return self.n_outputs == 1 and self.target_sfreq > SOUND_HZ

    def knowing(self, other: "SignalSpec") -> "SignalSpec":
        """Return this spec with the target statistics of the other."""
        return replace(
            self, target_mean=other.target_mean, target_std=other.target_std, class_weights=other.class_weights
        )

    def n_steps(self, n_times: int) -> int:
        """Return the number of target samples in a window of `n_times` samples."""
        return round(n_times * (self.target_sfreq / self.sfreq))

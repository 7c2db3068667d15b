"""The nouns of the house: signals, trials, recordings. Frozen, self-checking, numpy only."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Signal:
    """Samples in time order, `data[time, channel]`, of named channels at one rate. EEG in volt, MEG in tesla."""

    data: np.ndarray
    sfreq: float
    channels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.data.ndim != 2 or self.data.shape[1] != len(self.channels):
            raise ValueError(
                f"a signal is [time, channel]: got {self.data.shape} for {len(self.channels)} channel names"
            )
        if self.sfreq <= 0:
            raise ValueError(f"sfreq must be above 0 Hz, got {self.sfreq}")
        if len(set(self.channels)) != len(self.channels):
            twice = sorted({name for name in self.channels if self.channels.count(name) > 1})
            raise ValueError(f"channel names must differ, but these stand twice: {', '.join(twice)}")

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


@dataclass(frozen=True)
class Trial:
    """A stretch of a recording in which one stimulus was presented. In seconds from the recording's first sample."""

    start: float
    duration: float
    stimulus: str

    def __post_init__(self) -> None:
        if self.start < 0 or self.duration <= 0:
            raise ValueError(f"trial {self.stimulus!r}: start {self.start} s, duration {self.duration} s cannot be")


@dataclass(frozen=True)
class Recording:
    """One continuous stretch of data of one subject, its trials, and target streams on the same clock.

    A target's sample k belongs to the time k / target.sfreq after the recording's first sample, whatever its rate.
    """

    name: str
    subject: str
    signal: Signal
    trials: tuple[Trial, ...]
    session: str = ""
    run: str = ""
    targets: dict[str, Signal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for trial in self.trials:
            if trial.start + trial.duration > self.signal.duration + 0.5 / self.signal.sfreq:
                raise ValueError(
                    f"{self.name}: trial {trial.stimulus!r} ends at {trial.start + trial.duration:.2f} s, "
                    f"after the recording ({self.signal.duration:.2f} s)"
                )


@dataclass(frozen=True)
class SignalSpec:
    """What a model gets and has to give: the shape of the data, known before the data."""

    channels: tuple[str, ...]
    sfreq: float
    n_outputs: int
    subjects: tuple[str, ...] = ()
    """Whose data there is; a batch tells the subject of a window by the place in here."""

    @property
    def n_channels(self) -> int:
        return len(self.channels)

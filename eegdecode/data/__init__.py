"""The knobs of the data: what study to make, which stream to decode, how to split. Light to import."""

from dataclasses import dataclass
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

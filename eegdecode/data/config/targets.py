"""What is decoded. Files are named from the study's folder; `{stem}` in a name is the stimulus's."""

from dataclasses import dataclass
from typing import Literal


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
    """Any stream that was measured or computed elsewhere: [time, feature] in a .npy or .mat, or columns in a .tsv.

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

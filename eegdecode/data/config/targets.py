"""The configs of decoding targets. Paths start at the study's folder; `{stem}` in a path is the stimulus's."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Audio:
    """The waveform of the sound."""

    name: Literal["audio"] = "audio"
    sfreq: float = 16000.0  # sampling rate in Hz, a whole number

    def __post_init__(self) -> None:
        if self.sfreq != int(self.sfreq) or self.sfreq < 1:
            raise ValueError(f"the rate of sound must be a whole number of Hz, got {self.sfreq}")


@dataclass(frozen=True)
class Envelope:
    """The envelope of the sound: its loudness, one value a sample, power-law compressed as by the ear."""

    name: Literal["envelope"] = "envelope"
    sfreq: float = 64.0  # rate in Hz: that of the preprocessed EEG, so that a window has as many samples of both
    cutoff_hz: float = 8.0  # low-pass in Hz: cortex follows sound up to about this frequency

    def __post_init__(self) -> None:
        if not 0 < self.cutoff_hz < self.sfreq / 2:
            raise ValueError(f"cutoff_hz must lie below half of sfreq ({self.sfreq / 2} Hz), got {self.cutoff_hz}")


@dataclass(frozen=True)
class Mel:
    """The log-mel spectrogram of the sound: n_mels values a sample."""

    name: Literal["mel"] = "mel"
    sfreq: float = 64.0  # rate in Hz at which it is stored
    n_mels: int = 16  # number of mel bands

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or self.n_mels < 1:
            raise ValueError(
                f"mel needs a rate above 0 Hz and 1 band or more, got {self.sfreq} Hz and {self.n_mels} bands"
            )


@dataclass(frozen=True)
class Frame:
    """The number of the film's frame that was shown, from 0; -1 where none was."""

    name: Literal["frame"] = "frame"
    sfreq: float = 64.0  # rate in Hz at which it is stored
    fps: float | None = None  # frames a second; by default from the events or the film's name

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or (self.fps is not None and self.fps <= 0):
            raise ValueError(f"frame needs rates above 0, got sfreq {self.sfreq} Hz and {self.fps} fps")


@dataclass(frozen=True)
class Extra:
    """Any stream measured or computed elsewhere: [time, feature] in a .npy or .mat, or the columns of a .tsv.

    It belongs to the recording and starts with it; with `{stimulus}` or `{stem}` in the path, there is one a stimulus.

    Parameters
    ----------
    file
        Path of the .npy, .mat or .tsv, from the study's folder.
    sfreq
        The rate in Hz at which it is stored.
    file_sfreq
        The rate of the rows in the file in Hz, where it differs.
    start_s
        The time of its first row in seconds from the start of the recording, or of the stimulus.
    hold
        Its rows are states, as frames: each lasts until the next, and nothing is interpolated.
    """

    file: str
    sfreq: float
    name: Literal["extra"] = "extra"
    title: str = ""  # the name under which it is stored; by default that of the file
    file_sfreq: float | None = None
    start_s: float = 0.0
    hold: bool = False

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or (self.file_sfreq is not None and self.file_sfreq <= 0):
            raise ValueError(f"extra needs rates above 0 Hz, got sfreq {self.sfreq} and file_sfreq {self.file_sfreq}")


@dataclass(frozen=True)
class Label:
    """One value a trial: a column of the events, or its stimulus. Numbers stay, names become class numbers."""

    name: Literal["label"] = "label"
    column: str = "stimulus"  # column of the events that has the value; `stimulus`: the stimulus itself


@dataclass(frozen=True)
class Embedding:
    """One vector a trial: the embedding of its stimulus by a model of images, text or sound.

    Either one .npy [stimulus, feature] and an `index`, a .tsv whose column `stimulus` names that of each row; or one
    .npy [feature] for each stimulus, with `{stimulus}` or `{stem}` in its path.
    """

    file: str  # path of the .npy from the study's folder; with `{stimulus}` or `{stem}`, there is one a stimulus
    index: str = ""  # path of the .tsv with the stimulus of each row; empty where there is a file a stimulus
    name: Literal["embedding"] = "embedding"
    title: str = ""  # the name under which it is stored; by default that of the file

    def __post_init__(self) -> None:
        if bool(self.index) == ("{" in self.file):
            raise ValueError(
                f"embedding needs either an index, or {{stem}} in its file's name: got file {self.file!r} "
                f"and index {self.index!r}"
            )


@dataclass(frozen=True)
class Image:
    """The image that was shown, as a class number; its file must exist."""

    name: Literal["image"] = "image"
    file: str = "stimuli/{stimulus}"  # path of an image from the study's folder, by `{stimulus}` or `{stem}`


Target = Audio | Envelope | Mel | Frame | Extra | Label | Embedding | Image

"""The configs of synthetic studies: each has a planted effect of known size, and with `effect: 0` none."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Music:
    """A music-listening study: every subject hears every piece once, in an order of their own."""

    name: Literal["music"] = "music"
    n_subjects: int = 6  # number of subjects
    n_pieces: int = 20  # number of pieces, each of which every subject hears
    piece_s: tuple[float, float] = (10.0, 16.0)  # shortest and longest piece in seconds: they differ, as in real music
    n_channels: int = 16  # EEG channels of the 10-20 system; plus one EOG and one belt channel
    sfreq: float = 250.0  # sampling rate in Hz
    response_uv: float = 2.0  # RMS of the response to the music at its strongest channel; the noise is 10–20 µV
    lag_s: float = 0.15  # seconds from the sound to the peak of the response
    line_hz: float = 50.0  # mains frequency in Hz
    seed: int = 0  # seed of all that is random in the study

    def __post_init__(self) -> None:
        if self.n_subjects < 1 or self.n_pieces < 1:
            raise ValueError(f"a study needs subjects and pieces, got {self.n_subjects} and {self.n_pieces}")
        if not 2 <= self.piece_s[0] <= self.piece_s[1]:
            raise ValueError(f"piece_s is (shortest, longest), 2 s at least, got {self.piece_s}")
        if not 4 <= self.n_channels <= 20:
            raise ValueError(f"n_channels must be in 4–20, the electrodes of the 10-20 system, got {self.n_channels}")
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
class MusicRuns:
    """Music listening in runs, in the layout of one of the OpenNeuro studies of Daly and others.

    Parameters
    ----------
    layout
        The study that channels, file names and lengths are taken from: 32 EEG of 37 channels and pieces of 20 s; the
        same with sessions and 40 s; or 31 EEG, an ECG and a channel `music` with the number of the piece as a level,
        and the mean of two fMRI regions every 2 s.
    n_runs
        Number of runs of all subjects together, as not all of them finished.
    samples
        If false, recordings have their true size but are sparse files of zeros, which take no space on the disk, and
        sounds are a second of silence.
    sound
        A leak: the sound itself in place of the last electrode, as a channel `Sound` that passes for EEG.
    """

    name: Literal["music-runs"] = "music-runs"
    layout: Literal["ds002722", "ds002724", "ds002725"] = "ds002722"
    n_subjects: int = 2  # number of subjects
    n_runs: int = 4
    n_trials: int = 18  # trials in a run
    trial_s: float | None = None  # length of a trial in seconds; by default the layout's own, 20 or 40
    sfreq: float = 1000.0  # sampling rate in Hz
    effect: float = 1.0  # size of the response to the loudness: × 2 µV RMS, where it is strongest
    samples: bool = True
    sound: bool = False
    seed: int = 0  # seed of all that is random in the study

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_trials=self.n_trials)
        if self.n_runs < self.n_subjects:
            raise ValueError(
                f"n_runs counts the runs of all {self.n_subjects} subjects, so it must be {self.n_subjects} at least, "
                f"got {self.n_runs}"
            )
        if self.trial_s is not None and self.trial_s < 2:
            raise ValueError(f"trial_s must be 2 s at least, got {self.trial_s}")
        _check_rate(self.sfreq, 125, self.effect)


@dataclass(frozen=True)
class MegMovie:
    """KIT MEG during movies: a pulse for every second frame, digital and from a photodiode.

    The last title has 25 fps, and for it the first subject's digital channel is flat: only the photodiode has pulses.
    """

    name: Literal["meg-movie"] = "meg-movie"
    n_subjects: int = 2  # number of subjects
    n_titles: int = 2  # number of movies
    n_parts: int = 2  # parts of a movie; each is one session
    part_s: float = 120.0  # length of a part in seconds; whole minutes make whole pieces of 60 s
    n_channels: int = 32  # magnetometers, plus two trigger channels
    sfreq: float = 500.0  # sampling rate in Hz
    drift_ppm: float = 20.0  # how much slower the projector's clock runs than the recorder's, in parts per million
    effect: float = 1.0  # size of the response to the luminance: × 50 fT RMS, where it is strongest
    seed: int = 0  # seed of all that is random in the study

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_titles=self.n_titles, n_parts=self.n_parts, n_channels=self.n_channels)
        if self.part_s < 10 or abs(self.drift_ppm) > 1000:
            raise ValueError(
                f"part_s must be 10 s at least and drift_ppm within ±1000, got {self.part_s} and {self.drift_ppm}"
            )
        _check_rate(self.sfreq, 200, self.effect)  # a pulse of 10 ms must be visible


@dataclass(frozen=True)
class Speech:
    """MEG during sentences: a response to the loudness, and one to the meaning of each word."""

    name: Literal["speech"] = "speech"
    n_subjects: int = 3  # number of subjects
    n_sentences: int = 12  # number of sentences, each of which every subject hears
    sentence_s: tuple[float, float] = (20.0, 30.0)  # shortest and longest sentence in seconds
    n_words: int = 60  # words of the vocabulary; each has an embedding
    n_features: int = 8  # features of an embedding
    n_channels: int = 32  # magnetometers
    sfreq: float = 250.0  # sampling rate in Hz
    effect: float = 1.0  # size of both responses: × 50 fT RMS, where they are strongest
    seed: int = 0  # seed of all that is random in the study

    def __post_init__(self) -> None:
        _check_counts(
            self.n_subjects,
            n_sentences=self.n_sentences,
            n_words=self.n_words,
            n_features=self.n_features,
            n_channels=self.n_channels,
        )
        if not 2 <= self.sentence_s[0] <= self.sentence_s[1]:
            raise ValueError(f"sentence_s is (shortest, longest), 2 s at least, got {self.sentence_s}")
        _check_rate(self.sfreq, 100, self.effect)


@dataclass(frozen=True)
class Images:
    """Images in rapid succession, as in THINGS: the evoked response is a linear function of the image's embedding."""

    name: Literal["images"] = "images"
    modality: Literal["eeg", "meg"] = "eeg"  # EEG or MEG
    n_subjects: int = 2  # number of subjects
    n_train: int = 200  # training images, each shown twice
    n_test: int = 10  # test images, which are others
    n_repeats: int = 20  # how often each test image is shown
    soa_s: float = 0.1  # seconds from one image to the next; shorter than the evoked response
    n_features: int = 8  # features of an embedding
    n_channels: int = 63  # electrodes, 63 at most, or magnetometers
    sfreq: float = 250.0  # sampling rate in Hz
    effect: float = 1.0  # size of the evoked response: × 2 µV or 50 fT at the peak, for an embedding of length 1
    seed: int = 0  # seed of all that is random in the study

    def __post_init__(self) -> None:
        _check_counts(
            self.n_subjects,
            n_train=self.n_train,
            n_test=self.n_test,
            n_repeats=self.n_repeats,
            n_features=self.n_features,
            n_channels=self.n_channels,
        )
        if self.modality == "eeg" and self.n_channels > 63:
            raise ValueError(f"the cap has 63 electrodes, got n_channels {self.n_channels}")
        if self.soa_s < 0.05:
            raise ValueError(f"soa_s must be 0.05 s at least, got {self.soa_s}")
        _check_rate(self.sfreq, 100, self.effect)


@dataclass(frozen=True)
class Motor:
    """Motor imagery in two sessions, one to train and one to test.

    Parameters
    ----------
    classes
        `sides`: mu and beta desynchronise over the hand, foot or tongue area; `rhythms`: 10 or 20 Hz, two classes, with
        a different topography in each subject.
    leak
        `parity`: the class is the parity of the subject's number, and nothing else shows it; `copy`: the last subject's
        recordings are those of the first under another name.
    """

    name: Literal["motor"] = "motor"
    classes: Literal["sides", "rhythms"] = "sides"
    n_classes: Literal[2, 4] = 4  # 2: left and right hand; 4: feet and tongue too
    n_subjects: int = 3  # number of subjects
    n_trials: int = 48  # trials in a session
    trial_s: float = 4.0  # length of a trial in seconds
    sfreq: float = 250.0  # sampling rate in Hz
    effect: float = 1.0  # size of the effect: × 60 % less mu and beta; or × 8 µV RMS of a rhythm
    leak: Literal["none", "parity", "copy"] = "none"
    seed: int = 0  # seed of all that is random in the study

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_trials=self.n_trials)
        if self.classes == "rhythms" and self.n_classes != 2:
            raise ValueError(f"there are two rhythms, 10 and 20 Hz: set n_classes to 2, got {self.n_classes}")
        if self.classes == "sides" and self.effect > 1.6:
            raise ValueError(f"effect must be 1.6 or less, at which no mu and beta are left, got {self.effect}")
        if self.leak != "none" and self.n_subjects < 2:
            raise ValueError(f"the leak {self.leak} needs two subjects, got {self.n_subjects}")
        if self.trial_s < 1:
            raise ValueError(f"trial_s must be 1 s at least, got {self.trial_s}")
        _check_rate(self.sfreq, 100, self.effect)


@dataclass(frozen=True)
class Eeg2025:
    """The two tasks of the EEG challenge of 2025: the reaction time to a change of contrast, and a score a subject.

    The reaction time shows as a potential over the parietal cortex that peaks at the button press; the score
    (`externalizing`) shows as the strength of alpha.
    """

    name: Literal["eeg2025"] = "eeg2025"
    n_subjects: int = 6  # number of subjects
    n_trials: int = 24  # trials of a subject
    sfreq: float = 100.0  # sampling rate in Hz
    effect: float = 1.0  # effect size: × 15 µV at the button press, × alpha 1.5 times as strong for one SD of score
    seed: int = 0  # seed of all that is random in the study

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_trials=self.n_trials)
        _check_rate(self.sfreq, 100, self.effect)


def _check_counts(n_subjects: int, **counts: int) -> None:
    for name, count in {"n_subjects": n_subjects, **counts}.items():
        if count < 1:
            raise ValueError(f"{name} must be 1 at least, got {count}")


def _check_rate(sfreq: float, lowest_hz: float, effect: float) -> None:
    if sfreq != int(sfreq) or sfreq < lowest_hz:
        raise ValueError(
            f"sfreq must be whole, and {lowest_hz} Hz at least for the planted effect to be visible, got {sfreq}"
        )
    if effect < 0:
        raise ValueError(f"effect must be 0 (no effect) or more, got {effect}")


Study = Music | MusicRuns | MegMovie | Speech | Images | Motor | Eeg2025
"""The config of a synthetic study, selected by its name; music by default."""

"""The knobs of the data: what study to make, what its trials are, what to decode, how to split. Light to import."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Music:
    """A made-up music-listening study: every subject hears every piece once, in an order of their own."""

    name: Literal["music"] = "music"
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
class MusicRuns:
    """Music heard in runs, in the layout of one of the OpenNeuro studies of Daly and others.

    Parameters
    ----------
    layout
        Whose channels, file names and lengths: 32 EEG of 37 channels and pieces of 20 s, the same with sessions and
        40 s, or 31 EEG, an ECG and a channel `music` that holds the number of the piece as a level, beside the mean
        of two regions of an fMRI every 2 s.
    n_runs
        Of all subjects together, as not all of them finished.
    samples
        Without, the recordings have their true size but are hollow: zeros that take no room on the disk. The
        sounds are a second of silence.
    sound
        A leak: the sound itself in the place of the last electrode, as a channel `Sound` that passes for EEG.
    """

    name: Literal["music-runs"] = "music-runs"
    layout: Literal["ds002722", "ds002724", "ds002725"] = "ds002722"
    n_subjects: int = 2
    n_runs: int = 4
    n_trials: int = 18  # in a run
    trial_s: float | None = None  # the layout's own, 20 or 40
    sfreq: float = 1000.0  # Hz
    effect: float = 1.0  # × 2 µV RMS of answer to the loudness where it is strongest
    samples: bool = True
    sound: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_trials=self.n_trials)
        if self.n_runs < self.n_subjects:
            raise ValueError(
                f"n_runs is that of all {self.n_subjects} subjects together, so as many at least, got {self.n_runs}"
            )
        if self.trial_s is not None and self.trial_s < 2:
            raise ValueError(f"trial_s must be 2 s at least, got {self.trial_s}")
        _check_rate(self.sfreq, 125, self.effect)


@dataclass(frozen=True)
class MegMovie:
    """MEG of a KIT system while movies are watched: a pulse for every second frame, digital and from a photodiode.

    The last title runs at 25 fps, and there the first subject's digital channel is flat: only the photodiode tells.
    """

    name: Literal["meg-movie"] = "meg-movie"
    n_subjects: int = 2
    n_titles: int = 2
    n_parts: int = 2  # of a title; each is one session
    part_s: float = 120.0  # whole minutes make whole segments of 60 s
    n_channels: int = 32  # magnetometers; two trigger channels come on top
    sfreq: float = 500.0  # Hz
    drift_ppm: float = 20.0  # how much slower the projector's clock runs than the recorder's
    effect: float = 1.0  # × 50 fT RMS of answer to the luminance where it is strongest
    seed: int = 0

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_titles=self.n_titles, n_parts=self.n_parts, n_channels=self.n_channels)
        if self.part_s < 10 or abs(self.drift_ppm) > 1000:
            raise ValueError(
                f"part_s must be 10 s at least and drift_ppm within ±1000, got {self.part_s} and {self.drift_ppm}"
            )
        _check_rate(self.sfreq, 200, self.effect)  # a pulse of 10 ms has to show


@dataclass(frozen=True)
class Speech:
    """MEG while sentences are heard: an answer to the loudness, and one to the meaning of each word."""

    name: Literal["speech"] = "speech"
    n_subjects: int = 3
    n_sentences: int = 12
    sentence_s: tuple[float, float] = (20.0, 30.0)  # shortest and longest
    n_words: int = 60  # of the vocabulary; each has an embedding
    n_features: int = 8  # of an embedding
    n_channels: int = 32  # magnetometers
    sfreq: float = 250.0  # Hz
    effect: float = 1.0  # × 50 fT RMS, of both answers
    seed: int = 0

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
    """Pictures in quick succession, as in THINGS: what is evoked is a linear function of the picture's embedding."""

    name: Literal["images"] = "images"
    modality: Literal["eeg", "meg"] = "eeg"
    n_subjects: int = 2
    n_train: int = 200  # pictures, each shown twice
    n_test: int = 10  # other pictures
    n_repeats: int = 20  # of each test picture
    soa_s: float = 0.1  # from one picture to the next; shorter than what it evokes
    n_features: int = 8  # of an embedding
    n_channels: int = 63
    sfreq: float = 250.0  # Hz
    effect: float = 1.0  # × 2 µV or 50 fT at the peak, for an embedding of length 1
    seed: int = 0

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
    """Imagined movements in two sessions, one to train and one to test.

    Parameters
    ----------
    classes
        `sides`: mu and beta wane over the hand, foot or tongue area; `rhythms`: 10 or 20 Hz, mixed in another way in
        each subject, two classes.
    leak
        `parity`: the class is that of the subject's number, and nothing else tells it; `copy`: the last subject's
        recordings are those of the first under another name.
    """

    name: Literal["motor"] = "motor"
    classes: Literal["sides", "rhythms"] = "sides"
    n_classes: Literal[2, 4] = 4
    n_subjects: int = 3
    n_trials: int = 48  # in a session
    trial_s: float = 4.0
    sfreq: float = 250.0  # Hz
    effect: float = 1.0  # × 60 % less mu and beta; or × a rhythm of 8 µV RMS, as the rest of the brain has
    leak: Literal["none", "parity", "copy"] = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_trials=self.n_trials)
        if self.classes == "rhythms" and self.n_classes != 2:
            raise ValueError(f"rhythms are two, 10 and 20 Hz: set n_classes to 2, got {self.n_classes}")
        if self.classes == "sides" and self.effect > 1.6:
            raise ValueError(f"no more than all of mu and beta can wane, an effect of 1.6, got {self.effect}")
        if self.leak != "none" and self.n_subjects < 2:
            raise ValueError(f"a leak {self.leak} needs two subjects, got {self.n_subjects}")
        if self.trial_s < 1:
            raise ValueError(f"trial_s must be 1 s at least, got {self.trial_s}")
        _check_rate(self.sfreq, 100, self.effect)


@dataclass(frozen=True)
class Eeg2025:
    """The two tasks of the EEG challenge of 2025: how fast a change of contrast is answered, and a score a subject.

    What tells the reaction time is a potential over the parietal cortex that peaks at the press of the button; what
    tells the score (`externalizing`) is the strength of alpha.
    """

    name: Literal["eeg2025"] = "eeg2025"
    n_subjects: int = 6
    n_trials: int = 24
    sfreq: float = 100.0  # Hz
    effect: float = 1.0  # × 15 µV at the button's press, × alpha 1.5 times as strong for one SD of score
    seed: int = 0

    def __post_init__(self) -> None:
        _check_counts(self.n_subjects, n_trials=self.n_trials)
        _check_rate(self.sfreq, 100, self.effect)


def _check_counts(n_subjects: int, **counts: int) -> None:
    for name, count in {"n_subjects": n_subjects, **counts}.items():
        if count < 1:
            raise ValueError(f"{name} must be 1 at least, got {count}")


def _check_rate(sfreq: float, lowest_hz: float, effect: float) -> None:
    if sfreq != int(sfreq) or sfreq < lowest_hz:
        raise ValueError(f"sfreq must be whole, and {lowest_hz} Hz at least for what is planted to show, got {sfreq}")
    if effect < 0:
        raise ValueError(f"effect must be 0 (nothing to find) or more, got {effect}")


Study = Music | MusicRuns | MegMovie | Speech | Images | Motor | Eeg2025
"""A study to make up, told apart by its name; music where none is given."""


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
class Frame:
    """Which frame of the film was shown, counted from 0; -1 where none was."""

    name: Literal["frame"] = "frame"
    sfreq: float = 64.0  # Hz
    fps: float | None = None  # frames a second; where not given, the film's name has to tell

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
        Its values are names of states that cannot be averaged: take the nearest, not what lies between.
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
        What a part gets as a whole: every trial of a piece, of a subject, of a session, of a run (one recording), of a
        stretch of time (`block_s`), or single trials. By label: the events have a column that says which part.
    within
        Do it for each subject (session, run) on its own, so that each has all three parts.
    train, val, test
        Fractions of what `by` names; val and test get at least one each.
    folds, fold
        Cross-validation instead of fractions: deal into so many, this one tests and the next chooses. 0 folds: as many
        as there are of what `by` names, leave one out.
    val_units, test_units
        Instead of drawing: the names of what `by` names for these parts; the others train.
    block_s
        By block: how long a stretch of time is.
    gap_s
        Leave out of training what is nearer than that in time to a trial that chooses or tests.
    label
        By label: the column of the events that says train, val or test.
    shared
        What may stand in two parts. The same stimulus or subject in two parts is refused unless it stands here.
    """

    by: Literal["stimulus", "subject", "session", "run", "trial", "block", "label"] = "stimulus"
    within: Literal["", "subject", "session", "run"] = ""
    train: float = 0.67
    val: float = 0.13
    test: float = 0.2
    folds: int | None = None
    fold: int = 0
    val_units: tuple[str, ...] = ()
    test_units: tuple[str, ...] = ()
    block_s: float = 60.0
    gap_s: float = 0.0
    label: str = "split"
    shared: tuple[Literal["subject", "stimulus"], ...] = ("subject",)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds is not None and (self.folds < 0 or 0 < self.folds < 3):
            raise ValueError(f"folds must be 3 at least, or 0 to leave one out each time, got {self.folds}")
        if self.fold < 0 or (self.fold and self.folds is None):
            raise ValueError(f"fold counts from 0, and needs folds, got fold {self.fold} with folds {self.folds}")
        if bool(self.val_units) != bool(self.test_units) or set(self.val_units) & set(self.test_units):
            raise ValueError(
                "val_units and test_units name what chooses and what tests: both, and none in both, "
                f"got {self.val_units} and {self.test_units}"
            )
        if self.block_s <= 0 or self.gap_s < 0:
            raise ValueError(f"block_s must be above 0 s and gap_s not below, got {self.block_s} and {self.gap_s}")
        if min(self.train, self.val, self.test) <= 0 or abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(
                f"train, val and test must be above 0 and make 1 together, got {self.train}, {self.val}, {self.test}"
            )


# --- windows: what one step of training sees ---


@dataclass(frozen=True)
class _Drawn:
    """What is asked of all windows."""

    batch: int = 32  # windows a step, of all ranks together: the same numbers come out on 1, 2 or 4 ranks
    subset: float = 1.0  # of the training trials; a smaller subset is contained in a larger one of the same seed
    balance: str = ""  # subject, stimulus, or a label of the trials: each of its values comes equally often
    patch: int = 1  # samples; a window is a multiple of it
    wrap: bool = False  # repeat a window's start at its end until it is that, instead of refusing

    def __post_init__(self) -> None:
        if self.batch < 1 or self.patch < 1:
            raise ValueError(f"windows need a batch and a patch of 1 at least, got {self.batch} and {self.patch}")
        if not 0 < self.subset <= 1:
            raise ValueError(f"subset is a part of the training trials, above 0 and up to 1, got {self.subset}")

    def _need_length(self, length_s: float) -> None:
        if length_s <= 0:
            raise ValueError(f"windows need a length above 0 s, got {length_s}")


@dataclass(frozen=True)
class RandomWindows(_Drawn):
    """Each trial once an epoch, from a start anywhere in it. The middle of a trial is seen more often than its ends."""

    name: Literal["random"] = "random"
    length_s: float = 4.0
    per: Literal["trial", "second"] = "trial"  # second: a trial comes as often as it is long

    def __post_init__(self) -> None:
        super().__post_init__()
        self._need_length(self.length_s)
        if self.per == "second" and self.balance:
            raise ValueError(f"a trial cannot come as often as it is long and balance {self.balance}: choose one")


@dataclass(frozen=True)
class StratifiedWindows(_Drawn):
    """Each trial once an epoch. As many parts as windows fit into it take turns, the start is anywhere in a part."""

    name: Literal["stratified"] = "stratified"
    length_s: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._need_length(self.length_s)


@dataclass(frozen=True)
class GridWindows(_Drawn):
    """Each trial cut into windows, `stride_s` apart, and each window once an epoch. Every sample is seen as often."""

    name: Literal["grid"] = "grid"
    length_s: float = 4.0
    stride_s: float | None = None  # None: end to end

    def __post_init__(self) -> None:
        super().__post_init__()
        self._need_length(self.length_s)
        if self.stride_s is not None and self.stride_s <= 0:
            raise ValueError(f"stride_s must be above 0 s, got {self.stride_s}")


@dataclass(frozen=True)
class LockedWindows(_Drawn):
    """One window a trial, from tmin_s to tmax_s after its start."""

    name: Literal["locked"] = "locked"
    tmin_s: float = 0.0  # below 0: before the trial
    tmax_s: float = 1.0
    overlap: bool = False  # may reach into other trials, as with pictures 0.1 s apart

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tmin_s >= self.tmax_s:
            raise ValueError(f"tmin_s must come before tmax_s, got {self.tmin_s} and {self.tmax_s} s")


@dataclass(frozen=True)
class BucketedWindows(_Drawn):
    """Whole trials, each once an epoch; those of a batch are about as long, wrapped to the length of the longest."""

    name: Literal["buckets"] = "buckets"
    padding: float = 0.05  # of what is read, at most
    wrap: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.padding < 1:
            raise ValueError(f"padding is a part of what is read, above 0 and below 1, got {self.padding}")
        if not self.wrap or self.balance:
            raise ValueError("buckets wrap trials to one length and take each once: leave wrap and balance as they are")


Windows = RandomWindows | StratifiedWindows | GridWindows | LockedWindows | BucketedWindows

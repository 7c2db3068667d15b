"""The configs of evaluation. Light to import."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eegdecode.data.config import Split
from hpc.rank.context import Input

Tune = Literal["equal", "none"]
Average = Literal["none", "stimulus"]
Track = Literal["", "image_decoding", "bci_decoding", "sleep_onset", "emg_pose"]


@dataclass(frozen=True)
class Scoring:
    """How decoded trials are scored, and the linear baselines."""

    n_null: int = 1000  # draws of the null distribution: p of one among 20 subjects needs 400 at least
    lags_s: float = 0.5  # seconds after each instant that the linear baseline reads: the brain responds later
    window_s: float = 5.0  # length of the windows of match-mismatch in seconds
    retrieval_from: int = 16  # targets of so many numbers a window are scored by retrieval, of fewer by correlation
    tune: Tune = "equal"
    """`equal`: penalties of linear baselines are chosen on the validation set, out of as many as steps of the network
    were (5 at most), and out of as many as settings of the network, if several were tried; `none`: they are those of
    their authors."""
    seed: int = 0  # seed of the null distributions, and of the windows that are swapped for the relevance of channels

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("tune",)

    def __post_init__(self) -> None:
        if self.n_null < 100:
            raise ValueError(f"n_null must be at least 100, or p < 0.05 means little, got {self.n_null}")
        if self.lags_s < 0 or self.window_s <= 0:
            raise ValueError(f"lags_s must be 0 or more and window_s above 0, got {self.lags_s} and {self.window_s}")
        if self.retrieval_from < 2:
            raise ValueError(
                f"retrieval_from must be at least 2, as a single number has no direction to compare, got "
                f"{self.retrieval_from}"
            )


@dataclass(frozen=True)
class Evaluate:
    model: tuple[Input, ...]
    """A train run or a soup; or several: of one split they decode together, of several folds they are a
    cross-validation, which is one result."""
    weigh: Literal["mean", "confidence", "entropy"] = "mean"  # of several models: alike, or more weight for a surer one
    scoring: Scoring = field(default_factory=Scoring)  # how decoded trials are scored
    seeds: Literal["", "together", "apart"] = ""
    """Models that differ in their seed alone: together, as an ensemble; or apart, with the mean of their figures and
    the spread over seeds. By default together if of one split, apart in a cross-validation."""
    choice: Literal["nested", "fixed"] = "nested"
    """Of several settings, each fold takes those with the best validation figure, that of train.optim.choose_by; a part
    of the settings of a sweep is refused. Fixed: they were fixed before any test set was looked at."""
    control: Literal["none", "shuffled"] = "none"
    """`shuffled`: also train the first model again, in the same way but on shuffled targets; it has to be at chance."""

    average: Average = "none"
    """`stimulus`: of a retrieval, the windows of a subject with the same stimulus are averaged before they are decoded,
    as NICE does with the eighty repetitions of THINGS-EEG2's test pictures; linear decoders get the same averages."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("seeds", "choice", "control", "average")
    READS: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("train", "soup")}


@dataclass(frozen=True)
class Audit:
    data: tuple[Input, ...]  # a preprocess run, or several
    target: str = ""  # the target to decode: needed to find sounds among the channels and confounds of classes
    split: Split = field(default_factory=Split)  # the split to look for leaks in, that of your training


@dataclass(frozen=True)
class Compare:
    runs: tuple[Input, ...] = ()  # evaluate runs
    named: str = ""  # also all evaluations that were started with that --name, as those of a sweep

    READS: ClassVar[dict[str, tuple[str, ...]]] = {"runs": ("evaluate",)}

    def __post_init__(self) -> None:
        if not self.runs and not self.named:
            raise ValueError("say which runs to compare: runs=[a,b], or named=WORD for all with that --name")


@dataclass(frozen=True)
class Submission:
    challenge_1: tuple[Input, ...] = ()  # train runs or soups that predict the reaction time; several are averaged
    challenge_2: tuple[Input, ...] = ()  # train runs or soups that predict the externalizing score

    track: Track = ""  # of the competition of 2026: its package is another one, made of `model`
    model: tuple[Input, ...] = ()  # train runs or soups for the track; several are averaged
    classes: tuple[str, ...] = ()
    """The classes of bci_decoding in the order of the judge, who numbers them; by default in that of the model."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("track", "model", "classes")

    def __post_init__(self) -> None:
        if bool(self.track) != bool(self.model):
            raise ValueError(
                "a package for the competition of 2026 has both: track=bci_decoding model=RUN (or image_decoding, "
                "sleep_onset, emg_pose)"
            )
        if self.track and (self.challenge_1 or self.challenge_2):
            raise ValueError("challenge_1 and challenge_2 are of 2025, track of 2026: pack one of them at a time")
        if not self.track and not self.challenge_1 and not self.challenge_2:
            raise ValueError(
                "say which train runs to pack: challenge_1=RUN challenge_2=RUN (2025), or track=TRACK model=RUN (2026)"
            )


@dataclass(frozen=True)
class Stream:
    model: Input  # a train run of a causal model, or a soup of some
    chunk: int = 1  # samples that arrive at once, as from an amplifier
    most_s: float = 600.0  # at most so many seconds of the test set are streamed

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.most_s <= 0:
            raise ValueError(f"chunk must be at least 1 and most_s above 0, got {self.chunk} and {self.most_s}")


@dataclass(frozen=True)
class Published:
    """A row of a published table, in its units."""

    name: str  # what they call the decoder
    value: float  # its figure
    spread: float | None = None  # what their ± is, Leaderboard.spread says
    model: str = ""  # our model of the same kind
    dataset: str = ""  # of a table of several data sets: the one that this is of


@dataclass(frozen=True)
class Leaderboard:
    """Our runs of a protocol beside its published table. A file of configs/protocols has this section."""

    runs: tuple[Input, ...]  # evaluate runs
    title: str = ""  # the benchmark and its task
    source: str = ""  # where the table was read, an address or a citation
    version: str = ""  # of the table, as a release or a commit
    date: str = ""  # when it was published, as 2026-05-06
    metric: str = "balanced_accuracy"  # the name of the metric that the table has
    unit: Literal["fraction", "percent", "above_chance"] = "percent"
    """Of the table's numbers; above_chance: 0 is chance, and 100 perfect."""
    spread: str = "standard deviation over seeds"  # what ± is in the table
    published: tuple[Published, ...] = ()  # the rows of the table
    dataset: str = ""  # of a table of several data sets: the one that the runs are of, whose rows are shown
    differs: tuple[str, ...] = ()  # what is not as in the published protocol, a sentence each
    changed: tuple[str, ...] = ()  # settings that were changed on the line
    draws: int = 1000  # draws of the subjects that are tested
    redraws: int = 100
    """How often the sets are drawn anew by subject, each time with a linear decoder of band powers; 0: not at all."""

    def __post_init__(self) -> None:
        if self.draws < 100 or self.redraws < 0:
            raise ValueError(f"draws must be at least 100 and redraws not below 0, got {self.draws} and {self.redraws}")

"""The stages that setup.cfg names: wiring only, in the order things happen.

A stage is a function `(cfg, ctx) -> metrics`. The annotation of `cfg` is its schema. What is heavy (torch, mne, h5py)
is imported when a stage runs, so that a config is checked on a login node without it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from eegdecode.data.config import Envelope, Events, Matlab, RandomWindows, Split, Target, Windows
from eegdecode.evaluation.config import Scoring
from eegdecode.models import BiLSTM, Model
from eegdecode.models.config.trainable import Trainable
from eegdecode.objectives import AnyObjective, Regression
from eegdecode.preprocessing.config import Bandpass, Notch, Reference, Resample, Scale, Step
from eegdecode.synth.config import Study
from eegdecode.training.config import Augment, Compute, Optim, Start, Watch, augment
from hpc.rank.context import Context, Input

Metrics = dict[str, object]
"""What a stage returns: numbers, or {"value": x, "chance": c} where there is a chance level to stand beside."""


def synthesize(cfg: Study, ctx: Context) -> Metrics:
    """Make up a study: real files in BIDS, with a planted effect."""
    from eegdecode.synth.study import make_study

    return make_study(cfg, ctx)


@dataclass(frozen=True)
class Survey:
    study: tuple[Input, ...]  # one or several, looked at together: what is in two of them is found
    files: str = ""  # how recordings are called in a folder that is not BIDS: EEGdata/{subject}/*_{run}.set
    events: Events | None = None  # where the trials come from: events.tsv, unless you say otherwise
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say themselves
    samples: bool = True  # read every sample, for damage and duplicates; without it headers only, in seconds


def survey(cfg: Survey, ctx: Context) -> Metrics:
    """What is in a study: subjects, runs, channels, rates, hours, labels; what is missing, damaged or there twice."""
    from eegdecode.data.survey import survey

    return survey.run(cfg, ctx)


@dataclass(frozen=True)
class Preprocess:
    study: Input
    files: str = ""  # how recordings are called in a folder that is not BIDS: EEGdata/{subject}/*_{run}.set
    exclude: tuple[str, ...] = ()  # names of recordings (sub-03*) or of subjects that are left out
    skip_failed: bool = False  # a store without what cannot be used, which the survey names; else that is an error
    events: Events | None = None  # where the trials come from: events.tsv, unless you say otherwise
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say themselves
    steps: tuple[Step, ...] = (Reference(), Notch(), Bandpass(), Resample(), Scale())
    targets: tuple[Target, ...] = (Envelope(),)
    int16: bool = False  # keep signals as whole numbers with a scale: half the bytes, and the error is stated


def preprocess(cfg: Preprocess, ctx: Context) -> Metrics:
    """From a BIDS study to one HDF5 file a recording, shared out over the ranks; what is there already is kept."""
    from eegdecode.preprocessing import study

    return study.run(cfg, ctx)


@dataclass(frozen=True)
class Train:
    data: tuple[Input, ...]  # a preprocess run, or several: then they are one study
    target: str = "envelope"
    model: Model = field(default_factory=BiLSTM)
    trainable: Trainable = field(default_factory=Trainable)
    objective: AnyObjective = field(default_factory=Regression)
    split: Split = field(default_factory=Split)
    windows: Windows = field(default_factory=RandomWindows)
    augment: tuple[Augment, ...] = ()
    optim: Optim = field(default_factory=Optim)
    compute: Compute = field(default_factory=Compute)
    start: Start | None = None  # parameters of another run instead of drawn ones
    watch: Watch = field(default_factory=Watch)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model.gives != self.objective.reads:
            raise ValueError(
                f"objective {self.objective.name} reads {self.objective.reads}, "
                f"but model {self.model.name} gives {self.model.gives}: choose another of the two"
            )
        if getattr(self.objective, "balanced", False) and self.windows.balance:
            raise ValueError(
                f"objective.balanced and windows.balance={self.windows.balance} would both even classes out: take one"
            )
        augment.check_order(self.augment)
        freed = self.trainable.free_at
        if freed and freed[-1] >= self.optim.steps:
            raise ValueError(
                f"trainable.free_at must be before the last of {self.optim.steps} steps, got {list(freed)}"
            )
        if freed and self.compute.shard:
            raise ValueError(
                f"trainable.free_at={list(freed)} is not for a model that is spread over the ranks: leave it out, or "
                "say compute.shard=false"
            )
        if self.watch.profile and self.watch.profile[1] >= self.optim.steps:
            first, last = self.watch.profile
            raise ValueError(
                f"watch.profile is of steps {first} to {last}, but training has {self.optim.steps}, counted from 0: "
                f"the last to be traced is {self.optim.steps - 1} at most"
            )

        if self.optim.sam is not None and self.compute.shard:
            raise ValueError(
                "optim.sam looks around with the gradient of one rank, which has but a part of a model that is spread "
                "over them, compute.shard=true: take one of the two"
            )

    def check_ranks(self, n_ranks: int) -> None:
        """Refuse a batch that so many ranks cannot share evenly: asked before a job is submitted."""
        batch, n_parts = self.windows.batch, n_ranks * self.compute.accumulate
        if batch % n_parts:
            below = batch // n_parts * n_parts
            nearest = " or ".join(str(n) for n in (below, below + n_parts) if n)
            portions = f" in {self.compute.accumulate} portions each" if self.compute.accumulate > 1 else ""
            if n_ranks == 1:
                raise ValueError(
                    f"windows.batch is {batch}, which cannot be cut evenly into {n_parts} portions: take {nearest}, or "
                    "another compute.accumulate"
                )
            raise ValueError(
                f"windows.batch is {batch} for all ranks together, which {n_ranks} ranks cannot share "
                f"evenly{portions}: take {nearest}, or another number of ranks"
            )

    def check_inputs(self, find: Callable[[Input], Path | None]) -> str:
        """Refuse what its data show that it cannot be run with, where they are there: asked before a job is submitted.

        What would be trained, in words; nothing where data are still to be made, or there is no torch here.
        """
        folders = [folder for name in self.data if (folder := find(name)) is not None]
        if len(folders) < len(self.data):
            return ""
        try:
            from eegdecode.training import setup
        except ImportError as error:
            return f"not tried on its data ({error})"
        return setup.checked(self, folders, find)


def train(cfg: Train, ctx: Context) -> Metrics:
    """Fit a decoder to the training part, keep the parameters that did best on the validation part."""
    from eegdecode.training import loop

    return loop.fit(cfg, ctx)


@dataclass(frozen=True)
class Estimate(Train):
    """The settings of a training, those of its section where the file has one."""

    section: ClassVar[str] = "train"
    probe_steps: int = 50
    price_a_day: float = 0.0  # of one GPU, in your currency: about 80 $ for an A100, 20 $ for an L4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probe_steps < 10 or self.price_a_day < 0:
            raise ValueError(
                "probe_steps must be at least 10 and price_a_day not below 0, "
                f"got {self.probe_steps} and {self.price_a_day}"
            )


def estimate(cfg: Estimate, ctx: Context) -> Metrics:
    """Hours, GPU-hours and price of a training, from some steps of it on the machine where it runs."""
    from eegdecode.training import estimate

    return estimate.run(cfg, ctx)


@dataclass(frozen=True)
class Audit:
    data: tuple[Input, ...]  # a preprocess run, or several
    target: str = ""  # what is to be decoded: sounds among the channels and confounds of classes are looked for by it
    split: Split = field(default_factory=Split)


def audit(cfg: Audit, ctx: Context) -> Metrics:
    """What in the data would make a decoder look better than it is: copies, leaks, units, sounds, confounds."""
    from eegdecode.evaluation import audit

    return audit.run(cfg, ctx)


@dataclass(frozen=True)
class Soup:
    models: tuple[Input, ...]  # train runs of one model and one split
    how: Literal["greedy", "uniform"] = "greedy"  # greedy: best first, and only what makes validation no worse
    snapshots: bool = False  # take the snapshots of each run instead of its best parameters


def soup(cfg: Soup, ctx: Context) -> Metrics:
    """One model whose parameters are the mean of several's."""
    from eegdecode.training import soup

    return soup.run(cfg, ctx)


@dataclass(frozen=True)
class Evaluate:
    model: tuple[Input, ...]  # a train run or a soup; or several, which decode together
    weigh: Literal["mean", "confidence", "entropy"] = "mean"  # of several: whether the surer one counts for more
    scoring: Scoring = field(default_factory=Scoring)

    def check_inputs(self, find: Callable[[Input], Path | None]) -> str:
        """Refuse several models that cannot decode together, where they are there: asked before a job is submitted."""
        folders = [folder for name in self.model if (folder := find(name)) is not None]
        if len(folders) < max(2, len(self.model)):
            return ""
        try:
            from eegdecode.evaluation.decode import predict
        except ImportError as error:
            return f"not tried together ({error})"
        return predict.checked(folders, self.weigh)


def evaluate(cfg: Evaluate, ctx: Context) -> Metrics:
    """Decode the test part, compare with chance and with a linear baseline, write report.html."""
    from eegdecode.evaluation import evaluate

    return evaluate.run(cfg, ctx)


@dataclass(frozen=True)
class Compare:
    runs: tuple[Input, ...] = ()  # evaluate runs
    named: str = ""  # and all that were started with that --name, as those of a sweep

    def __post_init__(self) -> None:
        if not self.runs and not self.named:
            raise ValueError("say what is to be compared: runs=[a,b], or named=WORD for all that have that --name")


def compare(cfg: Compare, ctx: Context) -> Metrics:
    """Several evaluations on one page, in pairs over their subjects: folds, seeds, models."""
    from eegdecode.evaluation import compare

    return compare.run(cfg, ctx)


@dataclass(frozen=True)
class Submission:
    challenge_1: tuple[Input, ...] = ()  # train runs or soups that tell the reaction time; of several, the mean
    challenge_2: tuple[Input, ...] = ()  # and the externalizing score

    def __post_init__(self) -> None:
        if not self.challenge_1 and not self.challenge_2:
            raise ValueError("say which train runs are to be packed: challenge_1=RUN challenge_2=RUN")


def submission(cfg: Submission, ctx: Context) -> Metrics:
    """A package for the EEG challenge of 2025, which runs where only torch is, and its score on the test part."""
    from eegdecode.evaluation import submission

    return submission.run(cfg, ctx)


@dataclass(frozen=True)
class Stream:
    model: Input  # a train run of a causal model, or a soup of some
    chunk: int = 1  # samples that come at once, as an amplifier hands them over
    most_s: float = 600.0  # of the test part's signal

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.most_s <= 0:
            raise ValueError(f"chunk must be at least 1 and most_s above 0, got {self.chunk} and {self.most_s}")


def stream(cfg: Stream, ctx: Context) -> Metrics:
    """Decode the test part as it would come live: how late each chunk is, and whether it is decoded as at once."""
    from eegdecode.evaluation import live

    return live.run(cfg, ctx)

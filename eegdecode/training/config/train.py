"""The configs of the stages train, estimate and soup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eegdecode.data.config import RandomWindows, Split, Windows
from eegdecode.models import Model
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Trainable
from eegdecode.objectives import AnyObjective
from eegdecode.objectives.regression import Regression
from eegdecode.training.augmentations.config import Augment, check_order
from eegdecode.training.config.optim import Compute, Optim
from eegdecode.training.config.start import Start
from eegdecode.training.config.watch import Watch
from hpc.rank.context import Input

CLASS_FIGURES = ("balanced_accuracy", "auroc", "most_predicted")
"""Figures of a validation with classes, of all of its windows together; the last is the share of windows that are given
the class that is given most often."""


@dataclass(frozen=True)
class Train:
    data: tuple[Input, ...]  # a preprocess run, or several, which are read as one study
    target: str = "envelope"  # what is decoded, by the name under which it is stored; empty for objectives without one
    model: Model = field(default_factory=BiLSTM)  # the network
    trainable: Trainable = field(default_factory=Trainable)  # which parameters are trained
    objective: AnyObjective = field(default_factory=Regression)
    """The loss that training minimises."""
    split: Split = field(default_factory=Split)  # which trials are in the training, validation and test sets
    windows: Windows = field(default_factory=RandomWindows)  # how windows are cut from trials and drawn into batches
    augment: tuple[Augment, ...] = ()  # augmentations of training windows, in the order in which they are applied
    optim: Optim = field(default_factory=Optim)  # optimizer, schedule and number of steps
    compute: Compute = field(default_factory=Compute)  # precision and memory
    start: Start | None = None  # pretrained weights, instead of a random initialisation
    watch: Watch = field(default_factory=Watch)  # monitoring and alerts
    seed: int = 0  # seed of initial parameters, order of windows, augmentations and dropout; split.seed is another
    control: Literal["none", "shuffled"] = "none"
    """`shuffled`: the targets change places before the split, among trials, recordings or subjects, so that nothing can
    be decoded: what an evaluation of this run finds all the same is a leak."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("control",)

    SYNONYMS: ClassVar[dict[str, str]] = {
        "batch_size": "windows.batch is the number of windows a step, over all ranks together",
        "learning_rate": "optim.lr is the peak learning rate",
        **dict.fromkeys(
            ("epochs", "n_epochs", "max_epochs", "num_epochs"),
            "training is counted in optim.steps, one batch each: an epoch of N windows is N / windows.batch steps",
        ),
        **dict.fromkeys(
            ("momentum", "beta1", "beta2"), "optim.betas are the two decays of AdamW, which has no momentum"
        ),
        **dict.fromkeys(("drop_prob", "dropout_rate"), "model.dropout, of most models, is the probability of dropout"),
        **dict.fromkeys(
            ("tmin", "tmax", "baseline"),
            "windows=epochs cuts windows from windows.tmin_s to windows.tmax_s, and windows.baseline_s is the baseline",
        ),
        **dict.fromkeys(
            ("log_every", "log_every_n_steps", "logging_steps", "log_interval"),
            "watch.every is the number of steps from one log point to the next, at most",
        ),
        **dict.fromkeys(
            ("logger", "loggers", "report_to", "tensorboard", "mlflow"),
            "watch.trackers=[tensorboard,wandb,mlflow] says where curves are shown",
        ),
        **dict.fromkeys(("max_steps", "iterations"), "optim.steps is the number of training steps, one batch each"),
        "num_workers": "batches are filled by threads, up to four a rank; --cpus is the number of cores of a rank",
        "optimizer": "it is AdamW, with optim.lr, optim.weight_decay and optim.betas; optim.sam adds SAM to it",
        "early_stopping": "training ends after optim.patience validations without a lower loss",
        "device": "a rank computes on its GPU, or on the CPU if it has none; --gpus is the number of GPUs per node",
        "gpus": "--gpus is the number of GPUs per node, each with one rank, and --nodes the number of nodes",
        **dict.fromkeys(
            ("amp", "mixed_precision", "precision"),
            "compute.precision=bf16 or compute.precision=fp16 computes in mixed precision",
        ),
        **dict.fromkeys(("gradient_clip", "grad_clip"), "optim.clip_norm is the largest norm of the gradient"),
        "weight_init": "parameters are drawn by `seed`, unless start.source names pretrained weights",
        "checkpoint": "optim.checkpoint_every is the number of steps from one checkpoint to the next; start.source "
        "starts from the weights of one; model.checkpoint, of some models, recomputes activations to save memory",
        "resume": "a stopped run continues from its newest checkpoint when you give its line again, or `resume RUN`; a "
        "new run starts from the weights of another by start.source",
        "pretrained": "start.source is the train run or the file whose weights training starts from",
        "finetune": "start.source is the train run or the file whose weights training starts from, and trainable.train "
        "says which parameters are trained",
        "freeze": "trainable.train=head and trainable.train=last freeze the rest, until the steps of "
        "trainable.unfreeze_at if there are any",
        **dict.fromkeys(
            ("loss", "criterion"),
            "the objective has it: objective=classification is cross-entropy, and objective=regression has "
            "objective.loss",
        ),
        "scheduler": "optim.schedule is the learning-rate schedule, after optim.warmup_steps of warm-up",
        "val_split": "split.val is the fraction of the validation set, in units of split.by",
        "test_size": "split.test is the fraction of the test set, in units of split.by",
        **dict.fromkeys(
            ("folds", "n_folds", "cv"),
            "split.folds is the number of folds, and split.fold the one that a run tests on; a sweep over split.fold "
            "has them all",
        ),
        "window": "windows=random, windows=grid, windows=epochs and others say how windows are cut; windows.length_s "
        "is their length in seconds",
        "window_size": "windows.length_s is the length of a window in seconds; that of windows=epochs is from "
        "windows.tmin_s to windows.tmax_s",
        "stride": "with windows=grid, windows.stride_s is the time from one window to the next in seconds; "
        "model.stride, of some models, is that of a layer in samples",
        "overlap": "windows of windows=grid overlap if windows.stride_s is below windows.length_s; windows.overlap "
        "lets those of windows=epochs reach into other trials",
    }
    """Names in other tools, which the error translates."""

    def __post_init__(self) -> None:
        if self.model.output_kind != self.objective.input_kind:
            raise ValueError(
                f"objective {self.objective.name} reads {self.objective.input_kind}, "
                f"but model {self.model.name} gives {self.model.output_kind}: choose another objective or model"
            )
        if getattr(self.objective, "balanced", False) and self.windows.balance:
            raise ValueError(
                f"objective.balanced and windows.balance={self.windows.balance} would both balance the classes: use one"
            )
        self._check_choice()
        if self.control == "shuffled" and not self.target:
            raise ValueError("control=shuffled needs a target whose values change places: name one in train.target")
        check_order(self.augment)
        steps = self.trainable.unfreeze_at
        if steps and steps[-1] >= self.optim.steps:
            raise ValueError(
                f"trainable.unfreeze_at must be before the last of {self.optim.steps} steps, got {list(steps)}"
            )
        if steps and self.compute.shard:
            raise ValueError(
                f"trainable.unfreeze_at={list(steps)} does not work for a model sharded over the ranks: leave it out, "
                "or say compute.shard=false"
            )
        if self.trainable.train == "ridge" and self.compute.shard:
            raise ValueError(
                "trainable.train=ridge needs the whole head on each rank, but with compute.shard=true a rank has a "
                "part of it: use only one of the two"
            )
        if self.watch.profile and self.watch.profile[1] >= self.optim.steps:
            first, last = self.watch.profile
            raise ValueError(
                f"watch.profile is of steps {first} to {last}, but training has {self.optim.steps}, counted from 0: "
                f"the last step to profile is {self.optim.steps - 1} at most"
            )
        if self.optim.sam is not None and self.compute.shard:
            raise ValueError(
                "optim.sam needs the gradient of one rank, but with compute.shard=true each rank has only a part of "
                "the model: use only one of the two"
            )

    def _check_choice(self) -> None:
        """Refuse to choose the best step by a figure that validations of this objective do not have, if it says so."""
        named: tuple[str, ...] | None = getattr(self.objective, "figures", None)
        of_classes = CLASS_FIGURES if getattr(self.objective, "scored_as", None) == "classes" else ()
        if named is not None and self.optim.choose_by not in (known := ("loss", *named, *of_classes)):
            raise ValueError(
                f"optim.choose_by must be a figure of the validation, which are {', '.join(known)} with "
                f"objective={self.objective.name}, but got {self.optim.choose_by!r}"
            )


def check_ranks(cfg: Train, n_ranks: int) -> None:
    """Refuse a batch size that the ranks cannot share evenly."""
    compute = cfg.compute.on(n_ranks)
    batch, n_parts = cfg.windows.batch, n_ranks * compute.accumulate
    if batch % n_parts and cfg.compute.shares:
        raise ValueError(f"windows.batch is {batch}, which compute.shares={cfg.compute.shares} does not divide")
    if batch % n_parts:
        below = batch // n_parts * n_parts
        nearest = " or ".join(str(n) for n in (below, below + n_parts) if n)
        portions = f" in {cfg.compute.accumulate} portions each" if cfg.compute.accumulate > 1 else ""
        if n_ranks == 1:
            raise ValueError(
                f"windows.batch is {batch}, which cannot be cut evenly into {n_parts} portions: use {nearest}, or "
                "another compute.accumulate"
            )
        raise ValueError(
            f"windows.batch is {batch} for all ranks together, which {n_ranks} ranks cannot share "
            f"evenly{portions}: use {nearest}, or another number of ranks"
        )


def depends_on_ranks(cfg: Train) -> list[str]:
    """Return the settings with which the gradient of a share depends on how many shares a rank has."""
    reasons = []
    if getattr(cfg.objective, "compares_windows", False):
        reasons.append(f"objective={cfg.objective.name}, which compares the windows of all ranks")
    if cfg.optim.sam is not None:
        reasons.append("optim.sam, with which each rank looks around on its own")
    if cfg.optim.find_lr is not None:
        reasons.append("optim.find_lr, as the logged losses that it compares may differ in the last digit")
    return reasons


def why_not_exact(cfg: Train, n_ranks: Sequence[int]) -> str:
    """Return what differs if a training changes between these numbers of ranks; empty if it ends with the same bits."""
    compute = cfg.compute
    reasons = [*depends_on_ranks(cfg), *(["compute.shard=true"] if compute.shard else [])]
    reason = f"because of {', '.join(reasons)}" if reasons else ""
    if compute.exact is True and (reason or compute.shares):
        return reason and f"its parameters are equal but for rounding, {reason}"
    same = reason or f"compute.exact=true compute.shares={max(n_ranks)} gives the same bits"
    more = "or for more with dropout and batch norms, which go by a rank's part of the batch"
    return f"its parameters are equal but for rounding, {more}: {same}"


@dataclass(frozen=True)
class Estimate(Train):
    """The settings of a training; the section `train` of a file applies here too."""

    section: ClassVar[str] = "train"
    probe_steps: int = 50  # steps that are trained and timed; the first five are not counted
    price_a_day: float = 0.0  # price of a GPU and day in your currency: about 80 $ for an A100, 20 $ for an L4; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probe_steps < 10 or self.price_a_day < 0:
            raise ValueError(
                "probe_steps must be at least 10 and price_a_day not below 0, "
                f"got {self.probe_steps} and {self.price_a_day}"
            )


@dataclass(frozen=True)
class Soup:
    models: tuple[Input, ...]  # train runs of one model and one split
    how: Literal["greedy", "uniform"] = "greedy"
    """`greedy`: the best first, then each that does not make the validation set's figure worse; `uniform`: all."""
    snapshots: bool = False  # use the snapshots of each run instead of its best parameters
    choose_by: str = "loss"
    """The figure of the validation set by which models are ordered and taken, as accuracy in the paper: the loss is to
    be low, any other high; one that is as good is taken."""
    ADDED_LATER: ClassVar[tuple[str, ...]] = ("choose_by",)

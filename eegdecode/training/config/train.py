"""The configs of the stages train, estimate and soup."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eegdecode.data.config import RandomWindows, Split, Windows
from eegdecode.models import BiLSTM, Model
from eegdecode.models.config.trainable import Trainable
from eegdecode.objectives import AnyObjective, Regression
from eegdecode.training.config import augment
from eegdecode.training.config.augment import Augment
from eegdecode.training.config.optim import Compute, Optim
from eegdecode.training.config.start import Start
from eegdecode.training.config.watch import Watch
from hpc.rank.context import Input


@dataclass(frozen=True)
class Train:
    data: tuple[Input, ...]  # a preprocess run, or several: then they are one study
    target: str = "envelope"  # what is decoded, by the name under which it is stored; empty for objectives without one
    model: Model = field(default_factory=BiLSTM)  # the network
    trainable: Trainable = field(default_factory=Trainable)  # which parameters are trained
    objective: AnyObjective = field(default_factory=Regression)  # what training minimises
    split: Split = field(default_factory=Split)  # which trials are in the training, validation and test sets
    windows: Windows = field(default_factory=RandomWindows)  # how windows are cut from trials and drawn into batches
    augment: tuple[Augment, ...] = ()  # augmentations of training windows, in the order in which they are applied
    optim: Optim = field(default_factory=Optim)  # optimizer, schedule and number of steps
    compute: Compute = field(default_factory=Compute)  # precision and memory
    start: Start | None = None  # pretrained weights, instead of a random initialisation
    watch: Watch = field(default_factory=Watch)  # monitoring and alerts
    seed: int = 0  # seed of initial parameters, order of windows, augmentations and dropout; split.seed is another

    def __post_init__(self) -> None:
        if self.model.output_kind != self.objective.input_kind:
            raise ValueError(
                f"objective {self.objective.name} reads {self.objective.input_kind}, "
                f"but model {self.model.name} gives {self.model.output_kind}: choose another of the two"
            )
        if getattr(self.objective, "balanced", False) and self.windows.balance:
            raise ValueError(
                f"objective.balanced and windows.balance={self.windows.balance} would both even classes out: take one"
            )
        augment.check_order(self.augment)
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
        if self.watch.profile and self.watch.profile[1] >= self.optim.steps:
            first, last = self.watch.profile
            raise ValueError(
                f"watch.profile is of steps {first} to {last}, but training has {self.optim.steps}, counted from 0: "
                f"the last step to profile is {self.optim.steps - 1} at most"
            )
        if self.optim.sam is not None and self.compute.shard:
            raise ValueError(
                "optim.sam needs the gradient of one rank, but with compute.shard=true each rank has only a part of "
                "the model: take one of the two"
            )


def check_ranks(cfg: Train, n_ranks: int) -> None:
    """Refuse a batch size that so many ranks cannot share evenly."""
    batch, n_parts = cfg.windows.batch, n_ranks * cfg.compute.accumulate
    if batch % n_parts:
        below = batch // n_parts * n_parts
        nearest = " or ".join(str(n) for n in (below, below + n_parts) if n)
        portions = f" in {cfg.compute.accumulate} portions each" if cfg.compute.accumulate > 1 else ""
        if n_ranks == 1:
            raise ValueError(
                f"windows.batch is {batch}, which cannot be cut evenly into {n_parts} portions: take {nearest}, or "
                "another compute.accumulate"
            )
        raise ValueError(
            f"windows.batch is {batch} for all ranks together, which {n_ranks} ranks cannot share "
            f"evenly{portions}: take {nearest}, or another number of ranks"
        )


@dataclass(frozen=True)
class Estimate(Train):
    """The settings of a training; the section `train` of a file applies here too."""

    section: ClassVar[str] = "train"
    probe_steps: int = 50  # steps that are trained and timed; the first five do not count
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
    """Greedy: the best first, then each that does not raise the validation loss; uniform: all."""
    snapshots: bool = False  # take the snapshots of each run instead of its best parameters

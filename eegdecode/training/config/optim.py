"""How parameters move: the optimizer, its rate over time, averages of the parameters, and with what numbers."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Cosine:
    """Down to 0 as half a cosine."""

    name: Literal["cosine"] = "cosine"
    warmup_steps = 20
    """Steps of rising before, where nothing else is said."""


@dataclass(frozen=True)
class WarmRestarts:
    """Half cosines, one after the other; each ends at a hundredth of the rate and starts again at the top (SGDR)."""

    name: Literal["restarts"] = "restarts"
    first_steps: int = 50  # of the first cosine
    factor: int = 2  # each is so many times as long as the one before
    snapshots: bool = False  # keep the parameters at each end, for an ensemble
    warmup_steps = 0

    def __post_init__(self) -> None:
        if self.first_steps < 1 or self.factor < 1:
            raise ValueError(f"first_steps and factor must be at least 1, got {self.first_steps} and {self.factor}")


@dataclass(frozen=True)
class OneCycle:
    """Up from a part of the rate as half a cosine, and down to next to nothing as another (Smith 2018)."""

    name: Literal["onecycle"] = "onecycle"
    rise: float = 0.3  # of the steps
    start_divisor: float = 25.0  # the first rate is the highest by this
    end_divisor: float = 1e4  # and the last is the first by this
    warmup_steps = 0

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1 or min(self.start_divisor, self.end_divisor) < 1:
            raise ValueError(
                "rise must lie between 0 and 1 and the divisors be at least 1, "
                f"got {self.rise}, {self.start_divisor} and {self.end_divisor}"
            )


@dataclass(frozen=True)
class Constant:
    """The same to the end."""

    name: Literal["constant"] = "constant"
    warmup_steps = 0


Schedule = Cosine | WarmRestarts | OneCycle | Constant


@dataclass(frozen=True)
class Sam:
    """Sharpness-aware steps: the gradient is taken where the loss is worst nearby (Foret 2021). Each rank looks around
    with its own part of the batch, as in the paper: another number of ranks is another course. Portions of a rank's
    batch look around together. Twice the time."""

    rho: float = 0.05  # how far it looks
    adaptive: bool = False  # in units of each parameter's own size (ASAM, Kwon 2021); rho is then about 0.5 to 2

    def __post_init__(self) -> None:
        if self.rho <= 0:
            raise ValueError(f"rho must be above 0, got {self.rho}")


@dataclass(frozen=True)
class Ema:
    """Judge and keep a running average of the parameters, which forgets: each step keeps `decay` of it."""

    name: Literal["ema"] = "ema"
    decay: float = 0.999  # less in the first steps: (1 + step) / (10 + step)

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")


@dataclass(frozen=True)
class Swa:
    """Judge and keep the plain mean of the parameters over the last part of the training (Izmailov 2018). So is what
    batch norms have seen a mean over its steps; in the paper they see the data anew, as those of a soup do."""

    name: Literal["swa"] = "swa"
    start: float = 0.75  # of the steps; before it, the parameters as they are

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise ValueError(f"start is a part of the steps, in [0, 1), got {self.start}")


@dataclass(frozen=True)
class FindRate:
    """Before the first step, try rates from low to high, and take the one where the loss falls most steeply.

    As Lightning does it: smoothed losses, stopped when four times the best is passed. Nothing of it stays in the model.
    """

    low: float = 1e-8
    high: float = 1.0
    steps: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high or self.steps < 20:
            raise ValueError(
                f"needs 0 < low < high and 20 steps at least, got {self.low}, {self.high} and {self.steps} steps"
            )


@dataclass(frozen=True)
class Halving:
    """Among the runs of one --name that learn the same, those that are behind end early (asynchronous successive
    halving, Li 2020).

    After `first_steps`, and each time `factor` times as many, a run goes on only if its best validation loss is among
    the best 1/factor of those that have come so far. Which runs end depends on who was there first.
    """

    first_steps: int = 100
    factor: int = 3

    def __post_init__(self) -> None:
        if self.first_steps < 1 or self.factor < 2:
            raise ValueError(
                f"first_steps must be at least 1 and factor at least 2, got {self.first_steps} and {self.factor}"
            )


@dataclass(frozen=True)
class Optim:
    """AdamW with decoupled decay, of weights but not of biases and norms; the rate follows a schedule."""

    lr: float = 3e-3  # at its highest
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    steps: int = 400
    warmup_steps: int | None = None  # steps of rising before the schedule; None: 20 before a cosine, else none
    schedule: Schedule = field(default_factory=Cosine)
    scale_lr: Literal["", "linear", "sqrt"] = ""  # with the batch, where lr was found with `lr_batch` windows a step
    lr_batch: int = 32
    layer_decay: float = (
        1.0  # each block of the model, from the last to the first, learns at so much of the next's rate
    )
    find_lr: FindRate | None = None
    clip_norm: float = 1.0  # longest gradient: recurrent nets throw one now and then that would undo a lot
    sam: Sam | None = None
    average: Ema | Swa | None = None
    halving: Halving | None = None
    patience: int = 0  # validations without a better one, after which training ends; 0: never
    validate_every: int = 50  # steps
    checkpoint_every: int | None = None  # steps; None: as often as pays. A run that is asked to stop saves as well
    keep_every: int = 0  # steps; checkpoints of its multiples are kept for good, of the others the last two; 0: none

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or self.clip_norm <= 0:
            raise ValueError(
                "lr and clip_norm must be above 0, weight_decay at least 0, "
                f"got {self.lr}, {self.clip_norm} and {self.weight_decay}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {self.betas}")
        if min(self.steps, self.validate_every, 1 if self.checkpoint_every is None else self.checkpoint_every) < 1:
            raise ValueError(
                "steps, validate_every and checkpoint_every must be at least 1, "
                f"got {self.steps}, {self.validate_every} and {self.checkpoint_every}"
            )
        if self.keep_every < 0 or self.patience < 0:
            raise ValueError(
                "keep_every must be a number of steps and patience one of validations, or 0 for none, "
                f"got {self.keep_every} and {self.patience}"
            )
        if self.halving is not None and self.halving.first_steps % self.validate_every:
            raise ValueError(
                f"halving.first_steps must be a multiple of validate_every ({self.validate_every}), as runs are "
                f"compared by their validation, got {self.halving.first_steps}"
            )
        if not 0 < self.layer_decay <= 1 or self.lr_batch < 1:
            raise ValueError(
                f"layer_decay must lie in (0, 1] and lr_batch be at least 1, got {self.layer_decay} and {self.lr_batch}"
            )
        if not 0 <= (self.warmup_steps or 0) < self.steps:
            raise ValueError(f"warmup_steps must be fewer than steps ({self.steps}), got {self.warmup_steps}")

    @property
    def rising(self) -> int:
        """Steps before the schedule begins; a short training has no room for 20."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return min(self.schedule.warmup_steps, self.steps // 2)


@dataclass(frozen=True)
class Compute:
    """With what numbers and in what portions it is computed. bf16 and fp16: weights stay in float32, and so do
    layers for which torch has no kernel in fewer bits there: on many CPUs the LSTM, which the log says."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: int = 1  # parts of a rank's batch, one after the other, where all of it does not fit into memory
    shard: bool = False  # parameters and optimizer over the ranks (FSDP), where one GPU cannot hold them
    compile: bool = False  # by torch.compile: shapes are static, so it happens once

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")

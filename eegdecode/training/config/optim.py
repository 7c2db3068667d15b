"""The optimizer, its learning-rate schedule, averages of the parameters, and the precision of computing."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from hpc.media import one_of


@dataclass(frozen=True)
class Cosine:
    """A half cosine down to 0."""

    name: Literal["cosine"] = "cosine"
    warmup_steps = 20
    """The number of warm-up steps, unless `optim.warmup_steps` is set."""


@dataclass(frozen=True)
class WarmRestarts:
    """Half cosines, one after the other; each falls to a hundredth of the peak rate, then restarts at it (SGDR)."""

    name: Literal["restarts"] = "restarts"
    first_steps: int = 50  # steps of the first cosine
    factor: int = 2  # ratio of the length of each cosine to that of the one before
    snapshots: bool = False  # keep the parameters at the end of each cosine, for an ensemble
    warmup_steps = 0

    def __post_init__(self) -> None:
        if self.first_steps < 1 or self.factor < 1:
            raise ValueError(f"first_steps and factor must be at least 1, got {self.first_steps} and {self.factor}")


@dataclass(frozen=True)
class OneCycle:
    """A half cosine up to the peak rate, and another down to nearly 0 (Smith 2018)."""

    name: Literal["onecycle"] = "onecycle"
    rise: float = 0.3  # fraction of the steps after which the rate is at its peak
    start_divisor: float = 25.0  # the first rate is the peak rate divided by this
    end_divisor: float = 1e4  # the last rate is the first rate divided by this
    warmup_steps = 0

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1 or min(self.start_divisor, self.end_divisor) < 1:
            raise ValueError(
                "rise must lie between 0 and 1 and the divisors be at least 1, "
                f"got {self.rise}, {self.start_divisor} and {self.end_divisor}"
            )


@dataclass(frozen=True)
class Constant:
    """The same learning rate to the end."""

    name: Literal["constant"] = "constant"
    warmup_steps = 0


Schedule = Cosine | WarmRestarts | OneCycle | Constant


@dataclass(frozen=True)
class Sam:
    """Sharpness-aware minimisation: the gradient is taken where the loss is worst nearby (Foret 2021). As in the paper,
    each rank perturbs by its own part of the batch, so the number of ranks changes the result. Portions of a rank's
    batch are perturbed together. A step takes twice the time."""

    rho: float = 0.05  # radius of the neighbourhood of the parameters, an L2 norm
    adaptive: bool = False  # in units of each parameter's own size (ASAM, Kwon 2021); rho is then about 0.5 to 2

    def __post_init__(self) -> None:
        if self.rho <= 0:
            raise ValueError(f"rho must be above 0, got {self.rho}")


@dataclass(frozen=True)
class Ema:
    """Validate and save an exponential moving average of the parameters: each step keeps `decay` of it."""

    name: Literal["ema"] = "ema"
    decay: float = 0.999  # share of the average that a step keeps; less in the first steps: (1 + step) / (10 + step)

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")


@dataclass(frozen=True)
class Swa:
    """Validate and save the plain mean of the parameters over the last part of the training (Izmailov 2018). The
    statistics of batch norms are averaged too; in the paper they are estimated again, as in a soup."""

    name: Literal["swa"] = "swa"
    start: float = 0.75  # fraction of the steps after which averaging begins; before it, the parameters as they are

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise ValueError(f"start is a part of the steps, in [0, 1), got {self.start}")


@dataclass(frozen=True)
class FindRate:
    """Before the first step, try learning rates from low to high, and use the one at which the loss falls most steeply.

    As in Lightning: losses are smoothed, and the test ends at four times the best loss. The model is restored after it.
    """

    low: float = 1e-8  # lowest learning rate, which is tried first
    high: float = 1.0  # highest learning rate, tried last if the loss does not blow up before
    steps: int = 100  # number of learning rates, a step each, evenly spaced on a log scale

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high or self.steps < 20:
            raise ValueError(
                f"needs 0 < low < high and 20 steps at least, got {self.low}, {self.high} and {self.steps} steps"
            )


@dataclass(frozen=True)
class Halving:
    """End runs early if they are behind others of the same --name and task (asynchronous successive halving, Li 2020).

    After `first_steps`, and at each `factor` times as many steps, a run goes on only if its best validation loss is
    among the best 1/factor of the runs that got there so far. So the outcome depends on the order of arrival.
    """

    first_steps: int = 100  # steps before the first comparison, a multiple of validate_every
    factor: int = 3  # the best 1/factor go on, and are compared again after factor times as many steps

    def __post_init__(self) -> None:
        if self.first_steps < 1 or self.factor < 2:
            raise ValueError(
                f"first_steps must be at least 1 and factor at least 2, got {self.first_steps} and {self.factor}"
            )


@dataclass(frozen=True)
class Optim:
    """AdamW with decoupled decay, of weights but not of biases and norms; the learning rate follows a schedule."""

    lr: float = 3e-3  # peak learning rate
    weight_decay: float = 0.01  # decoupled weight decay, which is multiplied by the learning rate
    betas: tuple[float, float] = (0.9, 0.999)  # decay of the running mean of the gradient, and of that of its square
    steps: int = 400  # training steps, one batch each; an epoch of N windows is N / windows.batch steps
    warmup_steps: int | None = None  # steps of linear warm-up; None: 20 before a cosine, otherwise none
    schedule: Schedule = field(default_factory=Cosine)  # how the learning rate changes after warm-up
    scale_lr: Literal["", "linear", "sqrt"] = ""
    """Scale lr, which was tuned with `lr_batch` windows, to the batch: in proportion, or by the root of the
    proportion."""
    lr_batch: int = 32  # batch with which lr was tuned, for scale_lr
    layer_decay: float = 1.0  # the learning rate of each block, as a factor of that of the block after it
    find_lr: FindRate | None = None  # find the peak rate by a range test before the first step, instead of lr
    clip_norm: float = 1.0  # largest norm of the gradient, as recurrent nets have outliers
    sam: Sam | None = None  # sharpness-aware minimisation, at twice the time a step
    average: Ema | Swa | None = None  # validate and save an average of the parameters over steps
    halving: Halving | None = None  # end runs early if they are behind others of the same --name
    choose_by: str = "loss"
    """The figure of the validation by which the best step is chosen: loss; accuracy, balanced_accuracy or auroc of
    classes; r or off_by of numbers; top1 or top5 of clip. Of steps that are alike in it, that with the lower loss."""
    patience: int = 0  # validations without a better one, by `choose_by`, after which training ends; 0: never
    validate_every: int = 50  # steps from one validation to the next
    checkpoint_every: int | None = None
    """Steps from one checkpoint to the next; None: as often as pays off. A run that is asked to stop saves too."""
    keep_every: int = 0
    """Checkpoints of steps that are multiples of this are kept for good, besides the last two; 0: none."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("choose_by",)

    def __post_init__(self) -> None:
        for name in ("lr", "clip_norm"):
            if not getattr(self, name) > 0:  # NaN is not either
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if math.isinf(self.lr):
            raise ValueError("lr must be finite, got inf")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
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
        """The number of warm-up steps; a short training has no room for 20."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return min(self.schedule.warmup_steps, self.steps // 2)


def is_lower_better(figure: str) -> bool:
    return figure == "off_by" or "loss" in figure or "error" in figure


@dataclass(frozen=True)
class Compute:
    """Precision, gradient accumulation, sharding and compilation. With bf16 and fp16, weights stay in float32, and so
    do layers without a kernel of that precision in torch: on many CPUs the LSTM, which the log reports."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # bf16 and fp16 by torch.autocast, fp16 with loss scaling
    accumulate: int = 1  # portions of a rank's batch, one after the other, if it does not fit into memory
    shard: bool = False  # shard parameters and optimizer over the ranks (FSDP), if one GPU cannot hold them
    compile: bool = False
    """Use torch.compile: shapes are static, so it compiles once; of a transformer each block, of others the whole."""
    tf32: Literal["auto", True, False] = "auto"
    """Whether NVIDIA's GPUs round the inputs of products in float32 to 10 bits (TF32), which is several times as fast.
    `auto`: those of convolutions and LSTMs, as torch has it; true: also those of matrices; false: none."""
    graph: Literal["auto", True, False] = "auto"
    """Record forward and backward pass in a CUDA graph after the first steps, and replay it: a small model then waits
    for no Python. It is compared with two steps without it first. Where it cannot be, the log says why, and training
    goes on without. `auto`: one rank on an NVIDIA GPU, with models and objectives of ours, and not with `exact`."""
    data_on_device: bool | Literal["auto"] = "auto"
    """Read training and validation data into the memory of the GPU and cut windows there, so that no step waits for
    them; batches are the same. `auto`: if they take less than 30 % of what is free, and never on a CPU."""
    exact: Literal["auto", True, False] = "auto"
    """The same bits over a stop, on GPUs and on other nodes too, and on any number of ranks whose product with
    `accumulate` is the same: gradients are added in a fixed order, and by GPUs with deterministic algorithms, which are
    slower. `auto`: the fixed order for models up to 50 MB, and a stop changes no bit on CPUs. The log says what cannot
    be promised."""

    shares: int | None = None
    """With `exact`, into how many shares a batch is divided, on however many ranks: each computes its own one after the
    other. It takes the place of `accumulate`, and parameters have the same bits on any number of ranks that divides it,
    also if that changes under way, as with --nodes 1-4."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("data_on_device", "exact", "graph", "shares", "tf32")

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")
        if self.exact is True and self.accumulate & (self.accumulate - 1):
            power = 1 << self.accumulate.bit_length()
            raise ValueError(
                f"with exact=true, accumulate must be a power of two, so that portions add as ranks do, got "
                f"{self.accumulate}: use {power // 2} or {power}"
            )

        if self.shares is not None and (self.exact is not True or self.accumulate != 1 or self.shares < 1):
            raise ValueError(
                "shares is a number of at least 1, for exact=true, and takes the place of accumulate, got "
                f"shares={self.shares}, exact={str(self.exact).lower()}, accumulate={self.accumulate}"
            )

    def on(self, n_ranks: int) -> "Compute":
        """Return these settings with the portions that each of so many ranks computes in place of `shares`."""
        if self.shares is None:
            return self
        n, rest = divmod(self.shares, n_ranks)
        if rest or n & (n - 1):
            fitting = [ranks for ranks in range(1, self.shares + 1) if self._fits(ranks)]
            raise ValueError(
                f"compute.shares={self.shares} is for {one_of(fitting, 'rank')}, each with 1, 2, 4, 8 … shares, but "
                f"there are {n_ranks}"
            )
        return replace(self, shares=None, accumulate=n)

    def _fits(self, n_ranks: int) -> bool:
        n, rest = divmod(self.shares or 1, n_ranks)
        return not rest and not n & (n - 1)

    def numbers(self, device: str = "") -> str:
        """What is computed in, in a phrase for the plan and the log. `device`: the type of the rank's; empty if it is
        not known yet."""
        phrases = [
            {"fp32": "float32", "bf16": "bf16, weights in float32", "fp16": "fp16, weights in float32"}[self.precision]
        ]
        phrases += ["compiled"] if self.compile else []
        on_gpus = [{"auto": "convolutions in TF32", True: "products in TF32", False: "no TF32"}[self.tf32]]
        on_gpus += {"auto": ["a CUDA graph where it can be"], True: ["a CUDA graph"], False: []}[self.graph]
        on_gpus += ["deterministic algorithms"] if self.exact is True else []
        if device != "cpu":
            phrases += on_gpus if device else [f"on NVIDIA's GPUs {', '.join(on_gpus)}"]
        return f"computes in {', '.join(phrases)}"

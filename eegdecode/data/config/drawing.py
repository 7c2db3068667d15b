"""What trains, chooses and tests, and what one step of training sees."""

from dataclasses import dataclass
from typing import ClassVar, Literal


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
    deal
        How units go into folds: shuffled by the seed, as many in each; balanced, so that folds have as many trials
        (scikit-learn's GroupKFold); stratified, so that folds have as many trials of each value of `stratify` too
        (StratifiedGroupKFold).
    stratify
        A label of the trials, or stimulus.
    val_units, test_units
        Instead of drawing: the names of what `by` names for these parts; the others train.
    val_end
        Instead of what is dealt for it, so much of each training trial chooses, its end. For few and long trials.
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
    deal: Literal["shuffled", "balanced", "stratified"] = "shuffled"
    stratify: str = "stimulus"
    val_units: tuple[str, ...] = ()
    test_units: tuple[str, ...] = ()
    val_end: float = 0.0
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
        if self.deal != "shuffled" and (self.folds is None or self.within):
            raise ValueError(
                f"deal {self.deal} is for folds over everybody: set folds, and leave within empty, got folds "
                f"{self.folds} within {self.within or 'nothing'}"
            )
        if not 0 <= self.val_end < 1 or (self.val_end and self.val_units):
            raise ValueError(
                "val_end is a share of the training trials, from 0 to below 1, and needs no val_units, "
                f"got {self.val_end} and {self.val_units}"
            )
        needs_val = bool(self.test_units) and not self.val_end
        if bool(self.val_units) != needs_val or set(self.val_units) & set(self.test_units):
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


@dataclass(frozen=True)
class _Drawn:
    """What is asked of all windows."""

    batch: int = 32  # windows a step, of all ranks together: the same numbers come out on 1, 2 or 4 ranks
    subset: float = 1.0  # of the training trials; a smaller subset is contained in a larger one of the same seed
    balance: str = ""  # subject, stimulus, or a label of the trials: each of its values comes equally often
    patch: int = 1  # samples; a window is a multiple of it
    wrap: bool = False  # repeat a window's start at its end until it is that, instead of refusing
    baseline_s: float = 0.0  # so much of a window's start has mean 0 in each channel, as before an onset; 0: as it is

    def __post_init__(self) -> None:
        if self.batch < 1 or self.patch < 1:
            raise ValueError(f"windows need a batch and a patch of 1 at least, got {self.batch} and {self.patch}")
        if not 0 < self.subset <= 1:
            raise ValueError(f"subset is a part of the training trials, above 0 and up to 1, got {self.subset}")
        if self.baseline_s < 0:
            raise ValueError(f"baseline_s must be above 0 s, or 0 for none, got {self.baseline_s}")

    def _need_length(self, length_s: float) -> None:
        if length_s <= 0:
            raise ValueError(f"windows need a length above 0 s, got {length_s}")
        if self.baseline_s > length_s:
            raise ValueError(f"baseline_s is a part of a window, which lasts {length_s:g} s, got {self.baseline_s:g} s")


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
class EpochWindows(_Drawn):
    """Epochs as MNE cuts them: one window a trial, from tmin_s to tmax_s after its start."""

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("locked",)
    name: Literal["epochs"] = "epochs"
    tmin_s: float = 0.0  # below 0: before the trial
    tmax_s: float = 1.0
    overlap: bool = False  # may reach into other trials, as with pictures 0.1 s apart; but not into another part's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tmin_s >= self.tmax_s:
            raise ValueError(f"tmin_s must come before tmax_s, got {self.tmin_s} and {self.tmax_s} s")
        self._need_length(self.tmax_s - self.tmin_s)


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


Windows = RandomWindows | StratifiedWindows | GridWindows | EpochWindows | BucketedWindows

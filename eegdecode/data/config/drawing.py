"""The configs of the training, validation and test sets, and of the windows that a training step sees."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Split:
    """Which trials are in the training set, which in the validation set (val) and which in the test set.

    Parameters
    ----------
    by
        The unit that is never divided: all trials of a stimulus, of a subject, of a session, of a run (one recording),
        of a block of time (`block_s`), or single trials. By label: a column of the events names the set.
    within
        Split each subject (session, run) separately, so that each is in all three sets; empty: all together.
    train
        Fraction of the units that `by` names in the training set.
    val
        Fraction of the units that `by` names in the validation set, which gets one at least.
    test
        Fraction of the units that `by` names in the test set, which gets one at least.
    folds
        Cross-validation instead of fractions: the number of folds, 3 at least. 0: as many as there are units, leave
        one out.
    fold
        With folds: the one that is the test set, counted from 0; the next one is the validation set.
    deal
        How units are assigned to folds: shuffled by the seed, with equally many units in each; balanced, with equally
        many trials (scikit-learn's GroupKFold); stratified, with equally many trials of each value of `stratify` too
        (StratifiedGroupKFold).
    stratify
        For deal=stratified: a label of the trials, or `stimulus`.
    only
        Names of the subjects whose trials are used, or of their sessions, as `sub-01 session 1`; where empty, all. For
        a network of each.
    val_units
        Names of the units in the validation set, or patterns of them, instead of a random split: give it together with
        test_units. All others are in the training set.
    test_units
        Names of the units in the test set, or patterns, as `*session 1test`, instead of a random split: give it
        together with val_units, val_by or val_end.
    val_by
        With test_units alone: the validation set is drawn from the other trials, the fraction `val` of them, by this
        unit.
    val_end
        Use the end of each training trial, this fraction of it, as the validation set instead. For few and long trials.
    block_s
        By block: the length of a block of time in seconds.
    gap_s
        Leave out training trials within gap_s seconds of a validation or test trial, and validation trials within
        gap_s seconds of a test trial; 0: none.
    label
        By label: the column of the events, whose values are train, val or test.
    shared
        The units that two sets may have in common. The same stimulus or subject in two sets is refused unless listed.
    seed
        Seed of the random assignment to sets, independent of the seed of the training.
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
    only: tuple[str, ...] = ()
    val_units: tuple[str, ...] = ()
    test_units: tuple[str, ...] = ()
    val_by: Literal["", "trial", "run", "session", "subject", "stimulus"] = ""
    val_end: float = 0.0
    block_s: float = 60.0
    gap_s: float = 0.0
    label: str = "split"
    shared: tuple[Literal["subject", "stimulus"], ...] = ("subject",)
    seed: int = 0

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("only", "val_by")

    def __post_init__(self) -> None:
        if self.val_by and (not self.test_units or self.val_units or self.val_end or self.within):
            raise ValueError(
                "val_by draws the validation set from what test_units leaves, so it needs test_units, and neither "
                f"val_units nor val_end nor within, got test_units {self.test_units}"
            )
        if self.folds is not None and (self.folds < 0 or 0 < self.folds < 3):
            raise ValueError(f"folds must be 3 at least, or 0 to leave one out each time, got {self.folds}")
        if self.fold < 0 or (self.fold and self.folds is None):
            raise ValueError(f"fold counts from 0 and needs folds, got fold {self.fold} with folds {self.folds}")
        if self.deal != "shuffled" and (self.folds is None or self.within):
            raise ValueError(
                f"deal {self.deal} needs folds over all recordings: set folds and leave within empty, got folds "
                f"{self.folds} within {self.within or 'nothing'}"
            )
        if not 0 <= self.val_end < 1 or (self.val_end and self.val_units):
            raise ValueError(
                "val_end is a share of the training trials, from 0 to below 1, and needs no val_units, "
                f"got {self.val_end} and {self.val_units}"
            )
        needs_val = bool(self.test_units) and not self.val_end and not self.val_by
        if bool(self.val_units) != needs_val or set(self.val_units) & set(self.test_units):
            raise ValueError(
                "val_units and test_units name the validation and the test set: give both, with no unit in both, "
                f"got {self.val_units} and {self.test_units}"
            )
        if self.block_s <= 0 or self.gap_s < 0:
            raise ValueError(f"block_s must be above 0 s and gap_s 0 s or more, got {self.block_s} and {self.gap_s}")
        if min(self.train, self.val, self.test) <= 0 or abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(
                f"train, val and test must be above 0 and sum to 1, got {self.train}, {self.val}, {self.test}"
            )


@dataclass(frozen=True)
class _Drawn:
    """The settings that all kinds of windows share."""

    batch: int = 32  # windows a step, over all ranks: results are the same on 1, 2 or 4 ranks
    subset: float = 1.0  # fraction of the training trials; with the same seed, a larger subset contains a smaller one
    balance: str = ""  # subject, stimulus, or a label of the trials: each of its values is drawn equally often
    patch: int = 1  # samples in a patch; the length of a window is a multiple of it
    wrap: bool = False  # repeat a window's start at its end to fill the last patch, instead of refusing the length
    baseline_s: float = 0.0  # baseline correction: subtract the mean of the first baseline_s seconds; 0: none

    def __post_init__(self) -> None:
        if self.batch < 1 or self.patch < 1:
            raise ValueError(f"windows need a batch and a patch of 1 at least, got {self.batch} and {self.patch}")
        if not 0 < self.subset <= 1:
            raise ValueError(f"subset is a fraction of the training trials, above 0 and up to 1, got {self.subset}")
        if self.baseline_s < 0:
            raise ValueError(f"baseline_s must be above 0 s, or 0 for none, got {self.baseline_s}")

    def _need_length(self, length_s: float) -> None:
        if length_s <= 0:
            raise ValueError(f"windows need a length above 0 s, got {length_s}")
        if self.baseline_s > length_s:
            raise ValueError(
                f"baseline_s cannot be longer than a window, which lasts {length_s:g} s, got {self.baseline_s:g} s"
            )


@dataclass(frozen=True)
class RandomWindows(_Drawn):
    """One window of each trial an epoch, at a random start. The middle of a trial is seen more often than its ends."""

    name: Literal["random"] = "random"
    length_s: float = 4.0  # length of a window in seconds; no trial may be shorter
    per: Literal["trial", "second"] = "trial"  # trial: each trial once an epoch; second: in proportion to its length

    def __post_init__(self) -> None:
        super().__post_init__()
        self._need_length(self.length_s)
        if self.per == "second" and self.balance:
            raise ValueError(
                f"trials cannot be drawn in proportion to their length and balance {self.balance}: choose one"
            )


@dataclass(frozen=True)
class StratifiedWindows(_Drawn):
    """One window of each trial an epoch. A trial has as many strata as windows fit into it; they take turns, and the
    start is random within a stratum."""

    name: Literal["stratified"] = "stratified"
    length_s: float = 4.0  # length of a window in seconds; no trial may be shorter

    def __post_init__(self) -> None:
        super().__post_init__()
        self._need_length(self.length_s)


@dataclass(frozen=True)
class GridWindows(_Drawn):
    """Each trial is cut into windows `stride_s` apart, each once an epoch. Every sample is seen equally often."""

    name: Literal["grid"] = "grid"
    length_s: float = 4.0  # length of a window in seconds; no trial may be shorter
    stride_s: float | None = None  # seconds from window to window; below length_s they overlap; None: end to end

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
    tmin_s: float = 0.0  # start of a window, in seconds from the start of its trial; below 0: before it
    tmax_s: float = 1.0  # end of a window, in seconds from the start of its trial
    overlap: bool = False
    """Windows may reach into other trials, as with images 0.1 s apart; but not into those of another set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tmin_s >= self.tmax_s:
            raise ValueError(f"tmin_s must come before tmax_s, got {self.tmin_s} and {self.tmax_s} s")
        self._need_length(self.tmax_s - self.tmin_s)


@dataclass(frozen=True)
class BucketedWindows(_Drawn):
    """Whole trials, each once an epoch; a batch has trials of similar length, wrapped to the length of the longest."""

    name: Literal["buckets"] = "buckets"
    padding: float = 0.05  # largest fraction of a batch that is padding
    wrap: bool = True  # repeat a trial's start at its end up to the length of the longest in its batch; always true

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.padding < 1:
            raise ValueError(f"padding is a fraction of a batch, above 0 and below 1, got {self.padding}")
        if not self.wrap or self.balance:
            raise ValueError(
                "buckets wrap trials to one length and take each once: leave wrap and balance at their defaults"
            )


Windows = RandomWindows | StratifiedWindows | GridWindows | EpochWindows | BucketedWindows

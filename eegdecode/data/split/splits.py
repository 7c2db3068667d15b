"""Split the trials into training, validation and test sets."""

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from eegdecode.data.config import EpochWindows, Split, Windows
from eegdecode.data.split.segments import Segment as Segment
from eegdecode.data.split.segments import epoch, extent
from eegdecode.data.split.sets import Splits as Splits
from eegdecode.data.split.sets import units
from eegdecode.data.store.dataset import Stored
from hpc.errors import first_of

Stretch = Callable[[Segment], tuple[float, float]]


def split(cfg: Split, recordings: Sequence[Stored], windows: Windows | None = None) -> Splits:
    """Assign all trials to sets; the same in every process, as it depends on the seed and the names alone.

    Parameters
    ----------
    windows
        How windows are cut. If they may overlap, training windows that reach into validation or test windows are left
        out, and so are validation windows that reach into test windows.
    """
    used = _used(cfg.only, recordings)
    segments = [
        Segment(index, trial) for index, stored in enumerate(recordings) if index in used for trial in stored.trials
    ]
    unit_of, group_of = (_unit_namer(what, cfg, recordings, segments) for what in (cfg.by, cfg.within))
    in_groups: dict[str, set[str]] = {}
    for segment in segments:
        in_groups.setdefault(group_of(segment), set()).add(unit_of(segment))
    if cfg.deal == "shuffled":
        set_of = {
            (group, unit): name
            for group in sorted(in_groups)
            for unit, name in _assign(cfg, sorted(in_groups[group]), f" of {group}" if group else "").items()
        }
    else:
        set_of = {("", unit): name for unit, name in _assign_to_folds(cfg, segments, unit_of).items()}
    in_set: dict[str, list[Segment]] = {"train": [], "val": [], "test": []}
    for segment in segments:
        in_set[set_of[group_of(segment), unit_of(segment)]].append(segment)
    if cfg.val_by:
        by_unit = _unit_namer(cfg.val_by, cfg, recordings, segments)
        in_set["train"], in_set["val"] = _drawn_for_val(cfg, in_set["train"], by_unit)
    n_bad = 0
    if isinstance(windows, EpochWindows):  # windows of other kinds stay within their trials, which have no bad span
        in_set = {name: [s for s in part if not is_bad(windows, s, recordings)] for name, part in in_set.items()}
        n_bad = len(segments) - sum(map(len, in_set.values()))
        if n_bad:
            why = "windows reach into bad spans; shorten them, or split the trials in another way"
            _refuse_empty(in_set["train"], in_set["val"], in_set["test"], f"{n_bad} {why}")
    train, val, test = in_set.values()
    if cfg.val_end:
        if isinstance(windows, EpochWindows):
            raise ValueError("epochs look at a moment of a trial, which has no end to validate with: set val_end=0")
        whole, until = [*train, *val], 1 - cfg.val_end
        train, val = ([replace(s, within=share) for s in whole] for share in ((0.0, until), (until, 1.0)))
    if cfg.gap_s:
        train, val = _clear(train, val, test, lambda segment: segment.seconds, cfg.gap_s)
        _refuse_empty(train, val, test, "split the trials in another way, or shorten split.gap_s")
    extent_of = {s: extent(windows, s, recordings[s.recording]) for s in chain(train, val, test)} if windows else {}
    before = len(train), len(val)
    if isinstance(windows, EpochWindows) and windows.overlap:
        train, val = _clear(train, val, test, extent_of.__getitem__)
        why = "all its windows reach into those of another set"
        _refuse_empty(train, val, test, f"{why}; shorten them, or split by run, session or subject")
    _refuse_empty(train, val, test, "split the trials in another way")
    return Splits(
        train=tuple(train),
        val=tuple(val),
        test=tuple(test),
        subjects=tuple(stored.subject for stored in recordings),
        shared=cfg.shared,
        names=tuple(stored.name for stored in recordings),
        checksums=tuple(stored.checksum for stored in recordings),
        contents=tuple(str(stored.made.get("content", "")) for stored in recordings),
        by=cfg.by,
        extents={segment: extent_of[segment] for segment in chain(train, val, test)} if windows else {},
        left_out=(before[0] - len(train), before[1] - len(val)),
        n_bad=n_bad,
    )


def is_bad(windows: EpochWindows, segment: Segment, recordings: Sequence[Stored]) -> bool:
    """Whether the window around a trial reads of a bad span, or the trial is a rest behind one, which begins with no
    event."""
    stored = recordings[segment.recording]
    if not stored.bad_spans:
        return False
    first, n_times = epoch(windows, segment, stored)
    start, stop = first / stored.sfreq, (first + n_times) / stored.sfreq
    return any(
        (begin < stop and end > start) or start <= begin < stop or abs(end - segment.trial.start) < 1e-6
        for begin, end in stored.bad_spans
    )


def _unit_namer(
    what: str, cfg: Split, recordings: Sequence[Stored], segments: Sequence[Segment]
) -> Callable[[Segment], str]:
    """Return the function that names the unit of a segment, by `what`."""
    unit_of = units(segments) if what == "stimulus" else {}

    def label(segment: Segment) -> str:
        value = segment.trial.labels.get(cfg.label)
        if value is None:
            known = ", ".join(segment.trial.labels) or "none"
            raise ValueError(
                f"split.label is {cfg.label!r}, but a trial of {recordings[segment.recording].name} has no such label; "
                f"it has: {known}"
            )
        return str(value)

    def subject(segment: Segment) -> str:
        return recordings[segment.recording].subject

    def session(segment: Segment) -> str:
        return _session(recordings[segment.recording])

    count = Counter(stored.name for stored in recordings)  # in several stores, two may have one name

    def run(segment: Segment) -> str:
        name = recordings[segment.recording].name
        return name if count[name] == 1 else f"{name} ({segment.recording})"

    kinds: dict[str, Callable[[Segment], str]] = {
        "": lambda segment: "",
        "stimulus": lambda segment: unit_of[segment.trial.stimulus],
        "subject": subject,
        "session": session,
        "run": run,
        "trial": lambda segment: f"{run(segment)} at {segment.trial.start:.3f} s",
        "block": lambda segment: f"{run(segment)} from {segment.trial.start // cfg.block_s * cfg.block_s:09.1f} s",
        "label": label,
    }
    return kinds[what]


def _assign(cfg: Split, units: Sequence[str], of_group: str) -> dict[str, str]:
    """Return the set of each unit."""
    if cfg.by == "label":
        unknown_sets = sorted(set(units) - {"train", "val", "test"})
        if unknown_sets:
            raise ValueError(
                f"split.label {cfg.label} must be train, val or test, but got {', '.join(unknown_sets[:5])}"
            )
        return {unit: unit for unit in units}
    patterns = {name: part for part, names in (("val", cfg.val_units), ("test", cfg.test_units)) for name in names}
    if patterns:
        matches = {name: fnmatch.filter(units, name) if name not in units else [name] for name in patterns}
        chosen = {unit: patterns[name] for name, of_name in matches.items() for unit in of_name}
        if unknown := sorted(name for name, of_name in matches.items() if not of_name):
            raise ValueError(
                f"there is no {cfg.by} {', '.join(unknown[:5])}{of_group}; there are {', '.join(units[:10])}"
                f"{' …' if len(units) > 10 else ''}"
            )
        return {unit: chosen.get(unit, "train") for unit in units}
    drawn_from = np.random.SeedSequence([cfg.seed, _SPLIT, *of_group.encode()])  # each group has its own order
    order = np.random.Generator(np.random.Philox(drawn_from)).permutation(len(units))
    shuffled = [units[index] for index in order]
    if cfg.folds is not None:
        n_folds, set_of = _set_of_each_fold(cfg, len(units), of_group)
        return {unit: set_of[index % n_folds] for index, unit in enumerate(shuffled)}
    n_val, n_test = (max(1, round(fraction * len(units))) for fraction in (cfg.val, cfg.test))
    if len(units) < n_val + n_test + 1:
        raise ValueError(
            f"a split by {cfg.by} needs 3 of them at least{of_group}, one a set, got {len(units)}: {list(units)}"
        )
    return {
        unit: "test" if index < n_test else "val" if index < n_test + n_val else "train"
        for index, unit in enumerate(shuffled)
    }


def _used(only: Sequence[str], recordings: Sequence[Stored]) -> set[int]:
    """Return the numbers of the recordings of these subjects or sessions; of all, if none is named."""
    names = [{stored.subject, _session(stored)} for stored in recordings]
    there = sorted(set().union(*names))
    if unknown := sorted(set(only) - set(there)):
        raise ValueError(f"split.only names {', '.join(unknown)}, but there is {first_of(there)}")
    return {index for index, own in enumerate(names) if not only or own & set(only)}


def _session(stored: Stored) -> str:
    return f"{stored.subject} session {stored.session or '(only)'}"


def _drawn_for_val(
    cfg: Split, rest: Sequence[Segment], unit_of: Callable[[Segment], str]
) -> tuple[list[Segment], list[Segment]]:
    """Return the training and the validation set, drawn by units from what the test set leaves."""
    units = sorted({unit_of(segment) for segment in rest})
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([cfg.seed, _VAL])))
    shuffled = [units[index] for index in random.permutation(len(units))]
    n_val = max(1, round(cfg.val * len(units)))
    if len(units) < n_val + 1:
        raise ValueError(
            f"val_by={cfg.val_by} needs 2 of them at least that are not in the test set, one for training and one for "
            f"validation, got {len(units)}: {units}"
        )
    drawn = set(shuffled[:n_val])
    return [s for s in rest if unit_of(s) not in drawn], [s for s in rest if unit_of(s) in drawn]


def _assign_to_folds(cfg: Split, segments: Sequence[Segment], unit_of: Callable[[Segment], str]) -> dict[str, str]:
    """Return the set of each unit, by scikit-learn's folds."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    names = [unit_of(segment) for segment in segments]
    n_folds, set_of = _set_of_each_fold(cfg, len(set(names)), "")
    labels = [{"stimulus": s.trial.stimulus, **s.trial.labels}.get(cfg.stratify) for s in segments]
    if cfg.deal == "stratified" and None in labels:
        raise ValueError(
            f"split.stratify is {cfg.stratify!r}, but some trials have no such label: name one that all have"
        )
    folds = (
        GroupKFold(n_folds)
        if cfg.deal == "balanced"
        else StratifiedGroupKFold(n_folds, shuffle=True, random_state=cfg.seed)
    )
    splits = folds.split(names, list(map(str, labels)), names)
    return {names[index]: set_of[fold] for fold, (_, test) in enumerate(splits) for index in test}


def _set_of_each_fold(cfg: Split, n_units: int, of_group: str) -> tuple[int, list[str]]:
    """Return the number of folds, and the set of each fold."""
    n_folds = cfg.folds or n_units
    if not 3 <= n_folds <= n_units:
        raise ValueError(
            f"{n_units} units{of_group} ({cfg.by}) cannot be split into {n_folds} folds: 3 at least, one to test, one "
            "to validate and the others to train, and no more than there are units"
        )
    if cfg.fold >= n_folds:
        raise ValueError(f"split.fold counts from 0 to {n_folds - 1}, but got {cfg.fold}")
    set_of = {cfg.fold: "test", (cfg.fold + 1) % n_folds: "val"}
    return n_folds, [set_of.get(fold, "train") for fold in range(n_folds)]


_SPLIT, _VAL = 1, 13  # separate these draws from others of the same seed


def _refuse_empty(train: Sequence[Segment], val: Sequence[Segment], test: Sequence[Segment], how: str) -> None:
    for name, part in (("train", train), ("val", val), ("test", test)):
        if not part:
            raise ValueError(f"nothing is left for {name}: {how}")


def _clear(
    train: Sequence[Segment], val: Sequence[Segment], test: Sequence[Segment], stretch: Stretch, gap: float = 0.0
) -> tuple[list[Segment], list[Segment]]:
    """Return the training trials clear of validation and test, and the validation trials clear of test."""
    val = _clear_of(val, test, stretch, gap)
    return _clear_of(train, chain(val, test), stretch, gap), val


def _clear_of(part: Sequence[Segment], others: Iterable[Segment], stretch: Stretch, gap: float) -> list[Segment]:
    """Return the segments that are further than `gap` from all others: neighbours in time are alike."""
    occupied: dict[int, list[tuple[float, float]]] = {}
    for other in others:
        first, end = stretch(other)
        occupied.setdefault(other.recording, []).append((first - gap, end + gap))
    edges = {}
    for recording, stretches in occupied.items():
        first, end = np.array(sorted(stretches)).T
        edges[recording] = first, np.maximum.accumulate(end)

    def clear(segment: Segment) -> bool:
        if segment.recording not in edges:
            return True
        (start, stop), (first, end) = stretch(segment), edges[segment.recording]
        n_before = int(np.searchsorted(first, stop))  # number that begin before this one ends
        return n_before == 0 or bool(end[n_before - 1] <= start)

    return [segment for segment in part if clear(segment)]

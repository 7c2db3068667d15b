"""Which trials train, choose and test. What would leak from one part into another is refused by name."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eegdecode.data import Split
from eegdecode.data.stored import Stored
from eegdecode.signals import Trial


@dataclass(frozen=True)
class Segment:
    """One trial of one recording; `recording` counts in the store's order."""

    recording: int
    trial: Trial


def split(cfg: Split, recordings: Sequence[Stored]) -> "Parts":
    """Share out all trials; the same in every process, as it depends on the seed and the names alone."""
    segments = [Segment(index, trial) for index, stored in enumerate(recordings) for trial in stored.trials]
    unit_of, group_of = _names(cfg.by, cfg, recordings), _names(cfg.within, cfg, recordings)
    units: dict[str, set[str]] = {}
    for segment in segments:
        units.setdefault(group_of(segment), set()).add(unit_of(segment))
    part_of = {
        (group, unit): part
        for group in sorted(units)
        for unit, part in _deal(cfg, sorted(units[group]), f" of {group}" if group else "").items()
    }
    dealt: dict[str, list[Segment]] = {"train": [], "val": [], "test": []}
    for segment in segments:
        dealt[part_of[group_of(segment), unit_of(segment)]].append(segment)
    train = _clear_of(dealt["train"], [*dealt["val"], *dealt["test"]], cfg.gap_s)
    val = _clear_of(dealt["val"], dealt["test"], cfg.gap_s)
    for name, part in (("train", train), ("val", val), ("test", dealt["test"])):
        if not part:
            raise ValueError(f"nothing is left for {name}: deal the trials otherwise, or have a shorter split.gap_s")
    return Parts(
        train=tuple(train),
        val=tuple(val),
        test=tuple(dealt["test"]),
        subjects=tuple(stored.subject for stored in recordings),
        shared=cfg.shared,
        names=tuple(stored.name for stored in recordings),
        checksums=tuple(stored.checksum for stored in recordings),
        by=cfg.by,
    )


def _names(what: str, cfg: Split, recordings: Sequence[Stored]) -> Callable[[Segment], str]:
    """What a split by that tells apart."""

    def label(segment: Segment) -> str:
        found = segment.trial.labels.get(cfg.label)
        if found is None:
            known = ", ".join(segment.trial.labels) or "none"
            raise ValueError(
                f"split.label is {cfg.label!r}, but a trial of {recordings[segment.recording].name} has no such label; "
                f"it has: {known}"
            )
        return str(found)

    def subject(segment: Segment) -> str:
        return recordings[segment.recording].subject

    def session(segment: Segment) -> str:
        return f"{subject(segment)} session {recordings[segment.recording].session or '(only)'}"

    count = Counter(stored.name for stored in recordings)  # of several stores, two may be called alike

    def run(segment: Segment) -> str:
        name = recordings[segment.recording].name
        return name if count[name] == 1 else f"{name} ({segment.recording})"

    kinds: dict[str, Callable[[Segment], str]] = {
        "": lambda segment: "",
        "stimulus": lambda segment: segment.trial.stimulus,
        "subject": subject,
        "session": session,
        "run": run,
        "trial": lambda segment: f"{run(segment)} at {segment.trial.start:.3f} s",
        "block": lambda segment: f"{run(segment)} from {segment.trial.start // cfg.block_s * cfg.block_s:09.1f} s",
        "label": label,
    }
    return kinds[what]


def _deal(cfg: Split, units: Sequence[str], where: str) -> dict[str, str]:
    """The part of each unit."""
    if cfg.by == "label":
        strange = sorted(set(units) - {"train", "val", "test"})
        if strange:
            raise ValueError(f"split.label {cfg.label} must say train, val or test, but got {', '.join(strange[:5])}")
        return {unit: unit for unit in units}
    chosen = {unit: part for part, names in (("val", cfg.val_units), ("test", cfg.test_units)) for unit in names}
    if chosen:
        if unknown := sorted(set(chosen) - set(units)):
            raise ValueError(
                f"there is no {cfg.by} {', '.join(unknown[:5])}{where}; there are {', '.join(units[:10])}"
                f"{' …' if len(units) > 10 else ''}"
            )
        return {unit: chosen.get(unit, "train") for unit in units}
    drawn_from = np.random.SeedSequence([cfg.seed, _SPLIT, *where.encode()])  # each group has an order of its own
    order = np.random.Generator(np.random.Philox(drawn_from)).permutation(len(units))
    dealt = [units[index] for index in order]
    if cfg.folds is not None:
        n_folds = cfg.folds or len(units)
        if not 3 <= n_folds <= len(units):
            raise ValueError(
                f"{len(units)} units{where} ({cfg.by}) cannot be dealt into {n_folds} folds: 3 at least, as one tests, "
                "one chooses and the others train, and no more than there are units"
            )
        if cfg.fold >= n_folds:
            raise ValueError(f"split.fold counts from 0 to {n_folds - 1}, but got {cfg.fold}")
        turn = {cfg.fold: "test", (cfg.fold + 1) % n_folds: "val"}
        return {unit: turn.get(index % n_folds, "train") for index, unit in enumerate(dealt)}
    n_val, n_test = (max(1, round(fraction * len(units))) for fraction in (cfg.val, cfg.test))
    if len(units) < n_val + n_test + 1:
        raise ValueError(
            f"a split by {cfg.by} needs 3 of them at least{where}, one for each part, got {len(units)}: {list(units)}"
        )
    return {
        unit: "test" if index < n_test else "val" if index < n_test + n_val else "train"
        for index, unit in enumerate(dealt)
    }


_SPLIT = 1  # tells this draw from others of the same seed


def _clear_of(part: Sequence[Segment], others: Sequence[Segment], gap_s: float) -> list[Segment]:
    """Those that are further than that from all of the others: what comes shortly before or after is alike."""
    if not gap_s:
        return list(part)
    edges: dict[int, list[tuple[float, float]]] = {}
    for other in others:
        start = other.trial.start
        edges.setdefault(other.recording, []).append((start - gap_s, start + other.trial.duration + gap_s))

    def clear(segment: Segment) -> bool:
        start, end = segment.trial.start, segment.trial.start + segment.trial.duration
        return all(end <= first or start >= last for first, last in edges.get(segment.recording, ()))

    return [segment for segment in part if clear(segment)]


@dataclass(frozen=True)
class Parts:
    """The three parts. Refuses what leaks when it is made.

    Parameters
    ----------
    train, val, test
        The trials of each part.
    subjects, names, checksums
        Of each recording that a segment counts: whose it is, what it is called, and of its samples.
    shared
        What the config lets stand in two parts: "subject", "stimulus".
    by
        What the parts were dealt by.
    """

    train: tuple[Segment, ...]
    val: tuple[Segment, ...]
    test: tuple[Segment, ...]
    subjects: tuple[str, ...]
    shared: tuple[str, ...]
    names: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()
    by: str = ""

    def __post_init__(self) -> None:
        for one, other in combinations(self._parts, 2):
            for what, names in self._common(one, other):
                if what not in self.shared:
                    raise ValueError(
                        f"the same {what} would stand in {one} and {other}: {', '.join(names)}. "
                        f'Split by {what}, or say that it is wanted: shared must hold "{what}"'
                    )
        self._refuse_overlap()
        self._refuse_copies()

    @property
    def _parts(self) -> dict[str, tuple[Segment, ...]]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def audit(self) -> list[str]:
        """What the split means, in sentences for the report."""
        train, val, test = len(self.train), len(self.val), len(self.test)
        said = [f"{train + val + test} trials: {train} train, {val} choose the best step, {test} test."]
        for what, several, of in (("stimulus", "stimuli", self._stimuli), ("subject", "subjects", self._subjects)):
            seen, tested = of(self.train) | of(self.val), of(self.test)
            for start, names, end in (
                ("Test has", sorted(tested - seen), "that neither training nor choosing saw: "),
                ("On both sides, as shared allows:", sorted(tested & seen), ""),
            ):
                if names:
                    count = f"{len(names)} {what if len(names) == 1 else several}"
                    said.append(f"{start} {count}{' ' + end if end else ', '}{', '.join(names)}.")
        runs = {segment.recording for segment in self.test} & {segment.recording for segment in self.train}
        if runs and self.by in ("trial", "block", "label"):
            said.append(
                f"WARNING: {len(runs)} recordings have trials on both sides: what drifts over a recording tells "
                "neighbours, so this overstates what is decoded. Split by run, session or subject to be sure."
            )
        said.append("No sample stands in two parts.")
        return said

    def _stimuli(self, part: Sequence[Segment]) -> set[str]:
        return {segment.trial.stimulus for segment in part}

    def _subjects(self, part: Sequence[Segment]) -> set[str]:
        return {self.subjects[segment.recording] for segment in part}

    def _common(self, one: str, other: str) -> Iterator[tuple[str, list[str]]]:
        for what, of in (("stimulus", self._stimuli), ("subject", self._subjects)):
            names = sorted(of(self._parts[one]) & of(self._parts[other]))
            if names:
                yield what, names

    def _refuse_overlap(self) -> None:
        """The same sample never stands in two parts, whatever is shared: also not by trials that overlap in time."""
        by_start = sorted(
            (segment.recording, segment.trial.start, segment.trial.duration, segment.trial.stimulus, name)
            for name, part in self._parts.items()
            for segment in part
        )
        reaching: dict[str, tuple[int, float, str]] = {}  # of each part: the trial that lasts longest so far
        for recording, start, duration, stimulus, name in by_start:
            for other, (index, until, before) in reaching.items():
                if other != name and index == recording and start < until - 1e-6:
                    raise ValueError(
                        f"trials overlap across parts, subject {self.subjects[recording]}: {before} ({other}) until "
                        f"{until:.2f} s, {stimulus} ({name}) from {start:.2f} s: correct the events"
                    )
            here = (recording, start + duration, stimulus)
            reaching[name] = max(reaching.get(name, here), here)

    def _refuse_copies(self) -> None:
        """Nor does a recording that is there twice, under two names."""
        where: dict[str, tuple[str, int]] = {}
        for part, segments in self._parts.items():
            for recording in sorted({segment.recording for segment in segments}):
                checksum = self.checksums[recording] if self.checksums else ""
                other, first = where.setdefault(checksum, (part, recording))
                if checksum and first != recording and other != part:
                    raise ValueError(
                        f"{self.names[first]} ({other}) and {self.names[recording]} ({part}) hold the very same "
                        "samples: leave one out, preprocess.exclude"
                    )

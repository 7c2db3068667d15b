"""Which trials train, choose and test. What would leak from one part into another is refused by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eegdecode.data import Split
from eegdecode.data.store import Stored
from eegdecode.signals import Trial


@dataclass(frozen=True)
class Segment:
    """One trial of one recording; `recording` counts in the store's order."""

    recording: int
    trial: Trial


def split(cfg: Split, recordings: Sequence[Stored]) -> "Parts":
    """Share out all trials; the same in every process, as it depends on the seed and the names alone."""
    segments = [Segment(index, trial) for index, stored in enumerate(recordings) for trial in stored.trials]
    subjects = tuple(stored.subject for stored in recordings)
    unit_of: Callable[[Segment], str] = {
        "stimulus": lambda segment: segment.trial.stimulus,
        "subject": lambda segment: subjects[segment.recording],
        "trial": lambda segment: f"{recordings[segment.recording].name} at {segment.trial.start:.3f} s",
    }[cfg.by]
    units = sorted({unit_of(segment) for segment in segments})
    n_val, n_test = (max(1, round(fraction * len(units))) for fraction in (cfg.val, cfg.test))
    if len(units) < n_val + n_test + 1:
        raise ValueError(f"a split by {cfg.by} needs 3 of them at least, one for each part, got {len(units)}: {units}")
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence([cfg.seed, _SPLIT]))).permutation(len(units))
    place = {units[unit]: rank for rank, unit in enumerate(order)}
    val_from, train_from = n_test, n_test + n_val
    return Parts(
        train=tuple(segment for segment in segments if place[unit_of(segment)] >= train_from),
        val=tuple(segment for segment in segments if val_from <= place[unit_of(segment)] < train_from),
        test=tuple(segment for segment in segments if place[unit_of(segment)] < val_from),
        subjects=subjects,
        shared=cfg.shared,
    )


_SPLIT = 1  # tells this draw from others of the same seed


@dataclass(frozen=True)
class Parts:
    """The three parts. Refuses what leaks when it is made.

    Parameters
    ----------
    train, val, test
        The trials of each part.
    subjects
        The subject of each recording that a segment counts.
    shared
        What the config lets stand in two parts: "subject", "stimulus".
    """

    train: tuple[Segment, ...]
    val: tuple[Segment, ...]
    test: tuple[Segment, ...]
    subjects: tuple[str, ...]
    shared: tuple[str, ...]

    def __post_init__(self) -> None:
        for one, other in combinations(("train", "val", "test"), 2):
            for what, names in self._common(one, other):
                if what not in self.shared:
                    raise ValueError(
                        f"the same {what} would stand in {one} and {other}: {', '.join(names)}. "
                        f'Split by {what}, or say that it is wanted: shared must hold "{what}"'
                    )
        self._refuse_overlap()

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
        said.append("No sample stands in two parts.")
        return said

    def _stimuli(self, part: Sequence[Segment]) -> set[str]:
        return {segment.trial.stimulus for segment in part}

    def _subjects(self, part: Sequence[Segment]) -> set[str]:
        return {self.subjects[segment.recording] for segment in part}

    def _common(self, one: str, other: str) -> Iterator[tuple[str, list[str]]]:
        for what, of in (("stimulus", self._stimuli), ("subject", self._subjects)):
            names = sorted(of(getattr(self, one)) & of(getattr(self, other)))
            if names:
                yield what, names

    def _refuse_overlap(self) -> None:
        """The same sample never stands in two parts, whatever is shared: also not by trials that overlap in time."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        by_start = sorted(
            (segment.recording, segment.trial.start, segment.trial.duration, segment.trial.stimulus, name)
            for name, part in parts.items()
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

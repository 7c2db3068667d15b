"""The training, validation and test sets. Leaks from one into another are refused, with the names of what leaks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from eegdecode.data.events import stimuli
from eegdecode.data.events.events import SPEED
from eegdecode.data.split.segments import Segment
from hpc.errors import first_of

MOST_NAMED = 10
"""The most stimuli or subjects that a sentence names."""


@dataclass(frozen=True)
class Splits:
    """The training, validation and test sets. Building it refuses leaks.

    Parameters
    ----------
    train, val, test
        The trials of each set.
    subjects, names, checksums, contents
        For each recording: its subject, its name, the checksum of its samples and the digest of its raw file.
    shared
        The units that two sets may have in common: "subject", "stimulus".
    by
        The unit of the split.
    extents
        The first sample and the end of what is read of each segment, windows included; empty if windows are unknown.
    left_out
        The number of training and validation trials left out because their windows reach into those of another set.
    n_bad
        The number of trials left out because their windows reach into bad spans.
    """

    train: tuple[Segment, ...]
    val: tuple[Segment, ...]
    test: tuple[Segment, ...]
    subjects: tuple[str, ...]
    shared: tuple[str, ...]
    names: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    by: str = ""
    extents: Mapping[Segment, tuple[int, int]] = field(default_factory=dict, repr=False, hash=False)
    left_out: tuple[int, int] = (0, 0)
    n_bad: int = 0

    def __post_init__(self) -> None:
        for one, other in combinations(self._sets, 2):
            if self._by_end and other == "val":
                continue  # by design they are of the same trials
            for what, names in self._common(one, other):
                if what not in self.shared:
                    raise ValueError(
                        f"the same {what} would be in {one} and {other}: {', '.join(names)}. "
                        f'Split by {what}; or allow it, with "{what}" in shared'
                    )
        self._refuse_overlap()
        self._refuse_copies(self.checksums, "hold exactly the same samples")
        self._refuse_copies(self.contents, "are made from copies of one file")

    @property
    def _sets(self) -> dict[str, tuple[Segment, ...]]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def audit(self) -> list[str]:
        """Return sentences for the report on what the split means."""
        train, val, test = len(self.train), len(self.val), len(self.test)
        sentences = [f"{train + val + test} trials: {train} for training, {val} for validation, {test} for testing."]
        if self._by_end:
            sentences = [
                f"{train + test} trials: {train} for training, whose ends are for validation, {test} for testing."
            ]
        for what, several, of in (("stimulus", "stimuli", self._stimuli), ("subject", "subjects", self._subjects)):
            trained, tested = of(self.train) | of(self.val), of(self.test)
            for start, names, end in (
                ("The test set has", sorted(tested - trained), "that neither training nor validation saw: "),
                ("Both in the test set and in the others, as shared allows:", sorted(tested & trained), ""),
            ):
                if names:
                    count = f"{len(names)} {what if len(names) == 1 else several}"
                    sentences.append(f"{start} {count}{' ' + end if end else ', '}{first_of(names, MOST_NAMED)}.")
        runs = {segment.recording for segment in self.test} & {segment.recording for segment in self.train}
        if runs and self.by in ("trial", "block", "label"):
            sentences.append(
                f"WARNING: {len(runs)} recordings have trials in both the training and the test set: slow drifts make "
                "neighbouring trials alike, so the score is too high. Split by run, session or subject to be sure."
            )
        if any(self.left_out):
            of_train, of_val = self.left_out
            sentences.append(
                f"Windows that reach into those of another set were left out: {of_train} of training, {of_val} of "
                "validation."
            )
        if self.n_bad:
            sentences.append(f"{self.n_bad} trials were left out, as their windows reach into bad spans.")
        within = "" if self.extents else ", as long as windows stay within their trials"
        sentences.append(f"No sample is in two sets{within}.")
        return sentences

    def _stimuli(self, part: Sequence[Segment]) -> set[str]:
        return {self._units[segment.trial.stimulus] for segment in part}

    def _subjects(self, part: Sequence[Segment]) -> set[str]:
        return {self.subjects[segment.recording] for segment in part}

    @property
    def _by_end(self) -> bool:
        """Whether the validation set is the ends of the training trials."""
        return any(segment.within != (0.0, 1.0) for segment in self.val)

    @cached_property
    def _units(self) -> dict[str, str]:
        return units((*self.train, *self.val, *self.test))

    def _common(self, one: str, other: str) -> Iterator[tuple[str, list[str]]]:
        for what, of in (("stimulus", self._stimuli), ("subject", self._subjects)):
            names = sorted(of(self._sets[one]) & of(self._sets[other]))
            if names:
                yield what, names

    def _refuse_overlap(self) -> None:
        """Refuse a sample that is in two sets, whatever is shared; trials that overlap in time count too."""
        by_start = [
            (segment.recording, *self._extent(segment), name, segment)
            for name, part in self._sets.items()
            for segment in part
        ]
        reaching: dict[str, tuple[int, float, Segment]] = {}  # of each set: the segment that ends last so far
        for recording, first, end, name, segment in sorted(by_start, key=lambda row: row[:4]):
            for other, (index, until, before) in reaching.items():
                if other != name and index == recording and first < until:
                    raise ValueError(self._overlap(before, other, segment, name))
            here = (recording, end, segment)
            reaching[name] = max(reaching.get(name, here), here, key=lambda reached: reached[:2])

    def _extent(self, segment: Segment) -> tuple[float, float]:
        """Return the first sample and the end of what is read of a segment, if known; otherwise seconds."""
        start, stop = segment.seconds
        return self.extents.get(segment, (start, stop - 1e-6))

    def _overlap(self, before: Segment, other: str, segment: Segment, name: str) -> str:
        subject, (one, two) = self.subjects[segment.recording], (before.trial, segment.trial)
        until = one.start + one.duration
        if two.start < until - 1e-6:
            return (
                f"trials overlap across sets, subject {subject}: {one.stimulus} ({other}) until {until:.2f} s, "
                f"{two.stimulus} ({name}) from {two.start:.2f} s: correct the events"
            )
        return (
            f"windows overlap across sets, subject {subject}: those of {one.stimulus} at {one.start:.2f} s ({other}) "
            f"and of {two.stimulus} at {two.start:.2f} s ({name}): shorten them, split by run or subject, or set "
            "windows.overlap=true, which leaves them out of training"
        )

    def _refuse_copies(self, digests: Sequence[str], how: str) -> None:
        """Refuse a recording that occurs twice, under two names, in two sets."""
        copies: dict[str, dict[str, set[int]]] = {}
        for part, segments in self._sets.items():
            for recording in {segment.recording for segment in segments} if digests else ():
                if digests[recording]:
                    copies.setdefault(digests[recording], {}).setdefault(part, set()).add(recording)
        for parts in copies.values():
            for (one, in_one), (other, in_other) in combinations(parts.items(), 2):
                if len(in_one | in_other) > 1:
                    first, second = next((a, b) for a in sorted(in_one) for b in sorted(in_other) if a != b)
                    raise ValueError(
                        f"{self.names[first]} ({one}) and {self.names[second]} ({other}) {how}: "
                        "leave one out, preprocess.exclude"
                    )


def units(segments: Sequence[Segment]) -> dict[str, str]:
    """Return the unit of each stimulus, by name: pieces of a stimulus that overlap are one unit."""
    lasts_s: dict[str, float] = {}
    for trial in (segment.trial for segment in segments):
        heard_s = trial.duration * float(trial.labels.get(SPEED, 1.0))
        lasts_s[trial.stimulus] = max(lasts_s.get(trial.stimulus, 0.0), heard_s)
    return stimuli.units(lasts_s)

"""What trains, chooses and tests, once it is dealt. What would leak from one part into another is refused by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from eegdecode.data.events import stimuli
from eegdecode.data.events.events import SPEED
from eegdecode.data.split.segments import Segment
from hpc.errors import first_of

MOST_NAMED = 10
"""Stimuli or subjects that a sentence names."""


@dataclass(frozen=True)
class Splits:
    """The three parts. Refuses what leaks when it is made.

    Parameters
    ----------
    train, val, test
        The trials of each part.
    subjects, names, checksums, contents
        Of each recording that a segment counts: whose it is, what it is called, and of its samples and its raw file.
    shared
        What the config lets stand in two parts: "subject", "stimulus".
    by
        What the parts were dealt by.
    looked_at
        From which sample to which each segment is looked at, windows included; none where windows are not known.
    left_out
        How many of the training's and of the choosing trials were, as their windows reach into another part's.
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
    looked_at: Mapping[Segment, tuple[int, int]] = field(default_factory=dict, repr=False, hash=False)
    left_out: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for one, other in combinations(self._parts, 2):
            if self._by_end and other == "val":
                continue  # the same trials by design
            for what, names in self._common(one, other):
                if what not in self.shared:
                    raise ValueError(
                        f"the same {what} would stand in {one} and {other}: {', '.join(names)}. "
                        f'Split by {what}, or say that it is wanted: shared must hold "{what}"'
                    )
        self._refuse_overlap()
        self._refuse_copies(self.checksums, "hold the very same samples")
        self._refuse_copies(self.contents, "are made from copies of one file")

    @property
    def _parts(self) -> dict[str, tuple[Segment, ...]]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def audit(self) -> list[str]:
        """What the split means, in sentences for the report."""
        train, val, test = len(self.train), len(self.val), len(self.test)
        sentences = [f"{train + val + test} trials: {train} train, {val} choose the best step, {test} test."]
        if self._by_end:
            sentences = [f"{train + test} trials: {train} train, whose ends choose the best step, {test} test."]
        for what, several, of in (("stimulus", "stimuli", self._stimuli), ("subject", "subjects", self._subjects)):
            seen, tested = of(self.train) | of(self.val), of(self.test)
            for start, names, end in (
                ("Test has", sorted(tested - seen), "that neither training nor choosing saw: "),
                ("On both sides, as shared allows:", sorted(tested & seen), ""),
            ):
                if names:
                    count = f"{len(names)} {what if len(names) == 1 else several}"
                    sentences.append(f"{start} {count}{' ' + end if end else ', '}{first_of(names, MOST_NAMED)}.")
        runs = {segment.recording for segment in self.test} & {segment.recording for segment in self.train}
        if runs and self.by in ("trial", "block", "label"):
            sentences.append(
                f"WARNING: {len(runs)} recordings have trials on both sides: what drifts over a recording tells "
                "neighbours, so this overstates what is decoded. Split by run, session or subject to be sure."
            )
        if any(self.left_out):
            of_train, of_val = self.left_out
            sentences.append(
                f"Windows that reach into those of another part were left out: {of_train} of training, {of_val} of "
                "what chooses."
            )
        within = "" if self.looked_at else ", as long as windows stay within their trials"
        sentences.append(f"No sample stands in two parts{within}.")
        return sentences

    def _stimuli(self, part: Sequence[Segment]) -> set[str]:
        return {self._units[segment.trial.stimulus] for segment in part}

    def _subjects(self, part: Sequence[Segment]) -> set[str]:
        return {self.subjects[segment.recording] for segment in part}

    @property
    def _by_end(self) -> bool:
        """Whether the ends of the training trials choose."""
        return any(segment.within != (0.0, 1.0) for segment in self.val)

    @cached_property
    def _units(self) -> dict[str, str]:
        return units((*self.train, *self.val, *self.test))

    def _common(self, one: str, other: str) -> Iterator[tuple[str, list[str]]]:
        for what, of in (("stimulus", self._stimuli), ("subject", self._subjects)):
            names = sorted(of(self._parts[one]) & of(self._parts[other]))
            if names:
                yield what, names

    def _refuse_overlap(self) -> None:
        """The same sample never stands in two parts, whatever is shared: also not by trials that overlap in time."""
        by_start = [
            (segment.recording, *self._stretch(segment), name, segment)
            for name, part in self._parts.items()
            for segment in part
        ]
        reaching: dict[str, tuple[int, float, Segment]] = {}  # of each part: what lasts longest so far
        for recording, first, end, name, segment in sorted(by_start, key=lambda row: row[:4]):
            for other, (index, until, before) in reaching.items():
                if other != name and index == recording and first < until:
                    raise ValueError(self._overlap(before, other, segment, name))
            here = (recording, end, segment)
            reaching[name] = max(reaching.get(name, here), here, key=lambda reached: reached[:2])

    def _stretch(self, segment: Segment) -> tuple[float, float]:
        """In samples, where it is known what is looked at; else in seconds."""
        start, stop = segment.seconds
        return self.looked_at.get(segment, (start, stop - 1e-6))

    def _overlap(self, before: Segment, other: str, segment: Segment, name: str) -> str:
        subject, (one, two) = self.subjects[segment.recording], (before.trial, segment.trial)
        until = one.start + one.duration
        if two.start < until - 1e-6:
            return (
                f"trials overlap across parts, subject {subject}: {one.stimulus} ({other}) until {until:.2f} s, "
                f"{two.stimulus} ({name}) from {two.start:.2f} s: correct the events"
            )
        return (
            f"windows overlap across parts, subject {subject}: those of {one.stimulus} at {one.start:.2f} s ({other}) "
            f"and of {two.stimulus} at {two.start:.2f} s ({name}): shorten them, split by run or subject, or say "
            "windows.overlap=true, which leaves them out of training"
        )

    def _refuse_copies(self, digests: Sequence[str], how: str) -> None:
        """Nor does a recording that is there twice, under two names."""
        copies: dict[str, dict[str, set[int]]] = {}
        for part, segments in self._parts.items():
            for recording in {segment.recording for segment in segments} if digests else ():
                if digests[recording]:
                    copies.setdefault(digests[recording], {}).setdefault(part, set()).add(recording)
        for parts in copies.values():
            for (one, here), (other, there) in combinations(parts.items(), 2):
                if len(here | there) > 1:
                    first, second = next((a, b) for a in sorted(here) for b in sorted(there) if a != b)
                    raise ValueError(
                        f"{self.names[first]} ({one}) and {self.names[second]} ({other}) {how}: "
                        "leave one out, preprocess.exclude"
                    )


def units(segments: Sequence[Segment]) -> dict[str, str]:
    """Of each stimulus by its name, what it is one with: pieces that overlap in the stimulus are one."""
    lasts_s: dict[str, float] = {}
    for trial in (segment.trial for segment in segments):
        heard_s = trial.duration * float(trial.labels.get(SPEED, 1.0))
        lasts_s[trial.stimulus] = max(lasts_s.get(trial.stimulus, 0.0), heard_s)
    return stimuli.units(lasts_s)

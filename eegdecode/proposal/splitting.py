"""How the trials are split: so that what the test set has was not seen, and each set has every class."""

import math
from collections import Counter, defaultdict
from typing import Any

from eegdecode.proposal.decoding import Decoding
from eegdecode.proposal.seen import Sight
from eegdecode.proposal.write import Guess
from hpc.media import many

ENOUGH_SUBJECTS, FEWEST = 5, 3
"""Subjects for a test on new people; units of a split, one a set."""
TOO_FEW = ": chance exchanges whole recordings or people, and one fold has too few of them to decide anything"
ENOUGH_WAYS = 20
"""Ways in which the labels of a test set can be exchanged: of fewer, none allows p < .05."""
BLOCKS = 12
"""Blocks of time in a recording, where there is nothing else to split by."""


def choose(sight: Sight, decoding: Decoding) -> Guess:
    """Return the split. Raises ValueError if the study has too few people or recordings of a class."""
    if decoding.label_of:
        return _of_recordings(sight, decoding)
    if decoding.is_course:
        why = "What was presented is never in two sets, also if several people heard it: so that it is not recognised."
        return Guess({"by": "stimulus"}, why, ("{by: subject, shared: [stimulus]}: new people, known stimuli",))
    runs = Counter(entry.subject for entry in sight.entries)
    n_subjects, fewest_runs = len(runs), min(runs.values())
    why_not: tuple[str, ...]
    settings: dict[str, Any]
    if n_subjects >= ENOUGH_SUBJECTS and fewest_runs < FEWEST:
        settings = {"by": "subject", "shared": ["stimulus"]}
        why = (
            f"There are {n_subjects} subjects with {_each(runs)}: the test set has people that training never saw, "
            "which is what a decoder is asked in practice. Their stimuli are the same classes, so these are shared."
        )
        why_not = (
            "{by: block, within: run, block_s: 60, shared: [subject, stimulus]}: the same people, which is easier",
        )
        if n_subjects >= 2 * ENOUGH_SUBJECTS:
            why_not += ("folds: 5 in a sweep over split.fold=0..4, so that everybody is tested once",)
        return Guess(settings, why, why_not)
    if fewest_runs >= FEWEST:
        settings = {"by": "run", "within": "subject", "shared": ["subject", "stimulus"]}
        why = (
            f"Each of the {many(n_subjects, 'subject')} has {_each(runs)}: whole recordings of each are for testing, "
            "so that no slow drift is in two sets."
        )
        why_not = ("{by: subject, shared: [stimulus]}: new people, which is harder",) if n_subjects >= FEWEST else ()
        return Guess(settings, why, why_not)
    shortest_s = min(seen.stream.duration for seen in sight.seen)
    block_s = max(math.ceil(shortest_s / BLOCKS), 2 * decoding.window_s)
    settings = {
        "by": "block",
        "within": "run",
        "block_s": float(math.ceil(block_s)),
        "shared": ["subject", "stimulus"],
    }
    why = (
        f"{many(n_subjects, 'subject')} with {_each(runs)} are too few for a test on new people or recordings: "
        f"blocks of {settings['block_s']:g} s of each recording are for testing. Neighbouring blocks are "
        "alike, so the score is somewhat too high."
    )
    return Guess(settings, why, ("record more people or more runs, and split by subject or run",))


def _of_recordings(sight: Sight, decoding: Decoding) -> Guess:
    """A label of the whole recording: each set needs recordings of every class, and no recording is in two."""
    subject_of = {entry.name: entry.subject for entry in sight.entries}
    people: dict[str, set[str]] = defaultdict(set)
    for name, label in decoding.label_of.items():
        if name in subject_of:
            people[label].add(subject_of[name])
    fewest, n_subjects = min(map(len, people.values())), len(set(subject_of.values()))
    all_have_all = all(len(each) == n_subjects for each in people.values())
    counted = ", ".join(f"{len(each)} of {label}" for label, each in sorted(people.items()))
    if fewest >= FEWEST:
        folds = min(5, fewest)
        settings = {
            "by": "subject",
            "folds": folds,
            "deal": "stratified",
            "stratify": decoding.name,
            "shared": ["stimulus"],
        }
        of_whom = "each has every class" if all_have_all else f"each class has its own ({counted})"
        why = (
            f"A recording has one class, so recordings, and with them people, must not be in two sets: of {n_subjects} "
            f"subjects {of_whom}. Of {folds} folds, one tests, one validates; each has every class."
        )
        settings = settings if decoding.name != "stimulus" else settings | {"stratify": "stimulus"}
        return Guess(settings, why, (_all_folds(folds, decides(sight, decoding, settings)),))
    recordings = Counter(decoding.label_of.values())
    if min(recordings.values()) >= FEWEST:
        folds = min(5, min(recordings.values()))
        settings = {
            "by": "run",
            "folds": folds,
            "deal": "stratified",
            "stratify": decoding.name,
            "shared": ["subject", "stimulus"],
        }
        why = (
            f"A recording has one class, and there are too few people of each ({counted}) to test on new ones: whole "
            f"recordings are for testing. Of {folds} folds, one tests, one validates."
        )
        return Guess(settings, why, (_all_folds(folds, decides(sight, decoding, settings)),))
    few = ", ".join(f"{n} of {label}" for label, n in sorted(recordings.items()))
    raise ValueError(
        f"{sight.folder.path}: {decoding.name} is the same throughout a recording, and there are {few}; training, "
        "validation and test need 3 of each at least, or what is decoded is the recording: add recordings"
    )


def decides(sight: Sight, decoding: Decoding, split: dict[str, Any]) -> bool:
    """Whether one fold has enough recordings or people for p < .05."""
    if not decoding.label_of or "folds" not in split:
        return True
    of_subject: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in sight.entries:
        if entry.name in decoding.label_of:
            of_subject[entry.subject][decoding.label_of[entry.name]] += 1
    folds = split["folds"]
    if split["by"] == "subject" and any(len(own) > 1 for own in of_subject.values()):
        return min(map(_ways, of_subject.values())) ** (len(of_subject) // folds) >= ENOUGH_WAYS
    units = of_subject.values() if split["by"] == "subject" else [Counter(decoding.label_of.values())]
    counts = Counter(label for own in units for label in (own if split["by"] == "subject" else own.elements()))
    return _ways(Counter({label: n // folds for label, n in counts.items()})) >= ENOUGH_WAYS


def _ways(counts: Counter[str]) -> int:
    """In how many orders so many labels can be."""
    return math.factorial(counts.total()) // math.prod(map(math.factorial, counts.values()))


def _all_folds(folds: int, decides: bool) -> str:
    everybody = f"all folds, a sweep over split.fold=0..{folds - 1}, so that everybody is tested once"
    return everybody if decides else everybody + TOO_FEW


def _each(runs: Counter[str]) -> str:
    fewest, most = min(runs.values()), max(runs.values())
    return f"{many(fewest, 'recording')} each" if fewest == most else f"{fewest} to {most} recordings each"

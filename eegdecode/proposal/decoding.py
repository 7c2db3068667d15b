"""What is decoded: classes from marks, or a condition of each recording, and the events and windows that follow."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from typing import Any

from eegdecode.data.events.rows import labels
from eegdecode.proposal import courses, trials
from eegdecode.proposal.seen import ANNOTATIONS, EPOCHS, EVENTS_TSV, FILE, MARKERS, TRIGGERS, Sight
from eegdecode.proposal.trials import Classes
from eegdecode.proposal.write import Guess
from hpc.errors import first_of
from hpc.media import many

PIECE_S, SHORTEST_PIECE_S, FEWEST_PIECES = 4.0, 1.0, 8
"""The length of a piece of a recording that has one label, and the least number of pieces in a recording."""
MOST_GROUPS = 6


@dataclass(frozen=True)
class Decoding:
    """Parameters
    ----------
    events, target
        Their settings in the config, with reasons.
    name
        The name under which the target is stored.
    window_s
        The length of a window.
    label_of
        For a label of the whole recording: it, by the name of the recording.
    n_classes
        The number of classes.
    is_course
        Whether it is a course in time, as an envelope, and no class.
    without
        Recordings that were looked at and have no such trial, as of rest among those of a task.
    """

    events: Guess
    target: Guess
    name: str
    window_s: float
    n_classes: int
    overlap: bool = False
    label_of: Mapping[str, str] = field(default_factory=dict)
    is_course: bool = False
    without: tuple[str, ...] = ()


def choose(sight: Sight) -> Decoding:
    """Return what can be decoded. Raises ValueError with a sentence if nothing can."""
    if course := courses.choose(sight):
        return Decoding(course.events, course.target, course.name, course.window_s, 0, is_course=True)
    conditions = _conditions(sight)
    if classes := trials.choose(sight):
        return _of_marks(sight, classes, conditions)
    if conditions:
        return _of_recordings(sight, *conditions[0], conditions[1:])
    raise ValueError(_nothing(sight))


def _of_marks(sight: Sight, classes: Classes, conditions: list[tuple[str, str, dict[str, str]]]) -> Decoding:
    settings: dict[str, Any]
    if classes.source == EVENTS_TSV:
        settings = {"name": "bids", "stimulus": classes.column}
        if classes.left_out:
            settings["only"] = [escape(name) for name in classes.counts]
    elif classes.source == EPOCHS:
        settings = {}
    elif classes.source in (FILE, MARKERS):
        settings = {"name": "file", "codes": {name: name for name in classes.counts}}
    elif classes.source == ANNOTATIONS:
        settings = {"name": "annotations", "stimuli": {escape(name): "{text}" for name in classes.counts}}
    else:
        settings = {"name": "triggers", "channel": classes.source.removeprefix(TRIGGERS)}
        settings["codes"] = {name: name for name in classes.counts}
    if classes.duration_s is None:
        lasting = "they have a duration of their own"
    else:
        settings["duration_s"] = classes.duration_s
        lasting = (
            f"they mark a moment, so a trial lasts {classes.duration_s:g} s, until the next or the end at the soonest"
        )
    if classes.overlap:
        settings["overlap"] = True
        lasting += "; some follow each other sooner, so trials overlap"
    left_out = [f"{n} × {name or 'nothing'}" for name, n in classes.left_out.items()]
    without = f" Left out: {first_of(left_out)}." if left_out else ""
    others = (*classes.others, *(f"the {what} of each recording" for _, what, _ in conditions))
    label_of = {}
    if classes.per_recording:
        marks_of = sight.marks(classes.source)
        label_of = {
            name: next(
                mark.columns[classes.column] for mark in marks if mark.columns.get(classes.column) in classes.counts
            )
            for name, marks in marks_of.items()
            if any(mark.columns.get(classes.column) in classes.counts for mark in marks)
        }
    column = classes.column if classes.source == EPOCHS else "stimulus"
    with_trials = {
        name
        for name, marks in sight.marks(classes.source).items()
        if any(mark.columns.get(classes.column) in classes.counts for mark in marks)
    }
    looked_at = sight.tables if classes.source == EVENTS_TSV else [seen.entry.name for seen in sight.seen]
    return Decoding(
        Guess(settings or None, f"Trials are in {classes.seen}; {lasting}.{without}", others),
        Guess({"name": "label", "column": column}, f"The class of each trial, one of {len(classes.counts)}."),
        column,
        classes.window_s,
        len(classes.counts),
        classes.overlap,
        label_of,
        without=tuple(name for name in looked_at if name not in with_trials),
    )


NO_LABELS = ("subject", "session", "run", "participant_id", "path", "file", "filename", "file_name")


def _conditions(sight: Sight) -> list[tuple[str, str, dict[str, str]]]:
    """The labels that a recording may have as a whole: (column, what it is, the label by recording)."""
    entries = sight.entries
    # Each reads participants.tsv, so once a subject
    people = {entry.subject: labels(entry.participant) for entry in {each.subject: each for each in entries}.values()}
    labels_of = {
        entry.name: {**people[entry.subject], **entry.fields, "task": entry.task, **labels(entry.row)}
        for entry in entries
    }
    columns = dict.fromkeys(column for of_entry in labels_of.values() for column in of_entry)
    found = []
    for column in (name for name in columns if name not in NO_LABELS):
        every = {name: of_entry.get(column) for name, of_entry in labels_of.items()}
        of_words = {name: label for name, label in every.items() if isinstance(label, str) and label}
        if len(of_words) == len(entries) and 2 <= len(set(of_words.values())) <= MOST_GROUPS:
            in_name = column in entries[0].fields or column == "task"
            where = "in the names of the files" if in_name else "in the tables of the study"
            found.append((column, f"{column} {where}", of_words))
    return found


def _of_recordings(
    sight: Sight, column: str, what: str, label_of: dict[str, str], others: list[tuple[str, str, dict[str, str]]]
) -> Decoding:
    shortest_s = min(seen.stream.duration for seen in sight.seen)
    length_s = min(PIECE_S, max(SHORTEST_PIECE_S, math.floor(shortest_s / FEWEST_PIECES * 10) / 10))
    if shortest_s < length_s:
        raise ValueError(
            f"the shortest recording of {sight.folder.path} that was opened lasts {shortest_s:.2f} s, too short for a "
            f"piece of {length_s:g} s to decode"
        )
    counted = Counter(label_of.values())
    shown = ", ".join(f"{n} × {name}" for name, n in sorted(counted.items()))
    return Decoding(
        Guess(
            {"name": "fixed_length", "length_s": length_s},
            f"No marks with classes were seen, so each recording is cut into pieces of {length_s:g} s (the shortest "
            f"that was opened lasts {shortest_s:.4g} s).",
        ),
        Guess(
            {"name": "label", "column": column},
            f"The {what}: {many(len(label_of), 'recording')}, {shown}. Whatever else differs between them, as the "
            "day or the cap, tells it too.",
            tuple(f"the {other}" for _, other, _ in others),
        ),
        column,
        length_s,
        len(counted),
        label_of=label_of,
    )


def _nothing(sight: Sight) -> str:
    """Why nothing can be decoded, and what would help."""
    there = f"{many(len(sight.folder.entries), 'recording')} of {many(len(sight.subjects), 'subject')}"
    marks = []
    for source in sight.sources:
        marks_of = sight.marks(source)
        kinds = Counter(next(iter(mark.columns.values()), "no name") for each in marks_of.values() for mark in each)
        marks.append(f"{source} has {first_of([f'{n} × {name}' for name, n in kinds.most_common()], 4)}")
    seen = f" ({'; '.join(marks)})" if marks else ""
    return (
        f"{sight.folder.path} has {there}, but nothing that says what was presented or done in at least two ways"
        f"{seen}: add events.tsv or annotations with the conditions, a folder or a word in the names for each "
        "condition, or a column of groups in participants.tsv"
    )

"""Trials from rows: those of events.tsv, or of another file of events as rows like them.

of_bids(cfg, rows, study, labels, place)      each row with a stimulus is a trial
of_file(cfg, rows, names, labels, place)      likewise by codes
labels(row)                                   the values of a row, numbers as numbers
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from eegdecode.data.config import BidsEvents, FileEvents
from eegdecode.data.events import stimuli
from eegdecode.data.io.recordings import Entry, stimulus_file
from eegdecode.signals import Trial

SHORTEST_TRIAL_S, LONGEST_TRIAL_S = 0.3, 10.0
"""Seconds; a response takes about a third of a second, and nobody means minutes by an event."""


class Trials(NamedTuple):
    """Trials in order of their start, and notes for the reader on how they were derived."""

    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where rows are from, and the setting that they are read by, for messages."""

    source: str
    at: str

    def line(self, number: int) -> str:
        return f"{'line' if self.source.endswith(('.tsv', '.csv')) else 'event'} {number} of {self.source}"


def stimulus_column(cfg: BidsEvents, columns: Collection[str]) -> str:
    """The column with the stimulus: as set, or without stim_file, trial_type or else value."""
    others = ("trial_type", "value") if cfg.stimulus == "stim_file" else ()
    return next((name for name in (cfg.stimulus, *others) if name in columns), cfg.stimulus)


def of_bids(
    cfg: BidsEvents, rows: Sequence[Mapping[str, str]] | None, study: Path, asked: Collection[str], place: Place
) -> Trials:
    if rows is None:
        raise ValueError("there is no events.tsv for this recording: add it, or take trials from elsewhere (events)")
    column = stimulus_column(cfg, rows[0]) if rows else cfg.stimulus
    lacking = {"onset", "duration", column} - set(rows[0]) if rows else set()
    if lacking:
        raise ValueError(
            f"{place.source} has no column {', '.join(sorted(lacking))}, but trials need onset, duration and "
            f"{column}; there are {', '.join(rows[0])}"
        )
    trials = []
    for line, row in enumerate(rows, _first_line(place)):
        stimulus = value(row, column)
        if stimulus is None or (cfg.only and not any(fnmatchcase(stimulus, pattern) for pattern in cfg.only)):
            continue
        if column == "stim_file" and not (file := stimulus_file(study, stimuli.whole(stimulus)[0])).is_file():
            raise ValueError(f"{place.line(line)} names {stimulus}, but {file} is missing: put it there")
        start_s, lasts_s = _times(row, cfg.duration_s, rows, line, f"{place.line(line)} ({stimulus})", place.at)
        trials.append(Trial(start_s, lasts_s, stimulus, labels(row, "" if column in asked else column)))
    return Trials(tuple(trials))


def of_file(
    cfg: FileEvents,
    rows: Sequence[Mapping[str, str]],
    names: Mapping[str, str],
    asked: Collection[str],
    place: Place,
) -> Trials:
    """Trials from the rows of a file of events, whose column `code` has what was presented."""
    trials, unused = [], Counter[str]()
    for line, row in enumerate(rows, _first_line(place)):
        code = value(row, cfg.code)
        if code is None or (cfg.codes and code not in cfg.codes):
            unused[code or "without a code"] += 1
            continue
        stimulus = stimuli.fill(cfg.codes[code], names) if cfg.codes else code
        start_s, lasts_s = _times(row, cfg.duration_s, rows, line, f"{place.line(line)} ({code})", place.at)
        trials.append(Trial(start_s, lasts_s, stimulus, labels(row, "" if cfg.code in asked else cfg.code)))
    if cfg.codes and rows and not trials:
        there = ", ".join(sorted(unused)[:12])
        raise ValueError(
            f"none of the codes {', '.join(cfg.codes)} is in {place.source}, which has {there}: "
            f"correct {place.at}.codes"
        )
    return Trials(tuple(trials), left_out("events", unused))


def _first_line(place: Place) -> int:
    """That of the first row: a table has the names of its columns above it."""
    return 2 if place.source.endswith((".tsv", ".csv")) else 1


def _times(
    row: Mapping[str, str], set_s: float | None, rows: Sequence[Mapping[str, str]], line: int, what: str, at: str
) -> tuple[float, float]:
    """Start and duration of a trial; a duration that is set is that of every trial."""
    onset_s = number(row["onset"])
    duration_s = set_s or number(row["duration"])
    cells = f"{what} has onset {row['onset']!r} and duration {row['duration']!r}"
    if onset_s is None or onset_s < 0 or (duration_s is not None and duration_s < 0):
        raise ValueError(f"{cells}, which is no part of the recording: correct it")
    if not duration_s:
        raise ValueError(f"{cells}, so it marks a moment: set how long a trial lasts, as {advice(rows, at)}")
    return onset_s, duration_s


def advice(rows: Sequence[Mapping[str, str]], at: str) -> str:
    """The setting of a sensible duration for events that mark moments: the shortest time from one to the next, or one
    in which the brain responds, if they come faster."""
    onsets_s = sorted({onset_s for row in rows if (onset_s := number(row["onset"])) is not None})
    gaps_s = [after - before for before, after in pairwise(onsets_s)]
    if not gaps_s:
        return f"{at}.duration_s=1"
    shortest_s = min(gaps_s)
    if shortest_s < SHORTEST_TRIAL_S:
        return f"{at}.duration_s={SHORTEST_TRIAL_S:g} {at}.overlap=true (one comes {shortest_s:.3g} s after another)"
    unit = 10.0 ** (math.floor(math.log10(shortest_s)) - 1)
    sensible_s = min(math.floor(shortest_s / unit + 1e-6) * unit, LONGEST_TRIAL_S)
    return f"{at}.duration_s={sensible_s:.6g} (the closest two are {shortest_s:.3g} s apart)"


def labels(row: Mapping[str, str], stimulus: str = "") -> dict[str, str | float]:
    """Return the values of the other columns of a row, numbers as numbers."""
    return {
        column: cell if (as_number := number(cell)) is None else as_number
        for column in row
        if column not in ("onset", "duration", stimulus) and (cell := value(row, column)) is not None
    }


def recording_labels(entry: Entry) -> dict[str, str | float]:
    """All labels that a recording has: from participants.tsv, the name of its file, and the table of files."""
    fields = {name: value for name, value in entry.words.items() if value and name != "name"}
    return {**labels(entry.participant), **fields, **labels(entry.row)}


def value(row: Mapping[str, str], column: str) -> str | None:
    """Return the value of a row in a column; None for `n/a` and other words for a missing value."""
    cell = (row[column] or "").strip()
    return None if cell.lower() in ("", "n/a", "nan") else cell


def number(cell: str | None) -> float | None:
    """Return the number that a cell holds; None where it holds none that is finite."""
    try:
        as_number = float(cell or "")
    except ValueError:
        return None
    return as_number if math.isfinite(as_number) else None


def left_out(what: str, unused: Mapping[str, int]) -> tuple[str, ...]:
    if not unused:
        return ()
    counted = ", ".join(f"{count} × {text}" for text, count in sorted(unused.items()))
    return (f"{what} that are not trials were left out: {counted}",)

"""What a plan can know of a study that is there, from names and tables alone: that its recordings have trials, and that
these have the labels that are asked for. No recording is opened, and reading ends at the first that has all of it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from eegdecode.data.config import BidsEvents, FileEvents, FilmEvents, FixedLengthEvents
from eegdecode.data.events import files, rows
from eegdecode.data.io import event_files, recordings
from eegdecode.data.io.recordings import Entry
from eegdecode.preprocessing.config import Preprocess
from eegdecode.signals import Trial

SILENT = (".mat", ".set")
"""Formats whose trials may be in the file itself, which only opening it shows."""


EPOCHS = re.compile(r"[-_]epo(-\d+)?\.fif")


STIMULI = {"stim_file", "trial_type", "value"}
"""Columns that may be the stimulus, and a label as well."""


class _Unknown(Exception):
    """Only the recording itself can tell."""


def check(cfg: Preprocess, study: Path) -> str:
    """Refuse what no recording of the study has. A recording that cannot be used, as others can, is for the run to
    name."""
    entries = included(recordings.find(study, cfg.files), cfg.exclude)
    subjects = list(dict.fromkeys(entry.subject for entry in entries))
    for step in cfg.steps:
        if check_subjects := getattr(step, "check_subjects", None):
            check_subjects(subjects)
    lacking, there, why = _asked(cfg) - {"stimulus"}, set[str](), list[str]()
    usable = False
    try:
        for entry in entries:
            try:
                trials = _trials(cfg, entry)
            except (ValueError, OSError) as error:
                why.append(f"{entry.name}: {error}".replace(f"{study}/", ""))
                continue
            names = {*rows.recording_labels(entry), *(name for trial in trials or () for name in trial.labels)}
            usable = usable or trials is None or bool(trials)
            there |= names
            lacking -= names
            if usable and not lacking:
                return ""
    except _Unknown:
        return ""
    if len(why) == len(entries):
        more = f" (and {len(why) - 1} more recordings)" if len(why) > 1 else ""
        raise ValueError(f"no recording can be used: {why[0]}{more}")
    if not usable:
        raise ValueError(f"no recording has a trial, {len(entries)} were looked at: correct events")
    raise ValueError(
        f"no recording has {' or '.join(sorted(lacking))} as a label of its trials; there are "
        f"{', '.join(sorted(there)) or 'none'}: correct the column of the target, or labels"
    )


def _trials(cfg: Preprocess, entry: Entry) -> Sequence[Trial] | None:
    """The trials of a recording, by tables alone; None where events have no labels of their own."""
    how = cfg.events or BidsEvents()
    inner = how.of if isinstance(how, FixedLengthEvents) else how
    at = "preprocess.events.of" if isinstance(how, FixedLengthEvents) else "preprocess.events"
    if isinstance(inner, FilmEvents):
        raise _Unknown
    if not isinstance(inner, BidsEvents | FileEvents):
        return None
    of_bids = entry.events() if isinstance(inner, BidsEvents) else None
    if isinstance(inner, BidsEvents) and of_bids is not None:
        return rows.of_bids(
            inner, of_bids, entry.study, STIMULI | {inner.stimulus}, rows.Place("events.tsv", at)
        ).trials
    path = files.file_of(inner, entry) if isinstance(inner, FileEvents) else None
    path = path or next(iter(event_files.beside(entry.path)), None)
    if path is None and (entry.path.suffix.lower() in SILENT or EPOCHS.search(entry.path.name.lower())):
        raise _Unknown
    if path is None and isinstance(inner, BidsEvents):
        return rows.of_bids(inner, None, entry.study, (), rows.Place("events.tsv", at)).trials
    if path is None or path.suffix.lower() == ".mat":
        raise _Unknown
    return _of_file(inner, entry, path, at)


def _of_file(cfg: BidsEvents | FileEvents, entry: Entry, path: Path, at: str) -> Sequence[Trial]:
    """Trials of a file of events next to a recording whose rate nobody knows yet: times are as good as any."""
    if event_files.is_one(path):
        table, cfg = files.of_event_file(path, 1.0, 0), replace(cfg, duration_s=cfg.duration_s or 1.0)
    elif isinstance(cfg, FileEvents) and path.suffix.lower() in files.TABLES:
        table = files.of_table(path, cfg, 1.0)
    else:
        raise _Unknown
    place = rows.Place(table.source, at)
    if isinstance(cfg, BidsEvents):
        return rows.of_bids(cfg, table.rows, entry.study, STIMULI | {cfg.stimulus}, place).trials
    return rows.of_file(replace(cfg, code=table.column), table.rows, entry.words, {table.column}, place).trials


def _asked(cfg: Preprocess) -> set[str]:
    """The labels that are asked for, as far as configs tell: the code of a target is not imported."""
    columns = (getattr(target, "column", None) for target in cfg.targets)
    return {column for column in columns if isinstance(column, str)}.union(cfg.labels)


def included(entries: Sequence[Entry], exclude: Sequence[str]) -> list[Entry]:
    """The recordings whose name or subject does not match a pattern to leave out."""
    excluded = {
        pattern: [e for e in entries if fnmatchcase(e.name, pattern) or e.subject == pattern] for pattern in exclude
    }
    if unknown := [pattern for pattern, matches in excluded.items() if not matches]:
        some = ", ".join(entry.name for entry in entries[:5])
        raise ValueError(f"exclude: no recording matches {', '.join(unknown)}; there are {some} …")
    left_out = {entry.name for matches in excluded.values() for entry in matches}
    if len(left_out) == len(entries):
        raise ValueError(f"exclude leaves none of the {len(entries)} recordings")
    return [entry for entry in entries if entry.name not in left_out]

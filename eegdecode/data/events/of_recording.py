"""The trials of a recording, wherever its events are: in events.tsv, in a file next to it, in the .mat that it is in.

    trials(cfg, entry, opened, asked)      as configured; without a config, from what is there

A label of every trial may come from the recording as well: a field in the name of its file, its row in the table of
files, or its subject's row in participants.tsv.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegdecode.data.config import BidsEvents, Events, FileEvents, FixedLengthEvents, TriggerEvents
from eegdecode.data.events import events, of_file, triggers
from eegdecode.data.events.files import TABLES, Table, file_of, of_event_file, of_table, row
from eegdecode.data.events.rows import Trials, labels, number, recording_labels, stimulus_column
from eegdecode.data.io import bids, event_files, markers
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.recordings import Entry
from eegdecode.signals import Sensor, Stream, Trial

if TYPE_CHECKING:
    from eegdecode.data.io.raw import Opened


def trials(cfg: Events | None, entry: Entry, opened: "Opened", asked: Collection[str] = ()) -> Trials:
    """The trials of a recording as configured, else from what is there; in a file of epochs, these.

    Parameters
    ----------
    asked
        Labels that each trial gets from its recording, if its event has none of that name.
    """
    rows = entry.events()
    own = of_file.trials(opened, entry.path, entry.study) if cfg is None and rows is None else ()
    if own and opened.trial_edges:
        parsed = Trials(tuple(_epochs(entry, opened, own, asked)))
    elif own:
        parsed = Trials(own)
    else:
        parsed = _of_events(cfg or BidsEvents(), entry, opened, rows, asked)
        refuse_crossing(parsed.trials, opened)
    lacking = {name for name in asked if any(name not in trial.labels for trial in parsed.trials)} - {"stimulus"}
    if not lacking:
        return parsed  # participants.tsv may be what it wants
    of_all = {name: value for name, value in recording_labels(entry).items() if name in lacking}
    return parsed._replace(trials=tuple(replace(t, labels={**of_all, **t.labels}) for t in parsed.trials))


def _epochs(entry: Entry, opened: "Opened", epochs: Sequence[Trial], asked: Collection[str]) -> list[Trial]:
    """A trial for each epoch, with its event as trial_type, and what the .mat has one value a trial of."""
    n = len(epochs)
    each: Mapping[str, Sequence[str]] = {}
    if asked and entry.path.suffix.lower() == ".mat":
        each = markers.each_trial(entry.path, n)
    if len(opened.annotations) == n:
        each = {"trial_type": [mark.text for mark in opened.annotations], **each}
    made = [{name: values[k] for name, values in each.items() if name in asked} for k in range(n)]
    return [replace(t, labels={**t.labels, **labels(row)}) for t, row in zip(epochs, made, strict=True)]


def _of_events(
    cfg: Events, entry: Entry, opened: "Opened", rows: list[dict[str, str]] | None, asked: Collection[str]
) -> Trials:
    inner = cfg.of if isinstance(cfg, FixedLengthEvents) else cfg
    stream, source = opened.stream, "events.tsv"
    notes: tuple[str, ...] = ()
    if isinstance(inner, TriggerEvents) and (channel := _each_sample(inner, entry, stream)):
        stream, inner = channel, replace(inner, channel=channel.channels[0])
    elif isinstance(inner, FileEvents):
        rows, column, source, notes = _of_file(inner, entry, opened)
        inner = replace(inner, code=column)
    elif isinstance(inner, BidsEvents) and rows is None and (there := _beside(entry, opened)):
        rows, _, source, notes = there
    parsed = events.trials(
        replace(cfg, of=inner) if isinstance(cfg, FixedLengthEvents) else inner or cfg,
        rows,
        stream,
        opened.annotations,
        entry.study,
        entry.words,
        opened.units,
        asked=asked,
        source=source,
    )
    return parsed._replace(notes=(*notes, *parsed.notes))


def events_in(entry: Entry, opened: "Opened") -> dict[str, Counter[str]]:
    """The codes or names of all events that a recording has, by where they are; for a survey, whatever is decoded."""
    there: dict[str, Counter[str]] = {}
    if rows := entry.events():
        column = stimulus_column(BidsEvents(), rows[0].keys())
        there[f"{column} of events.tsv"] = Counter(row[column] for row in rows if row.get(column))
    if opened.annotations:
        there["annotations"] = Counter(mark.text for mark in opened.annotations)
    for path in event_files.beside(entry.path):
        table = of_event_file(path, opened.stream.sfreq, opened.first_sample)
        there[event_files.kind(path)] = Counter(row[table.column] for row in table.rows)
    if entry.path.suffix.lower() == ".mat" and (in_mat := _of_mat(entry.path, FileEvents(), opened)):
        there[in_mat.source] = Counter(row[in_mat.column] for row in in_mat.rows)
    return there


def _beside(entry: Entry, opened: "Opened") -> Table | None:
    """The events of a recording without events.tsv, if some are next to it or in its .mat."""
    files = event_files.beside(entry.path)
    if files:
        return _said(of_event_file(files[0], opened.stream.sfreq, opened.first_sample), "there is no events.tsv")
    if entry.path.suffix.lower() != ".mat":
        return None
    there = _of_mat(entry.path, FileEvents(), opened)
    return _said(there, "there is no events.tsv") if there else None


def _said(rows: Table, why: str) -> Table:
    return rows._replace(notes=(f"{why}: events are taken from {rows.source}", *rows.notes))


def sources(cfg: Events | None, entry: Entry) -> set[Path]:
    """The files besides the recording and its sidecars that its trials come from."""
    inner = cfg.of if isinstance(cfg, FixedLengthEvents) else cfg or BidsEvents()
    if isinstance(inner, FileEvents | TriggerEvents) and inner.file:
        named = file_of(inner, entry)
        return {named} if named else set()
    return set(event_files.beside(entry.path)[:1]) if isinstance(inner, BidsEvents | FileEvents) else set()


def _of_file(cfg: FileEvents, entry: Entry, opened: "Opened") -> Table:
    path = file_of(cfg, entry)
    if path is None:
        files = event_files.beside(entry.path)
        if not files and entry.path.suffix.lower() != ".mat":
            raise ValueError(
                f"there is no file of events next to {entry.path.name}, as {entry.path.stem}-eve.fif: add it, or name "
                "it with events.file, in which {subject} and the like may stand"
            )
        path = files[0] if files else entry.path
    if event_files.is_one(path):
        return of_event_file(path, opened.stream.sfreq, opened.first_sample)
    if path.suffix.lower() in TABLES:
        return of_table(path, cfg, opened.stream.sfreq)
    if path.suffix.lower() != ".mat":
        raise Refused(f"{path} is no file of events: -eve.fif, .eve, .tsv, .csv and .mat are read")
    rows = _of_mat(path, cfg, opened)
    if rows is None:
        raise Refused(
            f"{path} has no markers that can be recognised; there are {markers.describe(path)}: name the onsets and "
            "their codes with events.onset=… events.code=…"
        )
    return rows


def _of_mat(path: Path, cfg: FileEvents, opened: "Opened") -> Table | None:
    sfreq, n_times = opened.stream.sfreq, opened.stream.n_times
    read = markers.events(path, cfg.onset, cfg.code)
    if read is None:
        vector = markers.each_sample(path, n_times)
        return _of_vector(path, *vector, sfreq) if vector else None
    unit, how = _unit(read.onsets, cfg.unit, n_times, sfreq)
    per_s = {"s": 1.0, "ms": 1e3, "samples": sfreq}[unit]
    onsets_s = (read.onsets - (unit == "samples")) / per_s
    lasting = ["0"] * len(onsets_s) if read.durations is None else [repr(s) for s in (read.durations / per_s).tolist()]
    each = zip(onsets_s.tolist(), lasting, read.codes, strict=True)
    rows = [row(onset_s, duration, code or "n/a", read.names) for onset_s, duration, code in each]
    notes = () if cfg.unit else (f"{read.source} were taken as {how}; if not, set events.name=file events.unit",)
    return Table(rows, "trial_type" if read.names else "value", read.source, notes)


def _unit(onsets: np.ndarray, unit: str, n_times: int, sfreq: float) -> tuple[str, str]:
    """The unit of the onsets, and how to say it. What is whole are samples, as far as the recording has so many."""
    words = {"samples": "samples, the first of which is 1", "s": "seconds", "ms": "milliseconds"}
    longest, duration_s = float(np.nanmax(onsets, initial=0.0)), n_times / sfreq
    whole = bool((onsets == np.rint(onsets)).all())
    if not unit and whole and longest <= n_times:
        unit = "samples"
    elif not unit:
        unit = "s" if longest <= duration_s else "ms"
    return unit, words[unit]


def _of_vector(path: Path, name: str, values: np.ndarray, sfreq: float) -> Table:
    train = triggers.pulses(_channel(name, values, sfreq), name)
    each = zip(*(array.tolist() for array in train[1:4]), strict=True)
    rows = [row(start_s, repr(lasts_s), str(value), {}) for start_s, lasts_s, value in each]
    return Table(rows, "value", name, train.notes)


def _channel(name: str, values: np.ndarray, sfreq: float) -> Stream:
    if not np.isfinite(values).all():
        raise Refused(f"{name} has {int((~np.isfinite(values)).sum())} values that are not numbers: repair it first")
    column = values.reshape(-1, 1)
    return Stream((name,), sfreq, len(values), lambda first, stop: column[first:stop], {name: Sensor("stim")})


def _each_sample(cfg: TriggerEvents, entry: Entry, stream: Stream) -> Stream | None:
    """The trigger channel as a recording of its own, if it is a column of a file or a variable of the .mat; None where
    it is a channel of the recording."""
    path = file_of(cfg, entry)
    if path is None:
        in_mat = entry.path.suffix.lower() == ".mat" and cfg.channel not in stream.channels
        vector = markers.each_sample(entry.path, stream.n_times, cfg.channel) if in_mat else None
        return _channel(*vector, stream.sfreq) if vector else None
    if path.suffix.lower() == ".mat":
        vector = markers.each_sample(path, stream.n_times, cfg.channel)
        if vector is None:
            raise Refused(
                f"{path} has no {cfg.channel or 'trigger'} with {stream.n_times} values, one for each sample of "
                f"{entry.path.name}; there are {markers.describe(path)}: correct events.channel"
            )
        return _channel(*vector, stream.sfreq)
    if path.suffix.lower() not in TABLES:
        raise Refused(f"{path} is no table: the column of a .tsv or .csv, or a variable of a .mat, can be a channel")
    return _channel(*_column(path, cfg.channel, stream.n_times, entry), stream.sfreq)


def _column(path: Path, name: str, n_times: int, entry: Entry) -> tuple[str, np.ndarray]:
    columns, rows = bids.numbered(path)
    name = name or (columns[0] if len(columns) == 1 else "")
    if name not in columns:
        raise Refused(f"{path} has no column {name or 'named in events.channel'}; there are {', '.join(columns)}")
    if len(rows) != n_times:
        raise Refused(
            f"{path} has {len(rows)} rows, but {entry.path.name} has {n_times} samples: a trigger channel has a value "
            "for each; events with a time each are events.name=file"
        )
    place, values = columns.index(name), np.empty(n_times, np.float32)
    for index, (line, cells) in enumerate(rows):
        value = number(cells[place])
        if value is None:
            raise Refused(f"line {line} of {path} says {cells[place]!r} in column {name}, which is not a number")
        values[index] = value
    return name, values


def refuse_crossing(trials: Sequence[Trial], opened: "Opened") -> None:
    """Refuse trials that cross the edge between two epochs."""
    sfreq = opened.stream.sfreq
    for edge in opened.trial_edges:
        for trial in trials:
            if trial.start + 0.5 / sfreq < edge / sfreq < trial.start + trial.duration - 0.5 / sfreq:
                raise ValueError(
                    f"trial {trial.stimulus!r} ({trial.start:.2f}–{trial.start + trial.duration:.2f} s) goes beyond "
                    f"the end of the epoch at {edge / sfreq:.2f} s: correct the events"
                )

"""Survey raw studies before preprocessing: `python -m hpc.launch survey …`. Recordings are distributed over the ranks;
every sample is read once, to find damage and duplicate recordings."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from eegdecode.data import config
from eegdecode.data.events import of_recording
from eegdecode.data.events.rows import recording_labels
from eegdecode.data.io import guard, recordings, samples
from eegdecode.data.io.channels.table import Channel
from eegdecode.data.io.readers.opened import Opened
from eegdecode.data.io.recordings import Entry
from eegdecode.data.survey import page_data, study_page
from eegdecode.data.survey.table import RecordingRow, StudyTable
from eegdecode.signals import BRAIN, Stream, Trial
from hpc.rank.context import Context, Preempted
from hpc.rank.verification import verify_tree

log = logging.getLogger(__name__)

SHOWN = 20
"""Sentences on the terminal, at most; all are in survey.html."""
MOST_CODES = 256
"""Different values of a trigger channel; with more it is an analogue one."""


def run(cfg: config.Survey, ctx: Context) -> dict[str, object]:
    """Write survey.html, its tables and the page data of each recording into ctx.out, and the table into the log."""
    folders = [ctx.input(study) for study in cfg.study]
    if not all(verify_tree(ctx, folder) for folder in folders):
        raise Preempted
    entries = [(number, entry) for number, folder in enumerate(folders) for entry in recordings.find(folder, cfg.files)]
    labels = _labels(cfg.study)
    sizes = Counter(_size(entry) for _, entry in entries) if cfg.samples else {}
    rows: list[tuple[int, dict[str, Any]]] = []
    mine = ctx.world.share(entries, lambda pair: pair[1].size)
    for done, (number, entry) in enumerate(mine):

        def beat(done: int = done) -> None:
            if ctx.should_stop():
                raise Preempted
            ctx.progress("survey", done, len(mine))

        beat()
        named = f"study-{number + 1}_{entry.name}" if len(folders) > 1 else entry.name
        row, looked = describe(cfg, folders[number], entry, beat)
        row = replace(row, study=labels[number], drawn=named if looked else "")
        if looked:
            page_data.write(ctx.out, named, looked)
        if not row.failed and sizes.get(_size(entry), 0) > 1:
            row = replace(row, content=recordings.content(recordings.samples_file(entry), beat))
        rows.append((number, asdict(row)))
    ctx.progress("survey", len(mine), len(mine))
    row_of = {(number, row["name"]): row for of_rank in ctx.gather(rows) for number, row in of_rank}
    if not ctx.world.is_first:
        return {}
    table = StudyTable(tuple(_row(row_of[key]) for key in sorted(row_of)))
    study_page.write(ctx.out, f"Survey of {', '.join(Path(name).name for name in cfg.study)}", table)
    log.info("%s\n\n%s", "\n".join(table.sentences()), table.table())
    return table.metrics() | {"notes": table.sentences()[1:SHOWN], "page": "survey.html"}


def _row(values: Mapping[str, Any]) -> RecordingRow:
    """A row as another rank sent it."""
    return RecordingRow(**{**values, "decided": tuple(Channel(**each) for each in values["decided"])})


def _labels(studies: Sequence[str]) -> list[str]:
    """Return a label for each of several studies; empty if there is only one."""
    names = [Path(study).name for study in studies]
    return [""] if len(names) == 1 else names if len(set(names)) == len(names) else [str(study) for study in studies]


def _size(entry: Entry) -> int:
    file = recordings.samples_file(entry)
    return file.stat().st_size if file.is_file() else 0


def describe(
    cfg: config.Survey, folder: Path, entry: Entry, beat: Callable[[], None]
) -> tuple[RecordingRow, dict[str, Any] | None]:
    """Describe a recording, or say why it cannot be used. With it, what it looks like, if its samples are read."""
    row = RecordingRow(entry.name, entry.subject, entry.session, entry.run)
    try:
        opened = recordings.open_entry(entry, cfg.reading)
        digest, codes = hashlib.blake2b(digest_size=16), _codes(opened.stream)
        defects = samples.find_defects(_hashed(opened.stream, digest, codes, beat)) if cfg.samples else ()
    except Preempted:
        raise
    except Exception as error:  # noqa: BLE001  whatever is wrong with a recording, the others go on
        return replace(row, failed=_why(entry, error).replace(f"{folder}/", "")), None
    if fatal := [defect.sentence for defect in defects if defect.fatal]:
        return replace(row, failed=f"{entry.path.relative_to(folder)}: {fatal[0]}"), None
    stream = opened.stream
    notes = [*opened.notes, *(defect.sentence for defect in defects)]
    try:
        trials = of_recording.trials(cfg.events, entry, opened).trials
    except Exception as error:  # noqa: BLE001  as above
        trials, notes = (), [*notes, f"no trials: {_why(entry, error)}".replace(f"{folder}/", "")]
    try:
        labels = {*recording_labels(entry)}
        there = {**of_recording.events_in(entry, opened), **{each.name: each.counts for each in codes if each.counts}}
    except Exception as error:  # noqa: BLE001  as above
        labels, there, why = set(), {}, _why(entry, error).replace(f"{folder}/", "")
        notes = notes if f"no trials: {why}" in notes else [*notes, f"events: {why}"]
    described = replace(
        row,
        channels=dict(Counter(stream.sensor(channel).kind for channel in stream.channels)),
        sfreq=stream.sfreq,
        duration_s=stream.duration,
        stimuli=dict(Counter(trial.stimulus for trial in trials)),
        labels=tuple(sorted(labels | {label for trial in trials for label in trial.labels})),
        events={name: dict(counts) for name, counts in there.items()},
        notes=tuple(notes),
        checksum=digest.hexdigest() if cfg.samples else "",
        decided=opened.decided,
    )
    return described, _look(entry, opened, trials) if cfg.samples else None


def _look(entry: Entry, opened: Opened, trials: Sequence[Trial]) -> dict[str, Any]:
    try:
        return page_data.of(opened.stream, opened.bads, trials)
    except Exception as error:
        log.warning("%s cannot be drawn", entry.name, exc_info=error)
        return page_data.empty(f"{type(error).__name__}: {error}")


def _why(entry: Entry, error: Exception) -> str:
    if not isinstance(error, ValueError | OSError):
        log.debug("%s", entry.path, exc_info=error)
    return guard.one_line(entry.path, error)


class _Codes:
    """Counts the values to which a trigger channel changes, as it is read from its start on."""

    def __init__(self, name: str, place: int) -> None:
        self.name, self.place = name, place
        self.counts, self._last, self._is_digital = Counter[str](), 0.0, True

    def add(self, block: np.ndarray) -> None:
        column = block[:, self.place]
        if not self._is_digital or not len(column):
            return
        starts = column[(np.diff(column, prepend=self._last) != 0) & (column != 0)]
        self._last = float(column[-1])
        self.counts.update(f"{value:g}" for value in starts.tolist())
        if not (starts == np.rint(starts)).all() or len(self.counts) > MOST_CODES:
            self._is_digital, self.counts = False, Counter[str]()


def _codes(stream: Stream) -> list[_Codes]:
    """One for each trigger channel."""
    return [_Codes(name, k) for k, name in enumerate(stream.channels) if stream.sensor(name).kind == "stim"]


def _hashed(stream: Stream, digest: hashlib.blake2b, codes: Sequence[_Codes], beat: Callable[[], None]) -> Stream:
    """Return the stream; the brain channels that are read also update the digest, and trigger channels their counts."""
    brain = [place for place, channel in enumerate(stream.channels) if stream.sensor(channel).kind in BRAIN]

    def read(first: int, stop: int) -> np.ndarray:
        beat()
        block = stream.read(first, stop)
        for each in codes:
            each.add(block)
        digest.update(np.ascontiguousarray(block[:, brain], np.float32).tobytes())
        return block

    return replace(stream, read=read)

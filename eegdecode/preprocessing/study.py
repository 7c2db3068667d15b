"""Preprocess a study into a store: `python -m hpc.launch preprocess …`. Recordings are distributed over the ranks, the
longest first; those that cannot be used are named at the end, and the others are done all the same.

A recording in the store is kept if it was made from the same config and the same bytes. So a stopped run continues,
and after a change to the study only the changed recordings are redone.
"""

import glob
import hashlib
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from eegdecode.data import targets
from eegdecode.data.events import bad_spans, of_recording
from eegdecode.data.io import guard, recordings, samples
from eegdecode.data.io.bids import applicable, stem
from eegdecode.data.io.channels.table import Channel
from eegdecode.data.io.readers.opened import Opened
from eegdecode.data.io.recordings import Entry
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Stored
from eegdecode.data.survey import page_data, study_page
from eegdecode.data.survey.table import REASONS, UNUSABLE, RecordingRow, StudyTable, listed
from eegdecode.data.targets.parts.of_run import target_of
from eegdecode.preprocessing import chains, record
from eegdecode.preprocessing.check import included
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.disk_full import retry_when_disk_is_full
from eegdecode.signals import Decisions, Recording, Stream
from hpc import config
from hpc.rank import threads
from hpc.rank.context import Context, Fenced, Preempted
from hpc.rank.verification import verify_tree

log = logging.getLogger(__name__)


def run(cfg: Preprocess, ctx: Context) -> dict[str, object]:
    """Fill ctx.out with the store; returns the counts of its survey.

    In one thread: matrix products are too small for two, and the store must not depend on the number of threads.
    """
    with threads.one():
        return _run(cfg, ctx)


def _run(cfg: Preprocess, ctx: Context) -> dict[str, object]:
    study = ctx.input(cfg.study)
    if not verify_tree(ctx, study):
        raise Preempted
    for source in cfg.features:
        folder = ctx.input(source)
        if not verify_tree(ctx, folder):
            raise Preempted
        cfg = replace(cfg, targets=(*cfg.targets, target_of(folder)))
    if twice := [name for name, n in Counter(map(targets.stored_name, cfg.targets)).items() if n > 1]:
        raise ValueError(f"two targets would be stored as {twice[0]}: give one of them another title, or leave it out")
    entries = included(recordings.find(study, cfg.files), cfg.exclude)
    if ctx.world.is_first:
        retry_when_disk_is_full(ctx, lambda: store.write_manifest(ctx.out, [entry.name for entry in entries]))
    mine = ctx.world.share(entries, lambda entry: entry.size)
    sizes = [entry.size for entry in mine]
    known = _classes(cfg, study, entries, _progress(ctx, sizes, 0))
    failed: dict[str, str] = {}
    for done, entry in enumerate(mine):
        try:
            retry_when_disk_is_full(ctx, partial(_one, cfg, study, entry, known, ctx, _progress(ctx, sizes, done)))
        except (Preempted, Fenced):
            raise
        except Exception as error:
            if isinstance(error, OSError) and not str(error.filename).startswith(f"{study}/"):
                raise  # a full disk and the like affect all recordings, not this one
            ours = isinstance(error, ValueError | OSError)
            failed[entry.name] = guard.one_line(entry.path, error).replace(f"{study}/", "")
            log.error("%s cannot be used: %s", entry.name, error, exc_info=None if ours else error)
    _progress(ctx, sizes, len(mine))(0.0)
    failures = [(name, why) for of_rank in ctx.gather(failed) for name, why in of_rank.items()]
    table, counts = None, Counter[str]()
    if ctx.world.is_first:
        store.sweep(ctx.out)
        for left in ctx.out.glob(".scratch-*"):
            shutil.rmtree(left)
        if failures and cfg.skip_failed:
            names = {name for name, _ in failures}
            store.write_manifest(ctx.out, [entry.name for entry in entries if entry.name not in names])
        table = survey(ctx.out, entries, dict(failures), whole=not failures or cfg.skip_failed)
        title = f"What preprocessing made of {Path(cfg.study).name}"
        good = [row.name for row in table.good]
        counts = record.counts(ctx.out, good)
        decided = record.sentences(counts)
        written = partial(study_page.write, ctx.out, title, table, partial(record.read, ctx.out), decided)
        retry_when_disk_is_full(ctx, written)
        retry_when_disk_is_full(ctx, partial(record.write_components, ctx.out, good))
        log.info("%s\n%s", "\n".join([*table.sentences(), *decided]), table.table())
    if failures and not cfg.skip_failed:
        raise ValueError(_explain(dict(sorted(failures)), len(entries), cfg.exclude))
    if table is None:
        return {}
    notes = {"notes": [s for s in table.sentences() if s.startswith(UNUSABLE)]} if failures else {}
    return {**table.metrics(), **record.metrics(counts), **notes, "page": f"{PAGE}.html"}


def _progress(ctx: Context, sizes: Sequence[int], done: int) -> Callable[[float], None]:
    """A function that reports the progress within the next recording, and raises Preempted if the run is to stop."""
    before, here, in_all = sum(sizes[:done]), sum(sizes[done : done + 1]), sum(sizes)

    def beat(part: float) -> None:
        if ctx.should_stop():
            raise Preempted
        ctx.progress("preprocess MB", round((before + part * here) / 1e6), round(in_all / 1e6), recordings=done)

    beat(0.0)
    return beat


def _classes(
    cfg: Preprocess, study: Path, entries: Sequence[Entry], beat: Callable[[float], None]
) -> dict[str, tuple[str, ...]]:
    """The names of classes of each target, over the whole study, so that a class has the same number in all recordings.
    Recordings that cannot be opened are skipped here, and reported when their turn comes. A label that no recording
    has is refused, before any signal is read."""
    columns = {
        targets.stored_name(target): column for target in cfg.targets if (column := targets.column(target)) is not None
    }
    values_of: dict[str, set[str | float]] = {column: set() for column in columns.values()}
    lacking: dict[str, list[str]] = {column: [] for column in values_of}
    n_read = 0
    for entry in entries if columns else ():
        beat(0.0)
        try:
            trials = of_recording.trials(
                cfg.events, entry, recordings.open_entry(entry, cfg.reading), labels(cfg)
            ).trials
            n_read += 1
            for column, values in values_of.items():
                try:
                    values.update(targets.values(column, trials))
                except ValueError as error:
                    lacking[column].append(f"{entry.name}: {error}")
        except (Preempted, Fenced):
            raise
        except Exception as error:  # noqa: BLE001  as above: it is reported in its turn
            log.debug("%s: %s", entry.name, error)
    for column, why in lacking.items():
        if why and len(why) == n_read:
            raise ValueError(f"no recording has a label {column!r} for its trials: {why[0]}".replace(f"{study}/", ""))
    if n_read and columns and not any(values_of.values()):
        raise ValueError(f"no recording has a trial, {n_read} were looked at: `hpc survey` lists codes and annotations")
    return {name: targets.classes(values_of[column]) for name, column in columns.items()}


def _one(
    cfg: Preprocess,
    study: Path,
    entry: Entry,
    known: Mapping[str, tuple[str, ...]],
    ctx: Context,
    beat: Callable[[float], None],
) -> None:
    opened = recordings.open_entry(entry, cfg.reading)
    presented = of_recording.trials(cfg.events, entry, opened, labels(cfg))
    trials, words = presented.trials, entry.words
    stimuli = (targets.files(target, trials, study, words) for target in cfg.targets)
    others = of_recording.sources(cfg.events, entry)
    in_events = {column for row in (entry.events() or [])[:1] for column in row}
    lacking = labels(cfg) - in_events - {"stimulus"}
    if lacking and lacking & entry.participant.keys():
        others.add(study / "participants.tsv")
    files = sources(study, entry, others.union(*stimuli, *(chains.files(step, entry.subject) for step in cfg.steps)))
    key = _key({**_settings(cfg), "classes": known}, study, files, lambda: beat(0.0))
    is_drawn = record.is_there(ctx.out, entry.name) and page_data.read(ctx.out, entry.name, key) is not None
    if is_drawn and store.holds(ctx.out, entry.name, key):
        return
    notes = [*opened.notes, *presented.notes]
    for target in cfg.targets:
        notes += targets.overlong_trials(target, trials, study)
    for defect in samples.find_defects(opened.stream, N_CHECKED):
        if defect.fatal:
            raise ValueError(f"{entry.path}: {defect.sentence}")
        notes.append(defect.sentence)
    for note in notes:
        log.info("%s: %s", entry.name, note)
    before = trials
    spans = () if cfg.bad_spans == "ignore" else bad_spans.annotated(opened.annotations, entry.events())
    trials, dropped = bad_spans.applied(cfg.bad_spans, before, spans, cfg.shortest_s)
    known_bad = Decisions(spans=spans)
    raw = replace(
        opened.stream,
        bads=tuple(opened.bads),
        decisions=known_bad,
        recording=entry.name,
        subject=entry.subject,
    )
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=ctx.out) as scratch:
        signal = chains.apply(chains.with_pick(cfg.steps), raw, trials=trials, scratch=Path(scratch))
        if signal.decisions.spans != spans:
            spans = signal.decisions.spans
            trials, dropped = bad_spans.applied(cfg.bad_spans, before, spans, cfg.shortest_s)
        if before and not trials:
            raise ValueError(record.all_dropped(dropped, cfg.bad_spans))
        computed = {
            name: targets.make(target, trials, study, signal.duration, known.get(name, ()), words)
            for target in cfg.targets
            for name in [targets.stored_name(target)]
        }
        recording = Recording(
            entry.name,
            entry.subject,
            signal,
            trials,
            entry.session,
            entry.run,
            {name: each for name, each in computed.items() if isinstance(each, Stream)},
            {name: each for name, each in computed.items() if not isinstance(each, Stream)},
        )
        samples_file = recordings.samples_file(entry)
        provenance = {
            "study": Path(cfg.study).name,
            "sources": [_called(path, study) for path in files],
            "content": _content(samples_file, samples_file.stat().st_mtime_ns, lambda: beat(0.0)),
            "raw": {"channels": opened.stream.n_channels, "sfreq": opened.stream.sfreq},
            "notes": [*notes, *signal.decisions.notes],
            "channels": [asdict(channel) for channel in opened.decided],
            "classes": known,
            **_settings(cfg),
            "spans": [(span.start, span.stop) for span in spans] if cfg.bad_spans != "ignore" else [],
        }
        ctx.fence()
        record.write(ctx.out, record.of_recording(entry.name, signal.decisions, signal.channels, trials, dropped))
        store.write(ctx.out, recording, provenance, key, cfg.int16, beat)
        _look(cfg, ctx, recording, opened, key)


def _look(cfg: Preprocess, ctx: Context, recording: Recording, opened: Opened, key: str) -> None:
    """Write the page data of a recording, of what is stored now. A picture that fails costs no recording."""
    stored = store.written(ctx.out, recording.name)
    signal = recording.signal
    after = replace(signal, read=stored.read, n_times=stored.n_times)
    scaled = any(getattr(step, "unitless", False) for step in cfg.steps)
    columns = [column for target in cfg.targets if (column := targets.column(target)) is not None]
    try:
        looked = page_data.of(opened.stream, opened.bads, recording.trials, after, scaled, columns)
    except Exception as error:  # the recording is stored, and the page has the sentence
        log.warning("%s cannot be drawn", recording.name, exc_info=error)
        looked = page_data.empty(f"{type(error).__name__}: {error}")
    ctx.fence()
    page_data.write(ctx.out, recording.name, looked, key)


N_CHECKED = 60
"""Pieces of 10 s of a recording that are checked for damage before it is used."""


def labels(cfg: Preprocess) -> set[str]:
    """The labels of trials that are asked for: by targets, and as such."""
    return {column for target in cfg.targets if (column := targets.column(target)) is not None}.union(cfg.labels)


def sources(study: Path, entry: Entry, stimuli: Iterable[Path]) -> list[Path]:
    """The files a recording is made from: its own, its sidecars, and the sources of its targets."""
    own = entry.path.rglob("*") if entry.path.is_dir() else entry.path.parent.glob(f"{glob.escape(stem(entry.path))}*")
    sidecars = (
        file
        for what in ("channels.tsv", "electrodes.tsv", "coordsystem.json", "events.tsv", "eeg.json", "meg.json")
        for file in applicable(study, entry.path, what)
    )
    return sorted({file for file in (entry.path, *own, *sidecars, *stimuli) if file.is_file()})


def _settings(cfg: Preprocess) -> dict[str, Any]:
    """All settings that affect the numbers; those that came later only if they are set, so that older recordings are
    taken for what they are."""
    settings = {
        "events": asdict(cfg.events) if cfg.events else None,
        "steps": [asdict(step) for step in cfg.steps],
        "targets": [asdict(target) for target in cfg.targets],
        "matlab": asdict(cfg.matlab),
        "table": asdict(cfg.table),
        "units": dict(cfg.units),
        "kinds": dict(cfg.kinds),
        "int16": cfg.int16,
        "labels": list(cfg.labels),
        "bad_spans": [cfg.bad_spans, cfg.shortest_s],
    }
    given = config.without(settings, [path for path in config.unnamed(cfg) if path.partition(".")[0] in settings])
    return dict(given)


def _key(settings: Mapping[str, Any], study: Path, files: Sequence[Path], beat: Callable[[], None]) -> str:
    """A hash of the settings and the content of the files that a recording is made from."""
    content = {_called(path, study): _content(path, path.stat().st_mtime_ns, beat) for path in files}
    text = json.dumps([store.SCHEMA, MAKING, settings, content], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


MAKING = 3
"""Increased when the same settings give other numbers or trials, so that older recordings are made again."""


def _called(path: Path, study: Path) -> str:
    """The path relative to the study if inside it; embeddings and the like may be elsewhere."""
    return str(path.relative_to(study)) if path.is_relative_to(study) else str(path)


_KNOWN: dict[tuple[Path, int], str] = {}
"""Digests of files that were read before, as many recordings share their stimuli."""


def _content(path: Path, written_ns: int, beat: Callable[[], None]) -> str:
    if (path, written_ns) not in _KNOWN:
        _KNOWN[path, written_ns] = recordings.content(path, beat)
    return _KNOWN[path, written_ns]


def survey(folder: Path, entries: Sequence[Entry], failed: Mapping[str, str], whole: bool) -> StudyTable:
    """The table of the recordings in the store and of those that failed. Writes the index if the store is complete."""
    stored_as = {stored.name: stored for stored in (store.write_index(folder) if whole else store.there(folder))}
    return StudyTable(
        page=PAGE,
        rows=tuple(
            RecordingRow(e.name, e.subject, e.session, e.run, failed=failed[e.name])
            if e.name in failed
            else _row(stored_as[e.name])
            for e in entries
        ),
    )


PAGE = "preprocess"
"""The name of the page."""


def _row(stored: Stored) -> RecordingRow:
    return RecordingRow(
        stored.name,
        stored.subject,
        stored.session,
        stored.run,
        dict(Counter(sensor.kind for sensor in stored.sensors)),
        stored.sfreq,
        stored.n_times / stored.sfreq,
        dict(Counter(trial.stimulus for trial in stored.trials)),
        tuple(sorted({label for trial in stored.trials for label in trial.labels})),
        tuple(stored.made.get("notes", ())),
        stored.checksum,
        str(stored.made.get("content", "")),
        decided=tuple(Channel(**each) for each in stored.made.get("channels", ())),
        drawn=stored.name,
        key=stored.key,
    )


def _explain(failed: Mapping[str, str], n: int, excluded: Sequence[str]) -> str:
    why: dict[str, list[str]] = {}
    for name, reason in failed.items():
        why.setdefault(reason, []).append(name)
    shown = list(why.items())[:REASONS]
    left = len(failed) - sum(len(names) for _, names in shown)
    more = f"\n  … and {left} more, all of them in {PAGE}.html" if left else ""
    # Quoted for the shell and YAML, in which a leading * is a reference
    patterns = [name if name[:1].isalnum() else f'"{name}"' for name in (*excluded, *failed)]
    out = f"'preprocess.exclude=[{','.join(patterns)}]'"
    return (
        f"{len(failed)} of {n} recordings cannot be used; the others are done:\n"
        + "\n".join(f"  {listed(names)}: {reason}" for reason, names in shown)
        + f"{more}\nRepair them and run the same command again; or leave them out, "
        + (out if len(failed) <= NAMED else "preprocess.skip_failed=true")
    )


NAMED = 6
"""Names in a command for the user to copy, at most."""

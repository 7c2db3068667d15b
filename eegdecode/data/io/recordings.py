"""Find the recordings of a study, BIDS or not, and open one with its sidecars.

    find(study)                                        BIDS: sub-*/[ses-*/]{eeg,meg,ieeg}/*
    find(study, "EEGdata/{subject}/*_{part}.set")      any folder; the fields in braces name the recording
    find(study, "files.tsv")                           those of a table: path, subject, and whatever else is known

Finding opens no file, only names and sizes are read: a study of 10,000 recordings takes seconds.
"""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from eegdecode.data.config.files import Reading
from eegdecode.data.io import bids, event_files, guard
from eegdecode.data.io.bids import read_tsv as read_tsv
from eegdecode.data.io.bids import sidecar as sidecar
from eegdecode.data.io.channels import decide
from eegdecode.data.io.formats import EXTENSIONS
from eegdecode.data.io.guard import Refused
from eegdecode.signals import BRAIN, Sensor, Stream
from hpc import media
from hpc.errors import first_of

if TYPE_CHECKING:
    from eegdecode.data.io.readers.opened import Opened

NAMED = ("subject", "session", "task", "run")
TABLES = (".tsv", ".csv")
PATHS = ("path", "file", "filename", "file_name")
"""The columns of a table of files that may have the path of a recording."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One recording of a study, not opened yet. `name` is that of its file, without `_eeg` and extension."""

    name: str
    path: Path
    subject: str
    session: str
    run: str
    task: str = ""
    size: int = 0  # bytes, of all its files
    study: Path = field(default=Path())
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)  # of its name: what stands in braces in `files`
    row: Mapping[str, str] = field(default_factory=dict, hash=False)  # in the table of files

    @property
    def words(self) -> dict[str, str]:
        """The fields that a config may use in braces, as `part-{run}`."""
        path = self.path.relative_to(self.study).as_posix() if self.path.is_relative_to(self.study) else self.path.name
        return {**self.fields, **{name: getattr(self, name) for name in ("name", *NAMED)}, "path": path}

    def events(self) -> list[dict[str, str]] | None:
        """The rows of events.tsv, if there is one."""
        files = bids.applicable(self.study, self.path, "events.tsv")
        return read_tsv(files[-1]) if files else None

    @cached_property
    def participant(self) -> dict[str, str]:
        """The subject's row of participants.tsv; empty where there is none."""
        file = self.study / "participants.tsv"
        rows = _participants(file, file.stat().st_mtime_ns) if file.is_file() else []
        bare = self.subject.removeprefix(f"{self.study.name}-")
        return next((row for row in rows if row.get("participant_id", "") in (bare, bare.removeprefix("sub-"))), {})


@lru_cache(maxsize=8)
def _participants(file: Path, written_ns: int) -> list[dict[str, str]]:
    """The rows of a table that all recordings look into, read once."""
    return read_tsv(file)


def find(study: Path, files: str = "") -> list[Entry]:
    """All recordings below a study, sorted by name: by the rules of BIDS, those that match a pattern, or those of a
    table.

    Left out are derivatives, empty-room recordings, and files of the machine (crosstalk, calibration).
    """
    if not study.is_dir():
        raise ValueError(f"there is no study at {study}: name a folder, or a finished run of synthesize")
    _say_unread(study.absolute())
    if files.endswith(TABLES) and "{" not in files:
        entries = _listed(study, files)
    else:
        entries = _fitting(study, files) if files else _bids(study)
    twice = sorted(name for name, n in Counter(entry.name for entry in entries).items() if n > 1)
    if twice:
        paths = " and ".join(str(entry.path.relative_to(study)) for entry in entries if entry.name == twice[0])
        raise ValueError(f"{paths} are both called {twice[0]}: leave one of them out, or rename it")
    return sorted(entries, key=lambda entry: entry.name)


@lru_cache(maxsize=8)
def _say_unread(study: Path) -> None:
    """Say once that a table of subjects is not read, as its columns would be missed among the labels."""
    other = [name for name in ("participants.csv", "participants.xlsx") if (study / name).is_file()]
    if other and not (study / "participants.tsv").exists():
        log.warning(
            "%s is not read: columns of subjects, as age, come from participants.tsv. Save it under that name, with "
            "tabs and a column participant_id",
            study / other[0],
        )


def join(studies: Mapping[str, Sequence[Entry]], same_subjects: bool = False) -> list[Entry]:
    """Join several studies. Only the caller knows if sub-01 of one is the same person as sub-01 of another."""
    if same_subjects:
        return [replace(e, name=f"{label}-{e.name}") for label, entries in studies.items() for e in entries]
    return [
        replace(entry, name=f"{label}-{entry.name}", subject=f"{label}-{entry.subject}")
        for label, entries in studies.items()
        for entry in entries
    ]


def open_entry(entry: Entry, cfg: Reading = Reading()) -> "Opened":  # noqa: B008 (frozen)
    """Open a recording; apply its channels.tsv, electrodes.tsv, coordsystem.json and .json, and what the config says of
    its channels."""
    from eegdecode.data.io import raw  # mne: only for those who open

    opened, rows = raw.open(entry.path, cfg), {}
    if tables := bids.applicable(entry.study, entry.path, "channels.tsv"):
        rows = bids.by_name(tables[-1])
        about = bids.disagreements(opened.stream, rows, tables[-1].name, entry.path.name)
        opened = replace(opened, notes=(*opened.notes, *about))
    opened = decide.channels(opened, rows, tables[-1].name if tables else "channels.tsv", cfg)
    stream, notes = opened.stream, list(opened.notes)
    if tables := bids.applicable(entry.study, entry.path, "electrodes.tsv"):
        stream, more = _placed(entry, stream, tables[-1])
        notes += more
    metadata: dict[str, object] = {}
    for suffix in bids.SUFFIXES:
        metadata |= bids.merged(bids.applicable(entry.study, entry.path, f"{suffix}.json"))
    json_hz = metadata.get("SamplingFrequency")
    if isinstance(json_hz, int | float) and abs(json_hz - stream.sfreq) > 1e-3 * stream.sfreq:
        notes.append(f"{entry.path.name} has {stream.sfreq:g} Hz, its json {json_hz:g} Hz: the file is used")
    line_hz = metadata.get("PowerLineFrequency")
    return replace(
        opened,
        stream=stream,
        notes=tuple(notes),
        line_hz=float(line_hz) if isinstance(line_hz, int | float) else opened.line_hz,
    )


def _placed(entry: Entry, stream: Stream, electrodes: Path) -> tuple[Stream, list[str]]:
    """The stream with positions from electrodes.tsv, in the unit of coordsystem.json of the same space."""
    space = re.search(r"_space-[A-Za-z0-9]+", electrodes.name)
    systems = [
        file
        for file in bids.applicable(entry.study, entry.path, "coordsystem.json")
        if not space or space[0] in file.name
    ]
    places, note = bids.positions(electrodes, bids.merged(systems))
    sensors = dict(stream.sensors)
    for name in stream.channels:
        sensor = stream.sensor(name)
        if name in places and sensor.kind in BRAIN:
            sensors[name] = Sensor(sensor.kind, places[name])
    notes = [note] if note else []
    if unplaced := [n for n in stream.channels if sensors.get(n, Sensor()).kind == "eeg" and n not in places]:
        notes.append(f"{electrodes.name} has no position for {', '.join(unplaced[:6])}, which {entry.path.name} has")
    return replace(stream, sensors=sensors), notes


def samples_file(entry: Entry) -> Path:
    """The file of a recording that holds its samples: copies of it are one recording, whatever the sidecars."""
    path = entry.path
    if path.is_dir():
        inside = [file for file in path.rglob("*") if file.is_file()]
        return max(inside, key=lambda file: (file.stat().st_size, file), default=path)
    suffixes = {".set": (".fdt",), ".vhdr": (".eeg", ".dat")}.get(path.suffix.lower(), ())
    return next((file for suffix in suffixes if (file := path.with_suffix(suffix)).is_file()), path)


def content(file: Path, beat: Callable[[], None]) -> str:
    """A digest of all its bytes."""
    digest = hashlib.blake2b(digest_size=16)
    with guard.open_file(file) as opened:
        while block := opened.read(1 << 24):
            digest.update(block)
            beat()
    return digest.hexdigest()


def stimulus_file(study: Path, stimulus: str) -> Path:
    """The file that a `stim_file` in events.tsv stands for; in a study of sounds, the recording itself."""
    path = guard.below(study / "stimuli", stimulus, "put the file there, and write its name from there on")
    return path if path.is_file() or not (study / stimulus).is_file() else study / stimulus


def _bids(study: Path) -> list[Entry]:
    entries = [
        entry
        for subject in _folders(study, "sub-")
        if subject.name != "sub-emptyroom"
        for above in [subject, *_folders(subject, "ses-")]
        for suffix in bids.SUFFIXES
        for entry in _of_folder(study, above / suffix, suffix)
    ]
    if not entries:
        raise ValueError(
            f"no EEG or MEG recording in {study}: BIDS has them as sub-01/eeg/sub-01_task-music_eeg.EXT, "
            f"where EXT is one of {' '.join(EXTENSIONS)}; for any other folder give the pattern of its files, as "
            'files="{subject}/*_{run}.set", or a table of them, as files=files.tsv with the columns path and subject'
        )
    return entries


def _folders(above: Path, prefix: str) -> list[Path]:
    with os.scandir(above) as entries:
        return sorted(Path(each) for each in entries if each.name.startswith(prefix) and each.is_dir())


def _of_folder(study: Path, folder: Path, suffix: str) -> Iterator[Entry]:
    """The recordings in a folder eeg, meg or ieeg, each with the size of all files of its name."""
    if not folder.is_dir():
        return
    mine: dict[str, list[os.DirEntry[str]]] = {}
    with os.scandir(folder) as entries:
        for each in entries:
            bare = re.sub(r"_split-\d+(?=_)", "", each.name)
            name, ending, extension = bare.partition(f"_{suffix}")
            if ending and (extension.startswith(".") or (not extension and each.is_dir())):
                mine.setdefault(name, []).append(each)
    for name, parts in mine.items():
        if re.search(r"_acq-(crosstalk|calibration)(_|$)", name):
            continue
        paths = [file for part in parts for file in _data(Path(part), suffix)]
        kinds = {_extension(path) for path in paths}
        if not paths:
            continue
        entities = dict(re.findall(r"(?:^|_)([a-z]+)-([A-Za-z0-9+]+)", name))
        for kind in sorted(kinds):  # two formats of one recording share a name, which `find` refuses
            yield Entry(
                name=name,
                path=min(path for path in paths if _extension(path) == kind),
                subject=f"sub-{entities.get('sub', '')}",
                session=entities.get("ses", ""),
                run=entities.get("run", ""),
                task=entities.get("task", ""),
                size=sum(_size(part) for part in parts),
                study=study,
                fields={key: value for key, value in entities.items() if key not in ("sub", "ses", *NAMED)},
            )


def _data(path: Path, suffix: str) -> list[Path]:
    """The file or folder to open. A KIT recording has a folder of its own, with the marker measurements."""
    if _extension(path) in EXTENSIONS:
        return [path]
    if not path.suffix and path.is_dir():
        inside = (each for end in (".con", ".sqd") for each in path.glob(f"*_{suffix}{end}"))
        return sorted(each for each in inside if "_split-" not in each.name or "_split-01" in each.name)
    return []


def _extension(path: Path) -> str:
    return ".fif.gz" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()


def _size(part: os.DirEntry[str]) -> int:
    if part.is_dir():
        return sum(file.stat().st_size for file in Path(part).rglob("*") if file.is_file())
    # A file that git annex did not fetch is a broken link: still a recording; opening it explains
    return part.stat(follow_symlinks=Path(part).exists()).st_size


def _fitting(study: Path, files: str) -> list[Entry]:
    """The recordings that match a pattern; fields in braces that are no entity of ours go into the name."""
    labels = re.findall(r"{(\w*)}", files)
    if "subject" not in labels or "" in labels or files.startswith(("/", "{study}")):
        raise ValueError(
            f"files={files!r} must have {{subject}}, and a word in all braces: as {{subject}}/*_{{run}}.set below the "
            "study"
        )
    pattern, loose, matches, apart = _regex(files), _regex(files, agree=False), [], []
    for path, size in _walk(study, depth=None if "**" in files else files.count("/")):
        if event_files.is_one(path):
            continue
        if match := pattern.fullmatch(path.relative_to(study).as_posix()):
            matches.append((path, size, match.groupdict()))
        elif loose.fullmatch(path.relative_to(study).as_posix()):
            apart.append(path.relative_to(study).as_posix())
    # A second part of a split FIF file is read with the first
    paths = {path for path, _, _ in matches}
    matches = [
        each
        for each in matches
        if not (part := re.fullmatch(r"(.*)-\d+\.fif", str(each[0]))) or Path(f"{part[1]}.fif") not in paths
    ]
    if not matches:
        if apart:
            raise ValueError(f"in files={files!r} a field stands twice, but its values differ, as in {apart[0]}")
        raise ValueError(f"files={files!r} matches nothing in {study}: there are {_some_files(study)}")
    if apart:
        log.warning("left out, as a field that stands twice in files=%r differs there: %s", files, first_of(apart))
    names = [_name(entities) for _, _, entities in matches]
    if len(set(names)) < len(names):  # the fields do not separate them, their paths do
        names = [media.file_name(path.relative_to(study).with_suffix("").as_posix()) for path, _, _ in matches]
        names = [f"{_name(entities)}_{name}" for name, (_, _, entities) in zip(names, matches, strict=True)]
    return [
        Entry(
            name=name,
            path=path,
            subject=f"sub-{entities['subject'].removeprefix('sub-')}",
            session=entities.get("session", ""),
            run=entities.get("run", ""),
            task=entities.get("task", ""),
            size=size,
            study=study,
            fields={label: value for label, value in entities.items() if label not in NAMED},
        )
        for name, (path, size, entities) in zip(names, matches, strict=True)
    ]


def _listed(study: Path, files: str) -> list[Entry]:
    """The recordings of a table: a row for each, with its path from the table's folder on; all of it may be a label."""
    table = guard.below(study, files, "name a table below the study")
    if not table.is_file():
        guard.regular(table)
        raise Refused(f"there is no {table}: add it, or correct files")
    columns, rows = bids.table(table)
    where = next((column for column in columns if column.strip().lower() in PATHS), "")
    if not where or "subject" not in columns or not rows:
        raise Refused(
            f"{table} has {len(rows)} rows and the columns {', '.join(columns)}: a table of files needs the columns "
            "path and subject, and a row for each recording"
        )
    entries = [_in_row(study, table, number, row, where) for number, row in enumerate(rows, 1)]
    names = Counter(entry.name for entry in entries)
    paths = [media.file_name(entry.path.relative_to(study).with_suffix("").as_posix()) for entry in entries]
    return [
        replace(entry, name=f"{entry.name}_{path}") if names[entry.name] > 1 else entry
        for entry, path in zip(entries, paths, strict=True)
    ]


def _in_row(study: Path, table: Path, number: int, row: Mapping[str, str], where: str) -> Entry:
    row = {column: "" if cell.strip().lower() == "n/a" else cell.strip() for column, cell in row.items()}
    if not row["subject"] or not row[where]:
        raise Refused(f"row {number} of {table} lacks its {'subject' if row[where] else 'path'}: write it")
    path = guard.below(table.parent, row[where], "put the recording below the folder of the table")
    named = {field: row[field] for field in NAMED if row.get(field)}
    return Entry(
        name=_name(named),
        path=path,
        subject=f"sub-{row['subject'].removeprefix('sub-')}",
        session=named.get("session", ""),
        run=named.get("run", ""),
        task=named.get("task", ""),
        size=path.stat().st_size if path.is_file() else 0,  # opening it says what is wrong
        study=study,
        row={column: cell for column, cell in row.items() if column not in (where, *NAMED)},
    )


def parse_name(files: str, name: str) -> dict[str, str] | None:
    """The fields of a file's name by a pattern with braces; None where it does not match."""
    match = _regex(files).fullmatch(name)
    return match.groupdict() if match else None


def _name(entities: Mapping[str, str]) -> str:
    """A name in the style of BIDS: sub-YH00_part-3."""
    short = {"subject": "sub", "session": "ses"}
    ordered = sorted(entities, key=lambda label: (NAMED.index(label) if label in NAMED else len(NAMED), label))
    values = {label: media.file_name(entities[label].removeprefix("sub-")) for label in ordered}
    return "_".join(f"{short.get(label, label)}-{values[label]}" for label in ordered)


def _regex(files: str, agree: bool = True) -> re.Pattern[str]:
    """A field that stands again has the same value again; without `agree`, any."""
    out, fields = "", set[str]()
    for part in re.split(r"({\w+}|\*\*/|\*|\?)", files):
        if part.startswith("{") and part[1:-1] in fields:
            out += f"(?P={part[1:-1]})" if agree else "[^/]+?"
        elif part.startswith("{"):
            out += f"(?P<{part[1:-1]}>[^/]+?)"
            fields.add(part[1:-1])
        else:
            out += {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return re.compile(out)


def _walk(folder: Path, depth: int | None) -> Iterator[tuple[Path, int]]:
    """Files and folders that are recordings, with their sizes, down to a depth."""
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda each: each.name)
    for each in listed:
        path = Path(each)
        if not each.is_dir() or _extension(path) in EXTENSIONS:
            yield path, _size(each)
        elif each.name != "derivatives" and not each.name.startswith(".") and depth != 0:
            yield from _walk(path, None if depth is None else depth - 1)


def _some_files(study: Path) -> str:
    some = [path.relative_to(study).as_posix() for path, _ in _walk(study, None) if _extension(path) in EXTENSIONS][:4]
    return f"{', '.join(some)} …" if some else "no recordings at all"

"""The BIDS sidecars of a recording: which ones apply, and what they say about channels and electrodes.

A sidecar applies if it is in the recording's folder or above, up to the study, and its name has no entity that the
recording's has not (sub-01_task-rest_channels.tsv for every run of that task). The nearest wins.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from eegdecode.data.io import guard
from eegdecode.data.io.channels import units
from eegdecode.data.io.guard import Refused
from eegdecode.signals import Kind, Stream
from hpc.errors import first_of

SUFFIXES = ("eeg", "meg", "ieeg")
KINDS: dict[str, Kind] = {
    "EEG": "eeg", "MEGMAG": "mag", "MEGGRADAXIAL": "mag", "MEGGRADPLANAR": "grad", "MEG": "mag", "ECOG": "ecog",
    "SEEG": "seeg", "DBS": "seeg", "EOG": "eog", "HEOG": "eog", "VEOG": "eog", "ECG": "ecg", "EMG": "emg",
    "TRIG": "stim", "STIM": "stim",
}  # fmt: skip
"""Our kind for each `type` in channels.tsv; everything else is misc."""
ALS = ("CTF", "EEGLAB", "EEGLAB-HJ", "4DBti", "KitYokogawa")
"""Coordinate systems with x to the front and y to the left; in the others, x is to the right and y to the front."""
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}


def sidecar(path: Path, what: str) -> Path:
    """The sidecar next to a recording: `…_events.tsv` for `…_eeg.edf`."""
    return path.with_name(f"{stem(path)}_{what}")


def stem(path: Path) -> str:
    """The name of a recording's file without extension, split and _eeg."""
    bare = re.sub(r"(\.fif\.gz|\.[A-Za-z0-9]+)$", "", path.name)
    bare = re.sub(r"_split-\d+(?=_)", "", bare)
    return re.sub(rf"_({'|'.join(SUFFIXES)})$", "", bare)


def read_tsv(path: Path) -> list[dict[str, str]]:
    return table(path)[1]


def table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a .tsv or .csv, and its rows by column."""
    columns, rows = numbered(path)
    return columns, [dict(zip(columns, cells, strict=True)) for _, cells in rows]


def numbered(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The columns of a .tsv, and its rows with the number of their line."""
    lines = [(number, line) for number, line in enumerate(_lines(path), 1) if line.strip()]
    if not lines:
        raise Refused(f"{path} is empty, without even the names of columns: fetch it again, or remove it")
    separator = _separator(path, lines[0][1])
    columns = _cells(path, *lines[0], separator)
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise Refused(f"{path} has the column {twice[0]!r} twice: rename one of them")
    rows = []
    for number, line in lines[1:]:
        cells = _cells(path, number, line, separator)
        while len(cells) > len(columns) and not cells[-1].strip():  # tabs at the end
            cells.pop()
        if len(cells) != len(columns):
            cure = "remove a tab, or name the column" if len(cells) > len(columns) else "write n/a for what is missing"
            cut = "; it is the last line, so the file may be cut off" if number == lines[-1][0] else ""
            raise Refused(
                f"line {number} of {path} has {len(cells)} cells, but the table has {len(columns)} columns: {cure}{cut}"
            )
        rows.append((number, cells))
    return columns, rows


def _lines(path: Path) -> list[str]:
    """The lines of a table, ended in whichever way; not split at the other separators that Unicode knows."""
    return re.split(r"\r\n|\n|\r", guard.text(path))


def _separator(path: Path, header: str) -> str:
    """A tab, but in a .csv the one of three that separates the names of columns."""
    if path.suffix.lower() != ".csv":
        return "\t"
    return max(",;\t", key=header.count)


def _cells(path: Path, number: int, line: str, separator: str) -> list[str]:
    """The cells of a line. A quoted one may hold separators, as programs for spreadsheets write it, but no line
    break."""
    if '"' not in line:
        return line.split(separator)
    try:
        (cells,) = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error as error:
        raise Refused(f"line {number} of {path} is no row of a table ({error}): look at its quotation marks") from None
    return cells


def by_name(channels_tsv: Path) -> dict[str, dict[str, str]]:
    """The rows of channels.tsv by name; columns that are missing are empty."""
    columns, rows = table(channels_tsv)
    if "name" not in columns:
        raise Refused(
            f"{channels_tsv} has no column name, but {', '.join(columns) or 'none'}: BIDS requires it as the first"
        )
    empty = {"type": "", "units": "", "status": "", "status_description": ""}
    return {row["name"]: empty | row for row in rows}


def applicable(study: Path, path: Path, what: str) -> list[Path]:
    """The sidecars `…_{what}` that apply to a recording, from the study's root down to the nearest."""
    own, files = _entities(stem(path)), []
    for folder in [above for above in reversed(path.parents) if above == study or study in above.parents]:
        fitting = [
            (len(claims), each)
            for each in sorted([*folder.glob(f"*_{what}"), *folder.glob(what)])
            if own.items() >= (claims := _entities(each.name)).items()
            # Outside of BIDS a name without entities belongs to the one recording of that name
            and (claims or each.name in (what, f"{stem(path)}_{what}"))
        ]
        files += [each for _, each in sorted(fitting)]
    return files


def _entities(name: str) -> dict[str, str]:
    """The entities in a name, without those that do not say whose it is (space, split, proc)."""
    entities = dict(re.findall(r"(?:^|_)([a-z]+)-([A-Za-z0-9+]+)", name))
    return {key: value for key, value in entities.items() if key not in ("space", "split", "proc")}


def merged(files: Sequence[Path]) -> dict[str, object]:
    """The values of several .json files; later ones, which are nearer, win."""
    metadata: dict[str, object] = {}
    for file in files:
        metadata |= guard.json_object(file)
    return metadata


def kind(row: Mapping[str, str]) -> Kind | None:
    """Our kind for the type in a row of channels.tsv; None where it has none."""
    type = _given(row.get("type", ""))
    return KINDS.get(type.upper(), "misc") if type else None


def bad(row: Mapping[str, str], table: str) -> str:
    """Why a channel is bad; empty if it is not."""
    if row.get("status", "").lower() != "bad":
        return ""
    return _given(row.get("status_description", "")) or f"marked bad in {table}"


def _given(cell: str) -> str:
    return "" if cell == "n/a" else cell


def disagreements(stream: Stream, rows: Mapping[str, Mapping[str, str]], table: str, data: str) -> list[str]:
    """Where the table and the file disagree on which channels there are, and of which type."""
    notes = []
    if lacking := [name for name in rows if name not in stream.channels]:
        notes.append(f"{table} lists {first_of(lacking)}, which {data} does not have")
    if untold := [name for name in stream.channels if name not in rows]:
        notes.append(f"{data} has {first_of(untold)}, which {table} does not list")
    differing = [
        f"{name} ({stream.sensor(name).kind} and {rows[name]['type']})"
        for name in stream.channels
        # Not if the file says EEG: many files call every channel that
        if name in rows and kind(rows[name]) not in (None, stream.sensor(name).kind)
        if stream.sensor(name).kind not in ("eeg", "misc")
    ]
    if differing:
        notes.append(f"{data} and {table} disagree on types, the table is used: {first_of(differing)}")
    return notes


def volts(unit: str) -> float | None:
    """The unit in volt; None where it is not a voltage."""
    known = units.parse(unit)
    return known[1] if known and known[0] == "V" else None


def positions(
    electrodes_tsv: Path, coordsystem: Mapping[str, object]
) -> tuple[dict[str, tuple[float, float, float]], str]:
    """Positions of electrodes in metres, and a note if the unit had to be guessed."""
    columns, rows = table(electrodes_tsv)
    if lacking := {"name", "x", "y", "z"} - set(columns):
        raise Refused(f"{electrodes_tsv} has no column {', '.join(sorted(lacking))}: it needs name, x, y, z")
    places = {}
    for row in rows:
        try:
            place = (float(row["x"]), float(row["y"]), float(row["z"]))
        except ValueError:
            continue  # n/a: a reference or ground without a measured position
        if all(map(math.isfinite, place)):
            places[row["name"]] = place
    if not places:
        return {}, ""
    stated, system = (
        next((str(value) for key, value in coordsystem.items() if key.endswith(end)), "n/a")
        for end in ("EEGCoordinateUnits", "EEGCoordinateSystem")
    )
    if stated == "pixels":
        return {}, f"{electrodes_tsv.name} has positions on a picture, in pixels: left out"
    extent = max(abs(value) for place in places.values() for value in place)
    unit, note = stated, ""
    if not 0.02 < extent * METRES.get(stated, 0) < 0.5:
        # A head has a radius of about 0.1 m, so only one unit is possible
        fits = [name for name, metres in METRES.items() if 0.03 < extent * metres < 0.3]
        if not fits:
            return {}, f"{electrodes_tsv.name} reaches out to {extent:g}, which is not a head in any unit: left out"
        unit, claim = fits[0], "does not say its unit" if stated == "n/a" else f"says {stated}"
        note = f"{electrodes_tsv.name} reaches out to {extent:g}, and its coordsystem.json {claim}: taken as {unit}"
    scale = METRES[unit]
    if system in ALS:
        return {name: (-y * scale, x * scale, z * scale) for name, (x, y, z) in places.items()}, note
    return {name: (x * scale, y * scale, z * scale) for name, (x, y, z) in places.items()}, note

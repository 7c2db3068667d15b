"""Files of events as the rows of an events.tsv: -eve.fif and .eve of MNE, and tables. Light to import, so that a plan
can look into them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from eegdecode.data.config import FileEvents, TriggerEvents
from eegdecode.data.events import stimuli
from eegdecode.data.events.rows import number
from eegdecode.data.io import bids, event_files, guard
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.recordings import Entry

TABLES = (".tsv", ".csv")
ONSETS = {
    "onset": "s", "onset_s": "s", "onset_ms": "ms", "time": "s", "time_s": "s", "time_ms": "ms", "latency": "",
    "sample": "samples", "samples": "samples", "position": "samples", "start": "s",
}  # fmt: skip
"""The columns with the time of an event, and their unit."""
CODES = ("trial_type", "value", "code", "type", "event", "marker", "trigger", "stimulus", "label", "condition")


class Table(NamedTuple):
    """Events as the rows of an events.tsv, and the column with what was presented."""

    rows: list[dict[str, str]]
    column: str
    source: str
    notes: tuple[str, ...] = ()


def file_of(cfg: FileEvents | TriggerEvents, entry: Entry) -> Path | None:
    """The file that a config names; None where it names none. `{subject}` is as in the names of files, with sub- or
    without."""
    if not cfg.file:
        return None
    bare = {**entry.words, "subject": entry.subject.removeprefix("sub-")}
    paths = [
        guard.below(entry.study, stimuli.fill(cfg.file, names), "put it below the study")
        for names in (bare, entry.words)
    ]
    for path in paths:
        guard.regular(path)
        if path.is_file():
            return path
    raise Refused(f"there is no {paths[0]}: add it, or correct events.file")


def of_event_file(path: Path, sfreq: float, first_sample: int) -> Table:
    """Samples count from the start of the acquisition, which a recording may be a part of."""
    names = event_files.names(path)
    rows = [
        row((sample - first_sample) / sfreq, "0", str(code), names) for sample, code in event_files.read(path).tolist()
    ]
    return Table(rows, "trial_type" if names else "value", path.name)


def row(onset_s: float, duration: str, code: str, names: Mapping[str, str]) -> dict[str, str]:
    """A row as events.tsv has it; the name of a code is its trial_type."""
    cells = {"onset": repr(float(onset_s)), "duration": duration, "value": code}
    return {**cells, "trial_type": names.get(code, code)} if names else cells


def of_table(path: Path, cfg: FileEvents, sfreq: float) -> Table:
    columns, rows = bids.table(path)
    lower = {column.strip().lower(): column for column in columns}
    onset = cfg.onset or next((lower[name] for name in ONSETS if name in lower), "")
    code = cfg.code or next((lower[name] for name in CODES if name in lower), "")
    for setting, column in (("onset", onset), ("code", code)):
        if column not in columns:
            what = f"no column {column}" if column else f"no column that can be recognised as {setting}"
            raise Refused(f"{path} has {what}; there are {', '.join(columns)}: name it with events.{setting}=…")
    unit = cfg.unit or ONSETS.get(onset.strip().lower(), "") or "s"
    per_s = {"s": 1.0, "ms": 1e3, "samples": sfreq}[unit]

    def seconds(cell: str) -> str:
        value = number(cell)
        return cell if value is None else repr(value / per_s)

    made = [
        {**{name: cell for name, cell in row.items() if name != onset}}
        | {"onset": seconds(row[onset]), "duration": seconds(row.get("duration", "n/a"))}
        for row in rows
    ]
    return Table(made, code, path.name)

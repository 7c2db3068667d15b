"""Read a recording from a table: .csv, .tsv, .txt with a column a channel (or a row), and .parquet.

    time,Fz [uV],Cz [uV],trigger          names and units from the header, the rate from the clock
    0.000,12.1,-3.3,0

The separator is the one that the lines share; a decimal comma is understood where the separator is another.
"""

import csv
import io
import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eegdecode.data.config.files import Reading, Table
from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import matrices
from eegdecode.data.io.readers.opened import Annotation, Opened
from hpc.errors import first_of

TIMES = re.compile(
    r"(time|times|t|time_?stamps?|lsl_?time|elapsed|seconds|ms|latency|temps|zeit|tiempo|tempo|tijd|czas)"
    r"([ _]?(s|sec|ms|us))?",
    re.IGNORECASE,
)
SEPARATORS = "\t;,| "
MISSING = ("", "nan", "n/a", "na", "null", "none", "inf", "-inf")
COMMENT = ("#", "%")
MOST_CODES = 64  # texts of a column that are markers; more are something else


class Columns(NamedTuple):
    """A table as text or numbers, by column."""

    names: list[str]
    numbers: np.ndarray  # [row, column], NaN where there is none
    texts: dict[str, list[str]]  # columns of words


def read(path: Path, cfg: Reading) -> Opened:
    table = _parquet(path) if path.suffix.lower() == ".parquet" else _text(path)
    return _opened(path, table, cfg.table)


def _opened(path: Path, table: Columns, cfg: Table) -> Opened:
    bare = [matrices.unit_in_name(name) for name in table.names]
    names = matrices.unique([name for name, _ in bare])
    in_file = {name: unit for name, (_, unit) in zip(names, bare, strict=True) if unit}
    headless = not table.names
    if headless:
        names = tuple(f"ch{k + 1}" for k in range(table.numbers.shape[1]))
    if cfg.rows == "channels" or (headless and not cfg.rows and table.numbers.shape[1] > table.numbers.shape[0]):
        return _of_rows(path, table, cfg)
    clock = _clock(path, names, table.names, cfg, headless)
    rate, notes = cfg.sfreq, list[str]()
    if clock is not None and not rate:
        rate, notes = matrices.rate_of(
            path, table.names[clock] if table.names else names[clock], table.numbers[:, clock]
        )
    elif not rate:
        raise Refused(
            f"{path} has no column with times among {first_of(list(names), 12)}: give its rate with table.sfreq=… "
            "(Hz), or the column with table.time=…"
        )
    chosen = _chosen(path, names, table, clock, cfg)
    data = table.numbers[:, chosen]
    picked = [names[column] for column in chosen]
    if headless and cfg.channels:
        picked = list(cfg.channels)
    left = [name for name in names if name not in picked and (clock is None or name != names[clock])]
    if left and not headless:
        notes.append(f"columns that are no channels: {first_of(left, 8)}")
    return matrices.opened(
        path, lambda first, stop: data[first:stop], len(data), picked, rate, in_file, cfg.unit, notes,
        annotations=_markers(names, table, rate),
    )  # fmt: skip


def _of_rows(path: Path, table: Columns, cfg: Table) -> Opened:
    """A row is a channel; its first cell may be its name."""
    if not cfg.sfreq:
        raise Refused(f"{path} has a row a channel, and so no times: give its rate with table.sfreq=… (Hz)")
    labels = next(iter(table.texts.values()), None)
    data = table.numbers[:, np.isfinite(table.numbers).any(axis=0)].T
    names = tuple(cfg.channels) or matrices.unique(labels or [f"ch{k + 1}" for k in range(data.shape[1])])
    if len(names) != data.shape[1]:
        raise Refused(f"{path} has {data.shape[1]} rows, but table.channels names {len(names)} channels: correct it")
    notes = ["a row was taken as a channel; if not, set table.rows=times"]
    return matrices.opened(path, lambda first, stop: data[first:stop], len(data), names, cfg.sfreq, {}, cfg.unit, notes)


def _clock(path: Path, names: tuple[str, ...], header: list[str], cfg: Table, headless: bool) -> int | None:
    if cfg.time:
        for column, name in enumerate(names):
            if cfg.time in (name, header[column] if header else name):
                return column
        raise Refused(f"{path} has no column {cfg.time!r} among {first_of(list(names), 12)}: correct table.time")
    if headless:
        return None
    return next((column for column, name in enumerate(names) if TIMES.fullmatch(name)), None)


def _chosen(path: Path, names: tuple[str, ...], table: Columns, clock: int | None, cfg: Table) -> list[int]:
    """The columns that are channels."""
    some = [column for column in range(len(names)) if column != clock and names[column] not in table.texts]
    if cfg.channels and table.names:
        if lacking := [name for name in cfg.channels if name not in names]:
            raise Refused(
                f"{path} has no column {first_of(lacking)} among {first_of(list(names), 12)}: correct table.channels"
            )
        some = [names.index(name) for name in cfg.channels]
    elif cfg.channels and len(cfg.channels) != len(some):
        raise Refused(f"{path} has {len(some)} columns, but table.channels names {len(cfg.channels)}: correct it")
    if not some or not np.isfinite(table.numbers[:, some]).any():
        raise Refused(f"{path} has no column of numbers among {first_of(list(names), 12)}: it is no recording")
    return some


def _markers(names: tuple[str, ...], table: Columns, rate: float) -> tuple[Annotation, ...]:
    """A column of words, as marker: wherever it changes to another word."""
    found = []
    for words in table.texts.values():
        if not 1 < len(set(words)) <= MOST_CODES:
            continue
        before = ""
        begun: tuple[int, str] | None = None
        for row, word in enumerate([*words, ""]):
            word = "" if word.lower() in MISSING else word
            if word != before:
                if begun is not None:
                    found.append(Annotation(begun[0] / rate, (row - begun[0]) / rate, begun[1]))
                begun = (row, word) if word else None
            before = word
    return tuple(found)


def _text(path: Path) -> Columns:
    lines = [line for line in re.split(r"\r\n|\n|\r", guard.text(path)) if line.strip()]
    body = [line for line in lines if not line.lstrip().startswith(COMMENT)]
    if len(body) < 2:
        raise Refused(f"{path} has no rows of numbers: it is no recording")
    separator = _separator(body)
    cells = [_cells(path, body[0], separator), _cells(path, body[1], separator)]
    comma = separator != "," and any(re.fullmatch(r"-?\d+,\d+([eE][-+]?\d+)?", cell) for cell in cells[1])
    has_header = any(_number(cell, comma) is None and cell.lower() not in MISSING for cell in cells[0]) and (
        any(_number(cell, comma) is not None for cell in cells[1])
    )
    labelled = (
        has_header and _number(cells[0][-1], comma) is not None and len(cells[0]) > 2
    )  # a row a channel, with its name
    names = cells[0] if has_header and not labelled else []
    rows = body[1:] if names else body
    columns = len(names) or len(cells[0])
    if names and len(cells[1]) == columns + 1:  # the index of pandas or R has no name
        names, columns = ["index", *names], columns + 1
    numbers = np.full((len(rows), columns), np.nan)
    words: dict[int, list[str]] = {}
    for number, line in enumerate(rows):
        row = line.split(separator) if '"' not in line and separator != " " else _cells(path, line, separator)
        if len(row) != columns:
            while len(row) > columns and not row[-1].strip():
                row.pop()
        if len(row) != columns:
            cut = "; it is the last line, so the file may be cut off" if number == len(rows) - 1 else ""
            raise Refused(f"{path} has {len(row)} cells in row {number + 1}, but {columns} columns: correct it{cut}")
        try:
            numbers[number] = row if not comma else [cell.replace(",", ".") for cell in row]
        except ValueError:
            for column, cell in enumerate(row):
                value = _number(cell, comma)
                if value is not None:
                    numbers[number, column] = value
                elif cell.strip().lower() not in MISSING:
                    words.setdefault(column, [""] * len(rows))[number] = cell.strip()
    names = [name.strip() or f"column{k + 1}" for k, name in enumerate(names)]
    return Columns(
        names, numbers, _words(path, matrices.unique([n for n, _ in map(matrices.unit_in_name, names)]), numbers, words)
    )


def _words(
    path: Path, names: tuple[str, ...], numbers: np.ndarray, words: dict[int, list[str]]
) -> dict[str, list[str]]:
    """Columns of words; one word among numbers is damage."""
    out = {}
    for column, cells in words.items():
        n_words, n_numbers = sum(map(bool, cells)), int(np.isfinite(numbers[:, column]).sum())
        name = names[column] if names else f"ch{column + 1}"
        if n_numbers and n_words < 0.5 * n_numbers:
            row = next(k for k, cell in enumerate(cells) if cell)
            raise Refused(f"{path}: row {row + 1} of {name} has {cells[row]!r} among numbers: correct it, or write n/a")
        out[name] = cells
    return out


def _separator(lines: list[str]) -> str:
    some = lines[:: max(1, len(lines) // 20)][:20]
    for separator in SEPARATORS:
        counts = {line.count(separator) if separator != " " else len(line.split()) - 1 for line in some[1:] or some}
        if len(counts) == 1 and counts != {0}:
            return separator
    return next((each for each in SEPARATORS if some[0].count(each)), ",")


def _cells(path: Path, line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    try:
        (cells,) = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error as error:
        raise Refused(f"{path} has a line that is no row of a table ({error}): look at its quotation marks") from None
    return [cell.strip() for cell in cells]


def _number(cell: str, comma: bool) -> float | None:
    try:
        return float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return None


def _parquet(path: Path) -> Columns:
    with guard.open_file(path) as file, guard.reading(path):
        content = file.read()
        try:
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError:
            raise Refused(
                f"{path} needs the package pyarrow to be read: pip install 'hpc-eegdecode[tables]', or save it as .csv"
            ) from None
        source = parquet.ParquetFile(io.BytesIO(content))
        about = source.metadata
        groups = [about.row_group(k) for k in range(about.num_row_groups)]
        n_bytes = 8 * about.num_rows * about.num_columns
        guard.unpacked(path, "columns", max([n_bytes, *(group.total_byte_size for group in groups)]), len(content))
        table = source.read()
    names = [str(name) for name in table.column_names]
    numbers, texts = np.full((table.num_rows, len(names)), np.nan), {}
    bare = matrices.unique([name for name, _ in map(matrices.unit_in_name, names)])
    for column, name in enumerate(bare):
        values = table.column(column).to_numpy()
        if values.dtype.kind in "iufb":
            numbers[:, column] = values
        elif values.dtype.kind in "mM":
            numbers[:, column] = values.astype("int64") / 1e9
        else:
            texts[name] = ["" if value is None else str(value) for value in values]
    return Columns(names, numbers, texts)

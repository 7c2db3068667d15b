"""Read the tables of numbers that targets come from. A value that is not a number is named by its place."""

import math
from pathlib import Path
from typing import Protocol

import numpy as np

from eegdecode.data.io import bids, guard, matlab
from eegdecode.data.io.guard import Refused


class Titled(Protocol):
    """The config of a target that may have a name of its own."""

    @property
    def name(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def title(self) -> str: ...


def stored_name(cfg: Titled) -> str:
    """Its title, else the name of its file, else that of the target."""
    name = cfg.title or Path(cfg.file).stem.replace("{stimulus}", "").replace("{stem}", "") or cfg.name
    return guard.safe_name(name)


def table(path: Path) -> np.ndarray:
    """A .npy, memory-mapped, the columns of a .tsv, or the one large array of a .mat."""
    if not path.is_file():
        guard.regular(path)
        raise Refused(f"there is no {path}: add it, or correct file")
    if path.suffix == ".mat":
        return matlab.array(path)
    return _npy(path) if path.suffix == ".npy" else _tsv(path)


def _npy(path: Path) -> np.ndarray:
    """The shape in its header has to be that of its bytes: numpy takes what fits and leaves the rest."""
    try:
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(values, np.memmap):
            raise ValueError("it is an archive of several arrays")
    except Exception as error:  # noqa: BLE001  numpy evaluates the header, which may say anything
        raise Refused(f"{path} is no .npy of numbers ({guard.reason(error)}): save it again with numpy.save") from None
    if values.dtype.kind not in "iufb":
        raise Refused(f"{path} holds {values.dtype}, no numbers: save it again, as float32")
    if values.offset + values.nbytes != path.stat().st_size:
        raise Refused(
            f"{path} is damaged: its header tells of {values.shape} {values.dtype}, {values.nbytes} bytes, but "
            f"{path.stat().st_size - values.offset} are there; save it again"
        )
    return values


def _tsv(path: Path) -> np.ndarray:
    columns, rows = bids.numbered(path)
    if not rows:
        raise Refused(f"{path} is no .tsv of numbers with a header: it has {len(columns)} columns and no row")
    values = np.empty((len(rows), len(columns)))
    for index, (line, cells) in enumerate(rows):
        values[index] = [_number(path, line, name, cell) for name, cell in zip(columns, cells, strict=True)]
    return values


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Refused(
            f"line {line} of {path} says {cell!r} in column {column}, which is not a number: a stream needs one at "
            "every time, so fill it in or leave the column out"
        )
    return number


def numbers(rows: np.ndarray, path: Path, first: int = 0) -> np.ndarray:
    """Rows of a table, unchanged, after a check that all are numbers; `first` is the index of the first."""
    if not np.isfinite(rows).all():
        row, *column = np.argwhere(~np.isfinite(rows))[0].tolist()
        raise ValueError(
            f"{path} has values that are not numbers (NaN or infinite), the first in row {first + row}"
            f"{f', column {column[0]}' if column else ''}, counted from 0: fill them in"
        )
    return rows

"""Read the tables of numbers that targets come from. A value that is not a number is named by its place."""

from pathlib import Path
from typing import Protocol

import numpy as np

from eegdecode.data.io import matlab

TAB = "\t"


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
    return cfg.title or Path(cfg.file).stem.replace("{stimulus}", "").replace("{stem}", "") or cfg.name


def table(path: Path) -> np.ndarray:
    """A .npy, memory-mapped, the columns of a .tsv, or the one large array of a .mat."""
    if not path.is_file():
        raise ValueError(f"there is no {path}: add it, or correct file")
    if path.suffix == ".mat":
        return matlab.array(path)
    try:
        values: np.ndarray = (
            np.load(path, mmap_mode="r")
            if path.suffix == ".npy"
            else np.genfromtxt(path, delimiter="\t", skip_header=1, encoding="utf-8", ndmin=2)
        )
    except (ValueError, EOFError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} is neither a .npy, a .mat nor a .tsv of numbers with a header ({why})") from None
    if path.suffix != ".npy" and not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0].tolist()
        lines = [(n, text) for n, text in enumerate(path.read_text("utf-8").splitlines(), 1) if text.strip()]
        (_, names), (number, cells) = lines[0], lines[row + 1]
        raise ValueError(
            f"line {number} of {path} says {cells.split(TAB)[column]!r} in column {names.split(TAB)[column]}, "
            "which is not a number: a stream needs one at every time, so fill it in or leave the column out"
        )
    return values


def numbers(rows: np.ndarray, path: Path, first: int = 0) -> np.ndarray:
    """Rows of a table, unchanged, after a check that all are numbers; `first` is the index of the first."""
    if not np.isfinite(rows).all():
        row, *column = np.argwhere(~np.isfinite(rows))[0].tolist()
        raise ValueError(
            f"{path} has values that are not numbers (NaN or infinite), the first in row {first + row}"
            f"{f', column {column[0]}' if column else ''}, counted from 0: fill them in"
        )
    return rows

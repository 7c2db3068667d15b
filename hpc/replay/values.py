"""The values in a file, by their places in it: numbers as arrays, everything else as text. Reading runs no code."""

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpc.config import plugins

Value = np.ndarray | str
MOST_LETTERS = 40
NOTHING = ("", "")
TABLES = {".tsv": "\t", ".csv": ",", ".txt": None}
TOLERANCE = 1e-6
"""What sums may differ by if only their order is another."""


class Difference(NamedTuple):
    """The first value that differs in two files, and how far they differ at most."""

    at: str
    """The place of the value."""
    was: str
    now: str
    largest: float
    """The largest difference, as a part of the largest number in the same array; infinite for what is no number, or not
    in both."""
    largest_at: str


def read(path: Path, function: str = "") -> Iterator[tuple[str, Value]] | None:
    """Return the values of a file; None for a format that nobody here can read. `function`: of the stage, see
    hpc.config.stages.Leaves."""
    if path.suffix == ".json":
        return flat(json.loads(path.read_bytes()))
    if path.suffix in TABLES:
        text = path.read_text(errors="replace")
        rows = [line.split(TABLES[path.suffix]) for line in text.splitlines()]
        return flat({f"line {number}": row for number, row in enumerate(rows, start=1)}, parse=True)
    if path.suffix in (".npy", ".npz"):
        content = np.load(path, allow_pickle=False)
        return flat(dict(content) if path.suffix == ".npz" else content)
    contents = plugins.load(function)(path) if function else None
    return None if contents is None else (each for at, content in contents for each in flat(content, at))


def flat(value: Any, at: str = "", parse: bool = False) -> Iterator[tuple[str, Value]]:
    """Yield all values in tables and lists, each with its place. `parse`: a text may be a number."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{at}/{key}" if at else str(key), parse)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from flat(item, f"{at}[{number}]", parse)
    elif hasattr(value, "untyped_storage"):  # a tensor; numpy has no bfloat16
        whole = value.detach().cpu()
        yield at, (whole.float() if whole.dtype.itemsize < 4 and whole.is_floating_point() else whole).numpy()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        yield at, value
    elif isinstance(value, np.ndarray):
        yield at, str(value.tolist())
    elif isinstance(value, int | float | complex) and not isinstance(value, bool):
        scalar = np.asarray(value)
        yield at, scalar if scalar.dtype != object else str(value)  # a whole number that no array can hold
    else:
        yield at, _number(value) if parse and isinstance(value, str) else str(value)


def _number(text: str) -> Value:
    try:
        return np.asarray(float(text))
    except ValueError:
        return text


def without(values: Iterable[tuple[str, Value]], passing: Iterable[str]) -> Iterator[tuple[str, Value]]:
    """Leave out the values whose place, or a part of it, has one of these names."""
    patterns = tuple(passing)
    for at, value in values:
        names = at.replace("[", "/").split("/")
        if not any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
            yield at, value


def difference(was: Iterable[tuple[str, Value]], now: Iterable[tuple[str, Value]]) -> Difference | None:
    """Return the first difference between values in the same order, and the largest; None if all are equal to the last
    bit. It holds one value of each in memory."""
    first: tuple[str, str, str] | None = None
    largest, largest_at = 0.0, ""
    for (at, a), (at_now, b) in zip_longest(was, now, fillvalue=NOTHING):
        if at != at_now:  # from here on nothing can be compared
            end = (at or at_now, at or "nothing", at_now or "nothing")
            return Difference(*(first or end), np.inf, end[0])
        if _same(a, b):
            continue
        size = _size(a, b)
        first = first or (at, *_shown(a, b))
        if size > largest or not largest_at:
            largest, largest_at = size, at
    return Difference(*first, largest, largest_at) if first else None


def _same(a: Value, b: Value) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and bool(a == b)


def _size(a: Value, b: Value) -> float:
    """How far two values differ, as a part of the largest number."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.shape != b.shape:
        return np.inf
    if a.dtype.kind == "b" or b.dtype.kind == "b":
        return np.inf
    kind = complex if "c" in (a.dtype.kind, b.dtype.kind) else float
    x, y = np.atleast_1d(a.astype(kind)), np.atleast_1d(b.astype(kind))
    finite = np.isfinite(x) & np.isfinite(y)
    # Where neither is finite they may be alike all the same: NaN next to NaN
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return np.inf
    scale = max(np.abs(x[finite]).max(initial=0.0), np.abs(y[finite]).max(initial=0.0))
    return float(np.abs(x[finite] - y[finite]).max(initial=0.0) / scale) if scale else 0.0


def _shown(a: Value, b: Value) -> tuple[str, str]:
    """Return both values in short: of arrays, the first element that differs."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.size:
        other = np.flatnonzero(a.ravel() != b.ravel())
        place = int(other[0]) if len(other) else 0
        return _short(a.ravel()[place]), _short(b.ravel()[place])
    return _short(a), _short(b)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size != 1:
        return f"an array {'x'.join(map(str, value.shape))}"
    text = (
        f"{value.item():.9g}"
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf"
        else str(value)
    )
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"

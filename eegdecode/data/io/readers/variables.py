"""The variables of a .mat file, of version 5 and of version 7.3, which is HDF5; fields of structs as struct.field.

variables(path)["nfo.clab"].value()         texts, or numbers as in MATLAB
variables(path)["resp"].cells[0]()          the matrix of the first cell
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from eegdecode.data.io import guard, hdf5, mat5

MOST_TEXTS = 1 << 20
"""Cells or letters; more are not the names of channels."""


@dataclass(frozen=True)
class Cell:
    """A matrix of numbers in a cell array. Calling it reads it."""

    shape: tuple[int, ...]
    value: Callable[[], np.ndarray]

    def __call__(self) -> np.ndarray:
        return self.value()


@dataclass(frozen=True)
class Variable:
    """A variable of either version. `shape` and `value()` are as in MATLAB."""

    shape: tuple[int, ...]
    is_number: bool
    value: Callable[[], np.ndarray]
    read: Callable[[int, int], np.ndarray] | None = None
    """For a matrix: read a range of the second axis only, as [second axis, first axis]."""
    cells: tuple[Cell, ...] = ()
    """Of a cell array of matrices, in MATLAB's order: down the first column, then the second."""

    def texts(self) -> tuple[str, ...]:
        """Of a cell array or a matrix of letters."""
        return () if self.is_number else tuple(str(text).strip() for text in self.value().ravel())

    def number(self) -> float | None:
        """Of a single number."""
        return float(self.value().ravel()[0]) if self.is_number and set(self.shape) == {1} else None


def variables(path: Path) -> dict[str, Variable]:
    """All variables by name; nothing large is read of version 7.3."""
    check(path)
    with guard.reading(path):
        return _version_7(path) if h5py.is_hdf5(path) else _version_5(path)


def check(path: Path) -> None:
    """Refuse a file, a .set too, that would take more memory than it has bytes for, or other files."""
    guard.regular(path)
    if h5py.is_hdf5(path):
        with hdf5.opened(path):
            return
    mat5.check(path)


def leaf(name: str) -> str:
    """The last part of a name, as it is compared: SamplingRate and sampling_rate are one."""
    return name.split(".")[-1].lower().replace("_", "")


def shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def listed(of: Mapping[str, Variable]) -> str:
    """Names with shapes, the largest first, as the samples are likely among them."""
    ordered = sorted(of, key=lambda name: -int(np.prod(of[name].shape)))
    more = f" and {len(ordered) - 12} smaller ones" if len(ordered) > 12 else ""
    return ", ".join(f"{name} ({shown(of[name].shape)})" for name in ordered[:12]) + more or "no variables"


def _version_5(path: Path) -> dict[str, Variable]:
    """Variables, and fields of structs as struct.field."""
    loaded = scipy.io.loadmat(path, struct_as_record=True)
    variables: dict[str, Variable] = {}
    for name, value in loaded.items():
        if not name.startswith("__"):
            _add_5(variables, name, value)
    return variables


def _add_5(variables: dict[str, Variable], name: str, value: object) -> None:
    if not isinstance(value, np.ndarray):
        return
    if value.dtype.names and value.size == 1:
        for field in value.dtype.names:
            _add_5(variables, f"{name}.{field}", value[field].flat[0])
    elif value.dtype.names:
        for field in value.dtype.names:
            variables[f"{name}.{field}"] = _texts(value.shape, [_text_5(entry) for entry in value[field].flat])
    elif value.dtype.kind in "iufb":
        variables[name] = Variable(value.shape, True, lambda: value)
    else:
        texts = _texts(value.shape, [_text_5(entry) for entry in value.flat])
        variables[name] = replace(texts, cells=_cells_5(value)) if value.dtype.kind == "O" else texts


def _cells_5(value: np.ndarray) -> tuple[Cell, ...]:
    """The matrices of a cell array of nothing else."""
    entries = list(value.T.flat)  # down the columns
    if not all(isinstance(each, np.ndarray) and each.dtype.kind in "iuf" and each.ndim == 2 for each in entries):
        return ()
    return (
        tuple(Cell(each.shape, partial(np.asarray, each)) for each in entries)
        if any(e.size > 1 for e in entries)
        else ()
    )


def _texts(shape: tuple[int, ...], texts: list[str]) -> Variable:
    return Variable(shape, False, lambda: np.array(texts))


def _text_5(value: object) -> str:
    """The text of a cell, which is an array within an array."""
    while isinstance(value, np.ndarray):
        if value.size != 1:
            return ""
        value = value.flat[0]
    return str(value)


def _version_7(path: Path) -> dict[str, Variable]:
    """The same from HDF5, in which axes are reversed and text is numbers."""
    variables: dict[str, Variable] = {}
    with hdf5.opened(path) as file:

        def add(name: str, item: object) -> None:
            if not isinstance(item, h5py.Dataset) or name.startswith("#refs#") or "MATLAB_empty" in item.attrs:
                return
            kind = _class_7(item)
            shape, dotted = tuple(map(int, item.shape[::-1])), name.replace("/", ".")
            if h5py.check_ref_dtype(item.dtype) is h5py.Reference and item.size <= MOST_TEXTS:
                items = [file[reference] for reference in item[()].ravel() if reference]
                texts = _texts(shape, [_text_7(each) for each in items])
                variables[dotted] = replace(texts, cells=_cells_7(path, items))
            elif kind == b"char" and item.dtype.kind in "iu" and item.size <= MOST_TEXTS:
                letters = np.atleast_2d(item[()].T)
                variables[dotted] = _texts(shape, ["".join(map(chr, row)) for row in letters])
            elif item.dtype.kind in "iufb" and item.ndim:
                variables[dotted] = Variable(
                    shape, True, lambda: _whole_7(path, name), lambda first, stop: _part_7(path, name, first, stop)
                )

        file.visititems(add)
    return variables


def _cells_7(path: Path, items: list[object]) -> tuple[Cell, ...]:
    """The matrices of a cell array of nothing else; they are read when they are asked for."""
    if not all(_is_matrix_7(item) for item in items) or not any(item.size > 1 for item in items):  # type: ignore[attr-defined]
        return ()
    return tuple(
        Cell(tuple(map(int, item.shape[::-1])), partial(_whole_7, path, item.name))  # type: ignore[attr-defined]
        for item in items
    )


def _is_matrix_7(item: object) -> bool:
    return (
        isinstance(item, h5py.Dataset)
        and item.dtype.kind in "iuf"
        and item.ndim == 2
        and _class_7(item) != b"char"
        and "MATLAB_empty" not in item.attrs
    )


def _whole_7(path: Path, name: str) -> np.ndarray:
    with hdf5.opened(path) as file:
        return np.asarray(file[name][()]).T


def _part_7(path: Path, name: str, first: int, stop: int) -> np.ndarray:
    with guard.reading(path), h5py.File(path, "r") as file:  # which was looked at before
        return np.asarray(file[name][first:stop])


def _class_7(item: h5py.Dataset) -> bytes:
    """MATLAB writes it with a fixed length; one in a heap is not looked up."""
    if "MATLAB_class" not in item.attrs:
        return b"double"
    attribute = item.attrs.get_id("MATLAB_class")
    return bytes(item.attrs["MATLAB_class"]) if attribute.dtype.kind == "S" and attribute.shape == () else b""


def _text_7(item: h5py.Dataset | h5py.Group) -> str:
    is_text = isinstance(item, h5py.Dataset) and item.dtype.kind in "iu" and item.size <= MOST_TEXTS
    if not is_text or _class_7(item) != b"char":
        return ""
    return "".join(map(chr, item[()].ravel()))

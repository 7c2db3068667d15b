"""Read EEG or MEG saved from MATLAB: .mat of version 5, and of version 7.3, which is HDF5.

There is no standard: the samples are the one large array, [channel x time] or [channel x time x trial]; the rate is a
number called fs, srate or the like; names are a list called labels or the like. Anything unclear must be set.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from eegdecode.data.config import Matlab
from eegdecode.data.io import guard, hdf5, mat5
from eegdecode.data.io.guard import Refused
from eegdecode.signals import Sensor, Stream

RATES = ("fs", "srate", "sfreq", "fsample", "samplingrate", "samplerate", "samplefreq", "samplingfrequency")
LABELS = ("label", "labels", "chanlabels", "channels", "channelnames", "chnames", "clab", "chanlocs.labels")
SCALE = {"uV": 1e-6, "mV": 1e-3, "V": 1.0, "fT": 1e-15, "T": 1.0}


@dataclass(frozen=True)
class Variable:
    """A variable of either version. `shape` and `value()` are as in MATLAB."""

    shape: tuple[int, ...]
    is_number: bool
    value: Callable[[], np.ndarray]
    read: Callable[[int, int], np.ndarray] | None = None
    """For a matrix: read a range of the second axis only, as [second axis, first axis]."""


def read(path: Path, cfg: Matlab) -> tuple[Stream, tuple[int, ...], tuple[str, ...]]:
    """The samples, the edges between trials, and notes on what was assumed."""
    variables = _variables(path)
    name = _samples(path, variables, cfg)
    sfreq = cfg.sfreq or _rate(path, variables)
    labels = _labels(variables)
    samples = variables[name]
    shape = samples.shape
    channel_axis = _channel_axis(path, name, shape, labels)
    n_channels, n_times = shape[channel_axis], shape[1 - channel_axis]
    n_trials = shape[2] if len(shape) == 3 else 1
    notes = [f"{name} was taken as {'[channel x time' if channel_axis == 0 else '[time x channel'}"]
    notes[0] += f"{' x trial' if n_trials > 1 else ''}] in {cfg.unit}; if not, set matlab.data or matlab.unit"
    if len(labels) != n_channels:
        if labels:
            notes.append(f"{len(labels)} names do not match {n_channels} channels: they are numbered instead")
        labels = tuple(f"ch{k + 1}" for k in range(n_channels))
    stretch = _stretches(samples, channel_axis, n_trials)
    scale = SCALE[cfg.unit]

    def in_volt(first: int, stop: int) -> np.ndarray:
        return np.ascontiguousarray(stretch(first, stop) * scale, dtype=np.float32)

    sensors = {label: Sensor("mag") for label in labels} if cfg.unit in ("fT", "T") else {}
    edges = tuple(n_times * k for k in range(1, n_trials))
    return Stream(labels, sfreq, n_times * n_trials, in_volt, sensors), edges, tuple(notes)


def array(path: Path) -> np.ndarray:
    """The one large array of a file: a vector or a matrix [row, column] as in MATLAB, not a recording."""
    variables = {
        name: variable
        for name, variable in _variables(path).items()
        if variable.is_number and len(variable.shape) == 2 and max(variable.shape) > 1
    }
    sizes = {name: int(np.prod(variable.shape)) for name, variable in variables.items()}
    large = [name for name, size in sizes.items() if size >= LARGE * max(sizes.values())]
    if len(large) != 1:
        what = f"several arrays that are possible ({', '.join(large)})" if large else "no array of numbers"
        raise Refused(f"{path} has {what}: save the right one to a file of its own")
    values = variables[large[0]].value()
    return values.ravel() if min(values.shape) == 1 else values


def variables(path: Path) -> Mapping[str, Variable]:
    """All variables of a file, and fields of structs as struct.field, for those who look for something else in it."""
    return _variables(path)


def listed(variables: Mapping[str, Variable]) -> str:
    """Names with shapes, for a message."""
    return _list(variables)


MOST_TEXTS = 1 << 20
"""Cells or letters; more are not the names of channels."""
LARGE = 0.25
"""A fraction of the largest array; smaller ones are settings and the like."""


def _variables(path: Path) -> dict[str, Variable]:
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


def _stretches(samples: Variable, channel_axis: int, n_trials: int) -> Callable[[int, int], np.ndarray]:
    """Reads [time, channel], trials one after the other."""
    if samples.read is not None and channel_axis == 0 and n_trials == 1:
        return samples.read
    whole = samples.value()
    data = np.moveaxis(whole.reshape(*whole.shape[:2], n_trials), 2, 0)
    data = np.moveaxis(data, 1 + channel_axis, 2).reshape(-1, whole.shape[channel_axis])
    return lambda first, stop: data[first:stop]


def _samples(path: Path, variables: Mapping[str, Variable], cfg: Matlab) -> str:
    if cfg.data:
        if cfg.data not in variables or len(variables[cfg.data].shape) not in (2, 3):
            raise Refused(f"{path} has no matrix {cfg.data}; there are {_list(variables)}: correct matlab.data")
        return cfg.data
    sizes = {
        name: int(np.prod(variable.shape))
        for name, variable in variables.items()
        if variable.is_number and len(variable.shape) in (2, 3) and min(variable.shape) > 1
    }
    largest = [name for name, size in sizes.items() if size >= max(1000, LARGE * max(sizes.values()))]
    if len(largest) == 1:
        return largest[0]
    what = f"several that may be the samples ({', '.join(largest)})" if largest else "no matrix of samples"
    raise Refused(f"{path} has {what} among {_list(variables)}: name the one with matlab.data=…")


def _rate(path: Path, variables: Mapping[str, Variable]) -> float:
    rates = {
        name: float(variable.value().ravel()[0])
        for name, variable in variables.items()
        if _leaf(name) in RATES and variable.is_number and set(variable.shape) == {1}
    }
    outermost = min((name.count(".") for name in rates), default=0)  # fields of structs tell of other things too
    rates = {name: rate for name, rate in rates.items() if name.count(".") == outermost}
    if len(set(rates.values())) == 1 and (rate := next(iter(rates.values()))) > 0:
        return rate
    candidates = "; ".join(f"{name} = {rate:g}" for name, rate in rates.items())
    what = f"has no one sampling rate ({candidates})" if rates else "does not say its sampling rate"
    raise Refused(f"{path} {what} among {_list(variables)}: give it with matlab.sfreq=… (Hz)")


def _labels(variables: Mapping[str, Variable]) -> tuple[str, ...]:
    for name, variable in variables.items():
        if not variable.is_number and (_leaf(name) in LABELS or ".".join(name.lower().split(".")[-2:]) in LABELS):
            labels = tuple(str(label).strip() for label in variable.value().ravel())
            if labels and all(labels) and len(set(labels)) == len(labels):
                return labels
    return ()


def _channel_axis(path: Path, name: str, shape: tuple[int, ...], labels: tuple[str, ...]) -> int:
    fits = [axis for axis in (0, 1) if shape[axis] == len(labels)]
    if len(fits) == 1:
        return fits[0]
    if shape[0] == shape[1]:
        raise Refused(f"{path}: {name} is {_shape(shape)}, which does not show what is time: save it with labels")
    # Trials may be shorter than there are channels; in a recording time is the longer axis
    return 0 if len(shape) == 3 or shape[0] < shape[1] else 1


def _leaf(name: str) -> str:
    return name.split(".")[-1].lower().replace("_", "")


def _list(variables: Mapping[str, Variable]) -> str:
    """Names with shapes, the largest first, as the samples are likely among them."""
    ordered = sorted(variables, key=lambda name: -int(np.prod(variables[name].shape)))
    more = f" and {len(ordered) - 12} smaller ones" if len(ordered) > 12 else ""
    return ", ".join(f"{name} ({_shape(variables[name].shape)})" for name in ordered[:12]) + more or "no variables"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


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
        variables[name] = _texts(value.shape, [_text_5(entry) for entry in value.flat])


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
                variables[dotted] = _texts(shape, [_text_7(file[reference]) for reference in item[()].ravel()])
            elif kind == b"char" and item.dtype.kind in "iu" and item.size <= MOST_TEXTS:
                letters = np.atleast_2d(item[()].T)
                variables[dotted] = _texts(shape, ["".join(map(chr, row)) for row in letters])
            elif item.dtype.kind in "iufb" and item.ndim:
                variables[dotted] = Variable(
                    shape, True, lambda: _whole_7(path, name), lambda first, stop: _part_7(path, name, first, stop)
                )

        file.visititems(add)
    return variables


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

"""Read EEG or MEG saved from MATLAB: .mat of version 5, and of version 7.3, which is HDF5.

There is no standard: the samples are the one large array, [channel x time] or [channel x time x trial], or a cell array
with a matrix a trial, as of the mTRF toolbox and FieldTrip; the rate is a number called fs, srate or the like; names
are a list called labels or the like. Anything unclear must be set.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eegdecode.data.config.files import Reading
from eegdecode.data.io import guard
from eegdecode.data.io.channels import units
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import cells
from eegdecode.data.io.readers.opened import Opened
from eegdecode.data.io.readers.variables import Variable, leaf, listed, shown, variables
from eegdecode.data.io.readers.variables import check as check
from eegdecode.signals import Sensor, Stream

RATES = ("fs", "srate", "sfreq", "fsample", "samplingrate", "samplerate", "samplefreq", "samplingfrequency")
LABELS = ("label", "labels", "chanlabels", "channels", "channelnames", "chnames", "clab", "chanlocs.labels")
UNITS = ("unit", "units", "chanunit", "chanunits", "physdim", "chanlocs.unit", "dataunit", "dataunits")
LARGE = 0.25
"""A fraction of the largest array; smaller ones are settings and the like."""


def read(path: Path, cfg: Reading) -> Opened:
    """The samples, the edges between trials, and notes on what was assumed."""
    known = variables(path)
    name = _samples(path, known, cfg.matlab.data)
    sfreq = cfg.matlab.sfreq or rate(path, known)
    guard.rate(path, sfreq, "give the right one with matlab.sfreq=… (Hz)")
    labels = tuple(cfg.matlab.channels) or _labels(known)
    samples = known[name]
    if samples.cells:
        trials = cells.layout(path, name, samples.cells, labels)
        n_channels, stretch, edges, axes = trials.n_channels, trials.read, trials.edges, trials.axes
        n_times = trials.n_times
    else:
        samples = _turned(path, name, samples, cfg.matlab.axes)
        channel_axis = 0 if cfg.matlab.axes else _channel_axis(path, name, samples.shape, labels)
        n_channels, n_times = samples.shape[channel_axis], samples.shape[1 - channel_axis]
        n_trials = samples.shape[2] if len(samples.shape) == 3 else 1
        stretch = _stretches(samples, channel_axis, n_trials)
        edges = tuple(n_times * k for k in range(1, n_trials))
        axes = f"{'[channel x time' if channel_axis == 0 else '[time x channel'}{' x trial' if n_trials > 1 else ''}]"
        axes = f"[{' x '.join(cfg.matlab.axes)}]" if cfg.matlab.axes else axes
        n_times *= n_trials
    if cfg.matlab.channels and len(labels) != n_channels:
        raise Refused(f"{path}: {name} has {n_channels} channels, but matlab.channels names {len(labels)}: correct it")
    notes = []
    if len(labels) != n_channels:
        if labels:
            notes.append(f"{len(labels)} names do not match {n_channels} channels: they are numbered instead")
        labels = tuple(f"ch{k + 1}" for k in range(n_channels))
    in_file = _units(known, labels)
    said = cfg.matlab.unit if not in_file else "the units that it says"
    notes.insert(0, f"{name} was taken as {axes} in {said}; if not, set matlab.data, axes or unit")
    if cfg.matlab.unit != "uV":  # which is the default, and so no statement
        in_file = dict.fromkeys(labels, cfg.matlab.unit)
    factors = np.array([_factor(in_file.get(label, cfg.matlab.unit)) for label in labels])

    def in_volt(first: int, stop: int) -> np.ndarray:
        return np.ascontiguousarray(stretch(first, stop) * factors, dtype=np.float32)

    sensors = {label: Sensor("mag") for label in labels if (in_file.get(label) or cfg.matlab.unit).endswith("T")}
    stream = Stream(labels, sfreq, n_times, in_volt, sensors)
    return Opened(stream, notes=tuple(notes), trial_edges=edges, units=in_file, assumed=cfg.matlab.unit)


def array(path: Path) -> np.ndarray:
    """The one large array of a file: a vector or a matrix [row, column] as in MATLAB, not a recording."""
    matrices = {
        name: variable
        for name, variable in variables(path).items()
        if variable.is_number and len(variable.shape) == 2 and max(variable.shape) > 1
    }
    sizes = {name: int(np.prod(variable.shape)) for name, variable in matrices.items()}
    large = [name for name, size in sizes.items() if size >= LARGE * max(sizes.values())]
    if len(large) != 1:
        what = f"several arrays that are possible ({', '.join(large)})" if large else "no array of numbers"
        raise Refused(f"{path} has {what}: save the right one to a file of its own")
    values = matrices[large[0]].value()
    return values.ravel() if min(values.shape) == 1 else values


def _stretches(samples: Variable, channel_axis: int, n_trials: int) -> Callable[[int, int], np.ndarray]:
    """Reads [time, channel], trials one after the other."""
    if samples.read is not None and channel_axis == 0 and n_trials == 1:
        return samples.read
    whole = samples.value()
    data = np.moveaxis(whole.reshape(*whole.shape[:2], n_trials), 2, 0)
    data = np.moveaxis(data, 1 + channel_axis, 2).reshape(-1, whole.shape[channel_axis])
    return lambda first, stop: data[first:stop]


def _turned(path: Path, name: str, samples: Variable, axes: Sequence[str]) -> Variable:
    """The variable as [channel x time (x trial)], by the axes that it is said to have."""
    if not axes:
        return samples
    if len(axes) != len(samples.shape):
        n_axes = f"{len(samples.shape)} axes ({shown(samples.shape)})"
        raise Refused(f"{path}: {name} has {n_axes}, but matlab.axes names {len(axes)}: correct it")
    order = [axes.index(axis) for axis in ("channel", "time", "trial") if axis in axes]
    if order == sorted(order):
        return samples
    shape = tuple(samples.shape[axis] for axis in order)
    return replace(samples, shape=shape, value=lambda: samples.value().transpose(order), read=None)


def _samples(path: Path, known: Mapping[str, Variable], given: str) -> str:
    if given:
        if given not in known or not (known[given].cells or len(known[given].shape) in (2, 3)):
            raise Refused(f"{path} has no matrix {given}; there are {listed(known)}: correct matlab.data")
        return given
    sizes = {
        name: int(np.prod(variable.shape))
        for name, variable in known.items()
        if variable.is_number and len(variable.shape) in (2, 3) and min(variable.shape) > 1
    }
    largest = [name for name, size in sizes.items() if size >= max(1000, LARGE * max(sizes.values()))]
    of_cells = cells.samples(known)
    if of_cells and sum(int(np.prod(cell.shape)) for cell in known[of_cells].cells) > max(sizes.values(), default=0):
        return of_cells
    if len(largest) == 1:
        return largest[0]
    what = f"several that may be the samples ({', '.join(largest)})" if largest else "no matrix of samples"
    raise Refused(f"{path} has {what} among {listed(known)}: name the one with matlab.data=…")


def rate(path: Path, known: Mapping[str, Variable]) -> float:
    """The sampling rate, by its name."""
    rates = {
        name: number
        for name, variable in known.items()
        if leaf(name) in RATES and (number := variable.number()) is not None
    }
    outermost = min((name.count(".") for name in rates), default=0)  # fields of structs tell of other things too
    rates = {name: rate for name, rate in rates.items() if name.count(".") == outermost}
    if len(set(rates.values())) == 1 and (rate := next(iter(rates.values()))) > 0:
        return rate
    candidates = "; ".join(f"{name} = {rate:g}" for name, rate in rates.items())
    what = f"has no one sampling rate ({candidates})" if rates else "does not say its sampling rate"
    raise Refused(f"{path} {what} among {listed(known)}: give it with matlab.sfreq=… (Hz)")


def _called(name: str, words: Sequence[str]) -> bool:
    return leaf(name) in words or ".".join(name.lower().split(".")[-2:]) in words


def _labels(known: Mapping[str, Variable]) -> tuple[str, ...]:
    for name, variable in known.items():
        if not variable.is_number and _called(name, LABELS):
            labels = variable.texts()
            if labels and all(labels) and len(set(labels)) == len(labels):
                return labels
    return ()


def _units(known: Mapping[str, Variable], labels: Sequence[str]) -> dict[str, str]:
    """The units of channels, if the file says one for all or one for each."""
    for name, variable in known.items():
        if not variable.is_number and _called(name, UNITS):
            said = variable.texts()
            said = said * len(labels) if len(said) == 1 else said
            if len(said) == len(labels) and any(units.parse(unit) for unit in said):
                return {label: unit for label, unit in zip(labels, said, strict=True) if units.parse(unit)}
    return {}


def _factor(unit: str) -> float:
    known = units.parse(unit)
    return known[1] if known else 1.0


def _channel_axis(path: Path, name: str, shape: tuple[int, ...], labels: tuple[str, ...]) -> int:
    fits = [axis for axis in (0, 1) if shape[axis] == len(labels)]
    if len(fits) == 1:
        return fits[0]
    if shape[0] == shape[1]:
        raise Refused(f"{path}: {name} is {shown(shape)}, which does not show what is time: save it with labels")
    # Trials may be shorter than there are channels; in a recording time is the longer axis
    return 0 if len(shape) == 3 or shape[0] < shape[1] else 1

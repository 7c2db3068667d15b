"""Read .nwb (Neurodata Without Borders): an ElectricalSeries, names of its electrodes, and trials as annotations."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from eegdecode.data.config.files import Reading
from eegdecode.data.io import guard, hdf5
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import matrices
from eegdecode.data.io.readers.opened import Annotation, Opened
from eegdecode.signals import Kind, Sensor, Stream
from hpc.errors import first_of

ELECTRODES = "general/extracellular_ephys/electrodes"
MOST_ROWS = 1 << 20


def read(path: Path, cfg: Reading) -> Opened:
    with hdf5.opened(path) as file:
        series = _series(path, file, cfg.table.data)
        data = series["data"]
        if data.ndim not in (1, 2) or data.dtype.kind not in "iuf":
            raise Refused(f"{path}: {series.name} is not [time x channel] of numbers: ask for a new export")
        n_times, n_channels = data.shape[0], data.shape[1] if data.ndim == 2 else 1
        names, groups = _electrodes(file, series, n_channels)
        names = tuple(cfg.table.channels) or names
        if len(names) != n_channels:
            raise Refused(f"{path}: {series.name} has {n_channels} channels, but {len(names)} are named: correct it")
        rate, begins_s, notes = _rate(path, series)
        rate = cfg.table.sfreq or rate
        volts = np.full(n_channels, float(data.attrs.get("conversion", 1.0)))
        if "channel_conversion" in series and series["channel_conversion"].shape == (n_channels,):
            volts *= np.asarray(series["channel_conversion"][()], float)
        offset = float(data.attrs.get("offset", 0.0))
        kind = _kind(" ".join((series.name, _text(series.attrs.get("description", "")), *groups)))
        annotations = _trials(file, begins_s)
        where = series.name
    if not np.isfinite(volts).all() or not np.isfinite(offset):
        raise Refused(f"{path}: the conversion of {where} to volt is no number: correct it")

    def samples(first: int, stop: int) -> np.ndarray:
        with guard.reading(path), h5py.File(path, "r") as again:  # which was looked at before
            block = np.asarray(again[f"{where}/data"][first:stop], np.float64).reshape(stop - first, n_channels)
        return np.ascontiguousarray(block * volts + offset, dtype=np.float32)

    guard.rate(path, rate, "give the right one with table.sfreq=… (Hz)")
    stream = Stream(names, rate, n_times, samples, dict.fromkeys(names, Sensor(kind)))
    by = {} if kind == "eeg" else dict.fromkeys(names, "the names of its electrodes and series")
    return Opened(stream, annotations, tuple(notes), units=dict.fromkeys(names, "V"), assumed="V", kinds_by=by)


def _series(path: Path, file: h5py.File, wanted: str) -> h5py.Group:
    """The ElectricalSeries to read: the one that is named, or else the largest."""
    found: list[h5py.Group] = []

    def look(name: str, item: object) -> None:
        if not isinstance(item, h5py.Group) or not isinstance(item.get("data"), h5py.Dataset):
            return
        if _text(item.attrs.get("neurodata_type", "")) == "ElectricalSeries":
            found.append(item)

    file.visititems(look)
    raw = [each for each in found if each.name.startswith("/acquisition/")] or found
    if wanted:
        raw = [each for each in found if each.name.split("/")[-1] == wanted or each.name == wanted]
    if not raw:
        there = first_of([each.name for each in found]) or "none"
        cure = "correct table.data" if wanted else "it is no recording of EEG or the like"
        raise Refused(f"{path} has no ElectricalSeries {wanted or 'with samples'} (there are: {there}): {cure}")
    raw.sort(key=lambda each: -int(each["data"].size))
    if len(raw) > 1 and raw[1]["data"].size > 0.5 * raw[0]["data"].size:
        names = ", ".join(each.name.split("/")[-1] for each in raw)
        raise Refused(f"{path} has several ElectricalSeries, {names}: name the one with table.data=…")
    return raw[0]


def _electrodes(file: h5py.File, series: h5py.Group, n: int) -> tuple[tuple[str, ...], list[str]]:
    """The names of the channels, and the groups and places of their electrodes."""
    numbered = tuple(f"ch{k + 1}" for k in range(n))
    table, rows = file.get(ELECTRODES), series.get("electrodes")
    if not isinstance(table, h5py.Group) or not isinstance(rows, h5py.Dataset) or rows.shape != (n,):
        return numbered, []
    order = np.asarray(rows[()]).astype(int)

    def column(name: str) -> list[str]:
        cells = table.get(name)
        if not isinstance(cells, h5py.Dataset) or cells.ndim != 1 or not len(order) or len(cells) > MOST_ROWS:
            return []
        if order.min() < 0 or order.max() >= len(cells):
            return []
        values = cells[()]
        return [_text(values[row]) for row in order]

    groups = [*column("group_name"), *column("location")]
    for name in ("label", "electrode_name", "channel_name", "id"):
        labels = column(name)
        if labels and all(labels):
            labels = [f"ch{label}" if label.isdigit() else label for label in labels]
            return matrices.unique(labels), groups
    return numbered, groups


def _rate(path: Path, series: h5py.Group) -> tuple[float, float, list[str]]:
    """The rate, the time of the first sample, and notes."""
    start = series.get("starting_time")
    if isinstance(start, h5py.Dataset) and "rate" in start.attrs:
        return float(start.attrs["rate"]), float(np.asarray(start[()]).ravel()[0]), []
    times = series.get("timestamps")
    if not isinstance(times, h5py.Dataset) or times.ndim != 1:
        raise Refused(f"{path}: {series.name} has neither a rate nor times: give table.sfreq=… (Hz)")
    seconds = np.asarray(times[()], float)
    rate, notes = matrices.rate_of(path, "timestamps", seconds, "s")
    return rate, float(seconds[0]), notes


def _kind(words: str) -> Kind:
    words = words.lower()
    if "ecog" in words or "grid" in words or "strip" in words:
        return "ecog"
    return "eeg" if "eeg" in words and "seeg" not in words and "ieeg" not in words else "seeg"


def _trials(file: h5py.File, begins_s: float) -> tuple[Annotation, ...]:
    """The rows of intervals/trials, with the first column of words as their text."""
    table = file.get("intervals/trials")
    if not isinstance(table, h5py.Group):
        return ()
    columns = {name: item for name, item in table.items() if isinstance(item, h5py.Dataset) and item.ndim == 1}
    if not {"start_time", "stop_time"} <= set(columns) or len(columns["start_time"]) > MOST_ROWS:
        return ()
    starts, stops = (np.asarray(columns[name][()], float) for name in ("start_time", "stop_time"))
    words = next(
        (
            item[()]
            for name, item in columns.items()
            if h5py.check_string_dtype(item.dtype) and len(item) == len(starts)
        ),
        ["trial"] * len(starts),
    )
    return tuple(
        Annotation(float(start) - begins_s, float(max(0.0, stop - start)), _text(word))
        for start, stop, word in zip(starts, stops, words, strict=False)
        if np.isfinite(start) and np.isfinite(stop)
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

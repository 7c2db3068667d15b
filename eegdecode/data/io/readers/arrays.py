"""Read a recording from a file of numpy: .npy or .npz, [time x channel], [channel x time], or with trials before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from eegdecode.data.config.files import Reading, Table
from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import matrices
from eegdecode.data.io.readers.opened import Opened
from hpc.errors import first_of

NAMES = ("ch_names", "channels", "channel_names", "labels", "names", "chnames")
UNITS = ("unit", "units")
LARGE = 0.25


def read(path: Path, cfg: Reading) -> Opened:
    with guard.reading(path):
        if path.suffix.lower() == ".npy":
            return _opened(path, npy(path), cfg.table, cfg.table.sfreq, (), "")
        return _zipped(path, cfg.table)


def npy(path: Path) -> np.ndarray:
    """The array, not in memory yet, if the file has all of it."""
    with guard.open_file(path) as file:
        size = path.stat().st_size
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            raise Refused(f"{path} holds Python objects, which are not read: save an array of numbers")
        guard.promise(path, "numbers", int(np.prod(shape, dtype=object)) * dtype.itemsize, size - file.tell())
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _zipped(path: Path, cfg: Table) -> Opened:
    guard.archive(path)
    with np.load(path, allow_pickle=False) as parts:
        arrays = {name: parts[name] for name in parts.files}
    numbers = {name: each for name, each in arrays.items() if each.dtype.kind in "iuf" and each.ndim in (2, 3)}
    if cfg.data and cfg.data not in numbers:
        raise Refused(f"{path} has no matrix {cfg.data}; there are {_listed(arrays)}: correct table.data")
    largest = max((each.size for each in numbers.values()), default=0)
    large = [cfg.data] if cfg.data else [name for name, each in numbers.items() if each.size >= LARGE * largest]
    if len(large) != 1:
        what = f"several that may be the samples ({', '.join(large)})" if large else "no matrix of samples"
        raise Refused(f"{path} has {what} among {_listed(arrays)}: name the one with table.data=…")
    rates = [float(each) for name, each in arrays.items() if name.lower() in matrices.RATES and each.size == 1]
    texts = {name.lower(): each for name, each in arrays.items() if each.dtype.kind in "US"}
    labels = next((texts[name] for name in NAMES if name in texts), np.array([], "U1"))
    names = tuple(str(name) for name in labels.astype("U").ravel())
    unit = next((str(texts[name].astype("U").ravel()[0]) for name in UNITS if name in texts and texts[name].size), "")
    return _opened(path, numbers[large[0]], cfg, cfg.sfreq or (rates[0] if rates else 0.0), names, unit)


def _listed(arrays: dict[str, np.ndarray]) -> str:
    ordered = sorted(arrays, key=lambda name: -arrays[name].size)
    return first_of([f"{name} ({' x '.join(map(str, arrays[name].shape))})" for name in ordered], 12)


def _opened(path: Path, data: np.ndarray, cfg: Table, sfreq: float, names: tuple[str, ...], unit: str) -> Opened:
    names = tuple(cfg.channels) or names
    if data.dtype.kind not in "iuf" or data.ndim not in (2, 3) or 0 in data.shape:
        raise Refused(
            f"{path} holds {data.dtype} of the shape {data.shape}, but a recording is [time x channel], "
            "[channel x time] or [trial x channel x time]"
        )
    if not sfreq:
        raise Refused(f"{path} does not say its sampling rate: give it with table.sfreq=… (Hz)")
    of_trial = data.shape[-2:]
    times_first = matrices.is_times_first(path, of_trial, len(names), cfg)
    n_times, n_channels = of_trial if times_first else of_trial[::-1]
    if names and len(names) != n_channels:
        raise Refused(f"{path} has {n_channels} channels, but {len(names)} are named: correct table.channels")
    names = names or tuple(f"ch{k + 1}" for k in range(n_channels))
    n_trials = data.shape[0] if data.ndim == 3 else 1
    axes = f"[{'trial x ' if data.ndim == 3 else ''}{'time x channel' if times_first else 'channel x time'}]"
    notes = [f"it was taken as {axes}; if not, set table.rows"]
    read = _two(data, times_first) if data.ndim == 2 else _three(data, times_first, n_times)
    edges = tuple(n_times * k for k in range(1, n_trials))
    in_file = dict.fromkeys(names, unit) if unit else {}
    return matrices.opened(path, read, n_times * n_trials, names, sfreq, in_file, cfg.unit, notes, edges)


def _two(data: np.ndarray, times_first: bool) -> Callable[[int, int], np.ndarray]:
    if times_first:
        return lambda first, stop: np.asarray(data[first:stop], np.float64)
    return lambda first, stop: np.asarray(data[:, first:stop], np.float64).T


def _three(data: np.ndarray, times_first: bool, n_times: int) -> Callable[[int, int], np.ndarray]:
    def read(first: int, stop: int) -> np.ndarray:
        a, b = first // n_times, -(-stop // n_times)
        trials = np.asarray(data[a:b], np.float64)
        trials = trials if times_first else trials.transpose(0, 2, 1)
        return trials.reshape(-1, trials.shape[-1])[first - a * n_times : stop - a * n_times]

    return read

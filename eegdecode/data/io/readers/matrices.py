"""What tables and arrays have in common: which side is time, the names and units of channels, and clocks to rates."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from eegdecode.data.config.files import Table
from eegdecode.data.io import guard
from eegdecode.data.io.channels import units
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers.opened import Annotation, Opened
from eegdecode.signals import Sensor, Stream

RATES = ("fs", "srate", "sfreq", "fsample", "samplingrate", "samplerate", "samplingfrequency", "sampling_rate")
STEADY = 0.02  # fraction of the usual step that a step of a clock may differ, once it is smoothed
CLOCK_UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
PLAUSIBLE_HZ = (0.5, 1e5)  # of EEG and MEG, where the unit of a clock has to be seen by its steps


def is_times_first(path: Path, shape: tuple[int, ...], n_names: int, cfg: Table) -> bool:
    """Whether a row is a point in time."""
    if cfg.rows:
        return cfg.rows == "times"
    fits = [axis for axis in (0, 1) if shape[axis] == n_names]
    if n_names and len(fits) == 1:
        return fits[0] == 1
    if shape[0] == shape[1]:
        raise Refused(f"{path} is {shape[0]} x {shape[1]}, which does not show what is time: set table.rows")
    return shape[0] > shape[1]


def unit_in_name(name: str) -> tuple[str, str]:
    """`Fz [uV]` as (Fz, uV); the unit is empty where there is none."""
    match = re.fullmatch(r"\s*(.+?)\s*[\[(]\s*([^\])]+?)\s*[\])]\s*", name)
    return (match[1], match[2]) if match else (name.strip(), "")


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names that differ; a second Fz is Fz-2."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return tuple(out)


def opened(
    path: Path,
    read: Callable[[int, int], np.ndarray],
    n_times: int,
    names: Sequence[str],
    sfreq: float,
    in_file: dict[str, str],
    unit: str,
    notes: Sequence[str],
    edges: tuple[int, ...] = (),
    annotations: tuple[Annotation, ...] = (),
) -> Opened:
    """A recording of numbers in those units; in `unit`, or else in µV, where the file says none."""
    guard.rate(path, sfreq, "give the right one with table.sfreq=… (Hz)")
    if unit:  # the config knows better than a header
        in_file = dict.fromkeys(names, unit)
    in_file = {name: said for name, said in in_file.items() if units.parse(said)}
    factors = np.array([_factor(in_file.get(name, "uV")) for name in names])

    def in_volt(first: int, stop: int) -> np.ndarray:
        return np.ascontiguousarray(read(first, stop) * factors, dtype=np.float32)

    magnetic = {name: Sensor("mag") for name, said in in_file.items() if (units.parse(said) or ("",))[0] == "T"}
    stream = Stream(tuple(names), sfreq, n_times, in_volt, magnetic)
    return Opened(stream, annotations, tuple(notes), trial_edges=edges, units=in_file, assumed="uV")


def _factor(unit: str) -> float:
    known = units.parse(unit)
    return known[1] if known else 1.0


def rate_of(path: Path, name: str, times: np.ndarray, unit: str = "") -> tuple[float, list[str]]:
    """The rate of a clock in the column `name`, and notes on what is not as steady as it should be."""
    if len(times) < 2 or not np.isfinite(times).all():
        raise Refused(f"{path}: the times in {name} are not all numbers, or fewer than two: give table.sfreq=… (Hz)")
    steps = np.diff(times)
    if (steps < 0).any():
        at = int(np.flatnonzero(steps < 0)[0])
        raise Refused(
            f"{path}: the times in {name} go back from {times[at]:g} to {times[at + 1]:g} in row {at + 2}: sort the "
            "rows, or give table.sfreq=… (Hz)"
        )
    usual = float(times[-1] - times[0]) / len(steps)
    if usual <= 0:
        raise Refused(f"{path}: the times in {name} stand still: give table.sfreq=… (Hz)")
    scale, notes = _seconds(name, usual, unit)
    hz = 1 / (usual * scale)
    rounded = round(hz, 1 if hz > 10 else 3)
    hz = rounded if abs(rounded - hz) < 2e-4 * hz else hz
    middle = float(np.median(steps))
    if gaps := int((steps > 1.5 * max(middle, usual)).sum()) if middle > 0.5 * usual else 0:
        longest = float(steps.max()) * scale
        notes.append(
            f"{name} has {gaps} gaps, the longest of {longest:.3g} s: the rows were taken as {hz:g} Hz all the same"
        )
    return hz, notes


def _seconds(name: str, step: float, unit: str) -> tuple[float, list[str]]:
    """The factor from the clock's unit to seconds: as its name says, or as its steps do."""
    bare, in_name = unit_in_name(name)
    tail = re.search(r"[_ ](s|sec|ms|msec|us|µs|ns)$", bare.lower())
    said = unit or in_name.lower() or (tail[1] if tail else "")
    if said in CLOCK_UNITS:
        return CLOCK_UNITS[said], []
    for factor, word in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if PLAUSIBLE_HZ[0] <= 1 / (step * factor) <= PLAUSIBLE_HZ[1]:
            return factor, [] if word == "s" else [f"{name} steps by {step:g}, so it was taken to be in {word}"]
    return 1.0, []

"""What a signal looks like: spectra, how loud each channel is, and some seconds of it. From pieces of two seconds,
evenly spread, so that a day of recording takes no longer than an hour."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eegdecode.signals import BRAIN, Kind, Stream

N_PIECES, PIECE_S = 40, 2.0
RATIO = 1.06  # of neighbouring frequencies on a page
SHOWN: Mapping[Kind, tuple[str, float]] = {"mag": ("fT", 1e15), "grad": ("fT/cm", 1e13), "source": ("", 1.0)}
"""Units on the page; µV for kinds that are not listed."""
SCALED = "units of spread"
"""The unit on the page after a step that took the physical one away."""
MOST_LINES = 6  # spectra of single channels

TRACES_S, MOST_TRACES, MOST_HZ = 5.0, 10, 64.0
SPACING = 40  # steps between two neighbouring traces


def shown_unit(kind: Kind, scaled: bool) -> tuple[str, float]:
    """The unit in which a page shows a kind of channel, and what samples are multiplied by."""
    return (SCALED, 1.0) if scaled else SHOWN.get(kind, ("µV", 1e6))


def kinds(stream: Stream) -> dict[Kind, list[int]]:
    """The columns of each kind of channel that measures the brain; that of most channels first."""
    columns: dict[Kind, list[int]] = {}
    for column, name in enumerate(stream.channels):
        if (kind := stream.sensor(name).kind) in BRAIN:
            columns.setdefault(kind, []).append(column)
    return dict(sorted(columns.items(), key=lambda each: (-len(each[1]), each[0])))


def looked_at(stream: Stream, scaled: bool, bads: Sequence[str]) -> dict[str, Any]:
    """For each kind: the median spectrum over channels with its spread, those of bad channels, and how loud each is."""
    n = min(stream.n_times, round(PIECE_S * stream.sfreq))
    n_pieces = max(1, min(N_PIECES, stream.n_times // n))
    starts = np.linspace(0, stream.n_times - n, n_pieces).astype(int).tolist()
    columns = kinds(stream)
    brain = [column for of_kind in columns.values() for column in of_kind]
    if not brain or n < 8:
        return {}
    window = np.hanning(n + 1)[:-1].astype(np.float32)[:, None]
    power, spread = np.zeros((n // 2 + 1, len(brain))), np.empty((n_pieces, len(brain)))
    for row, start in enumerate(starts):
        piece = np.nan_to_num(np.asarray(stream.read(start, start + n), np.float32)[:, brain])
        piece -= piece.mean(axis=0)
        spread[row] = piece.std(axis=0)
        # Scaled first: the squares of tesla are below what float32 can hold
        factor = 1 / float(spread[row].max() or 1.0)
        power += np.abs(np.fft.rfft(piece * np.float32(factor) * window, axis=0)) ** 2 / factor**2
    power *= 2 / (n_pieces * stream.sfreq * float((window**2).sum()))
    loud = np.median(spread, axis=0)
    hz = np.fft.rfftfreq(n, 1 / stream.sfreq)
    seen: dict[str, Any] = {}
    first = 0
    for kind, of_kind in columns.items():
        names = [stream.channels[column] for column in of_kind]
        here = slice(first, first + len(names))
        first += len(names)
        unit, factor = shown_unit(kind, scaled)
        seen[kind] = {"unit": unit, "n": len(names)} | _spectrum(hz, power[:, here] * factor**2, names, bads)
        seen[kind]["loudness"] = {
            name: _round(value) for name, value in zip(names, (loud[here] * factor).tolist(), strict=True)
        }
    return seen


def _spectrum(hz: np.ndarray, power: np.ndarray, names: Sequence[str], bads: Sequence[str]) -> dict[str, Any]:
    dead = power.sum(axis=0) <= 0
    middle = np.median(power[:, ~dead], axis=1) if not dead.all() else np.zeros(len(hz))
    places = np.floor(np.log(np.maximum(hz, 1e-9) / hz[1]) / np.log(RATIO) + 1e-6).astype(int)
    starts = np.flatnonzero(np.diff(places, prepend=-(1 << 30)))
    starts = starts[starts > 0]  # without 0 Hz
    sizes = np.diff([*starts, len(hz)])
    binned = np.add.reduceat(power, starts, axis=0) / sizes[:, None]
    decibel = 10 * np.log10(np.maximum(binned, 1e-30))
    alive = decibel[:, ~dead] if not dead.all() else decibel
    low, median, high = np.quantile(alive, (0.1, 0.5, 0.9), axis=1)
    lines = {name: decibel[:, names.index(name)] for name in list(bads)[:MOST_LINES] if name in names}
    ratios = {f"mains_{mains}_db": _above_neighbours(hz, middle, mains) for mains in (50, 60)}
    bands = {"slow": (0.5, 2), "middle": (4, 12), "fast": (30, 45)}
    level = {name: middle[(hz >= a) & (hz <= b)] for name, (a, b) in bands.items()}
    for name in ("slow", "fast"):
        if hz[-1] >= bands[name][1] and level["middle"].sum() > 0 and level[name].sum() > 0:
            ratios[f"{name}_db"] = _decibel(level[name].mean() / level["middle"].mean())
    centres = np.sqrt(hz[starts] * hz[starts + sizes - 1])
    return {
        "hz": [round(float(value), 3) for value in centres],
        "db": {"low": _list(low), "median": _list(median), "high": _list(high)},
        "lines": {name: _list(line) for name, line in lines.items() if (line > -290).any()},
        "ratios": {name: value for name, value in ratios.items() if value is not None},
    }


def _above_neighbours(hz: np.ndarray, power: np.ndarray, mains: int) -> float | None:
    """How far the power of the mains stands out of that 3 to 8 Hz away."""
    if hz[-1] < mains + 9:
        return None
    away = np.abs(hz - mains)
    around = np.median(power[(away >= 3) & (away <= 8)])
    return _decibel(power[away <= 1].max() / around) if around > 0 else None


def _decibel(ratio: float) -> float:
    return round(float(10 * np.log10(max(ratio, 1e-30))), 1)


def _list(values: np.ndarray) -> list[float]:
    return [round(float(value), 1) for value in values]


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def some_seconds(stream: Stream, scaled: bool, names: Sequence[str], start_s: float) -> dict[str, Any]:
    """A stretch of these channels. `rows`: whole numbers, of which SPACING are `spacing` in the unit. Above MOST_HZ
    each point becomes the lowest and the highest of its time, so that no spike is lost."""
    first = min(max(0, round(start_s * stream.sfreq)), max(0, stream.n_times - 2))
    stop = min(stream.n_times, first + round(TRACES_S * stream.sfreq))
    names = [name for name in names if name in stream.channels]
    columns = [stream.channels.index(name) for name in names]
    if not names or stop - first < 4:
        return {}
    data = np.nan_to_num(np.asarray(stream.read(first, stop), np.float64)[:, columns])
    data -= np.median(data, axis=0)
    units = [shown_unit(stream.sensor(name).kind, scaled) for name in names]
    data *= np.array([factor for _, factor in units])
    rows, hz = data, stream.sfreq
    if (group := int(stream.sfreq // MOST_HZ)) > 1:
        whole = data[: len(data) // group * group].reshape(-1, group, len(names))
        down = whole.argmin(axis=1) > whole.argmax(axis=1)
        both = np.where(down[:, None], [[[1], [0]]], [[[0], [1]]]).reshape(len(whole), 2, len(names))
        ends = np.stack([whole.min(axis=1), whole.max(axis=1)], axis=1)
        rows, hz = np.take_along_axis(ends, both, axis=1).reshape(-1, len(names)), 2 * stream.sfreq / group
    spacings = {}
    for unit, _ in units:
        loud = [data[:, column].std() for column, (of, _) in enumerate(units) if of == unit]
        spacings[unit] = nice(5 * float(np.median([each for each in loud if each > 0] or [0.0])))
    of_row = np.array([spacings[unit] for unit, _ in units])
    steps = np.clip(np.round(rows / of_row * SPACING), -2 * SPACING, 2 * SPACING).astype(int)
    return {
        "start_s": round(first / stream.sfreq, 3),
        "sfreq": hz,
        "spacing": spacings,
        "traces": [
            {"name": name, "unit": unit, "row": column.tolist()}
            for name, (unit, _), column in zip(names, units, steps.T, strict=True)
        ],
    }


def trace_channels(stream: Stream, bads: Sequence[str]) -> list[str]:
    """The channels whose traces are shown: some of each kind in their order, and the bad ones."""
    bad = [name for name in stream.channels if name in bads][:3]
    watched = [name for name in stream.channels if stream.sensor(name).kind in ("eog", "ecg")][:2]
    columns = kinds(stream)
    names: list[str] = []
    for of_kind in columns.values():
        good = [stream.channels[column] for column in of_kind if stream.channels[column] not in bad]
        most = max(1, (MOST_TRACES - len(bad) - len(watched)) // len(columns))
        names += [good[place] for place in np.unique(np.linspace(0, len(good) - 1, min(most, len(good))).astype(int))]
    order = {name: place for place, name in enumerate(stream.channels)}
    return sorted({*names, *bad}, key=order.__getitem__) + watched


def nice(value: float) -> float:
    """A round number, about as large."""
    if not value > 0:
        return 1.0
    scale = 10.0 ** np.floor(np.log10(value))
    return float(f"{min((1, 2, 5, 10), key=lambda each: abs(np.log(each * scale / value))) * scale:.3g}")

"""What trials evoke: the mean response of each condition, all trials as a picture, and power over time and frequency.

A first look, not a test: it is shown at the channel with the clearest response, and at most as many trials are used as
fit into a bounded memory.
"""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eegdecode import topomap
from eegdecode.data.survey import spectra
from eegdecode.plots import indexed_png
from eegdecode.signals import Stream, Trial
from eegdecode.topomap import Places

BEFORE_S, SHORTEST_S, LONGEST_S = 0.5, 0.8, 2.5
BASELINE_S = 0.2
PAD_S = 0.4  # read on both sides, so that the ends of a filter are not seen
MOST_SFREQ = 125.0
MOST_VALUES = 6_000_000  # of all trials, [trial, time, channel]
MOST_TRIALS = 240
MOST_CONDITIONS = 6
FEWEST = 2  # trials of a condition
RAW_BAND_HZ = (1.0, 30.0)  # to which raw trials are filtered, each by itself
N_ROWS, N_COLUMNS = 90, 125  # of the picture of all trials
N_FREQUENCIES, LOWEST_HZ, HIGHEST_HZ = 18, 4.0, 40.0
N_MAPS = 3


class Conditions(NamedTuple):
    """`by`: the column of the events that makes them, or `stimulus`; empty if all trials are one condition."""

    by: str
    names: list[str]
    of_trial: list[int]


def conditions(trials: Sequence[Trial], prefer: Sequence[str] = ()) -> Conditions:
    """By the first of the preferred columns, the stimulus and the other columns that has two to six values, each at
    least twice."""
    columns = list(dict.fromkeys(column for trial in trials for column in trial.labels))
    for column in dict.fromkeys((*prefer, "stimulus", *columns)):
        values = [_value(trial, column) for trial in trials]
        names = sorted(set(values))
        if 2 <= len(names) <= MOST_CONDITIONS and "" not in names and min(map(values.count, names)) >= FEWEST:
            return Conditions(column, names, [names.index(value) for value in values])
    return Conditions("", ["all trials"], [0] * len(trials))


def _value(trial: Trial, column: str) -> str:
    value = trial.labels.get(column, trial.stimulus if column == "stimulus" else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def responses(
    stream: Stream, scaled: bool, raw: bool, trials: Sequence[Trial], made: Conditions, skip: Sequence[str]
) -> dict[str, Any]:
    """The responses of the kind with most channels, without those in `skip`; empty if there are no two trials."""
    columns = spectra.kinds(stream)
    kind = next(iter(columns), None)
    if kind is None or not trials:
        return {}
    names = [stream.channels[column] for column in columns[kind] if stream.channels[column] not in skip]
    after_s = float(np.clip(np.median([trial.duration for trial in trials]), SHORTEST_S, LONGEST_S))
    first_s, stop_s = -BEFORE_S - PAD_S, after_s + PAD_S
    inside = [
        index
        for index, trial in enumerate(trials)
        if trial.start + first_s >= 0 and trial.start + stop_s <= stream.duration
    ]
    n = round((stop_s - first_s) * stream.sfreq)
    rate = min(stream.sfreq, MOST_SFREQ)
    n_out = round(n * rate / stream.sfreq)
    chosen = _spread(inside, made, max(4, min(MOST_TRIALS, MOST_VALUES // (n_out * max(1, len(names))))))
    if len(chosen) < FEWEST or n_out < 16 or not names:
        return {}
    where = [stream.channels.index(name) for name in names]
    unit, factor = spectra.shown_unit(kind, scaled)
    data = np.empty((len(chosen), n_out, len(names)), np.float32)
    for row, index in enumerate(chosen):
        first = min(round((trials[index].start + first_s) * stream.sfreq), stream.n_times - n)
        piece = np.nan_to_num(np.asarray(stream.read(max(0, first), max(0, first) + n), np.float32)[:, where])
        data[row] = _brought_to(piece * np.float32(factor), n_out)
    times = first_s + np.arange(n_out) / rate
    of_trial = np.array(made.of_trial)[chosen]
    filtered = _filtered(data, rate) if raw else data
    filtered = filtered - filtered[:, (times >= -BASELINE_S) & (times < 0)].mean(axis=1, keepdims=True)
    shown = (times >= -BEFORE_S - 1e-9) & (times <= after_s)
    best = _clearest(filtered[:, shown], times[shown], of_trial)
    counts = [int((of_trial == number).sum()) for number in range(len(made.names))]
    return {
        "kind": kind,
        "unit": unit,
        "by": made.by,
        "channel": names[best],
        "n_channels": len(names),
        "filtered": list(RAW_BAND_HZ) if raw else None,
        "conditions": [{"name": name, "n": n} for name, n in zip(made.names, counts, strict=True)],
        "n_used": len(chosen),
        "n_inside": len(inside),
        "n_trials": len(trials),
        "time": {"start_s": round(float(times[shown][0]), 4), "step_s": 1 / rate, "n": int(shown.sum())},
        "evoked": _evoked(filtered[:, shown, best], of_trial, len(made.names)),
        "maps": _maps(Places.of_stream(stream, kind, skip), names, filtered[:, shown].mean(axis=0), times[shown]),
        "image": _image(filtered[:, shown, best], of_trial),
        "power": _power(data[:, :, best], rate, times, shown, of_trial, len(made.names)),
    }


def _spread(inside: Sequence[int], made: Conditions, most: int) -> list[int]:
    """At most so many, evenly spread over each condition."""
    if len(inside) <= most:
        return list(inside)
    chosen: list[int] = []
    for number in range(len(made.names)):
        mine = [index for index in inside if made.of_trial[index] == number]
        n = min(len(mine), max(FEWEST, most // len(made.names)))
        chosen += [mine[place] for place in np.unique(np.linspace(0, len(mine) - 1, n).astype(int))] if mine else []
    return sorted(chosen)


def _brought_to(piece: np.ndarray, n_out: int) -> np.ndarray:
    """A trial at a lower rate, by the low part of its spectrum; its line from end to end is taken out before."""
    ramp = np.linspace(0, 1, len(piece), dtype=np.float32)[:, None]
    edge = max(1, len(piece) // 20)
    start, end = piece[:edge].mean(axis=0), piece[-edge:].mean(axis=0)
    flat = piece - (start + ramp * (end - start))
    if n_out == len(piece):
        return flat
    spectrum = np.fft.rfft(flat, axis=0)[: n_out // 2 + 1]
    return np.fft.irfft(spectrum, n_out, axis=0) * np.float32(n_out / len(piece))


def _filtered(data: np.ndarray, rate: float) -> np.ndarray:
    hz = np.fft.rfftfreq(data.shape[1], 1 / rate)
    low, high = RAW_BAND_HZ
    gain = np.clip((hz - low / 2) / (low / 2), 0, 1) * np.clip((high * 1.2 - hz) / (high * 0.2), 0, 1)
    spectrum = np.fft.rfft(data, axis=1) * gain.astype(np.float32)[:, None]
    return np.fft.irfft(spectrum, data.shape[1], axis=1).astype(np.float32)


def _clearest(data: np.ndarray, times: np.ndarray, of_trial: np.ndarray) -> int:
    """The channel whose mean responses are largest next to their standard errors."""
    after = data[:, times > 0.03]
    strength = np.zeros(data.shape[2])
    for number in np.unique(of_trial):
        mine = after[of_trial == number]
        error = mine.std(axis=0) / np.sqrt(len(mine)) + 1e-12 * (np.abs(mine).max() or 1.0)
        strength += ((mine.mean(axis=0) / np.where(error > 0, error, 1)) ** 2).mean(axis=0)
    return int(strength.argmax())


def _evoked(data: np.ndarray, of_trial: np.ndarray, n: int) -> list[dict[str, list[float]]]:
    """Of each condition the mean, and 1.96 standard errors."""
    evoked = []
    for number in range(n):
        mine = data[of_trial == number]
        mean = mine.mean(axis=0) if len(mine) else np.zeros(0)
        error = 1.96 * mine.std(axis=0, ddof=1) / np.sqrt(len(mine)) if len(mine) > 1 else np.zeros(len(mean))
        evoked.append({"mean": _list(mean), "error": _list(error)})
    return evoked


def _maps(places: Places, names: Sequence[str], mean: np.ndarray, times: np.ndarray) -> dict[str, Any]:
    """The mean over all trials on the head, where it differs most between channels."""
    field = mean - mean.mean(axis=1, keepdims=True)
    power = np.where(times > 0.03, field.std(axis=1), 0.0)
    peaks: list[int] = []
    for index in np.argsort(-power).tolist():
        if power[index] > 0 and all(abs(times[index] - times[other]) >= 0.08 for other in peaks):
            peaks.append(index)
        if len(peaks) == N_MAPS:
            break
    most = max((float(np.abs(mean[index]).max()) for index in peaks), default=0.0)
    drawn = []
    for index in sorted(peaks):
        if picture := places.picture(dict(zip(names, mean[index].tolist(), strict=True)), most):
            drawn.append({"time_s": round(float(times[index]), 3), "png": picture})
    return {"most": float(f"{most:.3g}"), "drawn": drawn}


def _image(data: np.ndarray, of_trial: np.ndarray) -> dict[str, Any]:
    """All trials, by condition and then in their order, the first at the top."""
    order = np.argsort(of_trial, kind="stable")
    rows = data[order]
    group = -(-len(rows) // N_ROWS)
    starts = np.arange(0, len(rows), group)
    rows = np.add.reduceat(rows, starts, axis=0) / np.diff([*starts, len(rows)])[:, None]
    thin = -(-rows.shape[1] // N_COLUMNS)
    starts = np.arange(0, rows.shape[1], thin)
    rows = np.add.reduceat(rows, starts, axis=1) / np.diff([*starts, rows.shape[1]])
    most = float(np.quantile(np.abs(rows), 0.98)) or 1.0
    png = indexed_png(topomap.levels(rows, most), topomap.ABOVE_AND_BELOW, topomap.N_LEVELS)
    return {"most": float(f"{most:.3g}"), "averaged": int(group), "png": base64.b64encode(png).decode()}


def _power(
    data: np.ndarray, rate: float, times: np.ndarray, shown: np.ndarray, of_trial: np.ndarray, n: int
) -> dict[str, Any]:
    """Of each condition the mean power over trials, in dB of the mean before the trial, by Morlet wavelets."""
    highest = min(HIGHEST_HZ, 0.4 * rate)
    if highest < 2 * LOWEST_HZ:
        return {}
    frequencies = np.geomspace(LOWEST_HZ, highest, N_FREQUENCIES)
    length = data.shape[1]
    hz = np.fft.fftfreq(length, 1 / rate)
    spectrum = np.fft.fft(data - data.mean(axis=1, keepdims=True), axis=1)
    power = np.zeros((n, N_FREQUENCIES, int(shown.sum())))
    counts = np.array([(of_trial == number).sum() for number in range(n)])
    for row, frequency in enumerate(frequencies):
        width = frequency / np.clip(frequency / 2, 3, 8)  # in Hz, of a wavelet of 3 to 8 cycles
        wavelet = np.exp(-0.5 * ((hz - frequency) / width) ** 2) * (hz > 0)
        strength = np.abs(np.fft.ifft(spectrum * wavelet, axis=1)[:, shown]) ** 2
        for number in range(n):
            if counts[number]:
                power[number, row] = strength[of_trial == number].mean(axis=0)
    before = times[shown] < -0.1
    rest = power[:, :, before].mean(axis=2, keepdims=True)
    change = 10 * np.log10(np.maximum(power, 1e-30) / np.maximum(rest, 1e-30))
    thin = -(-change.shape[2] // N_COLUMNS)
    change = change[:, :, ::thin]
    most = float(np.clip(np.quantile(np.abs(change), 0.995), 1.0, 20.0))
    return {
        "hz": [round(float(frequencies[0]), 2), round(float(frequencies[-1]), 2)],
        "most_db": round(most, 1),
        "png": [
            base64.b64encode(
                indexed_png(topomap.levels(of[::-1], most), topomap.ABOVE_AND_BELOW, topomap.N_LEVELS)
            ).decode()
            for of in change
        ],
    }


def _list(values: np.ndarray) -> list[float]:
    return [float(f"{value:.3g}") for value in values.tolist()]

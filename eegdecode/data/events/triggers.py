"""Read trigger channels: the times and values of pulses, the levels of a channel, and the clock of a film.

train = pulses(stream, "STI 014")          digital or analogue, onset in seconds
clock(train.times_s, 29.97 / 2)            a line through pulses of a known rate; counts missing and extra ones
levels(stream, "music", (0.0, 0.5, 1.0))   the times at which the channel was at each of the known levels
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eegdecode.signals import Stream

BLOCK_VALUES = 1 << 22  # read at a time
WIDEST_PPM = 500.0  # a recorder and a player differ by 100 ppm at most; 30 fps differs from 29.97 by 1001


class Pulses(NamedTuple):
    channel: str
    times_s: np.ndarray
    durations_s: np.ndarray
    values: np.ndarray  # 1 in an analogue channel
    notes: tuple[str, ...] = ()


def pulses(
    stream: Stream,
    channel: str = "",
    fallback: str = "",
    bits: int | None = None,
    threshold: float | None = None,
    gap_s: float = 0.005,
) -> Pulses:
    """Return all triggers of a channel, or of the fallback if that channel is flat; for the parameters see
    TriggerEvents."""
    name = channel or _only_trigger_channel(stream)
    train = _pulses(stream, name, bits, threshold, gap_s)
    if not len(train.times_s) and fallback:
        train = _pulses(stream, fallback, None, None, gap_s)
        note = f"{name} is flat: triggers are taken from {fallback}, which has {len(train.times_s)}"
        train = train._replace(notes=(note, *train.notes))
    if not len(train.times_s):
        flat = f"{name} and {fallback} are" if fallback else f"{name} is"
        raise ValueError(
            f"{flat} flat, without any trigger: set channel{'' if fallback else ' or fallback'} to another"
        )
    return train


def _only_trigger_channel(stream: Stream) -> str:
    names = [name for name in stream.channels if stream.sensor(name).kind == "stim"]
    if len(names) != 1:
        several = f"several trigger channels, {', '.join(names)}" if names else "no trigger channel"
        raise ValueError(f"the recording has {several}: set channel to one of its channels")
    return names[0]


def _pulses(stream: Stream, name: str, bits: int | None, threshold: float | None, gap_s: float) -> Pulses:
    samples = column(stream, name)
    digital = threshold is None and _is_whole(samples)
    if bits is not None and not digital:
        raise ValueError(
            f"bits needs a digital channel, but {name} has values that are not whole numbers: set threshold"
        )
    gap = gap_s * stream.sfreq
    rise, fall, values = _digital(samples, bits, gap) if digital else _analogue(samples, threshold)
    genuine = _no_bounces(rise, gap)
    note = f"{name} has {len(rise) - len(genuine)} triggers within {gap_s:g} s of another: taken as bounces"
    return Pulses(
        name,
        rise[genuine] / stream.sfreq,
        (fall - rise)[genuine] / stream.sfreq,
        values[genuine],
        (note,) if len(genuine) < len(rise) else (),
    )


def column(stream: Stream, name: str) -> np.ndarray:
    """Read one channel as float32. The recording is read in blocks, so only this channel is held in memory."""
    if name not in stream.channels:
        raise ValueError(f"there is no channel {name!r} among {', '.join(stream.channels)}")
    place, block = stream.channels.index(name), max(1, BLOCK_VALUES // stream.n_channels)
    samples = np.empty(stream.n_times, np.float32)
    for first in range(0, stream.n_times, block):
        stop = min(first + block, stream.n_times)
        samples[first:stop] = stream.read(first, stop)[:, place]
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{name} has {int((~np.isfinite(samples)).sum())} samples that are not numbers: repair it first"
        )
    return samples


def _is_whole(samples: np.ndarray) -> bool:
    parts = np.array_split(samples, 1 + len(samples) // BLOCK_VALUES)
    return all(bool((part == np.rint(part)).all()) for part in parts)


def _digital(samples: np.ndarray, bits: int | None, gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the samples at which the value changes to one other than 0. Lines do not switch at once: values in
    transition do not count."""
    lines = samples.astype(np.int32)
    if bits is not None:
        lines &= bits
    starts = np.flatnonzero(lines[1:] != lines[:-1]) + 1
    stops = np.append(starts[1:], len(lines))
    value = lines[starts]
    brief = (stops - starts < gap) & (value != 0)
    before, after = np.append(0, value[:-1]), np.append(value[1:], 0)
    up = brief & (after != 0)
    down = brief & (after == 0) & (before != 0) & ~np.append(False, up[:-1])
    # A trigger begins when the lines begin to change, and has the value at which they settle
    begins = np.where(np.append(False, up[:-1]), np.append(0, starts[:-1]), starts)
    is_trigger = (value != 0) & ~up & ~down
    return begins[is_trigger].astype(float), stops[is_trigger].astype(float), value[is_trigger]


def _analogue(samples: np.ndarray, threshold: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the times, between samples, at which the channel crosses the threshold upwards. It must fall a tenth below
    before it can cross again."""
    low, high = _two_levels(samples)
    above = threshold if threshold is not None else (low + high) / 2
    below = above - 0.1 * (high - low)
    ups = np.flatnonzero((samples[1:] > above) & (samples[:-1] <= above)) + 1
    downs = np.flatnonzero((samples[1:] < below) & (samples[:-1] >= below)) + 1
    places, is_up = np.concatenate([ups, downs]), np.repeat([True, False], [len(ups), len(downs)])
    order = np.argsort(places)
    places, is_up = places[order], is_up[order]
    changes = is_up != np.append(len(samples) > 0 and samples[0] > above, is_up[:-1])
    rises, falls = places[changes & is_up], places[changes & ~is_up]
    if not len(rises) or (threshold is None and not high > low):
        return np.empty(0), np.empty(0), np.empty(0, int)
    ends = np.append(falls, len(samples))[np.searchsorted(falls, rises)].astype(float)
    before, after = samples[rises - 1].astype(float), samples[rises].astype(float)
    at = _middles(samples, rises, low, high) if threshold is None else above
    late = np.clip((after - at) / (after - before), -1, 2)  # in samples, along the flank
    return rises - late, ends, np.ones(len(rises), int)


def _middles(samples: np.ndarray, rises: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the level half-way between rest and pulse around each rise, so that a wandering baseline does not move the
    rises."""
    stretches = _stretches(samples)
    middle = np.array([(float(part.min()) + float(part.max())) / 2 for part in stretches])
    pulsing = np.array([float(part.max()) - float(part.min()) > (high - low) / 2 for part in stretches])
    centre = (np.arange(len(stretches)) + 0.5) * len(samples) / len(stretches)
    if not pulsing.any():
        return np.full(len(rises), (low + high) / 2)
    return np.interp(rises, centre[pulsing], middle[pulsing])


def _stretches(samples: np.ndarray) -> list[np.ndarray]:
    return np.array_split(samples, min(100, max(1, len(samples) // 2)))


def _two_levels(samples: np.ndarray) -> tuple[float, float]:
    """Return the levels at rest and in a pulse; both are the same if there is only noise, which is mostly in the
    middle."""
    stretches = _stretches(samples)
    low = float(np.median([part.min() for part in stretches]))
    highest = [float(part.max()) for part in stretches]
    # Pulses throughout, robust to a few artefacts; otherwise only a few pulses in all
    for high in (float(np.quantile(highest, 0.9)), max(highest)):
        middle, tenth = (low + high) / 2, (high - low) / 10
        if np.mean((samples > middle - tenth) & (samples < middle + tenth)) < 1 / 3 and high > low:
            return low, high
    return low, low


def _no_bounces(onsets: np.ndarray, gap: float) -> np.ndarray:
    genuine: list[int] = []
    for index, onset in enumerate(onsets):
        if not genuine or onset - onsets[genuine[-1]] >= gap:
            genuine.append(index)
    return np.array(genuine, int)


class Clock(NamedTuple):
    """Pulse k of a regular train is at start_s + k * period_s of the recording."""

    start_s: float
    period_s: float
    n_periods: int  # pulses, including missing ones
    drift_ppm: float  # how much longer a period is than expected
    missing: int
    extra: int
    residual_s: float  # RMS distance of the pulses from the line

    def say(self, channel: str, sfreq: float) -> str:
        lasts_s = self.n_periods * self.period_s
        return (
            f"{self.n_periods - self.missing} pulses in {channel} over {lasts_s:.1f} s: the clock drifts by "
            f"{self.drift_ppm:+.1f} ppm, {1e-3 * self.drift_ppm * lasts_s:+.1f} ms until the end; {self.missing} are "
            f"missing, {self.extra} do not belong, the others lie {self.residual_s * sfreq:.2f} samples from the line"
        )


def clock(times_s: np.ndarray, expected_hz: float) -> Clock:
    """Fit the line through pulses of a known rate, robust to missing and extra ones."""
    expected_s = 1 / expected_hz
    gaps_s = np.diff(times_s)
    usual_s = float(np.median(gaps_s)) if len(gaps_s) else 0.0
    regular = gaps_s[np.abs(gaps_s / expected_s - 1) < 0.2]
    if len(regular) < max(2, len(gaps_s) / 4):
        came = f"come every {1000 * usual_s:.1f} ms" if usual_s else "are too few"
        raise ValueError(f"pulses should come every {1000 * expected_s:.1f} ms ({expected_hz:g} Hz), but {came}: {FIX}")
    period_s = float(regular.mean())
    # The first pulses may be strays, and a count from a stray does not fit
    tries = [_count_periods(times_s, first, period_s) for first in range(min(8, len(times_s)))]
    index, fitting = max(tries, key=lambda counted: len(counted[1]))
    slope, start_s = np.polyfit(index, times_s[fitting], 1)
    residual_s = float(np.sqrt(np.mean((times_s[fitting] - start_s - slope * index) ** 2)))
    drift_ppm = 1e6 * (slope / expected_s - 1)
    # As precisely as the ends of a short train allow
    uncertain_ppm = 4e6 * residual_s / (expected_s * max(1, index[-1]))
    if abs(drift_ppm) > WIDEST_PPM + uncertain_ppm:
        raise ValueError(
            f"pulses should come at {expected_hz:.4f} Hz, but come at {1 / slope:.4f} Hz, {drift_ppm:+.0f} ppm off, "
            f"where clocks differ by {WIDEST_PPM:.0f} at most: {FIX}"
        )
    extra, n_periods = len(times_s) - len(fitting), int(index[-1]) + 1
    if extra > 0.1 * len(times_s):
        raise ValueError(
            f"of {len(times_s)} pulses only {len(fitting)} lie on one line, the others come between: "
            "take another channel, or a longer gap_s"
        )
    return Clock(float(start_s), float(slope), n_periods, float(drift_ppm), n_periods - len(fitting), extra, residual_s)


FIX = "look at fps, frames_per_pulse and the channel"


def _count_periods(times_s: np.ndarray, first: int, period_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the period of each pulse, and the indices of those pulses; counted from pulse to pulse, so no drift adds
    up."""
    index, fitting = [0], [first]
    for place in range(first + 1, len(times_s)):
        periods = (times_s[place] - times_s[fitting[-1]]) / period_s
        if round(periods) and abs(periods - round(periods)) < 0.25:
            index.append(index[-1] + round(periods))
            fitting.append(place)
    return np.array(index), np.array(fitting)


def runs(times_s: np.ndarray, pause_s: float) -> list[np.ndarray]:
    """Return groups of pulses that are separated by pauses."""
    return np.split(times_s, np.flatnonzero(np.diff(times_s) > pause_s) + 1)


class TimeAtLevel(NamedTuple):
    """A period at one of the known levels."""

    start_s: float
    stop_s: float
    level: float


def levels(stream: Stream, channel: str, known: Sequence[float], shortest_s: float) -> list[TimeAtLevel]:
    """Return the times at each level, in order, from the steps between them: drift moves a level, but makes no step."""
    samples = column(stream, channel)
    ladder = np.array(sorted(known))
    smallest = float(np.diff(ladder).min())
    if stream.duration < shortest_s:
        raise ValueError(f"{channel} lasts {stream.duration:.2f} s, too short for levels of {shortest_s:g} s")
    width = max(1, round(shortest_s * stream.sfreq / 8))
    edges = _steps(samples, width, smallest / 2)
    start = float(np.median(samples[: edges[0][0] if edges else len(samples)][: 4 * width]))
    at = float(ladder[np.abs(ladder - start).argmin()])
    _check_level(channel, start, at, smallest, 0.0)
    stretches, since = [], 0
    for edge, height in edges:
        after = float(ladder[np.abs(ladder - at - height).argmin()])
        _check_level(channel, at + height, after, smallest, edge / stream.sfreq)
        if after != at:
            stretches.append(TimeAtLevel(since / stream.sfreq, edge / stream.sfreq, at))
            at, since = after, edge
    return [*stretches, TimeAtLevel(since / stream.sfreq, stream.duration, at)]


def standing(stream: Stream, channel: str, shortest_s: float) -> list[float]:
    """Return the levels, roughly, at which a channel stays for shortest_s or longer, known or not."""
    samples = column(stream, channel)
    n_parts = max(1, int(2 * len(samples) / (shortest_s * stream.sfreq)))
    middles = np.sort([float(np.median(part)) for part in np.array_split(samples, n_parts)])
    apart = np.flatnonzero(np.diff(middles) > 0.05 * (middles[-1] - middles[0])) + 1
    return [float(np.median(group)) for group in np.split(middles, apart) if len(group) > 1 or n_parts == 1]


def _check_level(channel: str, value: float, level: float, smallest: float, at_s: float) -> None:
    if abs(value - level) > 0.4 * smallest:
        raise ValueError(
            f"{channel} goes to {value:.3g} at {at_s:.2f} s, which is not a level in codes; the nearest is "
            f"{level:g}: add it, or correct rest"
        )


def _steps(samples: np.ndarray, width: int, smallest: float) -> list[tuple[int, float]]:
    """Return (first sample after, height) of each step. `width` samples before and after are compared, with a gap of
    `width` samples between them for slow steps. Steps are found in averages of a few samples, then located among all
    samples."""
    few = max(1, width // 16)
    wide, half = max(1, width // few), max(1, width // few) // 2
    coarse = samples[: len(samples) // few * few].reshape(-1, few).mean(axis=1, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(coarse)])
    means = (sums[wide:] - sums[:-wide]) / wide  # means[k]: from k to k + wide
    apart = wide + 2 * half
    jump = means[apart:] - means[:-apart]  # jump[k]: from before to after k + wide + half
    large = np.flatnonzero(np.abs(jump) > smallest)
    steps: list[tuple[int, float]] = []
    for group in np.split(large, np.flatnonzero(np.diff(large) > 1) + 1) if len(large) else []:
        peak = int(group[np.abs(jump[group]).argmax()])
        height = float(jump[peak])
        first = peak * few + width // 2
        around = samples[first : first + 3 * width].astype(np.float64)
        # The largest sum of deviations from the middle: the likeliest place under noise
        nearer = np.cumsum(np.sign(height) * (means[peak] + height / 2 - around))
        steps.append((first + int(nearer.argmax()) + 1, height))
    return steps

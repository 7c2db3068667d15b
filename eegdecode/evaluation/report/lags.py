"""The lag curves of the ridge, which is a temporal response function: what it makes of each channel over the time by
which the brain is later, and maps of the head where that is largest."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eegdecode import plots
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.report import relevance
from eegdecode.evaluation.results import Lags, Result
from eegdecode.plots import Chart, Head, Line
from eegdecode.signals import SignalSpec
from eegdecode.topomap import Places
from eegdecode.training.model_file import Trained
from hpc.rank.context import Context

RIDGE = "ridge"
N_NAMED = 3  # channels with a colour of their own, those with the largest pattern
N_MAPS = 3
APART_S = 0.05  # at least, between two maps
DIGITS = 5


def are_there(result: Result) -> bool:
    """Whether the ridge is above chance: else its lags mean nothing."""
    ridge = result.baseline_results.get(RIDGE)
    return result.kind == "sequence" and ridge is not None and ridge.figures[result.headline].is_above_chance


def of_ridge(decoded: Decoded, trained: Trained, cfg: Scoring, ctx: Context) -> Lags | None:
    if decoded.weights is None:
        return None
    lags, patterns = relevance.patterns_by_lag(decoded.by(RIDGE), trained, cfg, ctx)

    def by_channel(values: np.ndarray) -> dict[str, tuple[float, ...]]:
        return {
            name: tuple(float(f"{value:.{DIGITS}g}") for value in column)
            for name, column in zip(trained.spec.channels, values.T.tolist(), strict=True)
        }

    seconds = tuple(round(float(lag / trained.spec.sfreq), 4) for lag in lags)
    return Lags(seconds, by_channel(patterns), by_channel(decoded.weights[lags]))


@dataclass(frozen=True)
class Map:
    when: str
    drawn: Head


@dataclass(frozen=True)
class Drawn:
    """`named`: the style and the name of each channel with a colour of its own."""

    patterns: Chart
    weights: Chart
    named: list[tuple[str, str]]
    maps: list[Map]
    rows: list[list[str]]
    """Each channel and lag, for those who download it: channel, seconds, pattern, weight."""


def drawn(lags: Lags | None, spec: SignalSpec) -> Drawn | None:
    if lags is None or len(lags.seconds) < 2:
        return None
    largest = {name: max(map(abs, values)) for name, values in lags.patterns.items()}
    order = sorted(largest, key=lambda name: -largest[name])
    named = [(f"c{number}", name) for number, name in enumerate(order[:N_NAMED])]
    rows = [
        [name, f"{at:g}", f"{pattern:g}", f"{weight:g}"]
        for name, patterns in lags.patterns.items()
        for at, pattern, weight in zip(lags.seconds, patterns, lags.weights[name], strict=True)
    ]
    return Drawn(
        _chart(lags.seconds, lags.patterns, named, "r of the ridge's output with each channel over lags"),
        _chart(lags.seconds, lags.weights, named, "weight of each channel in the ridge over lags"),
        named,
        _maps(lags, Places.of_spec(spec)),
        rows,
    )


def _chart(
    seconds: tuple[float, ...], curves: Mapping[str, tuple[float, ...]], named: list[tuple[str, str]], label: str
) -> Chart:
    own = {name: style for style, name in named}
    lines = [Line(seconds, values, "faint") for name, values in curves.items() if name not in own]
    lines += [Line(seconds, curves[name], style) for style, name in reversed(named)]
    return plots.lines(lines, f"Lines: {label}; the largest are of {', '.join(own)}", "lag in seconds")


def _maps(lags: Lags, places: Places) -> list[Map]:
    """Where the pattern differs most between channels, in the order of time."""
    known = [name for name in lags.patterns if name in places.flat]
    if len(known) < 2:
        return []
    patterns = np.array([lags.patterns[name] for name in known])  # [channel, lag]
    spread = patterns.std(axis=0)
    around = np.pad(spread, 1, constant_values=np.inf)  # an end is no peak
    is_peak = (spread >= around[:-2]) & (spread >= around[2:])
    peaks: list[int] = []
    for index in np.argsort(-spread, kind="stable").tolist():
        if is_peak[index] and all(abs(lags.seconds[index] - lags.seconds[other]) >= APART_S for other in peaks):
            peaks.append(index)
    peaks = peaks[:N_MAPS] or [int(spread.argmax())]
    most = float(np.abs(patterns[:, peaks]).max())
    maps = []
    for index in sorted(peaks):
        when = f"{lags.seconds[index]:.2f} s"
        values = dict(zip(known, patterns[:, index].tolist(), strict=True))
        maps.append(Map(when, places.head(values, f"The pattern on the head at a lag of {when}.", most)))
    return maps

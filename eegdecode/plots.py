"""Charts of the report, as HTML with SVG lines in it. Text stays HTML, so that it keeps its size on a phone while the
lines stretch; colours are classes, so that a chart follows the reader's light or dark page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

MOST_POINTS = 1500  # of one line; no screen shows more


@dataclass(frozen=True)
class Line:
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: str  # a class of the style sheet: heard, decoded, ridge, faint


@dataclass(frozen=True)
class Dots:
    """A row of the dot plot: what the network reaches, the ridge, and chance."""

    label: str
    decoded: float
    ridge: float
    chance: float


def lines(drawn: Sequence[Line], label: str, x_unit: str, mark: float | None = None) -> str:
    """A line chart. `label` says in words what a reader who cannot see it would miss; `mark` is an x to point at."""
    x_low, x_high = min(min(line.x) for line in drawn), max(max(line.x) for line in drawn)
    y_low, y_high = min(min(line.y) for line in drawn), max(max(line.y) for line in drawn)
    x_high, y_high = max(x_high, x_low + 1e-9), max(y_high, y_low + 1e-9)

    def across(x: float) -> float:
        return 100 * (x - x_low) / (x_high - x_low)

    def down(y: float) -> float:
        return 100 * (1 - (y - y_low) / (y_high - y_low))

    paths = []
    for line in drawn:
        points = zip(*thinned(line), strict=True)
        d = "M" + "L".join(f"{across(x):.2f} {down(y):.2f}" for x, y in points)
        paths.append(f'<path class="{line.style}" d="{d}"/>')
    if mark is not None:
        paths.append(f'<path class="mark" d="M{across(mark):.2f} 0V100"/>')
    y_ticks = "".join(f'<span style="top:{down(y):.2f}%">{_say(y)}</span>' for y in ticks(y_low, y_high, 5))
    x_ticks = "".join(f'<span style="left:{across(x):.2f}%">{_say(x)}</span>' for x in ticks(x_low, x_high, 6))
    return (
        f'<div class="chart" role="img" aria-label="{escape(label)}"><div class="y" aria-hidden="true">{y_ticks}</div>'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(paths)}</svg><div class="x" aria-hidden="true">{x_ticks}</div>'
        f'<div class="unit" aria-hidden="true">{escape(x_unit)}</div></div>'
    )


def dots(rows: Sequence[Dots], label: str) -> str:
    """A dot plot, a row a subject, on one scale that starts at 0 or below."""
    values = [value for row in rows for value in (row.decoded, row.ridge, row.chance)]
    low, high = min(0.0, *values), max(values)
    margin = 0.05 * (high - low or 1.0)
    low, high = low - margin * (low < 0), high + margin

    def at(value: float) -> str:
        return f"left:{100 * (value - low) / (high - low):.2f}%"

    grid = "".join(f'<i class="grid" style="{at(x)}"></i>' for x in ticks(low, high, 6))
    drawn = "".join(
        f'<span>{escape(row.label)}</span><div class="track">{grid}'
        f'<i class="chance" style="{at(row.chance)}"></i><i class="ridge" style="{at(row.ridge)}"></i>'
        f'<i class="decoded" style="{at(row.decoded)}"></i></div>'
        for row in rows
    )
    axis = "".join(f'<span style="{at(x)}">{_say(x)}</span>' for x in ticks(low, high, 6))
    return (
        f'<div class="dots" role="img" aria-label="{escape(label)}">{drawn}'
        f'<span></span><div class="x" aria-hidden="true">{axis}</div></div>'
    )


def thinned(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """The line, or the means of neighbours where it has more points than one can see."""
    group = math.ceil(len(line.x) / MOST_POINTS)
    starts = np.arange(0, len(line.x), group)
    sizes = np.diff([*starts, len(line.x)])
    x, y = (np.add.reduceat(np.asarray(values, float), starts) / sizes for values in (line.x, line.y))
    return x, y


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, `most` at most."""
    rough = (high - low) / most
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * nice for nice in (1, 2, 5, 10) if scale * nice >= rough)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _say(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")

"""Charts of the report, as HTML with SVG lines. Text stays HTML, so it keeps its size on a phone while the lines
stretch; colours are CSS classes, so a chart follows the reader's light or dark page."""

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

MOST_POINTS = 1500  # points of one line; no screen shows more
MOST_COLUMNS = 600  # columns of a picture
SHADES = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""The colour map of pictures, from low to high (viridis): even in grey, and for colour-blind readers."""


@dataclass(frozen=True)
class Line:
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: str  # a class of the style sheet: heard, decoded, ridge, faint


@dataclass(frozen=True)
class Dots:
    """A row of the dot plot: the scores of the network, of the ridge, and of chance."""

    label: str
    decoded: float
    ridge: float
    chance: float


@dataclass(frozen=True)
class Picture:
    """Values [time, row] of this many seconds, the first row lowest; `hz` of each row, if they are frequencies."""

    values: np.ndarray
    seconds: float
    hz: np.ndarray | None
    low: float
    high: float


def lines(drawn: Sequence[Line], label: str, x_unit: str, mark: float | None = None) -> str:
    """Draw a line chart. `label` describes it for readers who cannot see it; `mark` is an x to point at."""
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
    """Draw a dot plot with one row a subject, on one scale that starts at 0 or below."""
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


def picture(drawn: Picture, label: str) -> str:
    """Draw a picture with axes. Its colours run from `low` to `high`, the same on light and dark pages."""
    n_rows = drawn.values.shape[1]
    rows = range(n_rows) if drawn.hz is None else drawn.hz / 1000
    wanted = ticks(0.0, float(max(rows)), 5)
    at = [(100 * (1 - (np.interp(value, rows, np.arange(n_rows)) + 0.5) / n_rows), value) for value in wanted]
    at = [each for index, each in enumerate(at) if all(abs(each[0] - other[0]) > 8 for other in at[:index])]
    y_ticks = "".join(f'<span style="top:{top:.2f}%">{_say(value)}</span>' for top, value in at)
    x_ticks = "".join(
        f'<span style="left:{100 * x / drawn.seconds:.2f}%">{_say(x)}</span>' for x in ticks(0.0, drawn.seconds, 6)
    )
    unit = "seconds; bands from low to high" if drawn.hz is None else "seconds; kHz from low to high"
    data = base64.b64encode(png(drawn.values, drawn.low, drawn.high)).decode()
    return (
        f'<div class="chart" role="img" aria-label="{escape(label)}"><div class="y" aria-hidden="true">{y_ticks}</div>'
        f'<img alt="" src="data:image/png;base64,{data}"><div class="x" aria-hidden="true">{x_ticks}</div>'
        f'<div class="unit" aria-hidden="true">{unit}</div></div>'
    )


def png(values: np.ndarray, low: float, high: float) -> bytes:
    """Encode [time, row] as a PNG with a palette, the first row lowest; columns beyond MOST_COLUMNS are averaged."""
    group = math.ceil(len(values) / MOST_COLUMNS)
    starts = np.arange(0, len(values), group)
    values = np.add.reduceat(values, starts, axis=0) / np.diff([*starts, len(values)])[:, None]
    shades = np.round(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8).T[::-1]
    lines_of_bytes = np.hstack([np.zeros((len(shades), 1), np.uint8), shades])  # each begins with its filter type, none
    anchors = np.array([[int(shade[at : at + 2], 16) for at in (1, 3, 5)] for shade in SHADES])
    places = np.linspace(0, len(SHADES) - 1, 256)
    palette = np.stack([np.interp(places, np.arange(len(SHADES)), channel) for channel in anchors.T], axis=1)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = shades.shape
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", np.round(palette).astype(np.uint8).tobytes())
        + chunk(b"IDAT", zlib.compress(lines_of_bytes.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def colours(low: float, high: float, unit: str) -> str:
    """Draw the colour bar of pictures."""
    return (
        f'<div class="colours"><span>{_say(low)}</span><i style="background:linear-gradient(90deg,{",".join(SHADES)})">'
        f"</i><span>{_say(high)} {escape(unit)}</span></div>"
    )


def head(values: Mapping[str, float], places: Mapping[str, tuple[float, float]], label: str) -> str:
    """Draw channels on a head seen from above, nose up; a fuller colour is a larger value, another colour is below 0.

    `places`: x to the right and y to the front, 1 where the head is widest. With many channels only the largest are
    labelled; all show their name as a tooltip.
    """
    largest = max(map(abs, values.values()), default=0.0) or 1.0
    order = sorted(values, key=lambda name: -abs(values[name]))
    named = set(order if len(order) <= MOST_NAMED else order[:FEW_NAMED])
    radius = 0.07 if len(order) <= MOST_NAMED else 0.035
    drawn = []
    for name, value in values.items():
        x, y = places[name]
        colour = "decoded" if value >= 0 else "ridge"
        fill = f"color-mix(in srgb, var(--{colour}) {100 * abs(value) / largest:.0f}%, var(--card))"
        drawn.append(
            f'<circle class="place" cx="{x:.3f}" cy="{-y:.3f}" r="{radius}" style="fill:{fill}">'
            f"<title>{escape(name)} {value:.3g}</title></circle>"
        )
        if name in named:
            drawn.append(f'<text x="{x:.3f}" y="{-y + radius + 0.075:.3f}">{escape(name)}</text>')
    return (
        f'<div role="img" aria-label="{escape(label)}"><svg class="head" viewBox="-1.35 -1.35 2.7 2.7" '
        'aria-hidden="true"><path class="skull" d="M-0.12 -0.99L0 -1.15L0.12 -0.99"/><path class="skull" '
        'd="M-1 -0.15Q-1.1 0 -1 0.15M1 -0.15Q1.1 0 1 0.15"/><circle class="skull" r="1"/>'
        f"{''.join(drawn)}</svg></div>"
    )


MOST_NAMED, FEW_NAMED = 70, 10


def thinned(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """Return the line, or the means of neighbouring points if it has more than MOST_POINTS."""
    group = math.ceil(len(line.x) / MOST_POINTS)
    starts = np.arange(0, len(line.x), group)
    sizes = np.diff([*starts, len(line.x)])
    x, y = (np.add.reduceat(np.asarray(values, float), starts) / sizes for values in (line.x, line.y))
    return x, y


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers from low to high, `most` at most."""
    rough = (high - low) / most
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * nice for nice in (1, 2, 5, 10) if scale * nice >= rough)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _say(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")

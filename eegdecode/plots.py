"""What is in the charts of our pages; plots.html.jinja draws them."""

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

MOST_POINTS = 1500  # points of one line; no screen shows more
MOST_COLUMNS = 600  # columns of a picture
MOST_NAMED, FEW_NAMED = 70, 10  # channels on a head; with more than the first, so many of the largest
SHADES = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""The colour map of pictures, from low to high (viridis): even in grey, and for colour-blind readers."""


@dataclass(frozen=True)
class Line:
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: str  # a class of the style sheet: heard, decoded, ridge, faint


@dataclass(frozen=True)
class Dots:
    """A row of the dot plot: the scores of the network, of a linear decoder and of chance, those that there are."""

    label: str
    decoded: float | None
    ridge: float | None
    chance: float


@dataclass(frozen=True)
class Picture:
    """Values [time, row] of this many seconds, the first row lowest; `hz` of each row, if they are frequencies."""

    values: np.ndarray
    seconds: float
    hz: np.ndarray | None
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """Lines or a picture with axes. Ticks: place in per cent, text."""

    label: str  # for readers who cannot see it
    unit: str
    x_ticks: list[tuple[str, str]]
    y_ticks: list[tuple[str, str]]
    paths: list[tuple[str, str]] = field(default_factory=list)  # class of the style sheet, SVG path
    png: str = ""  # base64


def lines(drawn: Sequence[Line], label: str, x_unit: str, mark: float | None = None) -> Chart:
    """A line chart. `mark` is an x to point at."""
    x_low, x_high = min(min(line.x) for line in drawn), max(max(line.x) for line in drawn)
    y_low, y_high = min(min(line.y) for line in drawn), max(max(line.y) for line in drawn)
    x_high, y_high = max(x_high, x_low + 1e-9), max(y_high, y_low + 1e-9)

    def across(x: float) -> str:
        return f"{100 * (x - x_low) / (x_high - x_low):.2f}"

    def down(y: float) -> str:
        return f"{100 * (1 - (y - y_low) / (y_high - y_low)):.2f}"

    paths = [
        (line.style, "M" + "L".join(f"{across(x)} {down(y)}" for x, y in zip(*thinned(line), strict=True)))
        for line in drawn
    ]
    if mark is not None:
        paths.append(("mark", f"M{across(mark)} 0V100"))
    x_ticks = [(across(x), _say(x)) for x in ticks(x_low, x_high, 6)]
    return Chart(label, x_unit, x_ticks, [(down(y), _say(y)) for y in ticks(y_low, y_high, 5)], paths)


@dataclass(frozen=True)
class DotPlot:
    """A dot plot with one row a subject, on one scale that starts at 0 or below."""

    rows: Sequence[Dots]
    label: str

    @cached_property
    def ends(self) -> tuple[float, float]:
        values = [value for row in self.rows for value in (row.decoded, row.ridge, row.chance) if value is not None]
        low, high = min(0.0, *values), max(values)
        margin = 0.05 * (high - low or 1.0)
        return low - margin * (low < 0), high + margin

    def at(self, value: float) -> str:
        low, high = self.ends
        return f"{100 * (value - low) / (high - low):.2f}"

    @property
    def ticks(self) -> list[tuple[str, str]]:
        return [(self.at(x), _say(x)) for x in ticks(*self.ends, 6)]


def picture(drawn: Picture, label: str) -> Chart:
    """A picture with axes. Its colours run from `low` to `high`, the same on light and dark pages."""
    n_rows = drawn.values.shape[1]
    rows = range(n_rows) if drawn.hz is None else drawn.hz / 1000
    wanted = ticks(0.0, float(max(rows)), 5)
    at = [(100 * (1 - (np.interp(value, rows, np.arange(n_rows)) + 0.5) / n_rows), value) for value in wanted]
    at = [each for index, each in enumerate(at) if all(abs(each[0] - other[0]) > 8 for other in at[:index])]
    return Chart(
        label,
        "seconds; bands from low to high" if drawn.hz is None else "seconds; kHz from low to high",
        [(f"{100 * x / drawn.seconds:.2f}", _say(x)) for x in ticks(0.0, drawn.seconds, 6)],
        [(f"{top:.2f}", _say(value)) for top, value in at],
        png=base64.b64encode(png(drawn.values, drawn.low, drawn.high)).decode(),
    )


def png(values: np.ndarray, low: float, high: float) -> bytes:
    """Encode [time, row] as a PNG with a palette, the first row lowest; columns beyond MOST_COLUMNS are averaged."""
    group = math.ceil(len(values) / MOST_COLUMNS)
    starts = np.arange(0, len(values), group)
    values = np.add.reduceat(values, starts, axis=0) / np.diff([*starts, len(values)])[:, None]
    return indexed_png(np.round(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8).T[::-1], SHADES)


def indexed_png(shades: np.ndarray, colours: Sequence[str], levels: int = 256, clear: bool = False) -> bytes:
    """Encode [row, column] of shades, 0 to levels - 1, as a PNG with a palette that runs through the colours. `clear`:
    the shade `levels` is transparent."""
    lines_of_bytes = np.hstack([np.zeros((len(shades), 1), np.uint8), shades])  # each begins with its filter type, none
    anchors = np.array([[int(shade[at : at + 2], 16) for at in (1, 3, 5)] for shade in colours])
    places = np.linspace(0, len(colours) - 1, levels)
    palette = np.stack([np.interp(places, np.arange(len(colours)), channel) for channel in anchors.T], axis=1)
    palette = np.vstack([palette, np.zeros((int(clear), 3))])

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = shades.shape
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", np.round(palette).astype(np.uint8).tobytes())
        + (chunk(b"tRNS", b"\xff" * levels + b"\x00") if clear else b"")
        + chunk(b"IDAT", zlib.compress(lines_of_bytes.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


class Colours:
    """The colour bar of pictures."""

    shades = SHADES

    def __init__(self, low: float, high: float, unit: str) -> None:
        self.low, self.high, self.unit = _say(low), _say(high), unit


@dataclass(frozen=True)
class HeadChannel:
    """A channel on the head: a fuller colour is a larger value, another colour is below 0."""

    name: str
    tooltip: str
    x: str
    y: str
    colour: str
    per_cent: str
    text_y: str  # of its name; empty: only its tooltip names it


@dataclass(frozen=True)
class Head:
    """A head seen from above, nose up."""

    label: str
    radius: float
    channels: list[HeadChannel]
    png: str = ""  # of values between the channels, in base64; without it, channels have the colours
    contours: Sequence[str] = ()  # SVG paths


def head(
    values: Mapping[str, float], places: Mapping[str, tuple[float, float]], label: str, most_named: int = MOST_NAMED
) -> Head:
    """Channels on the head. `places`: x to the right and y to the front, 1 where the head is widest. With many channels
    only the largest are labelled."""
    largest = max(map(abs, values.values()), default=0.0) or 1.0
    order = sorted(values, key=lambda name: -abs(values[name]))
    named = set(order if len(order) <= most_named else order[:FEW_NAMED])
    radius = 0.07 if len(order) <= MOST_NAMED else 0.035
    channels = []
    for name, value in values.items():
        x, y = places[name]
        colour, per_cent = "decoded" if value >= 0 else "ridge", f"{100 * abs(value) / largest:.0f}"
        text_y = f"{-y + radius + 0.075:.3f}" if name in named else ""
        place = (f"{x:.3f}", f"{-y:.3f}")
        channels.append(HeadChannel(name, f"{name} {value:.3g}", *place, colour, per_cent, text_y))
    return Head(label, radius, channels)


def with_map(drawn: Head, png: str, contours: Sequence[str]) -> Head:
    """The same with a map between the channels, which are points then."""
    return replace(drawn, png=png, contours=contours, radius=0.02) if png else drawn


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

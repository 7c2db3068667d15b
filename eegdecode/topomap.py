"""Maps of the head for pages: where channels are, seen from above, and values between them by spherical splines."""

import base64
from collections.abc import Collection, Mapping

import numpy as np

from eegdecode import plots, sphere
from eegdecode.plots import Head, indexed_png
from eegdecode.signals import Kind, SignalSpec, Stream

ABOVE_AND_BELOW = ("#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b")
"""From the largest negative to the largest positive value (RdBu of ColorBrewer): safe for colour-blind readers."""
N_LEVELS = 31
"""Colours of a picture: steps that one can see, and files a third smaller than with 255."""
N_CONTOURS = 7
WIDTH = 40  # pixels of a small map; browsers smooth between them
FINE = 96  # of one that is drawn large
RIM_DEG = 95.0  # from the vertex: the outline of the head
WIDEST_DEG = 108.0  # beyond it; channels further out are drawn there
FEWEST = 4  # channels of a map
MOST_NAMED = 24  # channels of a map that are all named: more would hide it


class Places:
    """Where channels are. `on_sphere`: unit vectors; `flat`: x to the right, y to the front, 1 on the outline of the
    head; `by_name`: whether by their names in the 10-10 system, as no positions are known."""

    def __init__(self, on_sphere: Mapping[str, np.ndarray], by_name: bool = False) -> None:
        self.on_sphere, self.by_name = dict(on_sphere), by_name
        self._weights: dict[int, np.ndarray] = {}
        self.flat = {name: _flat(place) for name, place in self.on_sphere.items()}

    @classmethod
    def of_stream(cls, stream: Stream, kind: Kind, skip: Collection[str] = ()) -> "Places":
        """Of the channels of one kind."""
        names = [name for name in stream.channels if stream.sensor(name).kind == kind]
        known = {name: place for name in names if (place := stream.sensor(name).position) is not None}
        by_name = kind == "eeg" and not known
        on_sphere = sphere.positions(stream) if kind == "eeg" else sphere.on_sphere(known)
        return cls({name: place for name, place in on_sphere.items() if name not in skip}, by_name)

    @classmethod
    def of_spec(cls, spec: SignalSpec) -> "Places":
        """Of the channels that a network reads; those of no known place are left out."""
        known = {name: place for name, place in zip(spec.channels, spec.positions, strict=False) if place}
        return cls(sphere.on_sphere(known) if known else sphere.by_name(spec.channels), not known)

    def head(self, values: Mapping[str, float], label: str, most: float = 0.0) -> Head:
        """The head with a map of the values that have a place; with fewer than FEWEST, each channel in its colour."""
        values = {name: value for name, value in values.items() if name in self.flat}
        drawn = plots.head(values, self.flat, label, MOST_NAMED)
        return plots.with_map(drawn, self.picture(values, most, FINE), self._contours(values, most))

    def picture(self, values: Mapping[str, float], most: float = 0.0, width: int = WIDTH) -> str:
        """A map of these values in base64; its colours run from -most to most, by default the largest there is. Empty
        if a channel has no value, or there are too few."""
        if not self._are_enough(values):
            return ""
        inside = _grid(width)[0]
        shades = np.full(inside.shape, N_LEVELS, np.uint8)
        between = self._between(values, width)[inside]
        shades[inside] = levels(between, most or float(np.abs(between).max()))
        return base64.b64encode(indexed_png(shades, ABOVE_AND_BELOW, N_LEVELS, clear=True)).decode()

    def _contours(self, values: Mapping[str, float], most: float) -> list[str]:
        """Lines of equal value within the outline, as SVG paths."""
        if not self._are_enough(values):
            return []
        from contourpy import contour_generator  # matplotlib's

        between, middle = self._between(values, FINE), _middles(FINE)
        most = most or float(np.abs(between[_grid(FINE)[0]]).max()) or 1.0
        lines = contour_generator(middle, -middle, between)
        paths = []
        for level in np.linspace(-most, most, N_CONTOURS + 2)[1:-1]:
            for line in lines.lines(float(level)):
                paths += [_path(part) for part in _within(np.asarray(line)) if len(part) > 1]
        return paths

    def _are_enough(self, values: Mapping[str, float]) -> bool:
        return len(self.on_sphere) >= FEWEST and all(name in values for name in self.on_sphere)

    def _between(self, values: Mapping[str, float], width: int) -> np.ndarray:
        """[row, column]"""
        if width not in self._weights:  # [pixel, channel]: spherical splines
            self._weights[width] = sphere.spline(list(self.on_sphere.values()), list(_grid(width)[1]))
        return (self._weights[width] @ np.array([values[name] for name in self.on_sphere])).reshape(width, width)


def levels(values: np.ndarray, most: float) -> np.ndarray:
    """Values from -most to most as shades."""
    return np.round((N_LEVELS - 1) * np.clip(values / (most or 1.0) / 2 + 0.5, 0, 1)).astype(np.uint8)


def _flat(place: np.ndarray) -> tuple[float, float]:
    away = min(np.degrees(np.arccos(np.clip(place[2], -1, 1))), WIDEST_DEG) / RIM_DEG
    angle = np.arctan2(place[1], place[0])
    return round(float(away * np.cos(angle)), 3), round(float(away * np.sin(angle)), 3)


def _middles(width: int) -> np.ndarray:
    """Of the pixels, from left to right."""
    return (np.arange(width) + 0.5) / width * 2 - 1


def _grid(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels are within the outline, [row, column], and where all are on the sphere, [pixel, 3]."""
    x, y = np.meshgrid(_middles(width), -_middles(width))
    away = np.hypot(x, y).ravel()
    down, angle = np.radians(RIM_DEG * away), np.arctan2(y, x).ravel()
    on_sphere = np.stack([np.sin(down) * np.cos(angle), np.sin(down) * np.sin(angle), np.cos(down)], axis=1)
    return (away <= 1 + 2 / width).reshape(width, width), on_sphere  # pages cut it at the outline


def _within(line: np.ndarray) -> list[np.ndarray]:
    """The parts of a line [point, 2] within the outline."""
    inside = np.hypot(*line.T) <= 1
    return [part for part in np.split(line, np.flatnonzero(np.diff(inside)) + 1) if np.hypot(*part[0]) <= 1]


def _path(line: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.3f} {-y:.3f}" for x, y in line)

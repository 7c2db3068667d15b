"""Maps of the head for pages: where channels are, seen from above, and a picture of values between them."""

import base64
from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np

from eegdecode import sphere
from eegdecode.plots import indexed_png
from eegdecode.signals import Kind, Stream

ABOVE_AND_BELOW = ("#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b")
"""From the largest negative to the largest positive value (RdBu of ColorBrewer): safe for colour-blind readers."""
N_LEVELS = 31
"""Colours of a picture: steps that one can see, and files a third smaller than with 255."""
WIDTH = 40  # pixels of a map; browsers smooth between them
WIDEST_DEG = 108.0  # from the vertex: where channels are drawn at the rim, and beyond the outline of the head


class Places:
    """Where the channels of one kind are. `on_sphere`: unit vectors; `flat`: x to the right, y to the front, 1 on the
    outline of the head."""

    def __init__(self, stream: Stream, kind: Kind, skip: Collection[str] = ()) -> None:
        names = [name for name in stream.channels if stream.sensor(name).kind == kind]
        known = {name: place for name in names if (place := stream.sensor(name).position) is not None}
        self.by_name = kind == "eeg" and not known
        if kind == "eeg":
            self.on_sphere = sphere.positions(stream)
        else:
            centre = sphere.centre(list(known.values())) if known else np.zeros(3)
            self.on_sphere = {name: sphere.unit(np.array(place) - centre) for name, place in known.items()}
        self.on_sphere = {name: place for name, place in self.on_sphere.items() if name not in skip}
        self.flat = {name: _flat(place) for name, place in self.on_sphere.items()}

    @cached_property
    def _weights(self) -> np.ndarray:
        """[pixel, channel]: spherical splines to the pixels within the outline."""
        names = list(self.on_sphere)
        return sphere.spline([self.on_sphere[name] for name in names], list(_pixels()[1]))

    def picture(self, values: Mapping[str, float], most: float = 0.0) -> str:
        """A map of these values in base64; its colours run from -most to most, by default the largest there is. Empty
        if a channel has no value, or fewer than four have a place."""
        if len(self.on_sphere) < 4 or any(name not in values for name in self.on_sphere):
            return ""
        inside, _ = _pixels()
        between = self._weights @ np.array([values[name] for name in self.on_sphere])
        shades = np.full(inside.shape, N_LEVELS, np.uint8)
        shades[inside] = levels(between, most or float(np.abs(between).max()))
        return base64.b64encode(indexed_png(shades, ABOVE_AND_BELOW, N_LEVELS, clear=True)).decode()


def levels(values: np.ndarray, most: float) -> np.ndarray:
    """Values from -most to most as shades."""
    return np.round((N_LEVELS - 1) * np.clip(values / (most or 1.0) / 2 + 0.5, 0, 1)).astype(np.uint8)


def _flat(place: np.ndarray) -> tuple[float, float]:
    away = min(np.degrees(np.arccos(np.clip(place[2], -1, 1))), WIDEST_DEG) / 95
    angle = np.arctan2(place[1], place[0])
    return round(float(away * np.cos(angle)), 3), round(float(away * np.sin(angle)), 3)


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """Which pixels are within the outline, [row, column], and where those are on the sphere, [pixel, 3]."""
    middle = (np.arange(WIDTH) + 0.5) / WIDTH * 2 - 1
    x, y = np.meshgrid(middle, -middle)
    inside = np.hypot(x, y) <= 1 + 1 / WIDTH
    down, angle = np.radians(95 * np.hypot(x, y)[inside]), np.arctan2(y, x)[inside]
    return inside, np.stack([np.sin(down) * np.cos(angle), np.sin(down) * np.sin(angle), np.cos(down)], axis=1)

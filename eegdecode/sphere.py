"""Electrode positions on a spherical head, and spherical splines to interpolate missing channels."""

from collections.abc import Mapping, Sequence

import numpy as np

from eegdecode.signals import Stream

ROWS = ("Fp", "AF", "F", "FC", "C", "CP", "P", "PO", "O")  # of the 10-10 system, each a tenth of the way round
OUTER = {"FC": "FT", "C": "T", "CP": "TP"}  # names of a row at its ends
BELOW_DEG = 22.5  # a tenth below the ring of Fp1, T7, O1, T8

RIDGE = 1e-5  # of the splines, as mne's
N_LEGENDRE = 50


def positions(stream: Stream) -> dict[str, np.ndarray]:
    """Positions of the EEG on the unit sphere around the best-fitting centre; by name where none are known."""
    eeg = [name for name in stream.channels if stream.sensor(name).kind == "eeg"]
    measured = {name: place for name in eeg if (place := stream.sensor(name).position) is not None}
    return on_sphere(measured) if measured else by_name(eeg)


def on_sphere(measured: Mapping[str, tuple[float, float, float]]) -> dict[str, np.ndarray]:
    """Positions as unit vectors from the centre that fits best."""
    middle = centre(list(measured.values()))
    return {name: unit(np.array(point) - middle) for name, point in measured.items()}


def by_name(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Positions of those that have a name of the 10-10 system."""
    places = ten_ten()
    return {name: places[name] for name in names if name in places}


def centre(measured: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """The centre of the sphere that fits best; with fewer than eight points, the origin."""
    points = np.array(measured)
    if len(points) < 8:
        return np.zeros(3)
    rows = np.hstack([2 * points, np.ones((len(points), 1))])  # |p|² = 2 c·p + (r² - |c|²) is linear in c
    return np.linalg.lstsq(rows, (points**2).sum(axis=1), rcond=None)[0][:3]


def ten_ten() -> dict[str, np.ndarray]:
    """The 10-10 system, x right, y front, z up: each row lies on the circle through its two ends and its middle."""
    places: dict[str, np.ndarray] = {}
    for number, row in enumerate(ROWS):
        middle = _point(22.5 * (4 - number), 90)
        around = 72 - 18 * number
        right = _point(90, around)
        outer = OUTER.get(row, row)
        places[f"{row}z"] = middle
        if row in ("Fp", "O"):
            places |= {f"{row}1": right * [-1, 1, 1], f"{row}2": right}
            continue
        for step in (1, 2, 3):
            point = _on_circle(middle, right, step / 4)
            places |= {f"{row}{2 * step - 1}": point * [-1, 1, 1], f"{row}{2 * step}": point}
        below = _point(90 + BELOW_DEG, around)
        places |= {f"{outer}7": right * [-1, 1, 1], f"{outer}8": right}
        places |= {f"{outer}9": below * [-1, 1, 1], f"{outer}10": below}
    return places


def spline(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """[target, source]: spherical splines of fourth order (Perrin et al. 1989, doi:10.1016/0013-4694(89)90180-6)."""
    from_points, to_points = unit(np.array(sources)), unit(np.array(targets))
    n = len(from_points)
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = _green(from_points @ from_points.T) + RIDGE * np.eye(n)
    system[:n, n] = system[n, :n] = 1
    return np.hstack([_green(to_points @ from_points.T), np.ones((len(to_points), 1))]) @ np.linalg.pinv(system)[:, :n]


def _green(cosine: np.ndarray) -> np.ndarray:
    order = np.arange(1, N_LEGENDRE + 1)
    weights = (2 * order + 1) / (order * (order + 1.0)) ** 4 / (4 * np.pi)
    return np.polynomial.legendre.legval(cosine, [0, *weights])


def unit(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def _point(from_vertex_deg: float, around_deg: float) -> np.ndarray:
    """`around`: 0 is right, 90 is front."""
    down, around = np.radians(from_vertex_deg), np.radians(around_deg)
    return np.array([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)])


def _on_circle(middle: np.ndarray, right: np.ndarray, part: float) -> np.ndarray:
    """The fraction `part` of the way from middle to right, on the circle through both and right's mirror image."""
    foot = right * [0, 1, 1]
    up = middle - foot
    height, width = np.linalg.norm(up), right[0]
    below = (height**2 - width**2) / (2 * height)  # of the circle's centre, above the foot
    angle = part * np.arctan2(width, -below)
    radius = height - below
    outward = np.array([1.0, 0.0, 0.0])
    return foot + up / height * (below + radius * np.cos(angle)) + outward * radius * np.sin(angle)

"""The name of a stimulus: the file it stands for, the piece of it, and the film."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from eegdecode.data.io import guard

FPS = 29.97  # of the films below
FPS_OF = {10: 25.0}  # by the film's number, where it differs
SPEED = "stimulus_speed"  # the label of trials whose stimulus ran on its own clock
_FILM = re.compile(r"ID(\d\d)_(.+?)Vol(\d+)-(\d+)_id(\d+)_MEG_DATAPixx_part(\d+)\.mp4")
_PIECE = re.compile(r"(.*)#t=([0-9.]+)(?:,([0-9.]+))?")


class Film(NamedTuple):
    """One session's part of a title, as `ID03_SkyVol1-2_id5_MEG_DATAPixx_part2.mp4`."""

    number: int
    title: str
    volumes: tuple[int, int]
    session: int
    part: int
    fps: float


def film(stimulus: str) -> Film | None:
    """Parse the name of a film; None if the name has another form."""
    match = _FILM.fullmatch(Path(whole(stimulus)[0]).name)
    if match is None:
        return None
    number, first, last, session, part = (int(match[group]) for group in (1, 3, 4, 5, 6))
    return Film(number, match[2].rstrip("_ "), (first, last), session, part, FPS_OF.get(number, FPS))


def fps(stimulus: str, given: float | None) -> float:
    """Return the frames per second of a film: as given, or from its name."""
    if given is not None:
        return given
    known = film(stimulus)
    if known is None:
        raise ValueError(f"the name {stimulus!r} does not have its frames a second: set fps")
    return known.fps


def piece(stimulus: str, start_s: float, stop_s: float) -> str:
    """Name a piece of a stimulus or of another piece, `film.mp4#t=60,120` (as W3C media fragments)."""
    name, before_s = whole(stimulus)
    return f"{name}#t={_seconds(before_s + start_s)},{_seconds(before_s + stop_s)}"


def whole(stimulus: str) -> tuple[str, float]:
    """Return the name of the whole stimulus, and the start of the piece in it, in seconds."""
    match = _PIECE.fullmatch(stimulus)
    return (match[1], float(match[2])) if match else (stimulus, 0.0)


def units(lasts_s: Mapping[str, float]) -> dict[str, str]:
    """Return the unit of each name: names that present the same seconds of a file have one unit.

    Parameters
    ----------
    lasts_s
        By the name of a stimulus or a piece: the longest time it was presented. Used where the name has no end; a name
        without a piece is the whole file.
    """
    by_file: dict[str, list[tuple[float, float, str]]] = {}
    for stimulus, longest_s in lasts_s.items():
        match = _PIECE.fullmatch(stimulus)
        if match is None:
            by_file.setdefault(stimulus, []).append((0.0, math.inf, stimulus))
        else:
            start_s = float(match[2])
            end_s = float(match[3]) if match[3] else start_s + longest_s
            by_file.setdefault(match[1], []).append((start_s, end_s, stimulus))
    unit_of: dict[str, str] = {}
    for name, pieces in by_file.items():
        groups: list[list[tuple[float, float, str]]] = []
        reach_s = -math.inf
        for piece in sorted(pieces):
            if piece[0] < reach_s - TOUCHING_S:
                groups[-1].append(piece)
            else:
                groups.append([piece])
            reach_s = max(reach_s, piece[1])
        for group in groups:
            end_s = max(end_s for _, end_s, _ in group)
            joined = name if end_s == math.inf else f"{name}#t={_seconds(group[0][0])},{_seconds(end_s)}"
            unit_of |= {stimulus: joined if len(group) > 1 else stimulus for _, _, stimulus in group}
    return unit_of


TOUCHING_S = 0.01
"""Pieces that share less than this only touch: the times in names are rounded, and no sample is shared."""


def _seconds(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def fill(template: str, names: Mapping[str, str]) -> str:
    """Fill in `{run}` and the like in a name."""
    try:
        return template.format_map(names)
    except (KeyError, ValueError, IndexError, AttributeError):
        known = ", ".join(f"{{{name}}}" for name in sorted(names)) or "nothing"
        raise ValueError(f"the name {template!r} cannot be filled in: the known names are {known}") from None


def file_of(template: str, stimulus: str, study: Path) -> Path:
    """Return the file of a stimulus in the study, by a path with `{stimulus}` or `{stem}`."""
    name, _ = whole(stimulus)
    guard.below(study, name, "put its file below the study, and write its name from there on")
    return study / fill(template, {"stimulus": name, "stem": Path(name).with_suffix("").as_posix()})


def is_for_each(template: str) -> bool:
    """Whether there is a file for each stimulus: the path contains `{stimulus}` or `{stem}`."""
    return "{stimulus}" in template or "{stem}" in template

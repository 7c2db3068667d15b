"""Curves of metrics.jsonl for a small picture: a few points of each, quickly, however long the training was.

A figure that few lines have, as that of a validation, is looked for in all lines; only those that are drawn are parsed.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

POINTS, MOST_CURVES, UNDECLARED = 40, 4, 3
"""How many points a curve has, how many curves a run; and how many if its stage declares none."""
SAMPLED, LONGEST = 24, 4
"""The lines by which the names of figures are known: so many evenly spaced ones, and the longest."""
WHOLE_B, BLOCK_B, BLOCKS = 32 << 20, 256 << 10, 64
"""A longer file is read in so many blocks."""

Curve = dict[str, list[Any]]
"""`{"name": [[steps], [values]]}`; a value that is no finite number is None, a gap."""


def read(path: str, declared: Sequence[str]) -> Curve:
    """Return the curves that the stage declares, or the first few; none if there is no file. Damaged lines are no
    points."""
    try:
        lines = _lines(path)
    except FileNotFoundError:
        return {}
    known = [*_thinned(lines, SAMPLED), *sorted(lines, key=len)[-LONGEST:]]
    parsed: dict[bytes, dict[str, Any] | None] = {}
    names = dict.fromkeys(name for line in known for name in _parsed(line, parsed) or () if name != "step")
    curves = {}
    for name in _chosen(list(names), declared):
        key = f"{json.dumps(name)}:".encode()
        curve = _curve(name, _thinned([line for line in lines if key in line], POINTS), parsed)
        if curve[0]:
            curves[name] = curve
    return curves


def _chosen(names: list[str], declared: Sequence[str]) -> list[str]:
    if not declared:
        return names[:UNDECLARED]
    meant = [name for pattern in declared for name in names if _means(pattern, name)]
    return list(dict.fromkeys(meant))[:MOST_CURVES]


def _means(pattern: str, name: str) -> bool:
    head, star, tail = pattern.partition("*")
    return name.startswith(head) and name.endswith(tail) if star else name == pattern


def _curve(name: str, lines: Sequence[bytes], parsed: dict[bytes, dict[str, Any] | None]) -> list[Any]:
    steps: list[Any] = []
    values: list[float | None] = []
    for line in lines:
        figures: Mapping[str, Any] = _parsed(line, parsed) or {}
        step, value = figures.get("step"), figures.get(name)
        if not (_is_whole(step) and isinstance(value, int | float)) or isinstance(value, bool):
            continue
        steps.append(step)
        values.append(_short(value))
    return [steps, values]


def _is_whole(step: object) -> bool:
    return type(step) is int and abs(step) < 1 << 53


def _short(value: float) -> float | None:
    try:
        return float(f"{value:.4g}") if math.isfinite(value) else None
    except OverflowError:
        return None


def _parsed(line: bytes, parsed: dict[bytes, dict[str, Any] | None]) -> dict[str, Any] | None:
    if line not in parsed:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        parsed[line] = value if isinstance(value, dict) else None
    return parsed[line]


def _thinned(lines: Sequence[bytes], n: int) -> Sequence[bytes]:
    """Return so many of the lines, evenly spaced, with the first and the last."""
    if len(lines) <= n:
        return lines
    return [lines[round(number * (len(lines) - 1) / (n - 1))] for number in range(n)]


def _lines(path: str) -> list[bytes]:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe in its place is empty
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes <= WHOLE_B:
            return (file.read() or b"").split(b"\n")
        lines: list[bytes] = []
        for number in range(BLOCKS):
            file.seek(number * (n_bytes - BLOCK_B) // (BLOCKS - 1))
            lines += file.read(BLOCK_B).split(b"\n")[1:-1]
        return lines

"""The table of `status`, as wide as the terminal: a line a run, and below it what is to be said of it.

Columns that do not fit are left out, the least important first; of a few runs, they are named below the line. Nothing
is imported that `status` does not need anyway.
"""

from __future__ import annotations

import os
import time

from hpc import media
from hpc.runs.status import ENDED, State, clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_WIDTH = 80
"""Where nobody says how wide the output may be: in a pipe or a file."""
FEW = 8
"""Of so many runs, what finds no column is on a line of its own."""
COLUMNS = (
    "RUN", "STATE", "SINCE", "FIGURE", "DONE", "LEFT", "NAME", "SETTINGS", "ON", "NODES", "JOB", "ATTEMPT", "SPEED",
)  # fmt: skip
FIRST = ("RUN", "STATE", "SINCE", "FIGURE", "SETTINGS", "DONE", "NAME", "LEFT", "ON", "NODES", "JOB", "ATTEMPT")
"""Which columns are there first."""
LONGEST = {"RUN": 20, "FIGURE": 18, "NAME": 12, "SETTINGS": 24, "ON": 12}
"""How wide these are at most, as long as others need the room."""
FEWEST = 8
"""How narrow settings may get before they are left out."""
NAMED = ("NAME", "NODES", "JOB", "ATTEMPT", "LEFT", "DONE", "ON")
"""Which of them are named there, as they do not tell what they are."""
INDENT = "    "
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def width_of(environ: Mapping[str, str]) -> int:
    """Return the number of columns of the output: what COLUMNS says, or the terminal."""
    if (columns := environ.get("COLUMNS", "")).isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or USUAL_WIDTH
    except OSError:
        return USUAL_WIDTH


def text(states: list[State], width: int = USUAL_WIDTH) -> str:
    """Return the table, and a line with how many runs are in which state."""
    return "\n".join([*lines(states, width), *(["", *summary(states, width)] if len(states) > 1 else [])])


def lines(states: list[State], width: int) -> list[str]:
    """Return the head of the table, then the lines of each run."""
    if not states:
        return ["no runs here yet"]
    now = time.time()
    rows = [{name: media.one_line(cell) for name, cell in _cells(state, now).items()} for state in states]
    widths = _widths(rows, width)
    head = "  ".join(name.ljust(widths[name]) for name in COLUMNS if name in widths).rstrip()
    shown = [head]
    for state, row in zip(states, rows):
        cells = [_cell(row[name], name, widths[name]) for name in COLUMNS if name in widths]
        shown.append("  ".join(cells).rstrip())
        shown += [INDENT + line for line in _below(state, row, widths, len(states), width - len(INDENT))]
    return shown


def summary(states: list[State], width: int = USUAL_WIDTH) -> list[str]:
    """Return how many runs are in which state, and when what runs now is done."""
    words = [state.word for state in states]
    counts = [f"{words.count(word)} {word}" for word in ("running", "silent", "queued", "requeued", *ENDED)]
    left = max((state.left_s for state in states if state.left_s is not None), default=None)
    counted = ", ".join(count for count in counts if not count.startswith("0 "))
    more = f"; what runs now needs {clock(left)} more" if left is not None else ""
    return wrapped(f"{media.many(len(states), 'run')}: {counted}{more}", width)


def _cells(state: State, now: float) -> dict[str, str]:
    return {
        "RUN": state.run,
        "STATE": state.word,
        "SINCE": "-" if state.time is None else date(state.time, now),
        "FIGURE": "-" if state.value is None else f"{state.headline} {number(state.value)}",
        "DONE": f"{state.done}/{state.total}" if state.total and state.word != "finished" else "-",
        "LEFT": "-" if state.left_s is None else clock(state.left_s),
        "NAME": state.name or "-",
        "SETTINGS": state.settings or "-",
        "ON": state.site or "-",
        "NODES": _nodes(state),
        "JOB": state.job or "-",
        "ATTEMPT": str(state.attempt),
        "SPEED": "-" if state.per_s is None else f"{state.per_s:.3g}/s",
    }


def _widths(rows: list[dict[str, str]], width: int) -> dict[str, int]:
    """Return the columns that fit, each with its width: first each is as narrow as it may be, then some grow."""
    whole = {name: max(len(name), *(len(row[name]) for row in rows)) for name in COLUMNS}
    used = [name for name in (*FIRST, "SPEED") if name == "RUN" or any(row[name] != "-" for row in rows)]
    widths: dict[str, int] = {}
    for name in used:
        narrow = min(whole[name], LONGEST.get(name, whole[name]))
        room = width - sum(widths.values()) - 2 * len(widths)
        if name == "SETTINGS":
            narrow = max(min(narrow, room), FEWEST)
        if not widths or narrow <= room:
            widths[name] = narrow
    spare = width - sum(widths.values()) - 2 * (len(widths) - 1)
    for name in ("RUN", "SETTINGS", "FIGURE", "NAME", "ON"):
        if name in widths and spare > 0:
            more = min(spare, whole[name] - widths[name])
            widths[name], spare = widths[name] + more, spare - more
    return widths


def _cell(cell: str, column: str, width: int) -> str:
    if len(cell) > width and column == "SETTINGS":  # the last part of a name tells most of it
        cell = " ".join(f"{word.partition('=')[0].rpartition('.')[2]}={word.partition('=')[2]}" if "=" in word else word
                        for word in cell.split(" "))  # fmt: skip
    if len(cell) > width and column == "FIGURE":
        name, _, value = cell.rpartition(" ")
        cell = f"{media.cut(name, max(1, width - len(value) - 1))} {value}"
    return media.cut(cell, width).ljust(width)


def _below(state: State, row: dict[str, str], widths: dict[str, int], n_states: int, width: int) -> list[str]:
    """Return what is said of a run below its line: why it is in its state and, of a few runs, what found no room."""
    sentence = f"{state.why}; see `why {state.run}`" if state.why else state.text
    lines = wrapped(media.one_line(sentence), width) if sentence else []
    if n_states > FEW:
        return lines
    cut = [name for name in COLUMNS if row[name] != "-" and (name not in widths or len(row[name]) > widths[name])]
    cut = [name for name in cut if not (name in ("NODES", "ATTEMPT") and row[name] in ("0", "1"))]
    more = ", ".join(f"{name.lower()} {row[name]}" if name in NAMED else row[name] for name in cut)
    return lines + (wrapped(more, width) if more else [])


def wrapped(text: str, width: int) -> list[str]:
    """Return the text in lines of that width at most; a longer word, as a path, is broken."""
    lines = [""]
    for word in text.split(" "):
        while len(word) > width:
            room = width - len(lines[-1]) - bool(lines[-1])
            if room < width // 2:
                lines.append("")
                room = width
            lines[-1] += f"{' ' if lines[-1] else ''}{word[:room]}"
            word = word[room:]
            lines.append("")
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return [line for line in lines if line]


def date(seconds: float, now: float) -> str:
    """Return `14:02` of today, `28 Nov 14:02` of the last months, `28 Nov 2025` of before."""
    then, today = time.localtime(seconds), time.localtime(now)
    if then[:3] == today[:3]:
        return f"{then.tm_hour:02d}:{then.tm_min:02d}"
    day = f"{then.tm_mday} {MONTHS[then.tm_mon - 1]}"
    is_near = abs(now - seconds) < 180 * 24 * 3600
    return f"{day} {then.tm_hour:02d}:{then.tm_min:02d}" if is_near else f"{day} {then.tm_year}"


def number(value: float) -> str:
    """Return a figure in a few letters: 0.812, 1234, 1.2e-05."""
    return f"{value:.0f}" if value == round(value, 0) and abs(value) < 1e6 else f"{value:.3g}"


def _nodes(state: State) -> str:
    """Return `2`, or `2 of 1-4` for a malleable run."""
    counts = state.node_counts
    return f"{state.nodes} of {counts[0]}-{counts[-1]}" if counts else str(state.nodes)

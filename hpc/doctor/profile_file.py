"""The file of a profile, with the evidence as a comment on each line and the sentences at its top."""

import hashlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc import config
from hpc.doctor.lines import Line
from hpc.errors import ConfigError
from hpc.runs.rundir import atomic_write
from hpc.site.profile import Site

WIDTH = 120
KEPT = "as before, in the profile {name}"
HEAD = "Written on {date} by `hpc doctor`: what was seen, and how. All keys: docs/sites.md"
ROOMS = ("partitions", "storage")
"""Keys whose own keys have a line each."""
SEAL = "# What is above has the sum "
"""Begins the last line, by which hpc doctor knows whether somebody has corrected the file."""


def text(lines: Sequence[Line], sentences: Sequence[str], date: str) -> str:
    """Return the text of the file."""
    rows = [f"# {HEAD.format(date=date)}"]
    if sentences:
        rows += ["#", "# What will not work here, or works in another way, and what happens then:"]
        rows += [row for each in sentences for row in _wrapped(each, "# * ", "#   ")]
    rows.append("")
    room = ""
    for line in lines:
        above, _, name = line.key.rpartition(".")
        if above != room and above:
            rows.append(f"{above}:")
        room = above
        rows += _row(name, line, "  " if above else "")
    return sealed("\n".join(rows) + "\n")


def _row(name: str, line: Line, indent: str) -> list[str]:
    why = " ".join(line.why.split())
    if line.value is None:
        return _wrapped(f"{name}: {why}" if name else why, f"{indent}# ", f"{indent}#   ")
    row = f"{indent}{_plain(name)}: {_plain(line.value)}"
    if len(row) + len(why) + 3 <= WIDTH:
        return [f"{row}  # {why}"]
    return [*_wrapped(why, f"{indent}# ", f"{indent}#   "), row]


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )


def _plain(value: Any) -> str:
    return config.in_one_line(value)


def values(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the lines as the values of a profile."""
    nested: dict[str, Any] = {}
    for line in lines:
        if line.value is None:
            continue
        above, _, name = line.key.rpartition(".")
        (nested.setdefault(above, {}) if above else nested)[name] = line.value
    return nested


def upon(base: Mapping[str, Any], name: str, lines: Sequence[Line]) -> list[Line]:
    """Return the lines on top of a profile: what was seen replaces what stands there, what is guessed does not."""
    kept = KEPT.format(name=name)
    before: dict[str, Any] = {}
    for key, value in base.items():
        before |= {f"{key}.{inner}": each for inner, each in value.items()} if key in ROOMS else {key: value}
    result = []
    for line in lines:
        old = before.pop(line.key, None)
        if old is None:
            result.append(line)
        elif line.is_guess or line.value is None:
            result.append(Line(line.key, old, f"{kept}; {line.why}"))
        elif isinstance(old, Mapping) and isinstance(line.value, Mapping):
            rest = f"; {', '.join(more)}: {kept}" if (more := [key for key in old if key not in line.value]) else ""
            result.append(Line(line.key, {**old, **line.value}, f"{line.why}{rest}"))
        else:
            result.append(line)
    result += [Line(key, value, kept) for key, value in before.items() if key != "missing"]
    rooms = [line.key.rpartition(".")[0] or line.key for line in result]
    order = sorted(range(len(result)), key=lambda number: rooms.index(rooms[number]))
    return [result[number] for number in order]


def checked(values: Mapping[str, Any], name: str) -> Site:
    """Return the site that the values make, or raise ConfigError."""
    return config.build(Site, {**values, "name": name}, f"what hpc doctor has seen of {name}")


def sealed(text: str) -> str:
    return f"{text}{SEAL}{_sum(text)}\n"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_corrected(path: Path) -> bool:
    """Whether there is a file that hpc doctor has not written, or that somebody has changed since."""
    if not path.exists():
        return False
    written = path.read_text(errors="replace")
    body, _, last = written.rpartition(SEAL)
    return not body or last.strip() != _sum(body)


def write(path: Path, content: str, *, replace: bool) -> None:
    if not replace and is_corrected(path):
        raise ConfigError(f"{path} is not as hpc doctor wrote it, and stays: give another -o FILE, or say --replace")
    atomic_write(path, lambda file: file.write(content.encode()))


def name_of(path: Path) -> str:
    return re.sub(r"\.ya?ml$", "", path.name)

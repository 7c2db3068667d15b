"""What the kernel says of the memory of a job on this node: its limit, the most it had, and whom it was killed for.

Slurm limits a job by cgroups, of version 1 or 2, and a container does so too. They can be read by everybody, so no
accounting is needed to tell a rank that was out of memory from one that somebody killed.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

UNLIMITED_B = 1 << 60
"""Version 1 has no word for it, but a number as large as this."""


@dataclass(frozen=True)
class Memory:
    """The memory of a job on a node, in bytes; None: no limit, or not known."""

    limit_b: int | None = None
    peak_b: int | None = None
    n_killed: int = 0
    """How many processes the kernel has killed for lack of memory, in the innermost group that counts them."""

    def to_json(self) -> dict[str, int | None]:
        return asdict(self)


def of_this_process(proc: Path = Path("/proc/self")) -> Memory:
    """Read the groups of this process, from its own to the outermost: the smallest limit counts."""
    limits = []
    n_killed: int | None = None
    for group in _groups(proc):
        limit, peak = _number(group, "memory.max", "memory.limit_in_bytes"), None
        if limit is not None and limit < UNLIMITED_B:
            peak = _number(group, "memory.peak", "memory.max_usage_in_bytes")
            limits.append((limit, peak))
        if n_killed is None:
            n_killed = _counter(group, "memory.events", "memory.oom_control")
    limit, peak = min(limits, key=lambda pair: pair[0], default=(None, None))
    return Memory(limit, peak, n_killed or 0)


def _groups(proc: Path) -> Iterator[Path]:
    """Return the folders of the groups that limit the memory of a process, from the innermost outwards."""
    try:
        lines = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [_mount(line) for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    for kind, controller in (("cgroup", "memory"), ("cgroup2", "")):
        inner = next((path for _, names, path in lines if controller in names.split(",")), None)
        places = [(root, place) for what, root, place, options in mounts if what == kind and controller in options]
        if inner is None or not places:
            continue
        root, place = places[0]
        below = os.path.relpath(inner, root) if os.path.commonpath([inner, root]) == root else "."
        folder = Path(os.path.normpath(f"{place}/{below}"))
        while folder.is_relative_to(place):
            yield folder
            folder = folder.parent
        return


def _mount(line: str) -> tuple[str, str, str, list[str]]:
    """Return the kind of a file system, what of it is mounted, where, and with which options."""
    before, _, after = line.partition(" - ")
    words, (kind, *_, options) = before.split(), after.split()
    return kind, words[3], words[4], ["", *options.split(",")]


def _number(group: Path, *names: str) -> int | None:
    """Return the number in the first of these files that is there; None if it holds `max`."""
    text = next(_texts(group, names), "").strip()
    return int(text) if text.isdecimal() else None


def _counter(group: Path, *names: str) -> int | None:
    for text in _texts(group, names):
        words = text.split()
        pairs = dict(zip(words[::2], words[1::2]))
        if pairs.get("oom_kill", "").isdecimal():
            return int(pairs["oom_kill"])
    return None


def _texts(group: Path, names: Sequence[str]) -> Iterator[str]:
    """Return what is in those of these files that are there: each version of cgroups has its own."""
    for name in names:
        with suppress(OSError):
            yield (group / name).read_text()

"""Whose bed it is: the process with which it ends, and the watch for that end. Part of env/bed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

# Programs that only wait for the one they started; `env`, `nice` and the like are gone by then
WRAPPERS = ("sudo", "doas", "timeout", "time")
SHELLS = ("bash", "sh", "dash", "zsh", "ksh", "mksh", "ash", "busybox")
EVERY_S = 0.3


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; with the pid it names one process for ever. None: gone."""
    fields = stat(pid)
    return None if not fields or fields[0] == "Z" else int(fields[19])


def stat(pid: int) -> list[str]:
    """What /proc/PID/stat has behind the name: field 3 of proc(5) comes first. Empty: there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def default_owner(pid: int) -> int:
    """Of the ancestors of a process that ran `env/bed start`, from its parent `pid` on, the first that stays.

    In eval "$(env/bed start)" the parent may be a subshell that ends with us: a copy of its shell by fork, not exec,
    which the arguments and where the kernel has put them tell.
    """
    while (fields := stat(pid)) and (parent := int(fields[1])):
        if name_of(pid) not in WRAPPERS and not is_subshell(pid, parent):
            break
        pid = parent
    return pid


def is_subshell(pid: int, parent: int) -> bool:
    def image(of: int) -> tuple[bytes, list[str]]:
        try:
            words = Path(f"/proc/{of}/cmdline").read_bytes()
        except OSError:
            words = str(of).encode()
        fields = stat(of)
        return words, fields[23:26] + fields[45:49]  # startcode endcode startstack, arg_start to env_end

    return name_of(pid).lstrip("-") in SHELLS and image(pid) == image(parent)


def watch(owner: int, began: int, goes_on: Callable[[], bool]) -> bool:
    """Wait until the owner is gone (True), or nothing is left to watch for (False)."""
    while goes_on():
        if start_time(owner) != began:
            return True
        time.sleep(EVERY_S)
    return False

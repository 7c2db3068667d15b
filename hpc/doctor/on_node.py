"""Looks at one node of a probe's job: `python -m hpc.doctor.on_node`, by srun.

It reads and prints as hpc/supervise/node_check.py does: a line that says where the others reach it, and, after a second
line has said where it reaches the next one, a line with everything.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

from hpc.doctor import looks
from hpc.doctor.looks import Disk
from hpc.site import fabric
from hpc.supervise.node_check import MARK, reach, serve

LIFE_S = 120


def main(environ: Mapping[str, str]) -> None:
    signal.alarm(LIFE_S)
    task = json.loads(sys.stdin.readline())
    host = node_name(environ)
    disks = looks.disks(task["folder"], task["scratch"], task["account"], environ)
    marks = [mark for disk in disks if (mark := _leave(disk, task["secret"][:8], host))]
    shown: dict[str, Any] = {"host": host, "boot_id": looks.boot_id(), "interfaces": interfaces()}
    following = None
    if task["has_peers"]:
        server = socket.create_server(("", 0), backlog=16)
        Thread(target=serve, args=(server, task["secret"]), daemon=True).start()
        _print({**shown, "port": server.getsockname()[1]})
        following = json.loads(sys.stdin.readline() or "{}").get(host)
    if following:
        is_same = following["boot_id"] == shown["boot_id"]
        shown |= {"next": following["host"], "next_is_same_machine": is_same, "ways": ways(following, task["secret"])}
        for disk in disks if not is_same else []:
            disk.seen_elsewhere = _mark(disk, task["secret"][:8], following["host"]).exists()
    if host == task["measures"]:
        for disk in disks:
            looks.measure(disk)
    _print({**shown, "disks": [asdict(disk) for disk in disks], "memory_gb": looks.memory_gb()})
    if task["has_peers"]:
        sys.stdin.read()  # to its end: until then the node before may still look for our marks
    for mark in marks:
        with suppress(OSError):
            mark.unlink()


def node_name(environ: Mapping[str, str]) -> str:
    return environ.get("SLURMD_NODENAME") or os.uname().nodename


def interfaces() -> list[dict[str, Any]]:
    """Return the network interfaces of this node that have an address, with the speed that they say to have."""
    every = [{"name": name, "address": fabric.address_of(name), "mbit": _mbit(name)} for name in fabric.interfaces()]
    return [each for each in every if each["address"]]


def _mbit(name: str) -> int | None:
    try:
        mbit = int((fabric.NET / name / "speed").read_text())
    except (OSError, ValueError):  # most virtual ones do not say
        return None
    return mbit if mbit > 0 else None


def ways(following: Mapping[str, Any], secret: str) -> list[dict[str, Any]]:
    """Try each interface of the next node."""
    reached = []
    for interface in following["interfaces"]:
        if str(interface["address"]).startswith("127."):
            continue
        mb_s, error = reach(interface["address"], following["port"], secret)
        reached.append({**interface, "mb_s": round(mb_s), "error": error})
    return reached


def _mark(disk: Disk, secret: str, host: str) -> Path:
    return Path(disk.path) / f".hpc-doctor-{secret}-{host}"


def _leave(disk: Disk, secret: str, host: str) -> Path | None:
    """Write a small file for the node before to see, where this node can write."""
    mark = _mark(disk, secret, host)
    try:
        mark.touch()
    except OSError as error:
        disk.error = error.strerror or str(error)
        return None
    return mark


def _print(values: Mapping[str, Any]) -> None:
    print(MARK + json.dumps(values), flush=True)


if __name__ == "__main__":
    main(os.environ)

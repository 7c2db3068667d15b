"""The heartbeats of the ranks of a node: one file that is overwritten in place, with a slot for each rank.

    heartbeat/node-0008    of the node whose first rank is 8; slot k is that of rank 8 + k
    1c291ca3 {"rank": 9, "what": "train", "done": 57, …}          a slot: checksum, JSON, spaces, a line break

To overwrite a file is cheaper than to write a new one and to rename it: those are two requests to the one server that
knows the names of all files. A slot that is read while it is written has another checksum, and is read again.
"""

from __future__ import annotations

import json
import os
import time
import zlib

from hpc.runs.rundir import FULL, RunDir, encoded, make_folder, read_heartbeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

SLOT_B = 1024
MAX_SLOTS = 4096
"""More ranks than any node has."""
TRIES, TORN_S = 5, 0.002
"""How often to read a slot that is just being written, and how long to wait in between."""
PREFIX = "node-"

QUICK_S = 0.5
"""How often ranks write at first, and as long as the disk is this machine's own."""
SHARED_S = 10.0
"""How often the nodes of a cluster write in the long run."""
RAMP = 6
"""A node that has been at it for a minute writes every 60 / 6 s: who starts a run looks at its beginning."""
OF_SUPERVISOR = 1.5
"""The supervisor looks and writes so much less often, as it asks the disk for more each time."""
OF_HANG = 5
"""A hang that is found after so long is not one heartbeat that was missed."""


def interval_s(resources: Mapping[str, Any], age_s: float) -> float:
    """Return how long to wait for the next heartbeat, so many seconds after the first."""
    every_s = min(float(resources.get("heartbeat_s", QUICK_S)), float(resources.get("hang_s", 900)) / OF_HANG)
    return min(every_s, max(QUICK_S, age_s / RAMP))


def slot_of(record: Mapping[str, Any]) -> bytes:
    """Return the slot of a heartbeat. Where there is no room, the last spans of its pace are left out, and then
    figures: they are there to be looked at only."""
    figures = dict(record.get("figures", {}))
    while len(text := encoded(json.dumps({**record, "figures": figures}))) > SLOT_B - 10:
        if ring := record.get("pace", {}).get("ring"):
            pace = {**record["pace"], "ring": ring[1:]}
            record = {**record, "pace": pace}
            continue
        if not figures:
            return slot_of(
                {**record, "what": str(record.get("what", ""))[:80], "host": str(record.get("host", ""))[:80]}
            )
        figures.popitem()
    text = text.ljust(SLOT_B - 10)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def record_of(slot: bytes) -> dict[str, Any] | None:
    """Return the heartbeat in a slot; None if it is empty, or not as it was written."""
    text = slot[9:-1]
    if len(slot) != SLOT_B or slot[:9] != b"%08x " % zlib.crc32(text):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def write(run: RunDir, first: int, slots: Mapping[int, bytes]) -> None:
    """Overwrite these slots of a node's file; those of the ranks that have said nothing stay as they are."""
    path = os.fspath(run.node(first))
    try:
        file = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        make_folder(run.node(first).parent)
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        for number, block in _blocks(slots):
            if os.pwrite(file, block, number * SLOT_B) < len(block):
                raise OSError(FULL[0], os.strerror(FULL[0]), path)
    finally:
        os.close(file)  # where a disk caches what is written (NFS), this sends it


def _blocks(slots: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Join slots next to each other, so that each group is one request."""
    block, begin = b"", 0
    for number in sorted(slots):
        if number * SLOT_B != begin * SLOT_B + len(block):
            if block:
                yield begin, block
            block, begin = b"", number
        block += slots[number]
    if block:
        yield begin, block


def of_rank(run: RunDir, rank: int) -> dict[str, Any]:
    """Read the last heartbeat of a rank; empty if there is none."""
    # The first rank is the first of its node; where another one is depends on the layout, which may have changed
    firsts = [0] if rank == 0 else [first for first in _firsts(run) if first <= rank]
    slots = (record for first in firsts for record in _read(run, first, rank - first))
    return max((record for record in slots if record.get("rank") == rank), key=_age, default=None) or read_heartbeat(
        run.former_heartbeat(rank)
    )


def of_all(run: RunDir) -> dict[int, dict[str, Any]]:
    """Read the last heartbeats of all ranks that have said anything, whichever attempt they are of."""
    newest: dict[int, dict[str, Any]] = {}
    for record in _all(run):
        rank = record.get("rank")
        if type(rank) is int and (rank not in newest or _age(record) > _age(newest[rank])):
            newest[rank] = record
    return newest


def _all(run: RunDir) -> Iterator[dict[str, Any]]:
    for name in _names(run):
        if name.startswith(PREFIX) and name[len(PREFIX) :].isdecimal():
            yield from _read(run, int(name[len(PREFIX) :]))
        elif name.startswith("rank-") and name[5:-5].isdecimal() and name.endswith(".json"):
            yield {**read_heartbeat(run.former_heartbeat(int(name[5:-5]))), "rank": int(name[5:-5])}


def _firsts(run: RunDir) -> list[int]:
    numbers = [name[len(PREFIX) :] for name in _names(run) if name.startswith(PREFIX)]
    return sorted(int(number) for number in numbers if number.isdecimal())


def _names(run: RunDir) -> list[str]:
    try:
        return os.listdir(run.node(0).parent)
    except FileNotFoundError:
        return []


def _read(run: RunDir, first: int, number: int | None = None) -> Iterable[dict[str, Any]]:
    """Read one slot of a node's file, or all of them."""
    begin, n_b = (0, MAX_SLOTS * SLOT_B) if number is None else (number * SLOT_B, SLOT_B)
    try:
        file = os.open(run.node(first), os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place is empty then
    except OSError:
        return []
    try:
        records: dict[int, dict[str, Any]] = {}
        for _ in range(TRIES):
            torn = False
            content = os.pread(file, n_b, begin)
            for at in range(0, len(content), SLOT_B):
                slot = content[at : at + SLOT_B]
                if record := record_of(slot):
                    records[at] = record
                torn = torn or (record is None and bool(slot.strip(b"\0")))
            if not torn:
                break
            time.sleep(TORN_S)
        return list(records.values())
    except OSError:
        return []
    finally:
        os.close(file)


def _age(record: Mapping[str, Any]) -> tuple[float, float]:
    attempt, when = record.get("attempt"), record.get("time")
    return (attempt if isinstance(attempt, int) else 0, when if isinstance(when, int | float) else 0.0)

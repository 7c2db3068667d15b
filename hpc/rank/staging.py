"""Where a rank reads its inputs: from a copy on its node, or from the shared disk if copying is not possible.

The first rank of a node finds or makes the copy (local_copy.py) and tells the others through the run folder.
"""

import fcntl
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from hpc.rank.context import Backoff, Context, Preempted
from hpc.rank.local_copy import POLL_S, Copy, Listing, NotStaged, is_last, last_change, lock_file
from hpc.runs import records
from hpc.runs.rundir import read_json, write_json
from hpc.site.disks import disk_path

log = logging.getLogger(__name__)

STALL_S = 120.0
"""How long to wait for another process's copy that does not grow."""


class Staging:
    """The copies that one rank reads. Every rank of a node requests the same folders, in the same order."""

    def __init__(self, ctx: Context, environ: Mapping[str, str]) -> None:
        self.ctx = ctx
        self.environ = environ
        self.copies: dict[str, Copy | None] = {}
        self.locks: list[tuple[Copy, int]] = []

    def __call__(self, source: Path) -> Path:
        """Return the copy of a folder, or the folder itself."""
        if (key := str(source)) not in self.copies:
            try:
                self.copies[key] = self._copy_of(source)
            except (NotStaged, OSError, ValueError) as error:  # ValueError: file names that are not text
                log.warning("%s is read where it is, there is no copy of it on this node: %s", source, error)
                self.copies[key] = None
            if self.ctx.world.local_rank == 0 and self.ctx.world.local_size > 1:
                write_json(self._told, {name: found and found.to_json() for name, found in self.copies.items()})
        copy = self.copies[key]
        return copy.data if copy else source

    def release(self) -> None:
        """Release the copies. The last reader removes a copy in memory; one on a disk is kept for the next run."""
        for copy, lock in self.locks:
            if copy.in_memory and is_last(lock):
                copy.remove()
            os.close(lock)
        self.locks.clear()

    def _copy_of(self, source: Path) -> Copy | None:
        plan = records.plan(self.ctx.run)
        assert plan, f"{self.ctx.run.path} has no plan.json"
        site, resources = plan["site"], plan["resources"]
        known = site["storage"]["scratch_local"]
        wanted = {"off": [], "auto": known}.get(resources["stage"], [resources["stage"]])
        if not wanted and (resources["stage"] == "off" or site["kind"] != "slurm"):
            return None
        if sys.platform != "linux" or not source.is_dir():
            return None
        if self.ctx.world.local_rank > 0:
            return self._as_told(source)
        if not wanted:
            raise NotStaged(f"the profile {site['name']} knows no disk of the nodes' own (storage.scratch_local)")
        places = [path for text in wanted if (path := disk_path(text, self.environ, resources["account"]))]
        if not places:
            raise NotStaged(f"{', '.join(wanted)}: not set in this job")
        if any(place.is_dir() and place.stat().st_dev == source.stat().st_dev for place in places):
            return None  # it is on the node's own disk
        listing = Listing.of(source)
        whys = []
        for place in places:
            try:
                return self._in_place(listing, place, resources["mem_gb"])
            except NotStaged as why:
                whys.append(f"{place}: {why}")
            except OSError as error:
                whys.append(f"{place}: {error.strerror or error}")
        raise NotStaged("; ".join(whys))

    def _in_place(self, listing: Listing, place: Path, mem_gb: float | None) -> Copy:
        """Find or make a complete copy, and share its lock with the other readers."""
        copy = Copy.below(place, listing.name)
        patience, copied, damaged = _Patience(), False, False
        while True:
            if (alone := lock_file(copy.lock, fcntl.LOCK_EX)) is not None:
                try:
                    if not copy.is_whole():
                        if copied:
                            raise NotStaged("the copy did not last: is the folder cleared by somebody?")
                        copy.make(listing, self.ctx, mem_gb, alone)
                        copied = True
                finally:
                    os.close(alone)
            # Released and taken again: a lock cannot be changed from exclusive to shared atomically
            if (together := lock_file(copy.lock, fcntl.LOCK_SH)) is not None:
                if copy.is_whole():
                    self.locks.append((copy, together))
                    if not copied:
                        log.info("%s is read from the copy that is in %s already", listing.source, copy.data)
                    return copy
                os.close(together)
                if damaged:
                    raise NotStaged("the copy there is damaged, and another run reads it")
                damaged = True  # or its writer has just given up: then we make it in the next round
            if patience.renewed(last_change(copy.lock)):  # another run makes it, and it grows
                self.ctx.progress("wait for data", 0, 1)
            self._pause()

    def _as_told(self, source: Path) -> Copy | None:
        """Return the copy that the first rank of this node has found or made."""
        patience, wait = _Patience(), Backoff(POLL_S, 2.0)
        while str(source) not in (answers := read_json(self._told) or {}):
            heartbeat = records.heartbeat(self.ctx.run, self._first)
            if patience.renewed(heartbeat.get("time")) and heartbeat.get("attempt") == self.ctx.attempt:
                self.ctx.progress(heartbeat["what"], heartbeat["done"], heartbeat["total"])
            self._pause(wait())
        if answers[str(source)] is None:
            return None  # the first rank has logged why
        copy = Copy.of_json(answers[str(source)])
        if (lock := lock_file(copy.lock, fcntl.LOCK_SH)) is None:
            raise NotStaged("another process works on it")
        if not copy.folder.exists():
            os.close(lock)
            raise NotStaged("its other readers have left, and removed it")
        self.locks.append((copy, lock))
        return copy

    @property
    def _first(self) -> int:
        """Return the first rank of this node; Slurm numbers them node by node."""
        return self.ctx.world.rank - self.ctx.world.local_rank

    @property
    def _told(self) -> Path:
        return self.ctx.run.attempt(self.ctx.attempt).staged(self._first)

    def _pause(self, seconds: float = POLL_S) -> None:
        if self.ctx.should_stop():
            raise Preempted
        time.sleep(seconds)


class _Patience:
    """Waits for another process while it makes progress."""

    def __init__(self) -> None:
        self.sign: object = None
        self.since = time.monotonic()

    def renewed(self, sign: object) -> bool:
        """Whether the sign has changed; raises NotStaged if it has not for too long."""
        if sign != self.sign:
            self.sign, self.since = sign, time.monotonic()
            return True
        if time.monotonic() - self.since > STALL_S:
            raise NotStaged(f"waited for another process to copy it, without progress for {STALL_S:g} s")
        return False

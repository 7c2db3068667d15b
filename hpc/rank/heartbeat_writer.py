"""The heartbeats of this rank and its neighbours, on their way to the shared disk.

A rank leaves its heartbeat in memory that the ranks of its node share; there it costs nothing, so it may do so often.
Now and then one of them writes those of all into the file of the node (hpc/runs/heartbeats.py): in a thread of its own,
so that training never waits for the disk. It is the first rank, unless that one is stopped or stuck: then a neighbour.

    /dev/shm/hpc-1000/heartbeats-3f9a…-0008    of one attempt, on the node whose first rank is 8: a head, then the slots
"""

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hpc.runs import heartbeats
from hpc.runs.heartbeats import SLOT_B, record_of, slot_of
from hpc.runs.rundir import RunDir

log = logging.getLogger(__name__)

HEAD_B = 64
WRITTEN, OVER = slice(0, 8), 8
"""What the head has: when the node's file was last written, and whether to look if this attempt is over."""
NEIGHBOUR = 1.5
"""After how many intervals without a word of the first rank a neighbour writes in its place."""
LAST_S = 5.0
"""How long the end of a rank waits for its last heartbeat, on a disk that hangs."""


class HeartbeatWriter:
    """The heartbeats of one rank. At first they are written at once, in the thread that calls `beat`; after `share`, in
    the background, together with those of its neighbours.

    Parameters
    ----------
    run
        The run folder.
    rank, local_rank
        The rank of this process, in the run and on its node.
    fence
        Raises if this process must write nothing more. Called before each write.
    """

    def __init__(self, run: RunDir, rank: int, local_rank: int, fence: Callable[[], object]) -> None:
        self._run_folder, self._rank, self._fence = run, rank, fence
        self._number, self._first = local_rank, rank - local_rank
        self._slots: range = range(self._number, self._number + 1)
        self._data: bytearray | mmap.mmap = bytearray(HEAD_B + SLOT_B)
        self._lock: int | None = None
        self._path: Path | None = None
        self._thread: Thread | None = None
        self._wanted, self._ended = Event(), False
        self._began = time.monotonic()
        self._resources: Mapping[str, Any] = {}
        self._unheard = ""
        self._error: Exception | None = None
        """What the thread has found out: Fenced or Gone."""

    def share(self, resources: Mapping[str, Any], local_size: int, attempt: str) -> None:
        """From now on write in the background, as often as the resources of the run say. `attempt`: a text that the
        ranks of this attempt have in common, and no others."""
        self._resources = resources
        try:
            if local_size > 1:
                self._join_neighbours(local_size, attempt)
        except OSError as error:  # then this rank writes its own heartbeats only
            log.warning("no memory that the ranks of this node share (%s): each writes its own heartbeats", error)
        self._thread = Thread(target=self._run, name="heartbeat writer", daemon=True)
        self._thread.start()

    def beat(self, heartbeat: Mapping[str, Any], now: bool = False) -> None:
        """Leave the heartbeat of this rank. `now`: have it written soon. Raises Fenced or Gone."""
        self.refuse_if_over()
        at = self._at(self._number)
        self._data[at : at + SLOT_B] = slot_of({**heartbeat, "rank": self._rank})
        if self._thread is None:
            self._fence()
            self._write()
        elif now:
            self._wanted.set()

    def refuse_if_over(self) -> None:
        """Raise Fenced or Gone if the thread has found out, or a neighbour."""
        if self._error is not None:
            raise self._error
        if self._data[OVER]:
            self._fence()

    @property
    def in_background(self) -> bool:
        return self._thread is not None

    def close(self) -> None:
        """Write the last heartbeat, and leave the neighbours."""
        if self._thread is not None:
            self._ended = True
            self._wanted.set()
            self._thread.join(LAST_S)
        if self._path is not None:
            self._path.unlink(missing_ok=True)  # the neighbours keep what they have opened
        if self._lock is not None:
            os.close(self._lock)
        self._path = self._lock = None

    def patience_s(self) -> float:
        """Return for how long others should keep in memory what they would write into the run folder at every step: 0
        where the disk is this machine's own."""
        interval_s = self.interval_s()
        return interval_s if interval_s > heartbeats.QUICK_S else 0.0

    def interval_s(self) -> float:
        return heartbeats.interval_s(self._resources, time.monotonic() - self._began)

    def _run(self) -> None:
        while not self._ended and self._error is None:
            asked = self._wanted.wait(self.interval_s())
            self._wanted.clear()
            self._look(asked)

    def _look(self, asked: bool = False) -> None:
        """Write the file of the node if that is asked for, or if it is time and nobody else has."""
        if not (asked or self._is_due()):
            return
        try:
            self._fence()
            self._write()
        except Exception as error:  # noqa: BLE001  raised again in `beat`, for the thread that does the work
            self._error = error
            self._data[OVER] = 1

    def _is_due(self) -> bool:
        (written,) = struct.unpack("d", self._data[WRITTEN])
        silent_s = time.monotonic() - written
        patience_s = self.interval_s() * (0.9 if self._number == self._slots.start else NEIGHBOUR)
        return silent_s >= patience_s or silent_s < 0  # the clock of a node that was started again

    def _write(self) -> None:
        slots = {number: slot for number in self._slots if record_of(slot := self._slot(number))}
        self._data[WRITTEN] = struct.pack("d", time.monotonic())
        where = self._run_folder.node(self._first)
        try:
            heartbeats.write(self._run_folder, self._first, slots)
            if self._unheard:  # logged only now: the log is on that disk as well
                log.warning("%s is written again, after: %s", where, self._unheard)
            self._unheard = ""
        except OSError as error:  # a full disk: the work continues, and the next heartbeat may succeed
            if not self._unheard:
                log.warning("%s: %s", where, error.strerror)
            self._unheard = error.strerror or str(error)

    def _slot(self, number: int) -> bytes:
        at = self._at(number)
        return bytes(self._data[at : at + SLOT_B])

    def _at(self, number: int) -> int:
        return HEAD_B + (number - self._slots.start) * SLOT_B

    def _join_neighbours(self, local_size: int, attempt: str) -> None:
        """Open the memory of the ranks of this node that are of the same attempt."""
        folder = own_memory()
        sweep(folder)
        path = folder / f"heartbeats-{hashlib.sha256(attempt.encode()).hexdigest()[:16]}-{self._first:04d}"
        n_b = HEAD_B + local_size * SLOT_B
        self._lock = _locked(path)
        if os.fstat(self._lock).st_size < n_b:
            os.ftruncate(self._lock, n_b)
        data = mmap.mmap(self._lock, n_b)
        self._slots, self._data, self._path = range(local_size), data, path


def own_memory() -> Path:
    """Return this user's folder in the memory of the node. Raises OSError if there is none."""
    folder = Path(f"/dev/shm/hpc-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    entry = folder.lstat()
    if entry.st_uid != os.getuid() or entry.st_mode & 0o170000 != 0o040000:  # anybody may write to /dev/shm
        raise PermissionError(0, f"{folder} is not a folder of this user")
    return folder


def sweep(folder: Path) -> None:
    """Delete what ranks that were killed have left behind: nobody holds its lock."""
    for path in folder.glob("heartbeats-*"):
        try:
            left = os.open(path, os.O_RDWR)
        except FileNotFoundError:  # swept by another
            continue
        try:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(left)


def _locked(path: Path) -> int:
    """Open the memory of the node, with a lock that says that it is in use."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(file, fcntl.LOCK_SH)  # who sweeps holds it for a moment
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # it was swept in between

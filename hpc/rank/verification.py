"""Verifies the products that a rank will read, in the background while the process group starts.

The ranks of a run share out the files and tell one another through the run folder what they have verified.
"""

import os
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from hpc.rank.context import Context
from hpc.runs.products import MEMORY

PATIENCE_S = 10.0
"""How long to wait for other ranks without news of theirs, before their files are verified here too."""
POLL_S = 0.1
NEWS_S = 0.5
"""How often to look whether other ranks have verified anything."""
SHORT_S = 5.0
"""A verification of less is over before anybody could wait for it."""


class Verification:
    """The verification of these files, begun. Call `wait` before the first of them is read."""

    def __init__(self, ctx: Context, paths: Sequence[Path]) -> None:
        self.ctx = ctx
        # Each file is looked at once: for 10,000 of them and 512 ranks a look is five million requests
        sizes = {path: _size_b(path) for path in dict.fromkeys(paths)}
        files = sorted(sizes, key=lambda path: (-sizes[path], path))
        # A copy on the node is verified by the ranks of the node
        runs = ctx.run.path.parent.resolve()
        on_node = any(not folder.resolve().is_relative_to(runs) for folder in {path.parent for path in files})
        world = ctx.world
        rank, size = (world.local_rank, world.local_size) if on_node else (world.rank, world.size)
        mine = [path for path in files[rank::size] if not MEMORY.knows(path)]
        self._others = [path for place, path in enumerate(files) if place % size != rank]
        self._n_bytes = sum(sizes[path] for path in mine)
        self._done_b = 0
        self._left = iter(mine)
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._began = time.monotonic()
        # Training has not begun, so all cores of this rank may
        n_threads = min(max(1, len(os.sched_getaffinity(0)) // world.local_size), len(mine))
        self._threads = [threading.Thread(target=self._work, name="verify", daemon=True) for _ in range(n_threads)]
        for thread in self._threads:
            thread.start()

    def wait(self) -> bool:
        """Wait until all of them are verified; False if a stop was requested before. Raises DamagedProduct."""
        try:
            for thread in self._threads:
                thread.join(POLL_S)
                while thread.is_alive():
                    if self._must_stop():
                        return False
                    thread.join(POLL_S)
            if self._error is not None:
                raise self._error
            return self._wait_for_others()
        finally:
            self._ended.set()

    def _wait_for_others(self) -> bool:
        heard = time.monotonic()
        MEMORY.learn()
        left = [path for path in self._others if not MEMORY.knows(path)]
        while left:
            if self._must_stop():
                return False
            if MEMORY.folder is None or time.monotonic() - heard > PATIENCE_S:
                for path in left:
                    MEMORY.learn()  # another may have verified it meanwhile
                    MEMORY.verify(path)
                return True
            time.sleep(NEWS_S)
            if MEMORY.learn():  # only then: each look at a file is a request to the shared disk
                heard = time.monotonic()
                left = [path for path in left if not MEMORY.knows(path)]
        return True

    def _work(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                path = next(self._left, None)
            if path is None:
                return
            try:
                MEMORY.verify(path, self._count)
            except BaseException as error:  # noqa: BLE001  raised again in `wait`
                self._error = self._error or error
                self._ended.set()

    def _count(self, n_bytes: int) -> None:
        if self._ended.is_set():
            raise InterruptedError("the rank has stopped")
        with self._lock:
            self._done_b += n_bytes

    def _must_stop(self) -> bool:
        """Say how far it is, and return whether a stop was requested. What takes no time is not stopped."""
        if time.monotonic() - self._began < SHORT_S:
            return False
        self.ctx.progress("verify MB", self._done_b // 10**6, max(1, self._n_bytes // 10**6))
        return self.ctx.should_stop()


def verify_tree(ctx: Context, folder: Path) -> bool:
    """Verify a folder with the folders in it, if a run has written it, or it is a copy with its list; one from outside
    has no list. False if a stop was requested before. Every rank must call it. Raises DamagedProduct."""
    return Verification(ctx, MEMORY.tree(folder)).wait()


def _size_b(path: Path) -> int:
    """Return the size of a file; 0 if it is gone, which `wait` says."""
    try:
        entry = path.stat()
    except OSError:
        return 0
    return entry.st_size if stat.S_ISREG(entry.st_mode) else 0

"""The workers that fill the batches of a ring: threads, or processes for a transform that would hold the GIL.

A process is started once and lives as long as the ring. It ignores signals: the rank that started it decides when to
stop. When the rank is gone, killed or not, the connection breaks and the process ends. Its memory has no name that
could be left behind.
"""

import contextlib
import math
import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from eegdecode.data.loading.gather import Source, StoreFiles
from eegdecode.data.loading.windows import Places
from eegdecode.data.store.dataset import Store
from hpc.rank import threads
from hpc.runs.products import MEMORY

Transform = Callable[[np.ndarray, int], None]
"""Changes a window, float32 [time, channel], in place. The number is its place in training, as a seed for
randomness."""

PARTS = 4
"""The number of parts of a batch: a thread that stalls delays only one of them."""
IGNORED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class FillJob(NamedTuple):
    """A batch to fill."""

    slot: int
    places: Places
    length: int
    first_place: int  # in the global sequence of windows; row k is at first_place + k * stride
    stride: int
    ahead: Places  # windows of a later batch, to be read ahead


@dataclass(frozen=True)
class Filling:
    """The memory layout of a ring, and its content. It is sent to worker processes."""

    store: Store
    target: str
    dtype: str
    slot_bytes: int
    target_offset: int  # within a slot
    transform: Transform | None
    verified: Path | None = field(default_factory=lambda: MEMORY.folder)
    """Where worker processes read which files the rank has verified."""

    def views(
        self, memory: np.ndarray, source: Source, slot: int, n_windows: int, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return signal and target of a batch, in the ring's memory."""
        views = []
        for offset, dtype, shape in (
            (0, np.dtype(self.dtype), (length, source.n_channels)),
            (self.target_offset, np.dtype(np.float32), source.target_shape(length)),
        ):
            first, n_bytes = slot * self.slot_bytes + offset, n_windows * math.prod(shape) * dtype.itemsize
            views.append(memory[first : first + n_bytes].view(dtype).reshape(n_windows, *shape))
        return views[0], views[1]


class Filler:
    """Fills rows of batches; safe in any number of threads."""

    def __init__(self, filling: Filling, memory: np.ndarray) -> None:
        self.filling, self.memory = filling, memory
        self.source, self.storage = Source(filling.store, filling.target), StoreFiles(filling.store)

    def views(self, job: FillJob) -> tuple[np.ndarray, np.ndarray]:
        return self.filling.views(self.memory, self.source, job.slot, len(job.places.start), job.length)

    def fill(self, job: FillJob, rows: slice, signal: np.ndarray, target: np.ndarray) -> None:
        self.source.fill(job.places.take(rows), signal[rows], target[rows], self.storage)
        if self.filling.transform is not None:
            for row in range(len(signal))[rows]:
                self.filling.transform(signal[row], job.first_place + row * job.stride)


class Threads:
    """Threads that copy in parallel, as numpy releases the GIL while it copies.

    A free thread takes the next few rows, and so does the caller while it waits: on a busy node nobody waits for a
    thread without a core.
    """

    pids = ()

    def __init__(self, filling: Filling, memory: np.ndarray, n: int) -> None:
        self._filler = Filler(filling, memory)
        self._queue: SimpleQueue[_Shared | None] = SimpleQueue()
        self._asked: deque[_Shared] = deque()
        self._threads = [
            threading.Thread(target=_serve, args=(self._filler, self._queue), name="loader", daemon=True)
            for _ in range(n)
        ]
        for thread in self._threads:
            thread.start()
        self._end = weakref.finalize(self, _put, self._queue, n)

    def ask(self, job: FillJob) -> None:
        shared = _Shared(job, *self._filler.views(job))
        self._asked.append(shared)
        for _ in self._threads:
            self._queue.put(shared)

    def answer(self) -> list[BaseException]:
        """Wait for the oldest requested batch; return its errors."""
        shared = self._asked.popleft()
        shared.work(self._filler)
        return shared.errors()

    def close(self) -> None:
        self._end()
        for thread in self._threads:
            thread.join()


def _put(queue: "SimpleQueue[_Shared | None]", n: int) -> None:
    for _ in range(n):
        queue.put(None)


def _serve(filler: Filler, queue: "SimpleQueue[_Shared | None]") -> None:
    while (shared := queue.get()) is not None:
        shared.work(filler)


class _Shared:
    """A batch in parts: first the read-ahead for a later batch, then rows."""

    def __init__(self, job: FillJob, signal: np.ndarray, target: np.ndarray) -> None:
        self.job, self.signal, self.target = job, signal, target
        n_windows = len(signal)
        n_rows = max(1, n_windows // PARTS)
        parts = [None, *(slice(first, first + n_rows) for first in range(0, n_windows, n_rows))]
        self._n_parts = len(parts)
        self._parts = iter(parts)  # the GIL ensures that each is taken once
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()

    def work(self, filler: Filler) -> None:
        """Take parts until none are left."""
        for rows in self._parts:
            try:
                if rows is None:
                    filler.storage.ask(self.job.ahead)
                else:
                    filler.fill(self.job, rows, self.signal, self.target)
                self._done.put(None)
            except BaseException as error:  # noqa: BLE001 raised again by the caller, with its trace
                self._done.put(error)

    def errors(self) -> list[BaseException]:
        answers = [self._done.get() for _ in range(self._n_parts)]
        return [error for error in answers if error is not None]


class Processes:
    """Processes, started once; each fills its share of the rows."""

    def __init__(self, filling: Filling, file: int, n_bytes: int, n: int) -> None:
        self._processes = [_Process(filling, slice(number, None, n), file, n_bytes) for number in range(n)]
        self.pids = tuple(process.pid for process in self._processes)

    def ask(self, job: FillJob) -> None:
        for process in self._processes:
            process.ask(job)

    def answer(self) -> list[BaseException]:
        """Wait for the oldest requested batch; return its errors."""
        answers = [process.answer() for process in self._processes]
        return [error for error in answers if error is not None]

    def close(self) -> None:
        for process in self._processes:
            process.end()


class _Process:
    def __init__(self, filling: Filling, rows: slice, file: int, n_bytes: int) -> None:
        self._connection, child = Pipe()
        start = (
            "import sys; sys.path[:] = {!r}; from eegdecode.data.loading import workers; "
            "workers.main(*map(int, sys.argv[1:]))"
        )
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # until the process ignores them itself
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    start.format(sys.path),
                    *map(str, (child.fileno(), file, n_bytes, os.getpid())),
                ],
                pass_fds=(child.fileno(), file),
                stdin=subprocess.DEVNULL,
                env=threads.capped(1, os.environ),  # they are several, and share the threads of the rank
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        child.close()
        self.pid = self._process.pid
        self.end = weakref.finalize(self, _end, self._connection, self._process)
        try:
            self._connection.send((filling, rows))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self.end()
            raise ValueError(f"processes cannot be sent {filling.transform}: {error}") from None

    def ask(self, job: FillJob) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead: `answer` reports it
            self._connection.send(job)

    def answer(self) -> BaseException | None:
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            return RuntimeError(
                f"loader process {self.pid} ended with code {self._process.wait()} while it filled a batch: "
                "a kill (-9) most often means that memory ran out"
            )


def _end(connection: "Connection[object, object]", process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send(None)
    connection.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:  # in the middle of a transform
        process.kill()
        process.wait()


def main(connection: int, file: int, n_bytes: int, started_by: int) -> None:
    """The main loop of a worker process."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    parent: Connection = Connection(connection)
    memory = np.frombuffer(mmap.mmap(file, n_bytes), np.uint8)
    os.close(file)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # then nobody needs batches any more
        try:
            filling, rows = pickle.loads(_received(parent, started_by))
            if filling.verified is not None:
                MEMORY.keep_in(filling.verified)
            filler = Filler(filling, memory)
        except Exception as error:  # noqa: BLE001 the caller raises it
            _received(parent, started_by)
            parent.send(_as_sent(error))
            return
        job: FillJob | None
        while (job := pickle.loads(_received(parent, started_by))) is not None:
            answer = None
            try:
                filler.storage.ask(job.ahead.take(rows))
                filler.fill(job, rows, *filler.views(job))
            except Exception as error:  # noqa: BLE001 the caller raises it
                answer = _as_sent(error)
            parent.send(answer)


def _received(parent: Connection, started_by: int) -> bytes:
    """Return the next message. A fork of the parent may hold the connection open after its death, so this is
    checked."""
    while not parent.poll(1.0):
        if os.getppid() != started_by:
            raise EOFError
    return parent.recv_bytes()


def _as_sent(error: Exception) -> Exception:
    """Return the error with its trace, in a form that can be unpickled."""
    error.add_note(f"In loader process {os.getpid()}:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 whatever its class does not allow
        return RuntimeError("".join(error.__notes__))
    return error

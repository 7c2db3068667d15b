"""What fills the batches of a ring: threads, or processes for a transform that would hold Python's lock.

A process is started once and lives as long as the ring. It heeds no signal: the rank that started it decides when to
stop. When that is gone, killed or not, the connection breaks and the process ends. Its memory has no name that could be
left behind.
"""

import contextlib
import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from eegdecode.data.gather import Ahead, Source
from eegdecode.data.stored import Store
from eegdecode.data.windows import Places

Transform = Callable[[np.ndarray, int], None]
"""Changes a window, float32 [time, channel], in place. The number is its place in training: chance comes from that."""

IGNORED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class Job(NamedTuple):
    """A batch to be filled."""

    slot: int
    places: Places
    length: int
    first_place: int  # of the global course of windows; row k is the window number first_place + k * stride
    stride: int
    ahead: Places  # what a later batch needs


@dataclass(frozen=True)
class Filling:
    """How a ring lies in memory, and what goes into it. Worker `number` of `n` fills every n-th row."""

    store: Store
    target: str
    dtype: str
    slot_bytes: int
    target_offset: int  # within a slot
    transform: Transform | None
    number: int = 0
    n: int = 1

    def start(self, memory: np.ndarray) -> Callable[[Job], None]:
        source, ahead = Source(self.store, self.target), Ahead(self.store)

        mine = slice(self.number, None, self.n)

        def fill(job: Job) -> None:
            ahead.ask(job.ahead.take(mine))
            signal, target = self.views(memory, source, job.slot, len(job.places.start), job.length)
            source.fill(job.places.take(mine), signal[mine], target[mine])
            if self.transform is not None:
                for row in range(len(signal))[mine]:
                    self.transform(signal[row], job.first_place + row * job.stride)

        return fill

    def views(
        self, memory: np.ndarray, source: Source, slot: int, n_windows: int, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Signal and target of a batch, in the ring's memory."""
        found = []
        for offset, dtype, shape in (
            (0, np.dtype(self.dtype), (length, source.n_channels)),
            (self.target_offset, np.dtype(np.float32), source.target_shape(length)),
        ):
            first, n_bytes = slot * self.slot_bytes + offset, n_windows * int(np.prod(shape)) * dtype.itemsize
            found.append(memory[first : first + n_bytes].view(dtype).reshape(n_windows, *shape))
        return found[0], found[1]


class ThreadWorker:
    """Copies while others hold no lock: numpy lets go of it for as long as it copies."""

    pid = None

    def __init__(self, filling: Filling, memory: np.ndarray) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=_serve, args=(filling, memory, self._jobs, self._answers), name="loader", daemon=True
        )
        self._thread.start()
        self._end = weakref.finalize(self, self._jobs.put, None)

    def ask(self, job: Job) -> None:
        self._jobs.put(job)

    def answer(self) -> BaseException | None:
        return self._answers.get()

    def close(self) -> None:
        self._end()
        self._thread.join()


def _serve(filling: Filling, memory: np.ndarray, jobs: SimpleQueue, answers: SimpleQueue) -> None:
    fill = filling.start(memory)
    while (job := jobs.get()) is not None:
        try:
            fill(job)
            answers.put(None)
        except BaseException as error:  # noqa: BLE001 raised again in the caller's thread, with its trace
            answers.put(error)


class ProcessWorker:
    """The same in a process of its own, which is started once."""

    def __init__(self, filling: Filling, file: int, n_bytes: int) -> None:
        self._connection, theirs = Pipe()
        start = (
            "import sys; sys.path[:] = {!r}; from eegdecode.data import workers; workers.main(*map(int, sys.argv[1:]))"
        )
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # until it ignores them itself
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    start.format(sys.path),
                    *map(str, (theirs.fileno(), file, n_bytes, os.getpid())),
                ],
                pass_fds=(theirs.fileno(), file),
                stdin=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        self.pid = self._process.pid
        self._end = weakref.finalize(self, _end, self._connection, self._process)
        try:
            self._connection.send(filling)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._end()
            raise ValueError(f"processes cannot be sent {filling.transform}: {error}") from None

    def ask(self, job: Job) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead: `answer` says so
            self._connection.send(job)

    def answer(self) -> BaseException | None:
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            return RuntimeError(
                f"loader process {self.pid} ended with code {self._process.wait()} while it filled a batch: "
                "when it was killed (-9), most often for want of memory"
            )

    def close(self) -> None:
        self._end()


def _end(connection: "Connection[object, object]", process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send(None)
    connection.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:  # in the midst of a transform
        process.kill()
        process.wait()


def main(connection: int, file: int, n_bytes: int, started_by: int) -> None:
    """A process's life."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    parent: Connection = Connection(connection)
    memory = np.frombuffer(mmap.mmap(file, n_bytes), np.uint8)
    os.close(file)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # then nobody is left to fill for
        try:
            fill = pickle.loads(_received(parent, started_by)).start(memory)
        except Exception as error:  # noqa: BLE001 the caller raises it
            _received(parent, started_by)
            parent.send(_as_sent(error))
            return
        while (job := pickle.loads(_received(parent, started_by))) is not None:
            answer = None
            try:
                fill(job)
            except Exception as error:  # noqa: BLE001 the caller raises it
                answer = _as_sent(error)
            parent.send(answer)


def _received(parent: Connection, started_by: int) -> bytes:
    """The next message. A fork of the parent may hold the connection open when that is gone, so it is looked after."""
    while not parent.poll(1.0):
        if os.getppid() != started_by:
            raise EOFError
    return parent.recv_bytes()


def _as_sent(error: Exception) -> Exception:
    """With its trace, and as something that can be read where it arrives."""
    error.add_note(f"In loader process {os.getpid()}:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 whatever its class does not allow
        return RuntimeError("".join(error.__notes__))
    return error

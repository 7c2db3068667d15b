"""A ring of batches in preallocated memory: workers fill some while one is in use. Without torch."""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.gather import Source
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.share import Share
from eegdecode.data.loading.windows import Places
from eegdecode.data.loading.workers import Filling, FillJob, Processes, Threads, Transform
from eegdecode.data.store.dataset import Store

PAGE = 4096
AHEAD = 3
"""Batches between the one being filled and the one being read ahead."""


class RingBatch(NamedTuple):
    """A batch in the ring's memory, valid until the next one is requested."""

    signal: np.ndarray  # [window, time, channel], float32 or int16
    target: np.ndarray  # [window, time, feature]
    places: Places


class Ring:
    """The batches of this rank, in order, from any step on.

    Parameters
    ----------
    store, draw
        The recordings, and the windows of each step.
    target
        The name of a target; "" for none.
    rank, size
        The share of this rank: every size-th window of the global batch.
    threads, processes
        The number of workers that fill batches: threads, unless there are processes. The caller helps threads.
    slots
        Batches in memory: one in use, the others full or being filled.
    lag
        Batches that stay valid besides the last one, as they are still being copied from.
    transform
        Changes each window after it is read. For processes, it must be a function of a module.
    allocate
        Returns that many bytes of memory, set to 0, if it is to be of a special kind. Not for processes.
    """

    def __init__(
        self,
        store: Store,
        draw: Draw | Partners,
        target: str = "",
        *,
        rank: int = 0,
        size: int = 1,
        threads: int = 1,
        processes: int = 0,
        slots: int = 2,
        lag: int = 0,
        transform: Transform | None = None,
        allocate: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.share = Share(draw, rank, size)
        if slots < 2 + lag or threads < 1 or processes < 0:
            raise ValueError(
                f"a ring needs {2 + lag} slots and a thread at least, got {slots} slots, {threads} threads and "
                f"{processes} processes"
            )
        if processes and transform is not None and getattr(transform, "__module__", "") == "__main__":
            raise ValueError(f"processes cannot import {transform} from a script: put it into a module of its own")
        self.slots, self.lag = slots, lag
        self.source = Source(store, target)
        self.wait_s = 0.0
        """The time that the caller waited for the last batch."""
        dtype = self.source.dtype if self.source.dtype and not transform else np.dtype(np.float32)
        n_windows = self.share.n_windows
        self.dtype = dtype
        """The type of the signal in a batch."""
        signal_bytes = n_windows * draw.longest * self.source.n_channels * dtype.itemsize
        target_bytes = n_windows * int(np.prod(self.source.target_shape(draw.longest))) * 4
        target_offset = _in_pages(signal_bytes)
        self.slot_bytes = slot_bytes = target_offset + _in_pages(target_bytes)
        """Bytes of a batch."""
        n_bytes = slots * slot_bytes
        file = -1
        if processes:
            file = os.memfd_create("ring")  # without a name: freed with its last holder
            os.ftruncate(file, n_bytes)
            self.memory = np.frombuffer(mmap.mmap(file, n_bytes), np.uint8)
        else:
            self.memory = (allocate or _huge_pages)(n_bytes)
        self.memory[:] = 0  # so that no page fault happens when it is filled
        self._filling = Filling(store, target, dtype.str, slot_bytes, target_offset, transform)
        try:
            self.workers: Threads | Processes = (
                Processes(self._filling, file, n_bytes, processes)
                if processes
                else Threads(self._filling, self.memory, threads)
            )
        finally:
            if processes:
                os.close(file)
        self._unanswered = 0
        self._turn = 0

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers, the same from the first batch to the last."""
        return self.workers.pids

    def at(self, step: int, stop: int | None = None) -> Iterator[RingBatch]:
        """Yield the batches from that step on; pending batches of an earlier call are dropped."""
        self._turn += 1
        turn = self._turn
        while self._unanswered:
            self._answer()
        asked = step
        while stop is None or step < stop:
            assert turn == self._turn, "the ring was started again meanwhile"
            began = time.perf_counter()
            # The batch before has been given back, or that `lag` batches earlier
            while asked < step + self.slots - self.lag and (stop is None or asked < stop):
                self._ask(asked, is_first=asked == step)
                asked += 1
            for error in self._answer():
                raise error
            self.wait_s = time.perf_counter() - began
            places = self.share.step(step)
            yield RingBatch(*self._views(step, places), places)
            step += 1

    def close(self) -> None:
        """End the workers."""
        self._turn += 1
        self.workers.close()

    def _ask(self, step: int, is_first: bool) -> None:
        places = self.share.step(step)
        if is_first:  # it reads ahead up to AHEAD, later ones add one step each
            far = [self.share.step(step + more) for more in range(AHEAD + 1)]
            ahead = Places(*map(np.concatenate, zip(*far, strict=True)))
        else:
            ahead = self.share.step(step + AHEAD)
        share = self.share
        first = step * share.draw.batch + share.rank
        job = FillJob(step % self.slots, places, share.length(places), first, share.size, ahead)
        self.workers.ask(job)
        self._unanswered += 1

    def _answer(self) -> list[BaseException]:
        """Wait for the oldest pending batch; return its errors."""
        self._unanswered -= 1
        return self.workers.answer()

    def _views(self, step: int, places: Places) -> tuple[np.ndarray, np.ndarray]:
        length = self.share.length(places)
        return self._filling.views(self.memory, self.source, step % self.slots, len(places.start), length)


def _huge_pages(n_bytes: int) -> np.ndarray:
    """Allocate private memory, as only that has huge pages, which fill 1.5 times as fast."""
    mapped = mmap.mmap(-1, n_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)


def _in_pages(n_bytes: int) -> int:
    return -(-n_bytes // PAGE) * PAGE

"""A ring of batches in preallocated memory: workers fill some while one is in use. Without torch."""

import mmap
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.gather import Source
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.windows import Places
from eegdecode.data.loading.workers import Filling, FillJob, Processes, Threads, Transform
from eegdecode.data.store.dataset import Store

PAGE = 4096
PLANNED = 64
"""Steps that are drawn together, as that takes no longer than drawing one."""
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
    transform
        Changes each window after it is read. For processes, it must be a function of a module.
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
        transform: Transform | None = None,
    ) -> None:
        if draw.batch % size:
            raise ValueError(f"{size} ranks cannot share a batch of {draw.batch} evenly: take a multiple of {size}")
        if slots < 2 or threads < 1 or processes < 0:
            raise ValueError(
                f"a ring needs 2 slots and a thread at least, got {slots} slots, {threads} threads and "
                f"{processes} processes"
            )
        if processes and transform is not None and getattr(transform, "__module__", "") == "__main__":
            raise ValueError(f"processes cannot import {transform} from a script: put it into a module of its own")
        self.draw, self.rank, self.size, self.slots = draw, rank, size, slots
        self.source = Source(store, target)
        self.wait_s = 0.0
        """The time that the caller waited for the last batch."""
        dtype = self.source.dtype if self.source.dtype and not transform else np.dtype(np.float32)
        n_windows = draw.batch // size
        self.dtype = dtype
        """The type of the signal in a batch."""
        signal_bytes = n_windows * draw.longest * self.source.n_channels * dtype.itemsize
        target_bytes = n_windows * int(np.prod(self.source.target_shape(draw.longest))) * 4
        target_offset = _in_pages(signal_bytes)
        slot_bytes = target_offset + _in_pages(target_bytes)
        n_bytes = slots * slot_bytes
        if processes:
            file = os.memfd_create("ring")  # without a name: freed with its last holder
            os.ftruncate(file, n_bytes)
            mapped = mmap.mmap(file, n_bytes)
        else:  # private memory, as only that has huge pages, which fill 1.5 times as fast
            file, mapped = -1, mmap.mmap(-1, n_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            mapped.madvise(mmap.MADV_HUGEPAGE)
        self.memory = np.frombuffer(mapped, np.uint8)
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
        self._planned: dict[int, Places] = {}

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
            while asked < step + self.slots and (stop is None or asked < stop):  # the batch before has been given back
                self._ask(asked, is_first=asked == step)
                asked += 1
            for error in self._answer():
                raise error
            self.wait_s = time.perf_counter() - began
            places = self._places(step)
            yield RingBatch(*self._views(step, places), places)
            step += 1

    def close(self) -> None:
        """End the workers."""
        self._turn += 1
        self.workers.close()

    def _ask(self, step: int, is_first: bool) -> None:
        places = self._places(step)
        # The first request reads ahead up to there, later ones add one step each
        far = [self._places(step + more) for more in (range(AHEAD + 1) if is_first else (AHEAD,))]
        ahead = Places(*map(np.concatenate, zip(*far, strict=True)))
        first = step * self.draw.batch + self.rank
        job = FillJob(step % self.slots, places, self.draw.length(places), first, self.size, ahead)
        self.workers.ask(job)
        self._unanswered += 1

    def _answer(self) -> list[BaseException]:
        """Wait for the oldest pending batch; return its errors."""
        self._unanswered -= 1
        return self.workers.answer()

    def _views(self, step: int, places: Places) -> tuple[np.ndarray, np.ndarray]:
        length = self.draw.length(places)
        return self._filling.views(self.memory, self.source, step % self.slots, len(places.start), length)

    def _places(self, step: int) -> Places:
        """Return this rank's share of a step."""
        block, within = divmod(step, PLANNED)
        if block not in self._planned:
            first = block * PLANNED
            self._planned = {past: self._planned[past] for past in self._planned if past == block - 1}
            self._planned[block] = self.draw.at(np.arange(first, first + PLANNED))
        begin = within * self.draw.batch
        return self._planned[block].take(slice(begin + self.rank, begin + self.draw.batch, self.size))


def _in_pages(n_bytes: int) -> int:
    return -(-n_bytes // PAGE) * PAGE

"""Streams of an imitated GPU (bench/spy.py): copies are done as late as they may be, and what has no order is named.

A copy on a stream of its own is done when somebody waits for it, and until then its target holds nonsense: who does not
wait reads that, and who writes to the source too early sends other numbers. The other way round, as in CUDA's own
sanitizer, each stream has a clock: an operation must come after what others did to its memory, by an event or because
the host waited.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

Clock = dict[int, int]
HOST = -1
DEFAULT = 0
"""The stream in which operations are done at once, one after the other."""


class Recorded(NamedTuple):
    """What had been asked of a stream when an event was recorded in it."""

    stream: int
    n_asked: int
    clock: Clock


class Access(NamedTuple):
    """An operation that read or wrote some memory."""

    stream: int
    time: int
    what: str


@dataclass
class Memory:
    """The last write, and the reads since; the storage is held so that its address is not used again."""

    storage: torch.UntypedStorage
    writes: list[Access] = field(default_factory=list)
    reads: list[Access] = field(default_factory=list)


class Streams:
    """The state of all streams and events."""

    def __init__(self) -> None:
        self.unordered: list[str] = []
        """Pairs of operations that use the same memory in no order."""
        self._asked: dict[int, list[Callable[[], object] | None]] = defaultdict(list)
        self._n_done: dict[int, int] = defaultdict(int)
        self._clocks: dict[int, Clock] = defaultdict(dict)
        self._events: dict[int, Recorded] = {}
        self._memory: dict[int, Memory] = {}

    def launch(
        self, stream: int, what: str, reads: list[torch.Tensor], writes: list[torch.Tensor],
        later: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        """An operation is asked of a stream. `later` does it; without, it has been done."""
        clock = self._clocks[stream]
        _join(clock, self._clocks[HOST])
        clock[stream] = clock.get(stream, 0) + 1
        now = Access(stream, clock[stream], what)
        for tensor in (*reads, *writes):
            memory = self._memory_of(tensor)
            is_write = any(tensor is each for each in writes)
            for before in (*memory.writes, *(memory.reads if is_write else ())):
                if before.stream != stream and clock.get(before.stream, 0) < before.time:
                    self.unordered.append(f"{what} in stream {stream} and {before.what} in stream {before.stream}")
            if is_write:
                memory.writes, memory.reads = [now], []
            else:
                memory.reads = [one for one in memory.reads if one.stream != stream] + [now]
        if later is not None:
            self._asked[stream].append(later)

    def record(self, event: int, stream: int) -> None:
        self._events[event] = Recorded(stream, len(self._asked[stream]), dict(self._clocks[stream]))

    def wait(self, event: int, by: int) -> None:
        """A stream, or the host, waits for an event."""
        recorded = self._events.get(event)
        if recorded is None:
            return  # an event that was not recorded holds nobody up
        _join(self._clocks[by], recorded.clock)
        if by in (HOST, DEFAULT):
            self._do(recorded.stream, recorded.n_asked)
        else:
            self._asked[by].append(lambda: self._do(recorded.stream, recorded.n_asked))

    def synchronize(self, stream: int | None) -> None:
        """The host waits for a stream; for all, without one."""
        for each in [*self._asked] if stream is None else [stream]:
            self._do(each, len(self._asked[each]))
        for each in [*self._clocks] if stream is None else [stream]:
            _join(self._clocks[HOST], self._clocks[each])

    def _do(self, stream: int, n: int) -> None:
        while self._n_done[stream] < n:
            number = self._n_done[stream]
            act, self._asked[stream][number] = self._asked[stream][number], None
            self._n_done[stream] += 1
            assert act is not None
            act()

    def _memory_of(self, tensor: torch.Tensor) -> Memory:
        storage = tensor.untyped_storage()
        return self._memory.setdefault(storage.data_ptr(), Memory(storage))


def _join(clock: Clock, other: Clock) -> None:
    for stream, time in other.items():
        clock[stream] = max(clock.get(stream, 0), time)

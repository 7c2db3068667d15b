"""The clock of this process, which is one rank: it adds up the seconds in each phase of its steps.

    with phases.CLOCK.phase("data"):
        batch = next(batches)

It asks the processor's clock and nobody else: no disk, no device, no other rank. On a GPU, what the host has handed
over counts where the host waits for it: in `compute`, together with what the GPU itself waits for other ranks.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from hpc.runs.speed.pace import PHASES, Pace

Given = ParamSpec("Given")
Result = TypeVar("Result")

SPAN_S, SPANS = 10.0, 6
"""How long a span of the ring is, and how many are kept besides the one that goes on."""
_DATA, _COMPUTE, _WAIT, _SAVE = range(len(PHASES))


class Clock:
    """Seconds of each phase since `begin`. What is in no phase is `compute`."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, step: int) -> None:
        """Count from here on: after so many steps."""
        self._seconds = [0.0] * len(PHASES)
        self._phase, self._since = _COMPUTE, time.perf_counter()
        self._first = self._span_step = step
        self._span_seconds, self._span_since = list(self._seconds), self._since
        self._ring: deque[Pace] = deque(maxlen=SPANS)

    def switch(self, phase: int) -> int:
        """Begin a phase, by its number in PHASES; return the one before."""
        now = time.perf_counter()
        before = self._phase
        self._seconds[before] += now - self._since
        self._phase, self._since = phase, now
        return before

    def phase(self, name: str) -> "Phase":
        return Phase(self, PHASES.index(name))

    def pace(self, step: int) -> Pace:
        """Return how the time went until now, after so many steps."""
        self.switch(self._phase)
        seconds = list(self._seconds)
        span = Pace(
            max(step - self._span_step, 0),
            [max(now - then, 0.0) for now, then in zip(seconds, self._span_seconds, strict=True)],
        )
        ring = [*self._ring, span]
        if self._since - self._span_since >= SPAN_S:
            self._ring.append(span)
            self._span_step, self._span_seconds, self._span_since = step, seconds, self._since
        return Pace(max(step - self._first, 0), seconds, ring)


class Phase:
    """A `with` block that counts as one phase. Not a generator: those take several times as long, in each step."""

    __slots__ = ("_before", "_clock", "_number")

    def __init__(self, clock: Clock, number: int) -> None:
        self._clock, self._number, self._before = clock, number, number

    def __enter__(self) -> None:
        self._before = self._clock.switch(self._number)

    def __exit__(self, *error: object) -> None:
        self._clock.switch(self._before)


CLOCK = Clock()


def waiting(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Count the time in a function as waiting for other ranks."""

    @wraps(function)
    def counted(*args: Given.args, **named: Given.kwargs) -> Result:
        before = CLOCK.switch(_WAIT)
        try:
            return function(*args, **named)
        finally:
            CLOCK.switch(before)

    return counted

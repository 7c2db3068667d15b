"""Signal handlers set a flag that the loop checks; they do nothing else."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STACKS = signal.SIGUSR1
"""On this signal a rank writes the stack of each thread; it is handled in C, even in the middle of a collective."""


class Stop:
    """Whether this process was asked to stop soon; call it to find out."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def listen(self) -> None:
        """Handle USR2 (from the supervisor) and TERM alike. Not USR1: NCCL may catch it.

        INT is ignored: Ctrl-C is for the launcher, which passes it on as a stop request.
        """
        signal.signal(signal.SIGUSR2, self._set)
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _set(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True


@contextmanager
def listening(number: signal.Signals) -> Iterator[Stop]:
    """Catch a signal that would end this process, and note whether it has come."""
    stop = Stop()
    before = signal.signal(number, stop._set)
    try:
        yield stop
    finally:
        signal.signal(number, before)


def ignore_signals() -> None:
    """Ignore signals at the end: Python then restores the default handlers, and a late signal would kill us."""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

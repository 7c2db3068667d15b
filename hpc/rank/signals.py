"""Signal handlers set a flag that the loop checks; they do nothing else."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STACKS = signal.SIGUSR1
"""At this signal a rank writes where each of its threads is: in C, so also in the middle of a collective."""


class Stop:
    """Whether this process was asked to stop soon. Calling it answers."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def listen(self) -> None:
        """USR2 (from the supervisor) and TERM mean the same. Not USR1: NCCL may catch it.

        INT is ignored: Ctrl-C is for the launcher, who passes it on as a wish to stop.
        """
        signal.signal(signal.SIGUSR2, self._set)
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _set(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True


@contextmanager
def listening(number: signal.Signals) -> Iterator[Stop]:
    """Whether that signal has come meanwhile, for a process that it would end."""
    stop = Stop()
    before = signal.signal(number, stop._set)
    try:
        yield stop
    finally:
        signal.signal(number, before)


def ignore_signals() -> None:
    """For the way out: Python restores the default handlers at its end, and a late signal would kill us there."""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

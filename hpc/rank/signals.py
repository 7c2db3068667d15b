"""Signal handlers set a flag that the loop checks; they do nothing else."""

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

STACKS = signal.SIGUSR1
"""On this signal a rank writes the stack of each thread; it is handled in C, even in the middle of a collective."""


def write_stacks_to(file: TextIO) -> None:
    """Write the stack of each thread on STACKS, and let `on_stacks` add to it."""
    signal.signal(STACKS, lambda *_: None)  # else Python would note nothing for `on_stacks`
    faulthandler.register(STACKS, file=file, all_threads=True, chain=True)


def on_stacks(action: Callable[[], None]) -> None:
    """Call an action in a thread of its own whenever STACKS comes, even while the main thread is in a collective, where
    no handler of Python's runs: Python's own handler in C writes the signal's number to a pipe."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(STACKS) == signal.SIG_DFL:
        return  # not a rank of ours, but a test or a notebook
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while True:
            if STACKS in os.read(reader, 512):
                action()

    threading.Thread(target=wait, name="on-stacks", daemon=True).start()


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

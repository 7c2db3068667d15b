"""A busy machine: `python -m bench busy [SECONDS]` keeps four processes that want a core each, beside which tests pass.

Until that time is over, or Ctrl-C or TERM comes. However this process ends, the four end with it.
"""

import os
import signal
import time
from collections.abc import Sequence
from types import FrameType

N_PROCESSES = 4


def stay(seconds: int | None) -> None:
    """Keep four cores busy for so long; None: until a signal ends it."""
    ended = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    pids = [_spinning(os.getpid()) for _ in range(N_PROCESSES)]
    until = f"for {seconds} s" if seconds is not None else "until Ctrl-C"
    print(f"{N_PROCESSES} processes want a core each, {until}: pids {', '.join(map(str, pids))}", flush=True)
    began = time.monotonic()
    try:
        while not ended and (seconds is None or time.monotonic() - began < seconds):
            time.sleep(0.1)
    finally:
        _end(pids)


def _spinning(parent: int) -> int:
    """The pid of a process that only counts. It looks now and then whether its parent is there, which may be killed."""
    if pid := os.fork():
        return pid
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass
    os._exit(0)


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)

"""What is being looked at, on stderr."""

import sys
import time

ON_TERMINAL_S, ELSEWHERE_S = 0.5, 10.0
"""Seconds from one line to the next, at least."""


class Progress:
    """One line that is written anew on a terminal, and lines elsewhere; a short look prints nothing."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.last = time.monotonic()
        self.shown = False

    def at(self, text: str) -> None:
        is_terminal = sys.stderr.isatty()
        if time.monotonic() - self.last < (ON_TERMINAL_S if is_terminal else ELSEWHERE_S):
            return
        self.last = time.monotonic()
        self.shown = self.shown or is_terminal
        print(f"{self.what}: {text}", end="\x1b[K\r" if is_terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.shown:
            print(end="\x1b[K", file=sys.stderr, flush=True)

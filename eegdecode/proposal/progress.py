"""What is being looked at, on stderr, once a second at most."""

import sys
import time

EVERY_S = 1.0


class Progress:
    """One line that is written anew on a terminal, and lines elsewhere; a short look prints nothing."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.last = time.monotonic()
        self.shown = False

    def at(self, text: str) -> None:
        if time.monotonic() - self.last < EVERY_S:
            return
        self.last, is_terminal = time.monotonic(), sys.stderr.isatty()
        self.shown = self.shown or is_terminal
        print(f"{self.what}: {text}", end="\x1b[K\r" if is_terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.shown:
            print(end="\x1b[K", file=sys.stderr, flush=True)

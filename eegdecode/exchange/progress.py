"""How far the writing of a folder is, on stderr: one line on a terminal, a line now and then elsewhere."""

import sys
import time

EVERY_S = {True: 0.5, False: 10.0}
"""On a terminal, and elsewhere."""


class Progress:
    """`total`: the number of recordings, 0 if it is not known beforehand."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.number, self.name = what, total, 0, ""
        self.last = time.monotonic()
        self.shown = False

    def begin(self, name: str) -> None:
        self.number, self.name = self.number + 1, name
        self.part(0.0)

    def part(self, part: float) -> None:
        is_terminal = sys.stderr.isatty()
        if time.monotonic() - self.last < EVERY_S[is_terminal]:
            return
        self.last, self.shown = time.monotonic(), self.shown or is_terminal
        of = f" of {self.total}" if self.total else ""
        text = f"{self.what}: recording {self.number}{of}, {self.name}, {part:.0%}"
        print(text, end="\x1b[K\r" if is_terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.shown:
            print(end="\x1b[K", file=sys.stderr, flush=True)

"""`status --watch`: the table again and again, on a screen of its own; without a terminal, one text after the other."""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping

from hpc.codes import DONE
from hpc.overview import table
from hpc.runs.status import State

WATCH_S, ELSEWHERE_S = 2.0, 10.0
"""How often it looks; less often at a cluster that it must ask by ssh."""
COLOURS = {"green": "running", "yellow": "queued|requeued|stopped", "red": "failed|lost|silent"}
"""Of the second word of a run's line; a finished run needs no attention."""


def watch(states: Callable[[], list[State]], more: Callable[[], list[str]], environ: Mapping[str, str]) -> int:
    """Show the states and what else there is to say, until Ctrl-C."""
    show, end = _on_terminal() if sys.stdout.isatty() else (_below_another, lambda: None)
    last = ""
    try:
        while True:
            seen = states()
            width = table.width_of(environ)
            lines = table.lines(seen, width)
            below = [*(["", *table.summary(seen, width)] if len(seen) > 1 else []), *more()]
            last = "\n".join([*lines, *below])
            show(last if not sys.stdout.isatty() else shortened(lines, "\n".join(below), os.get_terminal_size(1).lines))
            time.sleep(ELSEWHERE_S if any(state.site for state in seen) else WATCH_S)
    except KeyboardInterrupt:
        end()
        if sys.stdout.isatty():
            print(last)  # it stays to be read
        return DONE
    except BaseException:
        end()
        raise


def shortened(lines: list[str], below: str, height: int) -> str:
    """Return what fits on a screen: the runs that were touched last, which are the last ones, and a line with how many
    lines are above them."""
    clock = time.strftime("%H:%M:%S")
    rest = f"{below}\n{clock}, every {WATCH_S:.0f} s; Ctrl-C ends the watching, not the runs".lstrip("\n")
    room = max(1, height - rest.count("\n") - 4)
    head, runs = lines[0], lines[1:]
    n_above = len(runs) - room
    if n_above > 0:
        while n_above < len(runs) - 1 and runs[n_above].startswith(table.INDENT):  # not without the line of its run
            n_above += 1
        runs = [f"… {n_above} lines above; `hpc page` shows all runs on one page", *runs[n_above:]]
    return "\n".join([head, *runs, "", rest])


def _below_another(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n", flush=True)


def _on_terminal() -> tuple[Callable[[str], None], Callable[[], None]]:
    """Return a function that shows a text on a screen of its own, and one that leaves it; by rich, if it is there."""
    try:
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        return lambda text: print(f"\033[2J\033[H{text}", flush=True), lambda: None
    live = Live(screen=True, auto_refresh=False)
    live.start()

    def show(text: str) -> None:
        shown = Text(text, no_wrap=True)
        for colour, words in COLOURS.items():
            for match in re.finditer(rf"(?m)^\S+ +({words})\b", text):
                shown.stylize(colour, *match.span(1))
        live.update(shown, refresh=True)

    return show, live.stop

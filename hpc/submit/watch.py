"""Watches a run through its folder until it ends: progress bars on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc import media
from hpc.errors import ConfigError
from hpc.rank.signals import Stop
from hpc.runs import cancel, records, status
from hpc.runs.rundir import RunDir
from hpc.runs.status import State
from hpc.slurm.squeue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_EVERY_S = 5.0
HERE_S, QUEUE_S = 0.2, 2.0
"""How often to look at a run on this machine, and at one of a cluster, whose disk others share."""
LAST_WORD_S = 60.0
"""The time after a result within which a supervisor is expected to write its last event."""


def follow(run: RunDir, mine: bool, ended: Stop | None = None) -> State:
    """Show the progress until the run ends; return its last state.

    Parameters
    ----------
    run
        The run folder.
    mine
        Ctrl-C stops the run (once: it saves first; twice: at once). Otherwise Ctrl-C only ends the watching.
    ended
        Whether TERM has arrived, from `timeout` or an editor: it stops the run as Ctrl-C does, but only once, as TERM
        may come twice in a row. Ctrl-C is noted there too.
    """
    n_asked = 0
    waits_for = "starting"  # not worth a line
    seen = len(records.events(run))
    began = time.time()
    queue = Queue()
    with bars(run.name) as show:
        while True:
            try:
                state = status.look(run, queue)
                events = records.events(run)
                for event in events[seen:]:
                    show(event["text"], None)
                seen = len(events)
                if state.word in ("queued", "silent") and state.text != waits_for:
                    waits_for = state.text
                    show(f"{state.word}: {waits_for}", None)
                heartbeat = records.heartbeat(run, 0)
                show(None, state if heartbeat and heartbeat["time"] > began else None)
                if state.ended and not (state.word == "finished" and _has_more_to_say(run)):
                    return state
                if (
                    ended and ended() and state.word != "queued" and not n_asked
                ):  # one that is still starting does not listen yet
                    n_asked = 1
                    _stop(run, n_asked, show)
                    if state.word == "silent":  # a supervisor that hangs may never end
                        return state
                time.sleep(QUEUE_S if state.on_slurm else HERE_S)
            except KeyboardInterrupt:
                if not mine:
                    raise
                n_asked += 1
                if ended is not None:
                    ended.asked = True  # also if this run finishes before it can stop: what follows is not wanted
                _stop(run, n_asked, show)


def _has_more_to_say(run: RunDir) -> bool:
    """Whether the supervisor of a finished run, on this machine, is about to write its last event: the result is
    written first."""
    result = records.result(run)
    if time.time() - result.get("ended", 0.0) > LAST_WORD_S or any(
        event["time"] >= result["ended"] for event in records.events(run)[-1:]
    ):
        return False
    owner = records.owner(run)
    return bool(owner and status.living_pid(owner))


def _stop(run: RunDir, times: int, show: Callable[[str | None, State | None], None]) -> None:
    try:
        answer = "; ".join(cancel.stop([run], now=times > 1))
        show(answer + (" (Ctrl-C again: end at once)" if times == 1 else ""), None)
    except ConfigError as error:  # it has ended meanwhile, or has not begun yet
        show(str(error), None)


@contextmanager
def bars(name: str) -> "Iterator[Callable[[str | None, State | None], None]]":
    """Return a function (text, state) that shows a line and the progress of the run."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), "{task.fields[figures]}")
    with Progress(*(TextColumn(c) if isinstance(c, str) else c for c in columns)) as progress:
        task: Any = progress.add_task(name, total=None, figures="")

        def show(text: str | None, state: State | None) -> None:
            if text:
                progress.console.print(media.lines(text), markup=False, highlight=False)
            if state and state.total:
                progress.update(task, description=state.what, completed=state.done, total=state.total)
                progress.update(task, figures=_say(state.figures))

        yield show


class _Lines:
    """The same without a terminal: a line after progress, every few seconds."""

    def __init__(self) -> None:
        self.last = ("", 0)
        self.at = time.monotonic()

    def __call__(self, text: str | None, state: State | None) -> None:
        if text:
            print(media.lines(text), flush=True)
        if (
            state
            and state.total
            and time.monotonic() - self.at > LINE_EVERY_S
            and self.last != (state.what, state.done)
        ):
            self.at, self.last = time.monotonic(), (state.what, state.done)
            print(f"  {state.what} {state.done}/{state.total}  {_say(state.figures)}", flush=True)


def _say(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in figures.items())


def result(run: RunDir) -> str:
    """Format the metrics of a finished run, each next to its chance level if there is one; of a list, each on a line
    of its own."""
    metrics = records.result(run).get("metrics") or {}
    lines = []
    width = max(18, *(len(name) + 2 for name in metrics), 0)
    for name, value in metrics.items():
        chance = ""
        if isinstance(value, dict):
            chance, value = f"chance {value['chance']:.3f}" if "chance" in value else "", value["value"]
        if isinstance(value, list):
            lines += [f"  {item}" for item in value]
            continue
        if isinstance(value, str) and (run.out / value).is_file():
            value = os.path.relpath(run.out / value)
        lines.append(
            f"  {name:<{width}}{f'{value:.3f}' if isinstance(value, float) else value!s:<8}  {chance}".rstrip()
        )
    return "\n".join(map(media.one_line, lines))


def print_log(run: RunDir, log: Path, wait: bool) -> None:
    """Print the log of a rank; with `wait`, follow it until the run ends."""
    queue = Queue()
    with open(log, errors="replace") as file:
        while True:
            ended = not wait or status.look(run, queue).ended
            print(file.read(), end="", flush=True)
            if ended:
                return
            time.sleep(0.5)

"""Waiting for other processes: by their progress, never by a clock.

A run that a test wants alive is held by `hold_at=N` (tests/hpc/example): behind step N it waits for its gate. The ends
below are there for what hangs; nothing that works comes near them, also where ten others want each core.
"""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir

LONG_S = 1200.0


def wait_for(
    condition: Callable[[], object],
    what: str = "",
    state: Callable[[], object] = lambda: "",
    patience_s: float = LONG_S,
) -> None:
    """Wait until it is so. After all patience the test fails, and reports what it waited for and the state of
    things."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience_s:.0f} s for this: {what or _where(condition)}\n{state()}")
        time.sleep(0.05)


def output_of(process: "subprocess.Popen[str]") -> str:
    """All that it has printed, once it has ended."""
    try:
        return process.communicate(timeout=LONG_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it has not ended within {LONG_S:.0f} s: {process.args!r}\n{process.communicate()[0]}")


def said_first(process: "subprocess.Popen[str]", words: str) -> str:
    """What it prints up to a line with these words; the rest is in its stdout still."""
    assert process.stdout is not None
    lines = []
    end = threading.Timer(LONG_S, process.kill)
    end.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if words in line:
                return "".join(lines)
    finally:
        end.cancel()
    pytest.fail(f"{process.args!r} never said {words!r}:\n{''.join(lines)}")


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached it; one that is gone is not stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False


def open_gate(*runs: RunDir) -> None:
    """Let a run go on that is held, or that will be."""
    for run in runs:
        (run.path / "gate").touch()


def story(run: RunDir) -> str:
    """What has become of a run, for who reads a failure."""
    attempts = [f"attempt {line['attempt']}: {line['outcome']}, {line['why']}" for line in records.attempts(run)]
    events = [line["text"] for line in records.events(run)]
    logs = [
        f"{log.relative_to(run.path)}:\n{log.read_text(errors='replace')[-1500:]}"
        for log in sorted([*run.jobs.glob("*.log"), *run.jobs.glob("*.out"), *run.jobs.glob("attempt-*/*.log")])
    ]
    return "\n".join([f"== {run.name}", *attempts, *events, *logs])


def _where(condition: Callable[[], object]) -> str:
    code = getattr(condition, "__code__", None)
    return f"line {code.co_firstlineno} of {code.co_filename}" if code else repr(condition)

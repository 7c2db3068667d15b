"""A machine that `python -m bench busy` keeps busy is free again when that has ended, in whatever way."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import NAMES
from tests.conftest import ROOT
from tests.waiting import output_of, said_first, wait_for

COMMAND = [sys.executable, "-m", "bench", "busy"]


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_the_four_end_with_who_started_them(number: signal.Signals, code: int) -> None:
    busy = subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pids = re.findall(r"\d+", said_first(busy, "until Ctrl-C").partition("pids")[2])
    assert len(pids) == 4 and all(Path(f"/proc/{pid}").exists() for pid in pids)
    busy.send_signal(number)
    output_of(busy)
    assert busy.returncode == code
    wait_for(lambda: not any(map(is_at_work, pids)), "the four have ended")


def is_at_work(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.ranks
def test_it_ends_by_itself_after_the_time_that_was_given() -> None:
    done = subprocess.run([*COMMAND, "1"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "4 processes want a core each, for 1 s" in done.stdout


def test_it_is_none_of_the_comparisons() -> None:
    assert "busy" not in NAMES
    done = subprocess.run([*COMMAND, "soon"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "a whole number of seconds, or none for until Ctrl-C, but got 'soon'" in done.stderr

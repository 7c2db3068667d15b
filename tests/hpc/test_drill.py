"""What a certificate is worth: that the fault was there, and that nothing else is."""

import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.drill.drill import Learnt, _felt, _Watch
from hpc.drill.faults import Case
from hpc.runs.rundir import RunDir, append_line, write_json
from tests.conftest import Launch


@pytest.mark.parametrize("steps", [[1, 3], [1, 2, 2, 3], [1, 2]])
def test_a_step_missing_or_twice_is_not_the_same(tmp_path: Path, steps: list[int]) -> None:
    runs = [RunDir(tmp_path / name) for name in ("calm", "broken")]
    for run, written in zip(runs, ([1, 2, 3], steps), strict=True):
        write_json(run.checkpoints / "step-00000003/COMMIT", {"total": 6})
        for step in written:
            append_line(run.metrics, {"step": step})
    calm, broken = (Learnt.of(run) for run in runs)
    assert calm.fingerprint == broken.fingerprint and calm != broken


def test_a_full_disk_was_felt_when_a_log_says_so(tmp_path: Path) -> None:
    log = RunDir(tmp_path).attempt(1).log(0)
    log.parent.mkdir(parents=True)
    log.write_text("step 1\n")
    assert not _felt(RunDir(tmp_path))
    log.write_text("step 1\nmetrics.jsonl: No space left on device\n")
    assert _felt(RunDir(tmp_path))


@pytest.mark.parametrize(("saved", "redone", "unsavable"), [(40, 15, 8), (50, 5, 5), (60, 0, 0)])
def test_what_is_done_while_the_disk_is_full_is_no_loss_of_ours(
    tmp_path: Path, saved: int, redone: int, unsavable: int
) -> None:
    case = Case(None, RunDir(tmp_path), random.Random(0))  # type: ignore[arg-type]
    case.full = {"attempt": 1, "done": 47}
    watch = _Watch(case)
    watch.seen = {1: 55}
    watch._count(1, saved)
    assert (watch.redone, watch.unsavable) == (redone, unsavable)
    watch.seen[2] = 90
    watch._count(2, 80)
    assert (watch.redone, watch.unsavable) == (redone + 10, unsavable), "by then there was room again"


@pytest.mark.ranks
def test_a_fault_that_comes_too_late_is_made_again_and_then_said_not_to_be_tried(launch: Launch) -> None:
    text = launch("drill", "count", "n=1", "--faults", "kill9", "--on", "local").stdout
    assert text.count("once more, earlier") == 2
    assert "not tried: " in text and "give it more steps" in text
    assert len(list(launch.folder.glob("runs/.drill/*/01-kill9*"))) == 3


@pytest.mark.ranks
def test_a_disk_that_cannot_be_mounted_is_said_and_the_next_fault_is_made(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mount").write_text("#!/bin/sh\necho mount: permission denied >&2; exit 32\n")
    (tmp_path / "bin/mount").chmod(0o755)
    launch.environ["PATH"] = f"{tmp_path}/bin:{launch.environ.get('PATH', os.environ['PATH'])}"
    text = launch("drill", "count", "n=1", "--faults", "disk,scancel", "--on", "local").stdout
    assert "not tried: a disk of its own to fill: " in text
    assert "not tried: there is no Slurm job to cancel" in text or "give it more steps" in text


def test_a_case_that_has_finished_by_itself_is_not_killed(tmp_path: Path) -> None:
    """It keeps no file of its supervisor; the drill died of that."""
    plan: Any = SimpleNamespace(site=SimpleNamespace(kind="local"))
    case = Case(plan, RunDir(tmp_path), random.Random(0))
    case.end()

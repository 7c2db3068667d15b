"""From the stop signal to the next start: whatever the epilog, for a plain user, and although the controller dies."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, read_json
from tests.conftest import BED, EXAMPLE, ROOT, Launch
from tests.slurm.test_bed import Beds, beds, own_beds, start
from tests.slurm.test_faults import signal_batch
from tests.slurm.test_runs import attempts, only_run, texts, under_way
from tests.waiting import LONG_S, open_gate, output_of, wait_for

__all__ = ["beds"]  # fixtures
pytestmark = [pytest.mark.slurm, pytest.mark.both_slurms]
HELD_S = 60
"""Half of the time for which Slurm holds a requeued job."""


@pytest.fixture(scope="module")
def late(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[dict[str, str]]:
    """A bed with an epilog and Slurm's own waits; returns the variables with which its commands work."""
    with own_beds(request, bed_options) as started:
        yield start(started, "--epilog", "1", "--cred-expire", "0")


@pytest.fixture
def on_late(launch: Launch, late: dict[str, str]) -> Launch:
    launch.environ |= late
    return launch


def bed_of(launch: Launch) -> Path:
    return Path(launch.environ["SLURM_CONF"]).parent


def squeue(launch: Launch, *words: str) -> str:
    done = subprocess.run(["squeue", "-h", *words], env=launch.environ, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_a_new_job_waits_before_the_old_one_ends_and_starts_when_its_epilog_is_over(on_late: Launch) -> None:
    run, watcher = under_way(on_late, "count", "n=6", "--nodes", "2", on="bed")
    gate = bed_of(on_late) / "epilog.held"
    gate.touch()
    try:
        signal_batch(on_late, run, "USR2")
        on_late.wait_for(lambda: len(records.submissions(run)) == 2, "a new job is submitted")
        old, new = (line["job"] for line in records.submissions(run))
        on_late.wait_for(lambda: squeue(on_late, "-j", old, "-o", "%T") == "COMPLETING")
        assert squeue(on_late, "-j", new, "-o", "%T %r") == "PENDING Dependency"
        assert "queued" in on_late("status", run.name).stdout
    finally:
        gate.unlink()
    released = time.time()
    on_late.wait_for(run.attempt(2).start.exists, "it runs again, and is held by its gate")
    began = (read_json(run.attempt(2).start) or {})["started"]
    assert began - released < HELD_S, texts(run)
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out
    assert [line["job"] for line in attempts(run)] == [old, new]


def test_what_follows_waits_for_the_job_that_goes_on(on_late: Launch) -> None:
    (on_late.folder / "study.yaml").write_text("count: {n: 6, hold_at: 3}\ntally: {of: count}\n")
    on_late("pipeline", "study.yaml", "--on", "bed")
    count, tally = map(RunDir, on_late.runs())
    on_late.wait_for(lambda: (count.checkpoints / "step-00000003/COMMIT").exists(), "it is held")
    signal_batch(on_late, count, "USR2")
    on_late.wait_for(count.attempt(2).start.exists, "it runs again, as another job")
    new, waiting = (records.submissions(run)[-1]["job"] for run in (count, tally))
    assert f"afterok:{new}" in squeue(on_late, "-j", waiting, "-o", "%E")
    open_gate(count)
    on_late.wait_for(tally.result.exists, "what follows it has run")


def test_it_comes_back_although_the_controller_dies_when_it_has_taken_the_requeue(launch: Launch, beds: Beds) -> None:
    """On each node slurmd looks every second whether the job has ended, and after ten seconds only every ten: until
    then it takes the job for running, starts it no second time, and Slurm would hold it for good."""
    launch.environ |= start(beds, "--kill-wait", "300")
    run, watcher = under_way(launch_with_a_deadly_scontrol(launch), "count", "n=6", "--nodes", "2", on="bed")
    signal_batch(launch, run, "USR2")
    launch.wait_for((launch.folder / "died").exists, "the controller is dead")
    time.sleep(12)
    subprocess.run([*BED, "revive", "slurmctld"], env=launch.environ, check=True, capture_output=True)
    launch.wait_for(run.attempt(2).start.exists, "it runs again")
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out


def test_nothing_is_stuck_if_the_job_dies_with_the_controller_that_has_taken_its_requeue(
    launch: Launch, beds: Beds
) -> None:
    """The controller may remember the requeue, or take the job for running, until its walltime, or see that it is
    gone."""
    launch.environ |= start(beds)
    words = ("count", "n=6", "--nodes", "2", "--time", "3m")
    run, watcher = under_way(launch_with_a_deadly_scontrol(launch), *words, on="bed")
    signal_batch(launch, run, "USR2")
    launch.wait_for((launch.folder / "died").exists, "the controller is dead")
    watcher.kill()
    watcher.communicate()
    for pid in steps_of(run):
        os.kill(pid, signal.SIGKILL)
    subprocess.run([*BED, "revive", "slurmctld"], env=launch.environ, check=True, capture_output=True)

    def goes_on_or_is_named() -> bool:
        return run.attempt(2).start.exists() or word(launch, run) == "lost"

    launch.wait_for(goes_on_or_is_named, "it is not stuck")
    open_gate(run)
    if not run.attempt(2).start.exists():
        assert "resume" in launch("why", run.name).stdout  # of some ends the table of status says only: see why
        launch("resume", run.name, "--on", "bed")
    launch.wait_for(run.result.exists, "it has come to its end")
    launch.wait_for(lambda: not squeue(launch), "no job is left")


def launch_with_a_deadly_scontrol(launch: Launch) -> Launch:
    """The first requeue that the controller takes is the last that it does."""
    path = launch.environ["PATH"]
    scontrol = Path(str(shutil.which("scontrol", path=path))).resolve()
    programs = bed_of(launch) / "bin"
    others = list(programs.resolve().iterdir()) if programs.is_symlink() else []
    programs.unlink(missing_ok=True)  # a bed with a Slurm of its own puts this folder first into the PATH of jobs
    programs.mkdir()
    for program in others:
        (programs / program.name).symlink_to(program)
    wrapper = programs / "scontrol"
    wrapper.unlink(missing_ok=True)
    wrapper.write_text(
        f"#!/bin/sh\n"
        f'[ "$1" = requeue ] && [ ! -e {launch.folder}/died ] || exec {scontrol} "$@"\n'
        f'{scontrol} "$@" || exit\n'
        f"{' '.join(BED)} kill slurmctld --dir {bed_of(launch)}\n"
        f"touch {launch.folder}/died\n"
    )
    wrapper.chmod(0o755)
    launch.environ["PATH"] = f"{programs}:{path}"
    return launch


def steps_of(run: RunDir) -> list[int]:
    """The daemons of the steps of its job, and the supervisor with its keeper."""
    job = records.submissions(run)[-1]["job"]
    done = subprocess.run(["pgrep", "-f", rf"slurmstepd: \[{job}\."], capture_output=True, text=True, check=False)
    last: dict[str, Any] = records.supervisor(run)
    return [int(pid) for pid in done.stdout.split()] + [last["keeper"]]


def word(launch: Launch, run: RunDir) -> str:
    (state,) = json.loads(launch("status", run.name, "--json").stdout)
    text: str = state["word"]
    return text


PYTHON = "/usr/bin/python3"


class AsNobody:
    """`python -m hpc.launch …` of a user without rights, by a Python that this user can read."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        packages = next(path for path in map(Path, __import__("sys").path) if (path / "submitit").exists())
        own = {"PYTHONPATH": f"{ROOT}:{EXAMPLE}:{packages}", "HOME": str(folder), "HPC_SITE": "local"}
        self.how: dict[str, Any] = {
            "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": folder,
            "env": {name: environ[name] for name in ("PATH", "SLURM_CONF")} | own,
            "capture_output": True, "text": True, "timeout": LONG_S,
        }  # fmt: skip

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(words, **self.how, check=False)

    def launch(self, *words: str) -> str:
        done = self(PYTHON, "-m", "hpc.launch", *words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return str(done.stdout)


@pytest.fixture
def nobody(late: dict[str, str]) -> Iterator[AsNobody]:
    if os.geteuid() != 0:
        pytest.skip("the user of this bed is its administrator: only root can have jobs of another")
    folder = Path(tempfile.mkdtemp(prefix="hold-"))  # pytest's own is closed to others
    folder.chmod(0o755)
    user = AsNobody(folder, late)
    if (done := user(PYTHON, "-c", "import hpc.launch, submitit")).returncode != 0:
        pytest.skip(f"user nobody cannot run {PYTHON} with our packages: {done.stderr[-200:]}")
    if user("sh", "-c", "squeue").returncode != 0:
        pytest.skip("user nobody cannot read the programs of this Slurm")
    yield user
    shutil.rmtree(folder)


@pytest.mark.parametrize("epilog", ["0", "3"])
def test_a_plain_user_is_not_held(nobody: AsNobody, late: dict[str, str], epilog: str, beds: Beds) -> None:
    """0: by the start time of a requeued job, as there is no epilog at all."""
    if epilog == "0":
        variables = start(beds, "--cred-expire", "0")
        nobody.how["env"] |= {name: variables[name] for name in ("PATH", "SLURM_CONF")}
    nobody.launch("count", "n=6", "hold_at=3", "--nodes", "2", "--on", "bed")
    run = only_run(nobody.folder)
    wait_for(lambda: (run.checkpoints / "step-00000003/COMMIT").exists(), "it is held", lambda: texts(run))
    job = records.submissions(run)[-1]["job"]
    sent = time.time()
    assert nobody("scancel", "--signal=USR2", "--batch", job).returncode == 0
    wait_for(run.attempt(2).start.exists, "it runs again, and is held by its gate", lambda: texts(run))
    assert (read_json(run.attempt(2).start) or {})["started"] - sent < HELD_S, texts(run)
    assert (len(records.submissions(run)) == 1) == (epilog == "0")
    open_gate(run)
    wait_for(run.result.exists, "it has come to its end", lambda: texts(run))
    wait_for(lambda: not nobody("squeue", "-h").stdout, "its job has ended, and writes no more", lambda: texts(run))

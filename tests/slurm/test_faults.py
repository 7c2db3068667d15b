"""Faults besides those of the drill: whatever happens, the run ends, and with the same result."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, read_lines
from tests.conftest import BED, ROOT, Launch
from tests.slurm.test_bed import Beds, beds, start
from tests.slurm.test_runs import attempts, texts, under_way
from tests.waiting import open_gate, output_of

__all__ = ["beds"]  # fixtures
pytestmark = [pytest.mark.slurm, pytest.mark.both_slurms]


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[dict[str, str]]:
    """A bed for this module alone, whose daemons may be killed; returns the variables with which its commands work."""
    if request.config.getoption("--site"):
        pytest.skip("--site names a Slurm of your own, whose daemons are not ours to kill")
    started = Beds(bed_options)
    # As unkind as a real cluster; but a preempted job is gone as soon as it has saved, and what is ended is ended soon
    yield start(started, "--like", "strict", "--grace", "60", "--epilog", "1", "--kill-wait", "5")
    started.stop()


@pytest.fixture
def on_bed(launch: Launch, bed: dict[str, str]) -> Launch:
    launch.environ |= bed
    return launch


def test_the_walltime_ends_while_a_rank_hangs(on_bed: Launch) -> None:
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", on="bed")
    os.kill(heartbeat(run, 1)["pid"], signal.SIGSTOP)
    signal_batch(on_bed, run, "USR2")
    finishes(on_bed, run, watcher)
    assert "not stopped after" in texts(run)


def test_a_second_signal_changes_nothing(on_bed: Launch) -> None:
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", on="bed")
    for _ in range(3):
        signal_batch(on_bed, run, "USR2")
    finishes(on_bed, run, watcher)
    assert [line["outcome"] for line in attempts(run)] == ["stopped", "finished"]


def test_preempted_by_slurm_itself(on_bed: Launch) -> None:
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", "--partition", "low", on="bed")
    high = ["sbatch", "--partition=high", "--nodes=4", "--exclusive", "--wrap=sleep 3", "--output=/dev/null"]
    subprocess.run(high, env=on_bed.environ, check=True, capture_output=True)
    finishes(on_bed, run, watcher)
    first, second = attempts(run)
    assert second["from_step"] == 3 and first["outcome"] == "stopped"


def test_slurms_own_step_daemon_dies_on_a_node(on_bed: Launch) -> None:
    """The rank on that node is Slurm's no more, and srun waits for it for ever."""
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", "--hang", "10s", on="bed")
    job = read_lines(run.submissions)[-1]["job"]
    found = subprocess.run(["pgrep", "-f", rf"slurmstepd: \[{job}\.0\]"], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out


def test_a_node_on_which_it_fails_again_and_again_is_kept_off(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds)  # of its own: every node must be there
    watcher = launch.start("count", "n=1", "hold_at=0", "kill_on=n2", "--nodes", "2", "--on", "bed", "--follow")
    launch.wait_for(lambda: launch.runs() and len(attempts(RunDir(launch.runs()[0]))) == 2, "it has failed twice")
    run = RunDir(launch.runs()[0])
    open_gate(run)
    out = output_of(watcher)
    assert "total             1" in out and "n2 failed before: back into the queue" in out
    assert [line["node"] for line in attempts(run)] == ["n2", "n2", ""]
    assert heartbeat(run, 3)["host"] in ("n3", "n4")


def test_a_site_that_does_not_requeue_gets_a_new_job(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--no-requeue")
    (launch.folder / "configs/site").mkdir(parents=True)
    profile = (ROOT / "configs/site/bed.yaml").read_text() + "\nskip: [requeue]\n"
    (launch.folder / "configs/site/strict.yaml").write_text(profile)
    run, watcher = under_way(launch, "count", "n=6", "--nodes", "2", on="strict")
    signal_batch(launch, run, "USR2")
    finishes(launch, run, watcher)
    first, second = read_lines(run.submissions)
    assert first["job"] != second["job"] and f"goes on as job {second['job']}" in texts(run)


def test_without_a_controller_one_sees_stops_and_is_told(on_bed: Launch) -> None:
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", on="bed")
    subprocess.run([*BED, "kill", "slurmctld"], env=on_bed.environ, check=True, capture_output=True)
    try:
        on_bed.wait_for(lambda: json.loads(on_bed("status", "--json").stdout)[0]["left_s"])
        assert " running " in on_bed("status").stdout
        done = on_bed("count", "n=7", "--on", "bed", code=3)
        assert "sbatch did not take the job" in done.stderr and "ontact slurm controller" in done.stderr
        assert "asked to save and end" in on_bed("stop", run.name).stdout
    finally:
        subprocess.run([*BED, "revive", "slurmctld"], env=on_bed.environ, check=True, capture_output=True)
    output_of(watcher)
    assert watcher.returncode == 75
    assert "stopped at step 3" in texts(run)


def finishes(launch: Launch, run: RunDir, watcher: "subprocess.Popen[str]") -> None:
    """When its first attempt is over the gate is opened, and the next one comes to the end."""
    launch.wait_for(lambda: attempts(run), "the first attempt is over")
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out


def signal_batch(launch: Launch, run: RunDir, name: str) -> None:
    job = read_lines(run.submissions)[-1]["job"]
    subprocess.run(["scancel", f"--signal={name}", "--batch", job], env=launch.environ, check=True)


def heartbeat(run: RunDir, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = records.heartbeat(run, rank)
    return found

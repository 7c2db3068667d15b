"""Faults besides those of the drill: whatever happens, the run ends, and with the same result."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.conftest import BED, ROOT, Launch
from tests.slurm.test_bed import Beds, beds, own_beds, start
from tests.slurm.test_runs import attempts, texts, under_way
from tests.waiting import open_gate, output_of

__all__ = ["beds"]  # fixtures
pytestmark = [pytest.mark.slurm, pytest.mark.both_slurms]


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[dict[str, str]]:
    """A bed for this module alone, whose daemons may be killed; returns the variables with which its commands work."""
    with own_beds(request, bed_options) as started:
        # As unkind as a real cluster; but a preempted job is gone when it has saved, and what is ended is ended soon
        yield start(started, "--like", "strict", "--grace", "60", "--epilog", "1", "--kill-wait", "5")


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
    assert "preempted: stopped at step 3; back into the queue" in texts(run) and not first["walltime"]


def test_slurms_own_step_daemon_dies_on_a_node(on_bed: Launch) -> None:
    """The rank on that node is Slurm's no more, and srun waits for it for ever."""
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", "--hang", "10s", on="bed")
    job = records.submissions(run)[-1]["job"]
    # The step of the ranks; that which looked at the nodes is over
    found = subprocess.run(
        ["pgrep", "-f", rf"slurmstepd: \[{job}\.[0-9]+\]"], capture_output=True, text=True, check=True
    )
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
    first, second = records.submissions(run)
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


def test_a_job_that_is_held_is_called_so_with_what_lets_it_go(on_bed: Launch) -> None:
    run, watcher = under_way(on_bed, "count", "n=6", on="bed")
    on_bed("count", "n=2", "--after", run.name, "--on", "bed")
    second = next(RunDir(path) for path in on_bed.runs() if path.name != run.name)
    job = records.submissions(second)[-1]["job"]
    subprocess.run(["scontrol", "hold", job], env=on_bed.environ, check=True)
    on_bed.wait_for(lambda: "; see `why" in on_bed("status", second.name).stdout, "status says so")
    explanation = json.loads(on_bed("why", second.name, "--json").stdout)
    assert (explanation["word"], explanation["why"]) == ("queued", "held")
    assert explanation["next"][0] == f"scontrol show job {job}", "root holds it, as an administrator"
    subprocess.run(["scontrol", "release", job], env=on_bed.environ, check=True)
    open_gate(run)
    output_of(watcher)
    on_bed.wait_for(second.result.exists, "it was let go")


SOONER = """
import sys

if "hpc.launch" in sys.orig_argv:  # and not in its jobs, which import what they were submitted with
    import hpc.runs.status as status

    status.FORGOTTEN_S = status.COMPLETING_S = 1
"""


def test_a_job_that_the_controller_forgot_is_found_and_another_one_goes_on(launch: Launch, beds: Beds) -> None:
    """It dies as soon as it has taken the requeue: it comes back with a job that runs, and nothing is in it."""
    launch.environ |= start(beds)  # of its own, whose controller is killed
    run, watcher = under_way(launch, "count", "n=6", "--nodes", "2", on="bed")
    job = records.submissions(run)[-1]["job"]
    record = json.loads((Path(launch.environ["SLURM_CONF"]).parent / "pids.json").read_text())
    (controller,) = (each["pid"] for each in record["daemons"] if each["name"] == "slurmctld")
    time.sleep(6)  # Slurm writes down at once what changes, but not for 5 s after it has last done so
    subprocess.run(["scontrol", "update", f"JobId={job}", "Comment=x"], env=launch.environ, check=True)
    time.sleep(1)
    subprocess.run(["scontrol", "requeue", job], env=launch.environ, check=True)
    launch.wait_for(lambda: "asked to stop" in texts(run), "its nodes know it")  # they hear of it a moment later
    os.kill(controller, signal.SIGKILL)
    launch.wait_for(lambda: attempts(run), "its ranks have stopped")
    launch.wait_for(lambda: records.supervisor(run)["state"] == "left", "its supervisor has left")  # type: ignore[index]
    watcher.kill()
    # With the nodes' daemons of the job, who would tell the controller that it has ended
    daemons = subprocess.run(["pgrep", "-f", rf"slurmstepd: \[{job}\."], capture_output=True, text=True, check=True)
    for pid in daemons.stdout.split():
        if launch.environ["SLURM_CONF"].rpartition("/")[0] == os.readlink(f"/proc/{pid}/cwd"):  # of this bed
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run([*BED, "revive", "slurmctld"], env=launch.environ, check=True, capture_output=True)
    # Instead of a wait of three minutes
    (launch.folder / "sitecustomize.py").write_text(SOONER)
    launch.environ["PYTHONPATH"] += f"{os.pathsep}{launch.folder}"
    seen: list[dict[str, Any]] = []
    ways = ("queued", "stopped", "lost")
    launch.wait_for(
        lambda: seen.append(state_of(launch)) or seen[-1]["word"] in ways or run.last_attempt() == 2, "Slurm answers"
    )
    if seen[-1]["why"] != "forgotten":  # it had written down in time that the job waits
        pytest.skip(f"this time Slurm did not forget it: {seen[-1]['word']}: {seen[-1]['text']}")
    assert seen[-1]["text"].endswith(f" ago: `resume {run.name}` cancels it and submits another")
    open_gate(run)
    assert f"submitted {run.name} as job" in launch("resume", run.name, "--on", "bed").stdout
    launch.wait_for(run.result.exists, "it has gone on")
    assert attempts(run)[-1]["from_step"] == 3


def state_of(launch: Launch) -> dict[str, Any]:
    """The state of the only run; no word as long as Slurm does not answer."""
    (state,) = json.loads(launch("status", "--json").stdout)
    return state | ({"word": ""} if "does not answer" in state["text"] else {})


def finishes(launch: Launch, run: RunDir, watcher: "subprocess.Popen[str]") -> None:
    """When its first attempt is over the gate is opened, and the next one comes to the end."""
    launch.wait_for(lambda: attempts(run), "the first attempt is over")
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out


def signal_batch(launch: Launch, run: RunDir, name: str) -> None:
    job = records.submissions(run)[-1]["job"]
    subprocess.run(["scancel", f"--signal={name}", "--batch", job], env=launch.environ, check=True)


def heartbeat(run: RunDir, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = records.heartbeat(run, rank)
    return found

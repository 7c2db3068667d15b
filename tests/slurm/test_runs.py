"""A run's life, the same on this machine and on a real Slurm, through the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps
from tests.conftest import Launch
from tests.waiting import open_gate, output_of, said_first, wait_for

__all__ = ["wait_for"]  # tests that run here wait as these do


@pytest.fixture(params=[pytest.param("local", marks=pytest.mark.ranks), pytest.param("slurm", marks=pytest.mark.slurm)])
def on(request: pytest.FixtureRequest, launch: Launch, slurm_release: str | None) -> str:
    """Where the runs of a test go: the name of a site."""
    if request.param == "local":
        return "local"
    site: str = request.getfixturevalue("slurm")
    launch.environ |= {name: os.environ[name] for name in ("SLURM_CONF", "PATH") if name in os.environ}
    return site


def only_run(folder: Path) -> RunDir:
    (path,) = (path.parent for path in folder.glob("runs/*/plan.json"))
    return RunDir(path)


def texts(run: RunDir) -> str:
    return "\n".join(event["text"] for event in records.events(run))


HELD = "hold_at=3"


def under_way(launch: Launch, *words: str, on: str) -> tuple[RunDir, "subprocess.Popen[str]"]:
    """A run that has saved step 3 and is held there until its gate is opened, and the launcher that watches it."""
    watcher = launch.start(*words, HELD, "--on", on, "--follow")

    def is_held() -> bool:
        assert watcher.poll() is None, f"the run has ended already:\n{watcher.communicate()[0]}"
        return any(committed_steps(RunDir(path).checkpoints) == [1, 2, 3] for path in launch.runs())

    launch.wait_for(is_held, "step 3 is saved")
    return only_run(launch.folder), watcher


def attempts(run: RunDir) -> list[dict[str, Any]]:
    """Those that have ended."""
    return records.attempts(run)


def test_two_nodes_of_two_ranks(launch: Launch, on: str) -> None:
    done = launch("count", "n=3", "--nodes", "2", "--ranks", "2", "--on", on, "--follow")
    assert "total             6" in done.stdout
    run = only_run(launch.folder)
    said = [run.attempt(1).log(rank).read_text() for rank in range(4)]
    assert said == [f"rank {rank} of 4 starts at 0\n" for rank in range(4)]
    assert launch("logs", run.name[:8], "--rank", "2").stdout == said[2]
    assert launch("status", run.name).stdout.split("\n")[1].split()[:2] == [run.name, "finished"]


def test_a_killed_rank_is_started_again_in_the_same_job(launch: Launch, on: str) -> None:
    words = ["count", "n=8", "kill_at=4", "hold_at=5", "--nodes", "2", "--ranks", "2", "--on", on]
    watcher = launch.start(*words, "--follow")
    launch.wait_for(lambda: launch.runs() and len(attempts(only_run(launch.folder))) == 1, "the attempt is over")
    run = only_run(launch.folder)
    open_gate(run)
    assert "total             36" in output_of(watcher)
    first, second = attempts(run)
    assert (first["outcome"], second["outcome"]) == ("crashed", "finished")
    assert first["job"] == second["job"] and second["from_step"] in (3, 4, 5)
    assert "got on since the last start" in texts(run)


def test_a_run_that_gets_nowhere_fails_with_its_cause(launch: Launch, on: str) -> None:
    done = launch("count", "fail_at=1", "--nodes", "2", "--on", on, "--follow", code=1)
    assert "RuntimeError: told to fail at step 1" in done.stderr
    run = only_run(launch.folder)
    assert f"python -m hpc.launch logs {run.name}" in done.stderr
    assert len(attempts(run)) == 2, "once again, as it might have been the machine; then no more"
    assert "Traceback" in launch("logs", run.name).stdout
    assert "failed" in launch("status").stdout


def test_asked_to_stop_it_saves_and_goes_on_later(launch: Launch, on: str) -> None:
    """TERM: on a laptop from Ctrl-C, on a cluster from preemption or scancel."""
    words = ["count", "n=6", "--nodes", "2"]
    run, watcher = under_way(launch, *words, on=on)
    if on == "local":
        watcher.send_signal(signal.SIGINT)
    else:
        job = records.submissions(run)[-1]["job"]
        subprocess.run(["scancel", "--signal=TERM", "--batch", job], env=launch.environ, check=True)
    out = output_of(watcher)
    assert watcher.returncode == 75, out
    assert committed_steps(run.checkpoints)[-1] == 3
    assert "stopped at step 3" in texts(run)
    open_gate(run)
    assert "total             21" in launch(*words, HELD, "--on", on, "--follow").stdout
    assert [line["from_step"] for line in attempts(run)] == [0, 3]


def test_stopped_by_its_name_and_resumed_on_more_nodes(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, "count", "n=6", on=on)
    assert "asked to save and end" in launch("stop", run.name[:9]).stdout
    output_of(watcher)
    assert watcher.returncode == 75
    (state,) = json.loads(launch("status", run.name, "--json").stdout)
    assert (state["run"], state["word"], state["nodes"], state["done"]) == (run.name, "stopped", 1, 3)
    assert f"nothing to stop: {run.name} is stopped" in launch("stop", run.name, code=2).stderr
    open_gate(run)
    assert "total             21" in launch("resume", run.name, "--nodes", "2", "--on", on, "--follow").stdout
    assert attempts(run)[1]["from_step"] == 3
    assert "finished before" in launch("resume", run.name, "--on", on).stdout
    assert len((run.attempt(2).path / "rank-0001.log").read_text().splitlines()) == 1
    assert "starts at 3" in launch("logs", run.name, "--attempt", "2").stdout
    assert "starts at 0" in launch("logs", run.name, "--attempt", "1").stdout


def test_ended_at_once_it_goes_on_from_the_last_checkpoint(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, "count", "n=6", on=on)
    assert "the last checkpoint counts" in launch("stop", run.name, "--now").stdout
    output_of(watcher)
    assert watcher.returncode != 0
    assert not run.result.exists()
    launch.wait_for(lambda: word(launch, run.name) == "stopped", "it is stopped, not lost")
    open_gate(run)
    assert "total             21" in launch("resume", run.name, "--on", on, "--follow").stdout


def test_a_log_is_followed_to_its_end(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, "count", "n=6", on=on)
    follower = launch.start("logs", run.name, "--follow")
    said_first(follower, "starts at 0")
    assert follower.poll() is None
    open_gate(run)
    output_of(follower)
    assert follower.returncode == 0 and run.result.exists()
    output_of(watcher)


@pytest.mark.both_slurms
def test_at_the_end_of_the_walltime_it_saves(launch: Launch, on: str) -> None:
    """On a laptop the run ends there, resumable; Slurm puts it back into the queue, and it ends by itself."""
    words = ["count", "n=6", "--nodes", "2"]
    if on == "local":
        launch(*words, HELD, "--on", on, "--follow", "--time", "4s", code=75)
        assert "its time is over" in texts(only_run(launch.folder))
    else:
        run, watcher = under_way(launch, *words, on=on)
        job = records.submissions(run)[-1]["job"]
        subprocess.run(["scancel", "--signal=USR2", "--batch", job], env=launch.environ, check=True)
        launch.wait_for(lambda: len(attempts(run)) == 1, "it has stopped")
        open_gate(run)
        out = output_of(watcher)
        assert watcher.returncode == 0 and "total             21" in out, out
        first, second = attempts(run)
        assert second["from_step"] == 3 and first["job"] == second["job"]


def test_a_run_that_is_on_its_way_is_not_started_twice(launch: Launch, on: str) -> None:
    words = ["count", "n=6"]
    run, watcher = under_way(launch, *words, on=on)
    second = launch.start(*words, HELD, "--on", on, "--follow")
    said_first(second, "already")
    open_gate(run)
    for each in (second, watcher):
        output_of(each)
        assert each.returncode == 0
    assert len(records.submissions(run)) == 1


def test_a_supervisor_that_was_killed_is_replaced(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, "count", "n=6", on=on)
    rank = records.heartbeat(run, 0)["pid"]
    os.kill(records.supervisor(run)["pid"], signal.SIGKILL)  # type: ignore[index]
    launch.wait_for(lambda: not Path(f"/proc/{rank}").exists(), "its ranks went with it")
    launch.wait_for(lambda: run.last_attempt() == 2, "another supervisor starts them again")
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out
    assert [line["outcome"] for line in attempts(run)] == ["lost", "finished"]


def test_a_machine_that_went_down_is_seen_and_the_run_goes_on(launch: Launch) -> None:
    run, watcher = under_way(launch, "count", "n=6", on="local")
    os.killpg(os.getpgid(records.supervisor(run)["pid"]), signal.SIGKILL)  # type: ignore[index]
    assert "ended without a word" in output_of(watcher)
    assert "lost" in launch("status").stdout
    open_gate(run)
    assert "total             21" in launch("count", "n=6", HELD).stdout


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_what_a_surrounding_job_left_does_not_get_into_ours(launch: Launch, on: str) -> None:
    launch.environ |= {"SBATCH_PARTITION": "nowhere", "SLURM_NTASKS": "7", "SLURM_NTASKS_PER_NODE": "7"}
    assert "total             3" in launch("count", "n=2", "--ranks", "2", "--on", on, "--follow").stdout
    assert len(list(only_run(launch.folder).attempt(1).path.glob("rank-*.log"))) == 2


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_what_slurm_writes_of_a_run_is_for_its_user_alone_too(launch: Launch, on: str) -> None:
    """The output of the job and of srun's tasks; also where the batch script is given to sbatch by hand."""
    before = os.umask(0)
    try:
        launch("count", "n=3", "fail_at=2", "--nodes", "2", "--ranks", "2", "--on", on, "--follow", code=1)
        launch("count", "n=4", "--nodes", "2", "--ranks", "2", "--on", on, "--prepare")
        run, by_hand = sorted(map(RunDir, launch.runs()), key=lambda run: not run.attempts.exists())
        batch = ["sbatch", "--wait", "--nodes=2", "--ntasks-per-node=2", "--output=/dev/null"]
        script = Path(__file__).parents[2] / "slurm/run.sbatch"
        subprocess.run([*batch, str(script), str(by_hand.path)], env=launch.environ, cwd=launch.folder, check=True)
    finally:
        os.umask(before)
    assert list(run.jobs.glob("*_log.out")) and run.attempt(1).srun.exists() and by_hand.result.exists()
    for folder in (run.path, by_hand.path):
        wide = {str(path) for path in folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o077}
        assert not wide
    assert run.attempt(1).log(3).exists() and by_hand.attempt(1).log(3).exists()


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_of_eight_submissions_at_once_one_is_a_job(launch: Launch, on: str) -> None:
    launchers = [launch.start("count", "n=6", HELD, "--on", on) for _ in range(8)]
    said = [output_of(launcher) for launcher in launchers]
    open_gate(only_run(launch.folder))
    assert [launcher.returncode for launcher in launchers] == [0] * 8, said
    assert sum("submitted count-" in text for text in said) == 1
    assert sum(" already, job " in text for text in said) == 7, said
    launch.wait_for(only_run(launch.folder).result.exists, "it finishes")


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_a_run_that_runs_here_is_not_submitted(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, "count", "n=6", on="local")
    assert "runs outside of Slurm already" in launch("count", "n=6", HELD, "--on", on, code=3).stderr
    open_gate(run)
    output_of(watcher)


def test_a_second_supervisor_of_a_run_ends_without_touching_it(launch: Launch) -> None:
    run, watcher = under_way(launch, "count", "n=6", on="local")
    second = [sys.executable, "-m", "hpc.supervisor", str(run.path)]
    done = subprocess.run(second, env=launch.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    pid = records.supervisor(run)["pid"]
    said = f"{run.name}: another supervisor holds the lock, pid {pid} on {os.uname().nodename}: this one ends\n"
    assert done.stdout == said
    open_gate(run)
    output_of(watcher)
    assert run.last_attempt() == 1


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_a_run_that_waits_in_slurm_is_not_started_here(launch: Launch, on: str) -> None:
    launch("count", "n=6", HELD, "--nodes", "4", "--ranks", "1", "--on", on)
    launch.wait_for(lambda: word(launch, only_run(launch.folder).name) == "running")
    launch("count", "n=2", "--nodes", "4", "--on", on)
    done = launch("count", "n=2", "--on", "local", code=3)
    assert "is a Slurm job already" in done.stderr
    states = {state["run"]: state for state in json.loads(launch("status", "--json").stdout)}
    for name in sorted(states, key=lambda name: states[name]["word"]):  # the queued one before the running one
        launch("stop", name, "--now")
    assert "cancelled while it waited" in launch("status").stdout


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_a_pipeline_waits_for_its_inputs(launch: Launch, on: str) -> None:
    (launch.folder / "study.yaml").write_text("count: {n: 4}\ntally: {of: count}\n")
    assert "--dependency=" not in launch("pipeline", "study.yaml", "--on", on, "--dry-run").stdout
    launch("pipeline", "study.yaml", "count.hold_at=3", "--on", on)
    (tally,) = (launch.folder / "runs").glob("tally-*")
    (script,) = (tally / "jobs").glob("*_submission.sh")
    assert "#SBATCH --dependency=afterok:" in script.read_text()
    open_gate(*map(RunDir, launch.runs()))
    assert "page.html" in launch("pipeline", "study.yaml", "count.hold_at=3", "--on", on, "--follow").stdout


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_a_failed_input_is_named_by_what_waited_for_it(launch: Launch, on: str) -> None:
    """Slurm itself would leave the job of the second stage in the queue for ever."""
    (launch.folder / "study.yaml").write_text("count: {n: 6, fail_at: 5, hold_at: 3}\ntally: {of: count}\n")
    launch("pipeline", "study.yaml", "--on", on)
    count, tally = launch.runs()
    launch.wait_for(lambda: word(launch, count.name) == "running")
    (state,) = json.loads(launch("status", tally.name, "--json").stdout)
    assert (state["word"], state["text"]) == ("queued", f"waits for {count.name}")
    open_gate(RunDir(count))
    launch.wait_for(lambda: word(launch, tally.name) == "failed")
    (state,) = json.loads(launch("status", tally.name, "--json").stdout)
    assert f"never starts: it was to follow {count.name}, which is failed" in state["text"]
    again = launch("pipeline", "study.yaml", "count.fail_at=null", "count.hold_at=null", "--on", on, "--follow").stdout
    assert "page.html" in again


def word(launch: Launch, name: str) -> str:
    (state,) = json.loads(launch("status", name, "--json").stdout)
    found: str = state["word"]
    return found


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
@pytest.mark.parametrize(
    ("study", "n"),
    [("first: {stage: count, n: 3}\ntally: {of: first}\n", 2),
     ("first: {stage: count, n: 3}\ncount: {after: first}\ntally: {of: count}\n", 3)],
    ids=["two stages", "two sections of one stage"],
)  # fmt: skip
def test_in_a_sweep_of_pipelines_one_failed_input_holds_up_no_other(
    launch: Launch, on: str, study: str, n: int
) -> None:
    (launch.folder / "study.yaml").write_text(study)
    launch("sweep", "pipeline", "study.yaml", "first.fail_at=2,null", "--on", on)
    launch.wait_for(
        lambda: launch("status").stdout.count(" failed ") == n and launch("status").stdout.count(" finished ") == n
    )
    assert "it reads what is not there" in launch("status").stdout


@pytest.mark.slurm
@pytest.mark.both_slurms
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_what_follows_an_array_waits_for_its_requeued_elements(launch: Launch, on: str) -> None:
    """afterany: a job that goes back into the queue has not ended. And no element takes the whole array with it."""
    (launch.folder / "study.yaml").write_text("count: {hold_at: 3}\ntally: {of: count}\n")
    launch("sweep", "pipeline", "study.yaml", "count.n=6,7", "--on", on)
    counts = [RunDir(path) for path in launch.runs() if path.name.startswith("count")]
    launch.wait_for(lambda: all(committed_steps(run.checkpoints)[-1:] == [3] for run in counts), "both are held")
    last = max(counts, key=lambda run: records.submissions(run)[-1]["job"])
    job = records.submissions(last)[-1]["job"]
    subprocess.run(["scancel", "--signal=USR2", "--batch", job], env=launch.environ, check=True)
    launch.wait_for(lambda: len(attempts(last)) == 1, "it has stopped")
    open_gate(*counts)
    launch.wait_for(lambda: launch("status").stdout.count(" finished ") == 4)
    assert sorted(len(attempts(run)) for run in counts) == [1, 2]


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_a_job_of_another_with_our_number_is_not_ours(launch: Launch, on: str) -> None:
    """A controller that lost its state counts anew."""
    launch("count", "n=3", "--on", on, "--prepare")
    run = RunDir(launch.runs()[0])
    other = subprocess.run(
        ["sbatch", "--parsable", "--job-name=other", "--wrap=sleep 3600", "--output=/dev/null"],
        env=launch.environ, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    line = {"job": other, "name": run.name, "kind": "slurm", "site": on, "time": time.time()}
    run.submissions.write_text(json.dumps(line) + "\n")
    assert word(launch, run.name) == "lost"
    assert "nothing to stop" in launch("stop", run.name, "--now", code=2).stderr
    subprocess.run(["scancel", other], env=launch.environ, check=True)


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_a_whole_sweep_is_stopped_by_its_name_and_takes_up_where_it_was(launch: Launch, on: str) -> None:
    words = ["sweep", "count", HELD, "n=6..9", "--max-parallel", "2", "--name", "many", "--on", on]
    launch(*words)
    runs = [RunDir(path) for path in launch.runs()]
    launch.wait_for(lambda: sum(committed_steps(run.checkpoints)[-1:] == [3] for run in runs) == 2, "two are held")
    launch("stop", "many")
    states = json.loads(launch("status", "many", "--json").stdout)
    assert {(state["word"], state["code"]) for state in states} == {("stopped", 75)}
    assert sorted(state["settings"] for state in states) == [f"n={n}" for n in range(6, 10)]
    assert sum("cancelled while it waited" in state["text"] for state in states) == 2
    assert "0 finished, 0 on their way, 4 to submit" in launch(*words).stdout
    launch("stop", "many", "--now")


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_the_same_line_given_twice_at_once_is_submitted_once(launch: Launch, on: str) -> None:
    words = ["sweep", "count", "n=6..8", HELD, "--on", on]
    both = [launch.start(*words), launch.start(*words)]
    said = "".join(output_of(one) for one in both)
    assert "0 on their way, 3 to submit" in said and "3 on their way, 0 to submit" in said
    open_gate(*map(RunDir, launch.runs()))
    launch.wait_for(lambda: launch("status").stdout.count(" finished ") == 3)
    assert all(len(attempts(RunDir(path))) == 1 for path in launch.runs())


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_a_run_on_this_machine_is_nothing_that_slurm_can_wait_for(launch: Launch, on: str) -> None:
    first, watcher = under_way(launch, "count", "n=6", on="local")
    done = launch("count", "n=2", "--on", on, "--after", first.name, code=2)
    assert "it runs outside of Slurm" in done.stderr
    done = launch("sweep", "count", "n=6,7", HELD, "--on", on, code=2)
    assert f"{first.name} runs outside of Slurm" in done.stderr
    open_gate(first)
    output_of(watcher)


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_resume_goes_on_in_the_shape_it_had(launch: Launch, on: str) -> None:
    """What runs or waits is left as it is, by export and --prepare too."""
    run, watcher = under_way(launch, "count", "n=6", "--nodes", "2", "--time", "15m", on=on)
    before = run.plan.read_text()
    assert "must not change while it runs" in launch("count", "n=6", HELD, "--prepare", code=2).stderr
    assert "#SBATCH --nodes=3" in launch("export", run.name, "--nodes", "3").stdout
    assert run.plan.read_text() == before
    launch("stop", run.name)
    output_of(watcher)
    text = launch("resume", run.name, "--dry-run", "--comment", "later").stdout
    assert "#SBATCH --nodes=2\n" in text and "#SBATCH --time=15\n" in text and "--comment=later" in text


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_the_plan_has_slurms_own_estimate(launch: Launch, on: str) -> None:
    text = launch("count", "n=3", "--on", on, "--dry-run").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("start ")]
    assert "Slurm estimates" in line


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
@pytest.mark.parametrize("how", [[], ["--dry-run"]])
def test_what_slurm_refuses_is_refused_once_and_leaves_no_run(launch: Launch, on: str, how: list[str]) -> None:
    refused = launch("count", "--on", on, "--partition", "nowhere", *how, code=3)
    assert refused.stderr.count("invalid partition") == 1 and "Nothing was submitted: see `sinfo -s`" in refused.stderr
    assert not list(launch.folder.glob("runs/count-*"))


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_what_is_asked_of_a_run_on_its_way_is_not_dropped_in_silence(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, "count", "n=6", on=on)
    second = launch("count", "n=6", HELD, "--on", on, "--nodes", "2", "--json")
    assert "not applied: nodes 2 (it has 1)" in second.stderr
    assert json.loads(second.stdout)[0]["word"] == "running"
    open_gate(run)
    output_of(watcher)


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_one_element_of_an_array_is_stopped_and_resumed_by_itself(launch: Launch, on: str) -> None:
    launch("sweep", "count", HELD, "n=6..8", "--on", on)
    runs = [RunDir(path) for path in launch.runs()]
    launch.wait_for(lambda: all(committed_steps(run.checkpoints)[-1:] == [3] for run in runs), "all are held")
    last = max(runs, key=lambda run: records.submissions(run)[-1]["job"])
    launch("stop", last.name, "--now")
    open_gate(*runs)
    launch.wait_for(lambda: launch("status").stdout.count(" finished ") == 2)
    assert not last.result.exists()
    assert "starts at" in launch("logs", records.submissions(last)[-1]["job"]).stdout
    launch("resume", last.name, "--on", on, "--follow")
    assert [len(attempts(run)) for run in runs if run != last] == [1, 1]


def test_a_sweep_is_a_reconcile(launch: Launch, on: str) -> None:
    """Submitted again with more values, it submits what is missing; one run that fails holds up no other."""
    words = ["sweep", "count", "rule=plain,squares", "fail_at=3", "--on", on]
    folder = launch.folder / "runs"
    first = launch(*words, "n=2,3", "--max-parallel", "2", code=1 if on == "local" else 0).stdout
    assert "sweep   4 runs: 4 x count" in first
    launch.wait_for(
        lambda: launch("status").stdout.count(" finished ") == 2 and launch("status").stdout.count(" failed ") == 2
    )
    again = launch("sweep", "count", "rule=plain,squares", "n=2", "fail_at=3,null", "--on", on).stdout
    launch.wait_for(lambda: len(list(folder.glob("*/result.json"))) == 4)
    assert len(launch.runs()) == 6
    if on != "local":
        assert "submitted as array" in first
        assert "count: 2 finished, 0 on their way, 2 to submit" in again
        assert all(len(records.submissions(RunDir(path))) == 1 for path in launch.runs())
        scripts = [path.read_text() for path in folder.glob(".arrays/*/*_submission.sh")]
        assert sum("#SBATCH --array=0-3%2\n" in text for text in scripts) == 1


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_after_another_run_and_with_options_that_are_passed_on(launch: Launch, on: str) -> None:
    first, watcher = under_way(launch, "count", "n=6", on=on)
    words = ["count", "n=2", "--on", on, "--exclude", "n4", "--comment", "a 'quoted' word"]
    follower = launch.start(*words, "--after", first.name, "--follow")
    launch.wait_for(lambda: len(launch.runs()) == 2 and word(launch, second_of(launch, first).name) == "queued")
    second = second_of(launch, first).path
    assert not (second / "jobs/attempt-0001").exists(), "it waits"
    script = next((second / "jobs").glob("*_submission.sh")).read_text()
    assert "#SBATCH --exclude=n4\n" in script
    assert "--dependency=afterok:" in script
    open_gate(first)
    output_of(follower)
    assert follower.returncode == 0 and first.result.exists()
    output_of(watcher)
    launch("count", "fail_at=1", "--on", on, "--follow", code=1)
    failed = next(line.split()[0] for line in launch("status").stdout.splitlines() if " failed " in line)
    assert "so this would never start" in launch(*words, "n=3", "--after", failed, code=2).stderr


def second_of(launch: Launch, first: RunDir) -> RunDir:
    (path,) = set(launch.runs()) - {first.path}
    return RunDir(path)


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_what_sbatch_refuses_ends_with_3_and_its_reason(launch: Launch, on: str) -> None:
    """A limit of the moment, of which --test-only does not know."""
    sbatch, bin = shutil.which("sbatch", path=launch.environ["PATH"]), launch.folder / "bin"
    bin.mkdir()
    limit = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"
    (bin / "sbatch").write_text(
        f'#!/bin/sh\ncase "$*" in *--test-only*|--version) exec {sbatch} "$@";; esac\n'
        f'echo "sbatch: error: {limit}" >&2; exit 1\n'
    )
    (bin / "sbatch").chmod(0o755)
    launch.environ["PATH"] = f"{bin}{os.pathsep}{launch.environ['PATH']}"
    done = launch("count", "--on", on, code=3)
    assert "error: sbatch did not take the job: " in done.stderr
    assert "stopped" in launch("status").stdout and "sbatch did not take the job" in launch("status").stdout


@pytest.mark.slurm
@pytest.mark.parametrize("on", ["slurm"], indirect=True)
def test_the_dry_run_is_what_is_submitted_byte_for_byte(launch: Launch, on: str) -> None:
    dry = launch("count", "n=6", HELD, "--on", on, "--dry-run").stdout
    launch("count", "n=6", HELD, "--on", on)
    (script,) = only_run(launch.folder).jobs.glob("*_submission.sh")
    assert script.read_text() in dry
    open_gate(only_run(launch.folder))
    sweep = ["sweep", "count", "n=3,4", "--max-parallel", "1", "--on", on]
    dry = launch(*sweep, "--dry-run").stdout
    launch(*sweep)
    (script,) = launch.folder.glob("runs/.arrays/*/*_submission.sh")
    assert script.read_text().replace(script.parent.name, "TIME") in dry


@pytest.mark.slurm
def test_a_run_computed_again_on_two_nodes_is_equal_bit_for_bit(launch: Launch, slurm: str) -> None:
    launch.environ |= {name: os.environ[name] for name in ("SLURM_CONF", "PATH") if name in os.environ}
    launch("count", "n=3", "--on", "local")
    run = only_run(launch.folder)
    done = launch("replay", run.name, "--on", slurm, "--nodes", "2", "--ranks", "1").stdout
    assert f"{run.name}: equal bit for bit (other ranks: 2, was 1)" in done
    again = RunDir(launch.folder / f"runs/.replay/{run.name}-1/{run.name}")
    assert len(records.submissions(again)) == 1 and (again.out / "total.txt").read_text() == "6"

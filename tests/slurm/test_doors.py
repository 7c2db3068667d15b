"""The plain sbatch doors run the same folders to the same results as submitit's."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps, read_json
from tests.conftest import ROOT, Launch
from tests.slurm.test_runs import HELD, attempts, on, only_run
from tests.waiting import open_gate, story, wait_for

__all__ = ["on"]  # a fixture
pytestmark = [pytest.mark.slurm, pytest.mark.both_slurms, pytest.mark.parametrize("on", ["slurm"], indirect=True)]


def sbatch(launch: Launch, *words: str) -> str:
    """Submit and give the job's id."""
    done = subprocess.run(
        ["sbatch", "--parsable", *words],
        cwd=launch.folder,
        env=launch.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def total(run: RunDir) -> object:
    wait_for(run.result.exists, f"{run.name} has finished", lambda: story(run))
    return (read_json(run.result) or {})["metrics"]["total"]


def test_a_prepared_folder_runs_through_run_sbatch_in_the_layout_that_sbatch_was_told(launch: Launch, on: str) -> None:
    launch("count", "n=4", "--on", on, "--prepare")
    run = only_run(launch.folder)
    assert "never started" in launch("status").stdout
    sbatch(launch, "--nodes=2", "--ntasks-per-node=1", str(ROOT / "slurm/run.sbatch"), f"runs/{run.name}")
    assert total(run) == 10
    assert "rank 1 of 2" in launch("logs", run.name, "--rank", "1").stdout
    assert launch("status", run.name).stdout.split("\n")[1].split()[1] == "finished"


def test_an_exported_script_stands_alone_and_survives_the_end_of_its_walltime(launch: Launch, on: str) -> None:
    launch("count", "n=6", HELD, "--nodes", "2", "--on", on, "--prepare")
    run = only_run(launch.folder)
    launch("export", run.name, "--nodes", "2", "--on", on, "-o", "job.sbatch")
    assert "submitit" not in (launch.folder / "job.sbatch").read_text()
    job = sbatch(launch, "job.sbatch")
    launch.wait_for(lambda: committed_steps(run.checkpoints)[-1:] == [3], "it is held")
    assert f" {job} " in launch("status").stdout
    subprocess.run(["scancel", "--signal=USR2", "--batch", job], env=launch.environ, check=True)
    launch.wait_for(lambda: attempts(run), "the first attempt is over")
    open_gate(run)
    assert total(run) == 21
    first, second = attempts(run)
    assert (first["outcome"], first["job"], second["job"]) == ("stopped", job, job)


def test_many_folders_run_as_one_array(launch: Launch, on: str) -> None:
    for n in (2, 3):
        launch("count", f"n={n}", "--on", on, "--prepare")
    runs = launch.runs()
    (launch.folder / "runs.txt").write_text("".join(f"{run}\n" for run in runs))
    sbatch(launch, "--array=1-2%1", "--ntasks-per-node=1", str(ROOT / "slurm/array.sbatch"), "runs.txt")
    assert sorted(total(RunDir(run)) for run in runs) == [3, 6]  # type: ignore[type-var]


def test_a_folder_that_is_no_run_is_named(launch: Launch, on: str) -> None:
    job = sbatch(launch, "--output=said.txt", str(ROOT / "slurm/run.sbatch"), "runs/nothing")
    said = launch.folder / "said.txt"
    wait_for(lambda: said.exists() and "runs/nothing is no run folder" in said.read_text())
    assert job


def test_a_site_without_slurm_exports_nothing(launch: Launch, on: str, tmp_path: Path) -> None:
    launch("count", "n=2", "--on", "local", "--prepare")
    name = only_run(launch.folder).name
    assert "export writes for a Slurm site, but local is none" in launch("export", name, "--on", "local", code=2).stderr
    assert os.listdir(tmp_path) == ["runs"]


def test_ranks_run_the_snapshot_where_a_site_passes_no_environment_on(launch: Launch, on: str) -> None:
    launch("count", "n=4", "--on", on, "--prepare")
    run = only_run(launch.folder)
    words = ["--export=NONE", "--nodes=2", "--ntasks-per-node=1", "--output=said.txt"]
    sbatch(launch, *words, str(ROOT / "slurm/run.sbatch"), str(run.path))
    assert total(run) == 10, (launch.folder / "said.txt").read_text()


def test_a_job_whose_code_is_gone_ends_and_names_it(launch: Launch, on: str) -> None:
    launch("count", "n=6", HELD, "--nodes", "2", "--on", on)
    run = only_run(launch.folder)
    launch.wait_for(lambda: committed_steps(run.checkpoints)[-1:] == [3], "it is held")
    shutil.rmtree(run.path.parent / ".code")
    pid = records.heartbeat(run, 0)["pid"]
    os.kill(pid, signal.SIGKILL)  # the nodes of the bed are this machine
    launch.wait_for(lambda: records.supervisor(run).get("state") == "failed", "it is given up")
    last = records.supervisor(run)
    assert last["code"] == 93 and "the run's copy of the code is gone" in last["text"]
    assert len(attempts(run)) == 1

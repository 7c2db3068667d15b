"""The science through the whole line, with real DDP over gloo: on this machine and on a real Slurm."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from hpc.checkpoint import checkpoint
from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps, read_json, read_lines
from tests.conftest import Launch
from tests.containers import in_podman, podman
from tests.slurm.test_runs import on
from tests.waiting import open_gate, output_of

__all__ = ["on", "podman"]  # fixtures

CONFIG = """
synthesize: {n_subjects: 2, n_pieces: 5, piece_s: [4, 6], n_channels: 8}
preprocess: {study: synthesize}
train:
  data: preprocess
  model: {hidden: 8, dropout: 0.2}
  windows: {length_s: 2, batch: 8}
  optim: {steps: 60, validate_every: 20, checkpoint_every: 5, warmup_steps: 5}
evaluate:
  model: train
  scoring: {window_s: 2}
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a tiny preprocessed study, and a run that was trained without a break on one rank."""
    import os

    folder = tmp_path_factory.mktemp("prepared")
    (folder / "tiny.yaml").write_text(CONFIG)
    launch = Launch(folder, dict(os.environ) | {"HPC_SITE": "local"})
    launch("pipeline", "tiny.yaml")
    return folder


@pytest.fixture
def study(launch: Launch, prepared: Path) -> Launch:
    """The command line in a folder that has the preprocessed study, and no trained model yet."""
    shutil.copy(prepared / "tiny.yaml", launch.folder)
    shutil.copytree(prepared / "runs", launch.folder / "runs", ignore=shutil.ignore_patterns("train-*", "evaluate-*"))
    return launch


def train_run(folder: Path) -> RunDir:
    (path,) = (folder / "runs").glob("train-*")
    return RunDir(path)


def parameters(run: RunDir) -> dict[str, torch.Tensor]:
    """Those that the last step left, of rank 0."""
    found: dict[str, torch.Tensor] = checkpoint.load(run.checkpoints, committed_steps(run.checkpoints)[-1])["model"]
    return found


def test_two_nodes_of_two_ranks_follow_the_course_of_one(study: Launch, on: str, prepared: Path) -> None:
    words = ["train", "tiny.yaml", "model.dropout=0", "optim.steps=10", "objective.loss=mse", "--follow"]
    study(*words, "--nodes", "2", "--ranks", "2", "--on", on)
    four = train_run(study.folder)
    assert len(list((four.attempt(1).path).glob("rank-*.log"))) == 4
    shutil.copytree(four.path, study.folder / "four")
    shutil.rmtree(four.path)
    study(*words, "--on", "local")
    one = train_run(study.folder)
    assert one.name == four.name, "the same science, whatever the layout"
    four = RunDir(study.folder / "four")
    for name, value in parameters(one).items():
        assert torch.allclose(value, parameters(four)[name], atol=1e-5), name
    losses = [[line["loss"] for line in read_lines(run.metrics)] for run in (one, four)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("how", ["asked to stop", "killed"])
def test_interrupted_equals_uninterrupted_bit_for_bit(study: Launch, on: str, how: str) -> None:
    """Held behind step 7, when the checkpoint of step 5 is there."""
    words = ["tiny.yaml", "--nodes", "2", "--on", on, "--follow"]
    watcher = study.start("held", *words)
    study.wait_for(lambda: watcher.poll() is not None or is_held(study.folder), "both ranks are held")
    run = RunDir(next(study.folder.glob("runs/held-*")))
    before = parents(run)
    interrupt(study, run, on, how)
    study.wait_for(lambda: records.attempts(run), "the first attempt is over")
    if how == "killed":
        study.wait_for(lambda: is_held(study.folder, attempt=2), "both ranks are held again")
        assert parents(run) == before, "forked from the processes that have imported torch"
    open_gate(run)
    out = output_of(watcher)
    study("held", *words)  # a local run that was asked to stop ends there; the others have gone on by themselves
    assert len(records.attempts(run)) >= 2, out
    assert [line["step"] for line in read_lines(run.metrics)] == list(range(1, 61)), "every step once"
    study("train", *words)
    whole = train_run(study.folder)
    assert len(records.attempts(whole)) == 1
    for name, value in parameters(whole).items():
        assert torch.equal(value, parameters(run)[name]), name


@pytest.mark.ranks
def test_interrupted_in_a_container_equals_uninterrupted_outside_bit_for_bit(study: Launch, podman: Path) -> None:
    words = ["held", "tiny.yaml", "--nodes", "2", "--on", in_podman(study, podman), "--follow"]
    watcher = study.start(*words)
    study.wait_for(lambda: watcher.poll() is not None or is_held(study.folder), "both ranks are held")
    run = RunDir(next(study.folder.glob("runs/held-*")))
    interrupt(study, run, "local", "asked to stop")
    study.wait_for(lambda: records.attempts(run), "the first attempt is over")
    open_gate(run)
    output_of(watcher)
    study(*words)
    assert [line["outcome"] for line in records.attempts(run)] == ["stopped", "finished"]
    study("train", "tiny.yaml", "--nodes", "2", "--on", "local", "--follow")
    for name, value in parameters(train_run(study.folder)).items():
        assert torch.equal(value, parameters(run)[name]), name


def is_held(folder: Path, attempt: int = 1) -> bool:
    for run in map(RunDir, folder.glob("runs/held-*")):
        heartbeats = [records.heartbeat(run, rank) for rank in (0, 1)]
        done = [(heartbeat.get("attempt"), heartbeat.get("done")) for heartbeat in heartbeats]
        return done == [(attempt, 7)] * 2 and committed_steps(run.checkpoints) == [5]
    return False


def parents(run: RunDir) -> list[str]:
    """The parent of each rank: the process that srun, or the supervisor, has started for it."""
    pids = [records.heartbeat(run, rank)["pid"] for rank in (0, 1)]
    return [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] for pid in pids]


def interrupt(study: Launch, run: RunDir, on: str, how: str) -> None:
    """Signal the supervisor as a walltime's end does, or kill -9 rank 1."""
    if how == "killed":
        pid = records.heartbeat(run, 1)["pid"]
        subprocess.run(["kill", "-KILL", str(pid)], check=True)
    elif on == "local":
        subprocess.run(["kill", "-TERM", str(records.supervisor(run)["pid"])], check=True)
    else:
        job = records.submissions(run)[-1]["job"]
        subprocess.run(["scancel", "--signal=USR2", "--batch", job], env=study.environ, check=True)


@pytest.mark.ranks
def test_the_pipeline_ends_with_figures_beside_chance_and_a_report(prepared: Path) -> None:
    (evaluate,) = (prepared / "runs").glob("evaluate-*")
    result = read_json(RunDir(evaluate).result)
    assert result is not None
    assert set(result["metrics"]["r"]) == {"value", "chance"}
    assert (evaluate / "out" / result["metrics"]["report"]).stat().st_size > 10_000

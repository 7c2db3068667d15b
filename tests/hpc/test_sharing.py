"""Who may read a run folder: nothing in it is ever wider than was asked."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.runs import sharing
from hpc.runs.rundir import RunDir, atomic_write
from tests.conftest import ROOT, Launch


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """A user whose umask keeps nothing from anybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """The mode of all that is in a folder, and its own, as ls writes it."""
    there = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    return {str(path.relative_to(folder.parent)): stat.filemode(path.stat().st_mode) for path in there}


def kinds(folder: Path) -> set[str]:
    return set(modes(folder).values())


PRIVATE = {"drwx------", "-rw-------", "-rwx------"}
GROUP = {"drwxr-s---", "-rw-r-----", "-rwxr-x---", "-rw-------"}


@pytest.mark.ranks
def test_of_a_whole_private_training_nobody_else_may_read_anything(launch: Launch) -> None:
    """Preprocessing and training on two ranks, with its checkpoints, logs, TensorBoard files and the code."""
    demo = str(ROOT / "configs/demo.yaml")
    launch("train", demo, "optim.steps=4", "--nodes", "2", "--on", "local", "--share", "private")
    failing = ("n=3", "fail_at=2", "--ranks", "2")  # a run that has failed has the files of one that works
    launch("count", *failing, "--on", "local", "--share", "private", code=1)
    listed = modes(launch.folder / "runs")
    wrong = {name: mode for name, mode in listed.items() if mode not in PRIVATE}
    assert not wrong
    for part in (
        "config.yaml", "plan.json", "attempts.jsonl", "events.jsonl", "result.json", "metrics.jsonl",
        "heartbeat/lock", "heartbeat/node-0000", "jobs/supervisor.log", "jobs/submitted.jsonl",
        "jobs/attempt-0001/rank-0001.log", "tensorboard/events",
        "checkpoints/step-", "out/model.pt", ".code/", ".lock",
    ):  # fmt: skip
        assert any(part in name for name in listed), part


def test_with_share_group_the_group_reads_and_setgid_stays(launch: Launch) -> None:
    runs = launch.folder / "runs"
    runs.mkdir()
    runs.chmod(0o2700)
    said = launch("count", "n=3", "--ranks", "2", "--on", "local", "--share", "group").stdout
    assert "the group " in said and "can read the run folder" in said
    assert stat.filemode(runs.stat().st_mode) == "drwxr-s---", "the group comes to what it may read"
    (run,) = launch.runs()
    assert kinds(run) <= GROUP
    assert {name for name, mode in modes(run).items() if mode == "-rw-------"} <= {"rendezvous.json"}, (
        "a secret that is of use to nobody is gone"
    )
    assert kinds(runs / ".code") <= GROUP


def test_the_laptop_follows_the_umask(launch: Launch) -> None:
    os.umask(0o022)
    launch("count", "n=3", "--on", "local")
    assert kinds(launch.folder / "runs") <= {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    os.umask(0o007)
    launch("count", "n=4", "--on", "local", "--runs", "others")
    assert kinds(launch.folder / "others") <= {"drwxrwx---", "-rw-rw----", "-rwxrwx---"}


def test_a_run_that_is_given_again_with_another_word_changes_what_is_there(launch: Launch) -> None:
    launch("count", "n=3", "fail_at=2", "--on", "local", code=1)
    (run,) = launch.runs()
    assert "-rw-rw-rw-" in kinds(run)
    for word, allowed in (("private", PRIVATE), ("group", {mode.replace("s", "x") for mode in GROUP})):
        launch("count", "n=3", "fail_at=2", "--on", "local", "--share", word, code=1)
        assert kinds(run) <= allowed, word
        assert word == "private" or kinds(run.parent / ".code") & {"-rw-r-----", "-rw-rw-rw-"}
    launch("resume", run.name, code=1)
    assert kinds(run) <= allowed, "resume asks for what was asked before"


def test_a_site_shares_with_nobody_unless_it_says_so(launch: Launch) -> None:
    for words, line in (((), "umask 077"), (("--share", "group"), "umask 027"), (("--share", "umask"), None)):
        script = launch("count", "--dry-run", "--on", "slurm", *words).stdout
        assert [text for text in script.splitlines() if text.startswith("umask")] == ([line] if line else [])
    refused = launch("count", "--share", "everybody", code=2).stderr
    assert "--share needs private, group or umask, but got 'everybody'" in refused


def test_the_folder_of_a_prepared_run_brings_its_umask_to_sbatch(launch: Launch) -> None:
    """slurm/run.sbatch sources env.sh."""
    launch("count", "--prepare", "--on", "slurm")
    (run,) = launch.runs()
    assert "\numask 077\n" in RunDir(run).env.read_text()
    assert kinds(run.parent) <= PRIVATE


def test_a_secret_stays_the_users_whatever_is_shared(tmp_path: Path) -> None:
    secret = tmp_path / "run/jobs/attempt-0001/rendezvous.json"
    atomic_write(secret, lambda file: file.write(b"{}"), private=True)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    sharing.apply(tmp_path / "run", "group")
    assert modes(tmp_path / "run")["run/jobs/attempt-0001/rendezvous.json"] == "-rw-------"
    assert modes(tmp_path / "run")["run/jobs"] == "drwxr-x---"

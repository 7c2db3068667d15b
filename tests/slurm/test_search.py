"""A search on a real Slurm goes on by itself: the job of each trial gives the line again when it ends."""

import os
from pathlib import Path

import pytest

from hpc.launch import main
from hpc.runs.rundir import RunDir, read_json, read_lines
from tests.conftest import Launch, users_environ
from tests.hpc.test_search import FILE, SPACE, starts

LINE = ("search", "descent", "d.yaml", *SPACE, "--trials", "4", "--halving", "3", "--max-parallel", "2")


def jobs(folder: Path, runs: str) -> list[dict]:
    (path,) = folder.glob(f"{runs}/.searches/search-*.json")
    content = read_json(path)
    assert isinstance(content, dict)
    return list(content["folds"][0]["jobs"])


@pytest.mark.slurm
def test_a_search_on_slurm_goes_on_by_itself_and_is_that_of_this_machine(
    launch: Launch, slurm: str, example: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.environ |= {name: os.environ[name] for name in ("SLURM_CONF", "PATH") if name in os.environ}
    (launch.folder / "d.yaml").write_text(FILE)
    monkeypatch.chdir(launch.folder)
    assert main([*LINE, "--on", "debug", "--runs", "here"], users_environ()) == 0
    here = jobs(launch.folder, "here")

    text = launch(*LINE, "--on", slurm, "--ranks", "1").stdout
    assert "2 to submit" in text and "so that the search goes on without you" in text
    launch.wait_for(lambda: list(launch.folder.glob("runs/grade-*/result.json")), "the test set was decoded")
    assert launch(*LINE, "--on", slurm, "--ranks", "1").stdout.count("submitted") == 0
    assert jobs(launch.folder, "runs") == here
    assert (launch.folder / "runs/tests").read_text() == (launch.folder / "here/tests").read_text()
    assert starts(launch.folder) == starts(launch.folder, "here"), "each trial was started once for each rung"
    runs = [RunDir(path) for path in launch.runs()]
    codes = {line["archive"] for run in runs for line in read_lines(run.follow_ups)}
    assert len(codes) == 1, "all by the code with which the search began"
    assert len(list(launch.folder.glob("runs/.code/*/manifest.json"))) == 1

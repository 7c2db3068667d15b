"""hpc.submit on a real Slurm: jobs that follow one another, watched and stopped from Python."""

import os
from pathlib import Path

import pytest

import hpc
from tests.conftest import EXAMPLE

pytestmark = pytest.mark.slurm


def test_a_pipeline_is_submitted_followed_and_read_from_python(
    slurm: str, example: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(EXAMPLE), os.environ.get("PYTHONPATH", "")])))
    monkeypatch.chdir(tmp_path)
    Path("two.yaml").write_text("first: {stage: count, n: 2}\nsecond: {stage: count, n: 4, after: first}\n")
    run = hpc.submit("pipeline", "two.yaml", on=slurm, nodes=2, ranks=1)
    state = run.status()
    assert state.on_slurm and state.job and state.word in ("queued", "running", "finished")
    assert run.result()["total"] == 10 and "rank 0 of 2 starts at 0" in run.logs()
    assert [row.state for row in hpc.runs()] == ["finished"] * 2 and {row.nodes for row in hpc.runs()} == {2}
    waiting = hpc.submit("count", {"n": 5}, on=slurm, sbatch="--begin=now+3600")
    assert "cancelled" in waiting.stop() and waiting.wait(progress=False).word == "stopped"

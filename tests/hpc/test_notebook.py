"""hpc.submit, hpc.Run and hpc.runs: runs from Python, started by the functions of the verbs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpc
from hpc.runs.rundir import RunDir
from tests.conftest import EXAMPLE, users_environ
from tests.waiting import open_gate, wait_for

PIPELINE = "first: {stage: count, n: 2}\nsecond: {stage: count, n: 4, after: first, hold_at: 2}\n"


@pytest.fixture
def here(example: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of somebody's own, with the example installed and no Slurm; what a failed test has left ends."""
    for name in set(os.environ) - users_environ().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE))
    monkeypatch.setenv("HPC_SITE", "local")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    open_gate(*(RunDir(path.parent) for path in tmp_path.rglob("plan.json")))


@pytest.mark.ranks
def test_a_run_is_started_watched_and_read_from_python(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = hpc.submit("count", settings={"n": 3, "rule": {"name": "squares"}}, ranks=1, name="pilot")
    assert run.path == here / "runs" / run.name and run.status().word in ("queued", "running", "finished")
    assert run.wait().word == "finished"
    assert run.result() == {"total": 14, "half": {"value": 7.0, "chance": 0.5}}
    assert "rank 0 of 1 starts at 0" in run.logs() and run.logs(rank=5) == ""
    assert hpc.Run("pilot").name == run.name and repr(run) == f"<{run.name}: finished, 3/3>"
    capsys.readouterr()
    again = hpc.submit("count", {"n": 3, "rule.name": "squares"}, name="pilot", ranks=1)
    assert again.name == run.name and "finished before" in capsys.readouterr().out
    (row,) = hpc.runs()
    assert (row.run, row.stage, row.state, row.label, row.site) == (run.name, "count", "finished", "pilot", "local")
    assert row.metrics == {"total": 14, "half": 7.0} and row.submitted and row.ended and row.ended >= row.submitted
    assert [line.split()[0] for line in repr(hpc.runs()).splitlines()] == ["run", run.name]
    damaged = RunDir(here / "runs/count-damaged")
    damaged.path.mkdir()
    damaged.plan.write_text("{bad")
    named = next(row for row in hpc.runs() if row.run == damaged.name)
    assert len(hpc.runs()) == 2 and "plan.json is damaged" in named.text
    damaged.plan.unlink()
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(hpc.runs())
    assert frame.loc[0, "state"] == "finished" and frame.loc[0, "metrics"]["total"] == 14


@pytest.mark.ranks
def test_a_pipeline_goes_on_by_itself_is_stopped_and_continues(here: Path) -> None:
    Path("two.yaml").write_text(PIPELINE)
    run = hpc.submit("pipeline", "two.yaml", on="local")
    assert run.status().word in ("queued", "running")
    wait_for(lambda: run.status().done == 2, "the second run behind its gate", run.status)
    assert len(hpc.runs()) == 2 and hpc.runs(names=[run.name])[0].state == "running"
    with pytest.raises(TimeoutError, match=f"{run.name} is running after 0.1 s: it goes on"):
        run.wait(0.1)
    assert "asked to save and end" in run.stop()
    assert run.wait(progress=False).word == "stopped"
    with pytest.raises(hpc.RunFailed, match=f"{run.name} is stopped: .*hpc why {run.name}"):
        run.result()
    again = hpc.submit("pipeline", "two.yaml", on="local")
    assert again.name == run.name
    open_gate(RunDir(run.path))
    assert again.result()["total"] == 10 and again.status().attempt == 2


@pytest.mark.ranks
def test_what_follows_a_run_that_failed_says_so(here: Path) -> None:
    Path("two.yaml").write_text(PIPELINE.replace("n: 2", "n: 2, bad_at: 1"))
    run = hpc.submit("pipeline", "two.yaml", on="local")
    with pytest.raises(hpc.RunFailed, match=r"is failed: it was to follow count-\w+, which is failed"):
        run.result()
    assert run.stop() == f"{run.name} was not started" and not run.path.exists() and run.logs() == ""


def test_a_plan_is_read_from_python_and_starts_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "two.yaml").write_text(PIPELINE)
    plan = hpc.dry_run("count", {"n": 3}, on="local", ranks=2)
    assert plan.startswith("run     count-") and "2 ranks" in plan and "config  14 values from n=3" in plan
    assert hpc.dry_run("pipeline", "two.yaml", on="local").count("run     count-") == 2
    assert [path.name for path in here.iterdir()] == ["two.yaml"] and capsys.readouterr().out == ""
    with pytest.raises(hpc.ConfigError, match="count has no setting 'nn'"):
        hpc.dry_run("count", {"nn": 3})


@pytest.mark.parametrize(
    ("stage", "config", "options", "sentence"),
    [
        ("cout", (), {}, "there is no stage or verb 'cout'. Did you mean 'count'"),
        ("count", {"nn": 3}, {}, "count has no setting 'nn'"),
        ("count", {"n": 0}, {}, "n must be at least 1, got 0"),
        ("count", {"n": object()}, {}, "count.n needs a whole number"),
        ("count", "nowhere.yaml", {}, "nowhere.yaml"),
        ("count", (), {"nods": 2}, "submit has no option 'nods'. Did you mean 'nodes'"),
        ("count", (), {"nodes": "many"}, "--nodes needs a whole number, but got 'many'"),
        ("count", (), {"dry_run": True}, "submit has no option 'dry_run'"),
        ("count", (), {"on": "mars"}, "there is no site 'mars'"),
        ("sweep", (), {}, "submit starts one run, but sweep makes many"),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence_before_anything_happens(
    here: Path, stage: str, config: object, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(hpc.ConfigError, match=sentence):
        hpc.submit(stage, config, **options)  # type: ignore[arg-type]
    assert not Path("runs").exists() and list(hpc.runs()) == []


def test_settings_are_a_mapping(here: Path) -> None:
    with pytest.raises(hpc.ConfigError, match=r"settings come in a mapping, .* and not as \['n=3'\]"):
        hpc.dry_run("count", (), ["n=3"])  # type: ignore[arg-type]


def test_a_run_that_is_not_there_is_named(here: Path) -> None:
    with pytest.raises(hpc.ConfigError, match="there is no run 'train-x' in runs, nor any other"):
        hpc.Run("train-x")

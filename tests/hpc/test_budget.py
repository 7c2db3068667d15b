"""Budgets and what a plan says of its cost: what cannot be paid is refused, and a run stops when its part is spent."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.book import budget
from hpc.book.budget import Budget
from hpc.book.forecast import Forecast, History
from hpc.book.job import Account
from hpc.cli import options, planner
from hpc.errors import ConfigError
from hpc.plan.plan import Plan
from hpc.runs import records
from hpc.runs.rundir import RunDir, append_line, write_json
from hpc.submit import costs
from tests.conftest import Launch
from tests.slurm.test_runs import only_run

pytestmark = pytest.mark.usefixtures("example", "in_a_folder")


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plans(*line: str, on: str = "athena") -> list[Plan]:
    return planner.make(options.read([*line, "--on", on, "--account", "plgx", "--dry-run"]), {})


@pytest.mark.parametrize("text", ["50", "50gpu", "-1gpuh", "0gpuh", "1e3cpuh", "gpuh", "nangpuh"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ConfigError, match="--budget needs hours of GPUs or of cores, as 50gpuh or 2000cpuh"):
        options.read(["count", "--budget", text])


def test_a_budget_is_passed_on_to_the_digit() -> None:
    assert [options.read(["count", "--budget", text]).budget for text in ("12345.678cpuh", "0.5 GPUH")] == [
        "12345.678cpuh", "0.5gpuh"
    ]  # fmt: skip


def test_what_cannot_be_paid_is_refused_with_what_can() -> None:
    line = ["count", "--nodes", "2", "--gpus", "4", "--time", "10h"]
    with pytest.raises(ConfigError) as refused:
        plans(*line, "--budget", "50gpuh")
    assert str(refused.value) == (
        "--budget 50gpuh: 2 nodes x 4 GPUs x 10 h may cost 80 GPU-hours, more than is left: say --time 375m, fewer "
        "nodes, or --budget 80gpuh"
    )
    assert plans(*line[:-1], "375m", "--budget", "50gpuh")[0].budget == Budget(50.0, "gpuh")


def test_a_sweep_shares_its_budget() -> None:
    line = ["sweep", "count", "n=3,4,5,6", "--gpus", "2", "--time", "10h"]
    with pytest.raises(ConfigError, match="4 runs x 1 node x 2 GPUs x 10 h may cost 80 GPU-hours"):
        plans(*line, "--budget", "79gpuh")
    shares = [plan.budget for plan in plans(*line, "--budget", "100gpuh")]
    assert shares == [Budget(25.0, "gpuh")] * 4
    record = plans(*line, "--budget", "100gpuh")[0].to_json()["budget"]
    assert budget.of_record(record) == Budget(25.0, "gpuh")


def test_hours_of_gpus_are_no_budget_where_there_is_no_gpu() -> None:
    with pytest.raises(ConfigError, match="these runs ask for no GPU: say the hours of cores, as 2000cpuh"):
        plans("count", "--budget", "5gpuh", on="bem2-cpu")


def spent(plan: Plan, hours: float) -> RunDir:
    """The folder of a run of that plan which a job of so many wall hours has left, on 2 GPUs."""
    run = plan.run
    run.jobs.mkdir(parents=True)
    write_json(run.plan, plan.to_json())
    began = time.time() - 86400
    append_line(run.allocations, {"job": "7", "restarts": 0, "began": began, "nodes": 1, "cpus": 4, "gpus": 2})
    append_line(run.allocations, {"job": "7", "restarts": 0, "ended": began + 3600 * hours})
    return run


def test_what_was_spent_before_counts() -> None:
    line = ["count", "--gpus", "2", "--time", "10h", "--budget"]
    (plan,) = plans(*line, "20gpuh")
    run = spent(plan, 5.0)
    with pytest.raises(ConfigError, match="10 are spent, and 1 node x 2 GPUs x 10 h may cost 20 GPU-hours.* 30gpuh"):
        plans(*line, "29gpuh")
    (again,) = plans(*line, "30gpuh")
    account = Account(run, again.to_json(), "8", 0, {})
    assert account.spent() == pytest.approx(10.0, abs=0.1) and not account.is_spent()
    low = dataclasses.replace(again, budget=Budget(10.05, "gpuh"))
    account = Account(run, low.to_json(), "9", 0, {})
    assert account.is_spent(), "what is left is for saving"
    assert f"its budget of 10.1 GPU-hours is spent (10): `resume {run.name} --budget 20.1gpuh`" in account.sentence()


def finished(plan: Plan, seconds: float, metrics: Any = None, queued_s: float = 600.0) -> None:
    """The folder of a finished run of that plan."""
    run = plan.run
    run.jobs.mkdir(parents=True)
    write_json(run.plan, plan.to_json())
    run.config.write_text(planner.config.to_yaml(plan.science.config))
    line = {"job": "7", "restarts": 0, "began": 1e9, "queued_s": queued_s, "nodes": 1, "cpus": 4, "gpus": 2}
    append_line(run.allocations, line)
    append_line(run.allocations, {"job": "7", "restarts": 0, "ended": 1e9 + seconds})
    write_json(run.result, {"metrics": metrics or {}, "attempts": 1, "seconds": seconds, "ended": 1e9})


def test_a_plan_says_what_it_costs_by_runs_of_the_same_shape() -> None:
    line = ["--gpus", "2", "--time", "10h"]
    (first,) = plans("count", "n=3", *line)
    assert dict(first.cost)["cost"].startswith(
        "at most 20 GPU-hours in a job of its walltime; nothing like it is finished"
    )
    finished(first, 3600.0)
    for other in plans("sweep", "count", "n=4,5", *line):
        finished(other, 7200.0 if "n=5" in other.settings else 5400.0)
    rows = dict(plans("count", "n=6", *line)[0].cost)
    assert rows["cost"] == (
        "about 3 GPU-hours (3 finished runs of count with other settings took 60 min to 2 h); at most 20 GPU-hours in "
        "a job of its walltime"
    )
    assert "waits 10 min, as 3 jobs before it did in the median, and takes 1.5 h" in rows["ends"]
    assert rows["--time"].startswith("160m is enough; a shorter job often starts sooner")
    assert "cost" not in dict(plans("count", "n=3", *line)[0].cost), "it is finished"
    four = dict(plans("count", "n=6", "--gpus", "4", "--time", "10h")[0].cost)
    assert "not known" in four["cost"], "that is another shape"


def test_a_sweep_says_what_it_costs_and_when_it_ends() -> None:
    line = ["--gpus", "2", "--time", "2h"]
    (first,) = plans("count", "n=3", *line)
    finished(first, 3600.0)
    swept = plans("sweep", "count", "n=3..7", *line)
    text = costs.in_all(swept, at_once=2)
    assert text.startswith("4 runs; about 8 GPU-hours; at most 16 GPU-hours in one job each; done about ")
    assert text.endswith("if they start now, 2 at a time")
    assert costs._until_the_last([plan for plan in swept if plan.forecast], 2) == pytest.approx(2 * 3600)


def test_what_the_queue_did_is_said_of_short_and_long_jobs() -> None:
    for n, time_, queued_s in ((3, "1h", 300.0), (4, "1h", 900.0), (5, "10h", 9000.0)):
        finished(plans("count", f"n={n}", "--gpus", "1", "--time", time_)[0], 1200.0, queued_s=queued_s)
    rows = dict(plans("count", "n=6", "--gpus", "1", "--time", "10h")[0].cost)
    assert rows["--time"].endswith("is enough; such jobs have waited 10 min here, longer ones 2.5 h")


@pytest.mark.parametrize(
    ("hours", "time_", "expected"),
    [
        (1.0, "4h", "80m is enough"),
        (1.0, "2h", ""),
        (10.0, "11h", "730m does it in one job"),
        (50.0, "47h", "1810m fills all of 2 jobs; with 47 h the last needs"),
    ],
)
def test_walltimes_whose_tail_is_not_wasted(hours: float, time_: str, expected: str) -> None:
    (plan,) = plans("count", "--gpus", "1", "--time", time_)
    text = costs.walltime(plan, Forecast(3600 * hours, 3600 * hours, ""))
    assert text.startswith(expected) and bool(text) == bool(expected), text


def test_a_budget_that_is_less_than_what_it_will_take_is_said() -> None:
    (first,) = plans("count", "n=3", "--gpus", "2", "--time", "1h")
    finished(first, 7200.0)
    rows = dict(plans("count", "n=4", "--gpus", "2", "--time", "1h", "--budget", "3gpuh")[0].cost)
    assert "more than its budget, so it will stop before its end" in rows["cost"]


def test_history_reads_each_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = plans("count", "n=3", "--gpus", "1")
    finished(first, 60.0)
    history = History(Path(first.runs))
    assert len(history.of_stage("count")) == 1
    monkeypatch.setattr(records, "plan", lambda run: pytest.fail("read again"))
    assert len(history.of_stage("count")) == 1


@pytest.mark.ranks
def test_a_run_stops_when_its_budget_is_spent_and_goes_on_with_another(launch: Launch) -> None:
    """It is held behind step 3, until its 2 core seconds are over; on a busy machine they are over before."""
    words = ["count", "n=6", "hold_at=3", "--cpus", "1", "--on", "local"]
    assert "stopped" in launch(*words, "--budget", "0.001cpuh", code=75).stdout
    run = only_run(launch.folder)
    text = records.supervisor(run)["text"]
    assert "its budget of 0.001 CPU-hours is spent" in text and f"`resume {run.name} --budget 0.002cpuh`" in text
    refused = launch("resume", run.name, code=2).stderr
    assert "no more than a last save is left: say --budget" in refused
    (run.path / "gate").touch()
    assert "total             21" in launch("resume", run.name, "--budget", "10cpuh").stdout
    assert records.plan(run)["budget"] == {"hours": 10.0, "unit": "cpuh"}
    table = launch("book").stdout.splitlines()
    assert table[1].split()[0] == run.name and "counted: 2 jobs by the word of their supervisors" in table, table


def test_a_run_ends_after_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("count: {n: 3}\nagain: {stage: count, n: 4, after: count}\n")
    finished(plans("count", "n=9", "--gpus", "1", "--time", "8h")[0], 3600.0, queued_s=60.0)
    first, second = (dict(plan.cost) for plan in plans("pipeline", "two.yaml", "--gpus", "1", "--time", "8h"))
    assert ": waits 60 s, and takes 60 min" in first["ends"]
    assert ": after what it reads, waits 60 s, and takes 60 min" in second["ends"]

"""The grant book: how time is split, what sacct says, tables, energy. Folders are real; sacct is a small program."""

import csv
import io
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.book import allocations, sacct, spans, tables
from hpc.book.allocations import Allocation
from hpc.book.energy import Meter
from hpc.book.entries import Book, Entry
from hpc.book.sacct import Books, Wanted
from hpc.cli import runs as verbs
from hpc.cli.options import read
from hpc.errors import ConfigError
from hpc.runs import folding, submissions
from hpc.runs.rundir import RunDir, append_line, write_json
from hpc.slurm import words

NOON = time.mktime((2024, 11, 28, 12, 0, 0, 0, 0, -1))
NOBODY = Books({})


def attempt(number: int, start: float, end: float, outcome: str, from_step: int = 0, **more: Any) -> dict[str, Any]:
    got_on = {"got_on": outcome == "finished", "job": "7"}
    return {
        "attempt": number, "started": NOON + start, "ended": NOON + end, "outcome": outcome, "from_step": from_step,
        "ranks": 4, "nodes": 2, **got_on, **more,
    }  # fmt: skip


KILLED = [
    attempt(1, 10, 30, "crashed"),  # before it had saved anything
    attempt(2, 32, 132, "crashed", done=90, per_s=1.0, total=100, got_on=True),
    attempt(3, 135, 195, "finished", from_step=60, done=100, per_s=1.0, total=100),  # 30 of its steps had been done
]
"""A job of 200 s on two nodes of 4 cores and 2 GPUs."""
HALVES = {"useful": 100 + 30.0, "redone": 30.0, "lost": 20.0, "idle": 10 + 2 + 3 + 5.0}


def run_of_slurm(
    folder: Path, name: str, *, label: str = "", account: str = "plgx", job: str = "7", shift: float = 0
) -> RunDir:
    """The folder of a run that a supervisor has left."""
    run = RunDir(folder / name)
    run.jobs.mkdir(parents=True)
    resources = {"nodes": 2, "ranks_per_node": 2, "gpus_per_node": 2, "cpus_per_rank": 2, "account": account}
    site = {"name": "athena", "kind": "slurm"}
    plan = {"name": name, "label": label, "settings": "", "stage": "train", "site": site, "resources": resources}
    write_json(run.plan, plan)
    submissions.note(run, plan, job, NOON + shift - 60)
    line = {"job": job, "restarts": 0, "began": NOON + shift, "queued_s": 60.0, "nodes": 2, "cpus": 8, "gpus": 4}
    append_line(run.allocations, line | {"account": account})
    append_line(run.allocations, {"job": job, "restarts": 0, "ended": NOON + shift + 200, "energy_j": 3.6e6})
    for one in KILLED:
        append_line(run.attempts, one | {"started": one["started"] + shift, "ended": one["ended"] + shift, "job": job})
    return run


def test_time_is_useful_redone_lost_or_idle(tmp_path: Path) -> None:
    run = run_of_slurm(tmp_path, "train-a")
    pieces = spans.split(allocations.read(run)[0], allocations.attempts(run))
    sums = {kind: sum(piece.seconds for piece in pieces if piece.kind == kind) for kind in spans.KINDS}
    assert sums == pytest.approx(HALVES)
    assert all(before.ended == after.began for before, after in itertools.pairwise(pieces)), "no gap, no overlap"


def test_an_attempt_that_was_stopped_before_it_saved_is_lost_and_its_steps_are_not_redone() -> None:
    lines: Any = [
        attempt(1, 0, 50, "stopped", done=40, per_s=1.0),
        attempt(2, 60, 160, "finished", done=100, per_s=1.0),
    ]
    assert spans.is_lost(lines[0]) and spans.seconds_redone(lines) == [0.0, 0.0]


def test_a_night_across_two_months_is_in_both() -> None:
    midnight = time.mktime((2024, 12, 1, 0, 0, 0, 0, 0, -1))
    months = spans.by_month([spans.Span(midnight - 3600, midnight + 7200, "useful")])
    assert {month: sum(one.seconds for one in each) for month, each in months.items()} == {
        "2024-11": 3600.0, "2024-12": 7200.0
    }  # fmt: skip


@pytest.mark.parametrize("by", ["run", "sweep", "person", "grant", "month"])
def test_every_grouping_has_all_hours(tmp_path: Path, by: str) -> None:
    runs = [
        run_of_slurm(tmp_path, "train-a", label="pilot"), run_of_slurm(tmp_path, "train-b", label="pilot", job="8"),
        run_of_slurm(tmp_path, "train-c", account="plgy", job="9", shift=4 * 86400),
    ]  # fmt: skip
    book = Book(runs, ask=lambda jobs: NOBODY)
    rows, total = book.sums(by), book.total()
    assert sum(sum(row.gpu_hours.values()) for row in rows) == pytest.approx(3 * 200 * 4 / 3600)
    assert sum(total.cpu_hours.values()) == pytest.approx(3 * 200 * 8 / 3600)
    assert total.charged_cpu_hours == 0 and total.energy_kwh == pytest.approx(3.0)
    names = {
        "run": ["train-a", "train-b", "train-c"], "sweep": ["pilot", "train-c"], "grant": ["plgx", "plgy"],
        "month": ["2024-11", "2024-12"], "person": [allocations.owner(runs[0])],
    }  # fmt: skip
    assert [row.name for row in rows] == names[by]
    assert total.share("useful") == pytest.approx(HALVES["useful"] / 200)
    assert total.queued_hours == pytest.approx(3 * 60 / 3600)


def test_a_run_keeps_its_hours_when_its_files_are_joined(tmp_path: Path) -> None:
    run = run_of_slurm(tmp_path, "train-a")
    before = Book([run], ask=lambda jobs: NOBODY).total()
    folding.fold(run)
    assert not run.allocations.exists()
    assert Book([run], ask=lambda jobs: NOBODY).total() == before
    folding.unfold(run)
    assert Book([run], ask=lambda jobs: NOBODY).total() == before


def test_a_run_of_an_earlier_version_has_the_hours_of_its_attempts(tmp_path: Path) -> None:
    run = run_of_slurm(tmp_path, "train-a")
    run.allocations.unlink()
    book = Book([run], ask=lambda jobs: NOBODY)
    assert sum(book.total().hours.values()) == pytest.approx(185 / 3600)
    assert "1 job by their attempts alone" in tables.text(book, "run")


def test_a_job_that_was_killed_ended_when_it_was_last_heard_of(tmp_path: Path) -> None:
    run = run_of_slurm(tmp_path, "train-a")
    first = run.allocations.read_text().splitlines()[0]
    run.allocations.write_text(f"{first}\n")
    (one,) = allocations.read(run)
    assert one.ended == NOON + 195
    append_line(run.allocations, json.loads(first) | {"restarts": 1, "began": NOON + 150})
    assert [each.ended for each in allocations.read(run)] == [NOON + 132, NOON + 195], "before the next one began"


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[7]", '{"job": [7]}', '{"began": 1}', '{"job": "7", "restarts": 0, "began": NaN}', '{"began": 1e999}',
     '{"job": "7", "restarts": 0, "began": 1, "nodes": -1, "cpus": 1e99, "gpus": 0}', '{"job": {}, "ended": "x"}'],
)  # fmt: skip
def test_a_damaged_line_costs_no_more_than_itself(tmp_path: Path, damage: str) -> None:
    run = run_of_slurm(tmp_path, "train-a")
    before = Book([run], ask=lambda jobs: NOBODY).total()
    with open(run.allocations, "a") as file:
        file.write(f"{damage}\n")
    assert Book([run], ask=lambda jobs: NOBODY).total() == before


SACCT = """\
7|train-a|anna|plgx-gpu|{submit}|{submit}|{start}|120|8|billing=8,cpu=8,energy=500,gres/gpu:a100=4,node=2|7200000|2
7|train-a|anna|plgx-gpu|{again}|{eligible}|{restart}|80|8|billing=8,cpu=8,gres/gpu=4,gres/gpu:a100=4,node=2|0|2
7|other|bert|plgz|{submit}|{submit}|{start}|9000|8|cpu=8|0|2
7|train-a|anna|plgx-gpu|2020-01-01T00:00:00|2020-01-01T00:00:00|2020-01-01T00:00:00|9000|8|cpu=8|0|2
"""


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}")
    (folder / name).chmod(0o755)


@pytest.fixture
def with_sacct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sacct that knows the two starts of a requeued job, and two that are not ours but have its number."""
    times = {"submit": -70, "start": -1, "again": 121, "eligible": 125, "restart": 130}
    said = SACCT.format(**{name: words.at(NOON + shift) for name, shift in times.items()})
    program(tmp_path / "bin", "sacct", f'echo "$*" > {tmp_path}/asked; cat <<END\n{said}END\n')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")


@pytest.mark.usefixtures("with_sacct")
def test_slurms_hours_count_where_there_are_any(tmp_path: Path) -> None:
    run = run_of_slurm(tmp_path / "runs", "train-a")
    second = {"job": "7", "restarts": 1, "began": NOON + 131, "nodes": 2, "cpus": 8, "gpus": 4}
    append_line(run.allocations, second, {"job": "7", "restarts": 1, "ended": NOON + 210, "energy_j": 3.6e6})
    book = Book([run])
    row = book.sums("grant")[0]
    assert (row.name, len(row.jobs)) == ("plgx-gpu", 2)
    assert sum(row.hours.values()) == pytest.approx(200 / 3600)
    assert sum(row.gpu_hours.values()) == pytest.approx(800 / 3600)
    assert row.queued_hours == pytest.approx((69 + 5) / 3600)
    assert row.energy_kwh == pytest.approx(2.0 + 1.0), "Slurm's of the first start, the supervisor's of the second"
    assert book.sums("person")[0].name == "anna" and book.sources == {"Slurm": 2}
    asked = (tmp_path / "asked").read_text()
    assert "-j 7 " in asked and f"-S {words.at(NOON - 120)}" in asked


def test_gpus_that_a_site_does_not_note_are_those_of_the_supervisor(tmp_path: Path) -> None:
    run = run_of_slurm(tmp_path, "train-a")
    without = Allocation("7", 0, NOON, NOON + 100, 2, 8, sacct.NOT_NOTED, source=allocations.SLURM)
    book = Book([run], ask=lambda jobs: Books({("7", ""): [without]}))
    assert sum(book.total().gpu_hours.values()) == pytest.approx(4 * 100 / 3600)


def test_a_slurm_without_books_is_said_and_the_records_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "sacct", "echo Slurm accounting storage is disabled >&2; exit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    text = tables.text(Book([run_of_slurm(tmp_path / "runs", "train-a")]), "run")
    assert "by the records of the runs: sacct says: Slurm accounting storage is disabled" in text
    assert "charged as PLGrid counts: 0.222 GPU-hours, and 0 CPU-hours of jobs without GPUs" in text
    assert "65 %    15 %  10 %  10 %" in text
    assert max(map(len, text.splitlines()[:2])) <= 80


def test_many_jobs_are_asked_for_in_few_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "sacct", f"echo x >> {tmp_path}/calls\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert not sacct.ask(Wanted(f"9_{number}", "", "", NOON) for number in range(1000)).of_job
    assert len((tmp_path / "calls").read_text().split()) == 3


def test_the_table_for_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of_slurm(tmp_path / "runs", "train-a", label="50%_of=$x&y")
    line = [
        "book",
        "--runs",
        f"{tmp_path}/runs",
        "--by",
        "sweep",
        "--csv",
        f"{tmp_path}/a.csv",
        "--latex",
        f"{tmp_path}/a.tex",
    ]
    assert verbs.show_book(read(line), {}) == 0
    assert "50%_of=$x&y" in capsys.readouterr().out
    (row,) = csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text()))
    assert row["sweep"] == "50%_of=$x&y" and float(row["redone_gpu_hours"]) == pytest.approx(30 * 4 / 3600, abs=1e-6)
    tex = (tmp_path / "a.tex").read_text()
    assert r"50\%\_of=\$x\&y & 0.0556 & 0.444 & 0.222 & 65 \% & 15 \% & 10 \% & 10 \% & 0.0167 & 1 \\" in tex
    verbs.show_book(read([*line, "--json"]), {})
    assert json.loads(capsys.readouterr().out)[0]["lost_gpu_hours"] == pytest.approx(20 * 4 / 3600)


@pytest.mark.parametrize("option", ["--csv", "--latex"])
def test_a_file_that_is_no_book_is_kept(tmp_path: Path, option: str) -> None:
    file = tmp_path / "study.yaml"
    line = ["book", "--runs", str(tmp_path), option, str(file)]
    verbs.show_book(read(line), {})
    verbs.show_book(read(line), {})
    file.write_text("preprocess: {study: ./eeg}\n")
    with pytest.raises(ConfigError, match=rf"{option} .*study.yaml: hpc book has not written that file"):
        verbs.show_book(read(line), {})
    assert file.read_text() == "preprocess: {study: ./eeg}\n"


def test_a_run_that_has_lost_its_plan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of_slurm(tmp_path / "runs", "train-a").plan.unlink()
    (tmp_path / "runs/notes").mkdir()
    verbs.show_book(read(["book", "--runs", f"{tmp_path}/runs"]), {})
    said = capsys.readouterr().out
    assert "train-a is left out: it has the records of jobs, but no plan.json" in said and "notes" not in said


def test_entries_of_a_cluster_are_the_same_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a laptop asks for them over ssh; a version that does not know all fields leaves the others out."""
    run = run_of_slurm(tmp_path / "runs", "train-a")
    verbs.show_book(read(["book", "--runs", f"{tmp_path}/runs", "--by", "job", "--json"]), {})
    entries = [Entry.of_json(record | {"new": 1}) for record in json.loads(capsys.readouterr().out)]
    assert entries == Book([run], ask=lambda jobs: NOBODY).entries


def test_what_a_book_is_not_kept_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a row of the book is no 'moth'. Did you mean 'month'\?"):
        verbs.show_book(read(["book", "--runs", str(tmp_path), "--by", "moth"]), {})


def test_a_book_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verbs.show_book(read(["book", "--runs", str(tmp_path), "--csv", str(tmp_path / "a.csv")]), {})
    assert "nothing was spent yet" in capsys.readouterr().out
    assert (tmp_path / "a.csv").read_text().startswith("run,runs,jobs,hours")


def test_what_a_job_has_by_slurms_variables() -> None:
    environ = {
        "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "3", "SLURM_JOB_CPUS_PER_NODE": "4(x2),2",
        "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_ACCOUNT": "plgx",
    }  # fmt: skip
    plan = {"nodes": 1, "ranks_per_node": 1, "gpus_per_node": 0, "cpus_per_rank": 1}
    assert allocations.of_job(environ, plan) == {"nodes": 3, "cpus": 10, "gpus": 6, "account": "plgx"}


# ------------------------------------------------------------------------------------------------------------- energy


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages, the memory of one, and a part of a package, which its counter includes."""
    for name, label, uj in (
        ("intel-rapl:0", "package-0", 900), ("intel-rapl:0:0", "core", 10), ("intel-rapl:0:1", "dram", 100),
        ("intel-rapl:1", "package-1", 500),
    ):  # fmt: skip
        folder = tmp_path / "powercap" / name
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{label}\n")
        (folder / "energy_uj").write_text(f"{uj * 10**6}\n")
        (folder / "max_energy_range_uj").write_text(f"{1000 * 10**6}\n")
    return tmp_path / "powercap"


def test_counters_of_a_machine_turn_over(powercap: Path) -> None:
    meter = Meter(10**6, 0, {}, powercap)  # the job has all cores
    for name, uj in (("intel-rapl:0", 40), ("intel-rapl:0:0", 999), ("intel-rapl:0:1", 110), ("intel-rapl:1", 550)):
        (powercap / name / "energy_uj").write_text(f"{uj * 10**6}\n")
    assert meter.joules() == pytest.approx(140 + 10 + 50)


def test_a_machine_that_says_nothing_has_used_what_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    meter = Meter(1, 1, {}, tmp_path)
    meter._ask_power()
    meter.sample()
    assert meter.joules() is None


def test_power_of_gpus_is_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "nvidia-smi", f'echo "$*" > {tmp_path}/asked; echo 300.5; echo "[N/A]"; echo 99.5\n')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    meter = Meter(1, 2, {"CUDA_VISIBLE_DEVICES": "2,3"}, tmp_path)
    meter._power_at -= 100.0
    meter._ask_power()
    joules = meter.joules()
    assert joules is not None and joules >= 400 * 100
    assert "--id=2,3" in (tmp_path / "asked").read_text()

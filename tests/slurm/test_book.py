"""The grant book against Slurm's own: on a bed with slurmdbd, whose hours are those that a site charges."""

import json
import subprocess
from pathlib import Path

import pytest

from hpc.book.entries import Book
from hpc.book.sacct import Books
from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.conftest import Launch
from tests.slurm.test_bed import Beds, beds, start
from tests.slurm.test_faults import signal_batch
from tests.slurm.test_runs import under_way
from tests.slurm.test_strict import accounting
from tests.waiting import open_gate, output_of

__all__ = ["beds"]  # fixtures
pytestmark = pytest.mark.slurm


def seconds_of_sacct(launch: Launch, run: RunDir) -> dict[str, float]:
    """The core seconds and the GPU seconds of all starts of the jobs of a run."""
    jobs = ",".join(str(line["job"]) for line in records.submissions(run))
    command = ["sacct", "-n", "-P", "-D", "-X", "-j", jobs, "-o", "ElapsedRaw,AllocTRES,State"]
    out = subprocess.run(command, env=launch.environ, capture_output=True, text=True, check=True).stdout
    sums = {"starts": 0.0, "cpu": 0.0, "gres/gpu": 0.0}
    for line in out.splitlines():
        elapsed, tres, state = line.split("|")
        given = dict(part.split("=") for part in tres.split(",") if part)
        sums["starts"] += 1
        for name in ("cpu", "gres/gpu"):
            sums[name] += float(elapsed) * float(given.get(name, 0))
        assert state in ("REQUEUED", "COMPLETED"), out
    return sums


def test_the_book_is_equal_to_that_of_slurm(launch: Launch, beds: Beds) -> None:
    """Of a run that was requeued at the end of its walltime, and of one that a budget ends, which is in no grant of
    GPUs."""
    launch.environ |= start(beds, "--like", "plgrid", "--boot", "0", "--epilog", "0")
    if not accounting(launch):
        pytest.skip("no accounting here, as env/bed has said")
    words = ["count", "n=6", "--nodes", "2", "--account", "grant"]
    run, watcher = under_way(launch, *words, on="bed")
    signal_batch(launch, run, "USR2")
    launch.wait_for(run.attempt(2).start.exists, "it runs again")
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0, out

    def in_books() -> bool:
        return "COMPLETED" in subprocess.run(
            ["sacct", "-n", "-X", "-j", str(records.submissions(run)[-1]["job"]), "-o", "State"],
            env=launch.environ, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    launch.wait_for(in_books, "Slurm's books have its end")
    row = json.loads(launch("book", "--by", "grant", "--json", "--csv", "cost.csv").stdout)[0]
    theirs = seconds_of_sacct(launch, run)
    assert theirs["starts"] == 2 and theirs["gres/gpu"] > 0
    assert row["grant"] == "grant" and row["runs"] == 1
    assert row["cpu_hours"] == pytest.approx(theirs["cpu"] / 3600)
    assert row["gpu_hours"] == pytest.approx(theirs["gres/gpu"] / 3600)
    parts = sum(row[f"{kind}_gpu_hours"] for kind in ("useful", "redone", "lost", "idle"))
    assert parts == pytest.approx(row["gpu_hours"]) and row["useful_hours"] > 0 < row["idle_hours"]
    assert Path(launch.folder / "cost.csv").read_text().startswith("grant,runs,jobs,hours,")
    assert "2 jobs by sacct" in launch("book").stdout

    by_itself = Book([run], ask=lambda jobs: Books({})).total()  # as on a site without accounting
    assert len(by_itself.jobs) == 2 and set(by_itself.hours) == {"useful", "redone", "lost", "idle"}
    n_gpus = theirs["gres/gpu"] / sum(seconds for seconds in [row["hours"] * 3600])
    assert sum(by_itself.gpu_hours.values()) == pytest.approx(sum(by_itself.hours.values()) * n_gpus)
    assert sum(by_itself.hours.values()) < row["hours"] + 1 / 3600  # it sees neither the first seconds nor the last

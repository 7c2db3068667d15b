"""How a run leaves its job and comes back: requeued, or as a new job; and what a controller that dies meanwhile leaves.

Slurm here is the small programs of tests/hpc/test_supervisor.py.
"""

import json
import time
from pathlib import Path

import pytest

from hpc.runs import records, status
from hpc.runs.rundir import append_line, write_json
from hpc.slurm.squeue import Queue
from hpc.supervise.requeue import EPILOG
from tests.conftest import Launch
from tests.hpc.test_supervisor import SAVE, STOPPED, Kept, job, program

__all__ = ["job"]  # a fixture
CONFIG = 'echo "$@" >> "$SAID/scontrol.said"; case "$*" in "show config") echo "Epilog                  = {}";; esac'


@pytest.mark.parametrize(
    ("line", "is_there"),
    [
        ("Epilog                  = /etc/slurm/epilog.sh", True),
        ("Epilog[0]               = /etc/slurm/epilog.sh", True),
        ("EpilogSlurmctld         = /etc/slurm/end.sh", True),
        ("Epilog                  = (null)", False),
        ("EpilogMsgTime           = 2000 usec", False),
    ],
)
def test_epilogs_are_seen_in_the_configuration_of_each_version(line: str, is_there: bool) -> None:
    assert bool(EPILOG.search(f"Configuration data\nEnforcePartLimits       = NO\n{line}\nFairShare = 1\n")) == is_there


@pytest.fixture
def late(job: Kept) -> Kept:
    """A job of ours on a site with an epilog."""
    program(job.said / "scontrol", CONFIG.format("/etc/epilog"))
    line = {"time": time.time(), "job": "7", "kind": "slurm", "name": job.run.name, "nodes": 1}
    append_line(job.run.submissions, line)
    job.ranks_do(f"{SAVE} {STOPPED}")
    return job


def test_a_new_job_follows_where_an_epilog_would_have_slurm_hold_the_old_one(late: Kept) -> None:
    code, out = late()
    assert code == 75 and "goes on as job 8" in out, out
    assert "requeue" not in late.asked_of_slurm
    assert (late.said / "sbatch.said").read_text() == "--parsable --dependency=afterany:7\n"
    assert records.submissions(late.run)[-1]["successor"] is True


def test_without_an_epilog_it_is_requeued(late: Kept) -> None:
    program(late.said / "scontrol", CONFIG.format("(null)"))
    assert late()[0] == 75
    assert "requeue 7\nupdate JobId=7 StartTime=now+" in late.asked_of_slurm
    assert not (late.said / "sbatch.said").exists()


def test_it_is_requeued_all_the_same_if_no_new_job_is_taken(late: Kept) -> None:
    program(late.said / "sbatch", 'echo "Job violates accounting/QOS policy" >&2; exit 1')
    code, out = late()
    assert code == 75 and "Job violates accounting/QOS policy: back into the queue" in out, out
    assert "requeue 7\n" in late.asked_of_slurm


def test_a_job_that_somebody_else_has_submitted_keeps_its_options_and_is_requeued(late: Kept) -> None:
    late.run.submissions.unlink()
    late()
    assert "requeue 7\n" in late.asked_of_slurm


def test_what_waits_for_the_old_job_waits_for_the_new_one(late: Kept) -> None:
    lines = ["9|afterok:7(unfulfilled)", "10|afterok:77(unfulfilled),afterany:7(unfulfilled):5(failed)",
             "8|afterany:7(unfulfilled)", "11|afterany:7_*(unfulfilled)", "12|"]  # fmt: skip
    (late.said / "waiting").write_text("\n".join(lines) + "\n")
    program(late.said / "squeue", 'case "$*" in *PENDING*) cat "$SAID/waiting";; esac')
    late()
    updates = [line for line in late.asked_of_slurm.splitlines() if line.startswith("update")]
    assert updates == ["update JobId=9 Dependency=afterok:8", "update JobId=10 Dependency=afterok:77,afterany:8:5"]


def test_an_element_of_an_array_starts_behind_the_epilog_that_it_met_before(late: Kept) -> None:
    late.environ |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    late()
    left = records.attempts(late.run)[-1]["ended"]
    submitted = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(left + 41))
    program(late.said / "squeue", f'case "$*" in *%V*) echo {submitted};; esac')
    late(restarts=1)
    first, second = [line.rpartition("+") for line in late.asked_of_slurm.splitlines() if line.startswith("update")]
    assert first == ("update JobId=7_1 StartTime=now", "+", "5")
    took_s = records.attempts(late.run)[-1]["ended"] - left  # of the second time, from which it counts as well
    assert second[0] == first[0] and 43 <= int(second[2]) + took_s <= 45


def test_a_controller_that_dies_when_it_has_taken_the_requeue_is_asked_again(late: Kept) -> None:
    """It may have forgotten, and would run a job with nothing in it."""
    silence = "Unable to contact slurm controller (connect failure)"
    program(late.said / "scontrol", f'echo "$@" >> "$SAID/scontrol.said"; case "$1" in update) test -e "$SAID/back" || '
            f'{{ touch "$SAID/back"; echo "{silence}" >&2; exit 1; }};; esac')  # fmt: skip
    assert late()[0] == 75
    asked = [line.split()[0] for line in late.asked_of_slurm.splitlines()]
    assert [word for word in asked if word != "show"] == ["requeue", "update"] * 2
    assert late.asked_of_slurm.splitlines()[-1] == "update JobId=7 StartTime=now+30", "slurmd may see its end late"


@pytest.fixture
def empty(late: Kept, launch: Launch) -> Launch:
    """It has left a minute ago, and Slurm says that it runs."""
    program(late.said / "scontrol", CONFIG.format("(null)"))
    late()
    write_json(late.run.supervisor, {**records.supervisor(late.run), "time": time.time() - 60})
    began = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 3600))
    program(late.said / "squeue", f'echo "7|RUNNING|None|{began}|{late.run.name}"')
    program(late.said / "scancel", 'echo "$@" >> "$SAID/scancel.said"')
    program(late.said / "sbatch", 'echo "Submitted batch job 8"')  # as submitit reads it
    launch.environ |= late.environ
    for name in ("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE"):
        del launch.environ[name]
    return launch


def test_a_job_with_nothing_in_it_is_named_ended_and_submitted_again(empty: Launch, late: Kept) -> None:
    (state,) = json.loads(empty("status", "--json").stdout)
    assert state["word"] == "lost" and "Slurm calls job 7 running, but its supervisor left" in state["text"]
    out = empty("resume", late.run.name, "--on", "bed").stdout
    assert "job 7 had nothing in it: cancelled" in out and "as job 8" in out
    assert (late.said / "scancel.said").read_text() == "7\n"


def test_if_an_empty_job_cannot_be_ended_no_other_takes_its_place(empty: Launch, late: Kept) -> None:
    program(late.said / "scancel", 'echo "scancel: error: Access/permission denied" >&2; exit 1')
    program(late.said / "sbatch", 'touch "$SAID/submitted"; echo "Submitted batch job 8"')
    refused = empty("resume", late.run.name, "--on", "bed", code=2).stderr
    assert "nothing is in job 7, but scancel does not take it: Access/permission denied" in refused
    assert not (late.said / "submitted").exists()


def test_a_job_that_slurm_has_started_again_is_not_taken_for_an_empty_one(empty: Launch, late: Kept) -> None:
    began = time.strftime("%Y-%m-%dT%H:%M:%S")
    program(late.said / "squeue", f'echo "7|RUNNING|None|{began}|{late.run.name}"')
    (state,) = json.loads(empty("status", "--json").stdout)
    assert (state["word"], state["text"]) == ("queued", "starting")


def test_a_requeue_that_slurm_has_forgotten_is_named(
    late: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(late.said / "scontrol", CONFIG.format("(null)"))
    late()
    monkeypatch.setenv("PATH", late.environ["PATH"])
    monkeypatch.setenv("SAID", str(late.said))
    state = status.look(late.run, Queue())
    assert state.word == "lost" and "lost by a controller that was started anew: `resume " in state.text

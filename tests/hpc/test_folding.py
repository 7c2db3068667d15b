"""A finished run in few files, which says what it said before, and gets them back if it is to go on."""

import json
import os
from pathlib import Path

import pytest

from hpc.runs import folding, heartbeats, records, seal, status
from hpc.runs.rundir import RunDir, append_line, overwrite_json, read_heartbeat, read_json, write_json
from hpc.slurm.squeue import Queue
from tests.conftest import Launch

MOST_INODES = 13


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run of two ranks that has just finished, as a Slurm job."""
    run = RunDir(tmp_path / "count-a")
    folder = run.attempt(1)
    folder.path.mkdir(parents=True)
    folder.log(0).write_text("rank 0 of 2 starts at 0\n")
    folder.log(1).touch()
    for path in (folder.start, folder.metrics):
        write_json(path, {"attempt": 1})
    for path in (folder.stacks(0), folder.srun, run.jobs / "7_submitted.pkl", run.jobs / "7_submission.sh"):
        path.touch()
    (run.jobs / "7_0_log.out").write_text("submitit INFO (…) - Loading pickle\n16:17:52 count-a attempt 1 starts\n\n")
    seal.identity(run)
    plan = {"schema": 2, "identity": seal.identity_of(run), "resources": {"nodes": 1, "ranks_per_node": 2}}
    write_json(run.plan, plan | {"site": {"name": "bed", "kind": "slurm"}})
    append_line(run.submissions, {"job": "7", "label": "mine", "kind": "slurm", "time": 1.0, "log": str(run.jobs)})
    append_line(run.attempts, {"attempt": 1, "started": 2.0, "ended": 3.0, "outcome": "finished", "ranks": 2})
    append_line(run.events, {"time": 3.0, "text": "finished after 1 s"})
    pulse = {"time": 3.0, "attempt": 1, "host": "n1", "what": "count", "done": 5, "total": 5}
    supervisor = {"time": 3.0, "state": "finished", "code": 0, "text": "", "host": "n1", "pid": 3, "job": "7"}
    overwrite_json(run.supervisor, supervisor | {"label": "mine", "nodes": 1, "attempt": 1, "pulse": pulse})
    write_json(run.owner, {"host": "n1", "pid": 3, "since": 2.0})
    heartbeats.write(run, 0, {rank: heartbeats.slot_of({**pulse, "rank": rank}) for rank in range(2)})
    write_json(run.result, {"metrics": {"total": 15}, "attempts": 1, "seconds": 1.0, "ended": 3.0})
    return run


def told(run: RunDir) -> list[object]:
    """All that one can read of a run."""
    return [
        records.submissions(run), records.attempts(run), records.events(run), records.supervisor(run),
        records.owner(run), records.all_heartbeats(run), records.heartbeat(run, 1), records.result(run),
        seal.identity_of(run), run.last_attempt(), vars(status.look(run, Queue())), records.damaged(run),
        [each.name for word in ("mine", "7") for each in status.meant(word, run.path.parent)],
    ]  # fmt: skip


def test_a_run_in_few_files_says_what_it_said_before(run: RunDir) -> None:
    before = told(run)
    assert len(records.all_heartbeats(run)) == 2 and records.heartbeat(run, 1)["done"] == 5
    folding.fold(run)
    left = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file())
    assert left == ["events.jsonl", "jobs/attempt-0001/rank-0000.log", "plan.json", "result.json"]
    assert told(run) == before


def test_a_run_that_is_to_go_on_gets_its_files_back(run: RunDir) -> None:
    before = told(run)
    folding.fold(run)
    folding.unfold(run)
    assert told(run) == before
    run.result.unlink()
    assert seal.identity_of(run) == (read_json(run.plan) or {})["identity"]
    append_line(run.attempts, {"attempt": 2, "started": 4.0, "ended": 5.0, "outcome": "finished", "ranks": 2})
    write_json(run.result, {"metrics": {}, "attempts": 2, "seconds": 1.0, "ended": 5.0})
    folding.fold(run)
    assert [line["attempt"] for line in records.attempts(run)] == [1, 2] and len(records.events(run)) == 1


def test_who_is_interrupted_in_the_middle_leaves_what_can_be_read(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    before = told(run)

    def killed(run: RunDir) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folding, "_delete_heartbeats", killed)
    with pytest.raises(KeyboardInterrupt):
        folding.fold(run)

    assert told(run) == before


def test_what_a_job_has_printed_beyond_the_events_is_left(run: RunDir) -> None:
    log = run.jobs / "7_0_log.out"
    with open(log, "a") as file:
        file.write("Traceback (most recent call last):\n")
    with open(run.attempts, "a") as file:
        file.write("{\n")
    folding.fold(run)
    assert log.exists() and records.damaged(run) == ["attempts.jsonl is damaged: line 2: it is no table in JSON"]
    assert len(records.attempts(run)) == 1


def test_a_file_that_is_written_in_place_gets_no_shorter_and_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat/supervisor.json"
    for text in ("a" * 3000, "b", ""):
        overwrite_json(path, {"text": text})
        before = path.stat().st_ino
        overwrite_json(path, {"text": text})
        assert read_heartbeat(path) == {"text": text} and path.stat().st_ino == before
    path.write_bytes(json.dumps({"text": "a"}).encode()[:5])  # torn
    assert read_heartbeat(path) == {}


@pytest.mark.ranks
def test_a_tiny_run_has_few_files_and_its_code_too(launch: Launch) -> None:
    launch("count", "n=1", "--on", "local", "--ranks", "1", "--follow")
    run = RunDir(launch.runs()[0])
    launch.wait_for(lambda: not run.supervisor.parent.exists(), "its files are joined")
    names = [path.relative_to(run.path).parts for path in run.path.rglob("*")]
    own = [name for name in names if name[0] != "checkpoints" and not name[-1].startswith("here-")]
    assert len(own) + 1 <= MOST_INODES, own
    (code,) = run.path.parent.glob(".code/[!.]*")
    assert len(os.listdir(code)) == 2
    assert launch("logs", run.name).stdout.startswith("rank 0 of 1 starts at 0")
    (run.out / "total.txt").write_text("2")
    launch("verify", run.name, "--repair")
    assert "total             1\n" in launch("resume", run.name).stdout
    assert [line["outcome"] for line in records.attempts(run)] == ["finished", "finished"]


@pytest.mark.ranks
def test_a_rank_that_has_printed_nothing_is_said_to_have(launch: Launch) -> None:
    launch("tally", f"of={launch.folder}/text", "--on", "local", "--dry-run", code=2)
    launch("pools", "--on", "local", "--ranks", "2", "--follow")
    run = RunDir(launch.runs()[0])
    launch.wait_for(lambda: not run.supervisor.parent.exists(), "its files are joined")
    assert launch("logs", run.name, "--rank", "1").stdout == "rank 1 has printed nothing\n"
    assert "has no jobs" in launch("logs", run.name, "--rank", "2", code=2).stderr

"""`clean` removes what no run needs any more, and nothing that one does."""

import fcntl
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from hpc.checkpoint.saver import Saver
from hpc.cli.clean import Leftover, _is_locked, _places, _remove
from hpc.codes import FAILED
from hpc.plan import snapshot
from hpc.plan.snapshot import Code
from hpc.rank import local_copy
from hpc.rank.context import Context, World
from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps, write_json
from hpc.submit.executors import lock_of
from tests.conftest import Launch
from tests.waiting import open_gate, output_of, wait_for

HERE = os.uname().nodename
DAY_S = 24 * 3600


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def put(path: Path, age_s: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture
def run(launch: Launch) -> RunDir:
    launch("count", "n=3", "--on", "local")
    (path,) = launch.runs()
    return RunDir(path)


def test_code_that_no_run_links_to_is_removed_and_the_others_stay(launch: Launch, run: RunDir) -> None:
    runs = run.path.parent
    old = put(runs / ".code/0123456789abcdef/hpc/launch.py").parents[1]
    used = run.code.resolve()
    said = launch("clean", "--dry-run").stdout
    line = "would remove    1,000 B  runs/.code/0123456789abcdef: no run uses this code\n"
    assert said == f"{line}would remove 1 thing, 1,000 B\n"
    assert old.exists()
    assert "removed         1,000 B  runs/.code/0123456789abcdef" in launch("clean").stdout
    assert not old.exists() and sorted(path.name for path in used.iterdir()) == ["code.zip", "manifest.json"]
    assert launch("clean").stdout == "removed 0 things, 0 B\n"
    assert "finished before" in launch("count", "n=3", "--on", "local").stdout


def test_code_that_ssh_brought_half_goes_after_a_day(launch: Launch, run: RunDir) -> None:
    half, young = (put(run.path.parent / f".code/.{n}123456789abcdef.part/hpc/launch.py").parents[1] for n in "01")
    os.utime(half, (time.time() - 2 * DAY_S,) * 2)
    assert "half a copy of code, which ssh has not brought to its end" in launch("clean").stdout
    assert not half.exists() and young.exists()


def test_temporary_files_go_with_their_process(launch: Launch, run: RunDir) -> None:
    at = run.path / "out"
    goes = [
        put(at / f".model.pt.{HERE}.{gone()}.tmp"),
        put(run.path.parent / f".code/.0123456789abcdef.{HERE}.{gone()}.tmp/hpc/launch.py").parents[1],
        put(run.path.parent / f".code/.0123456789abcdef.{HERE}.{gone()}.old/hpc/launch.py").parents[1],
        put(at / ".model.pt.other.node.17.tmp", age_s=2 * DAY_S),
        put(run.checkpoints / ".step-00000004.attempt-0001.tmp/state-0000-of-0001.bin").parent,
    ]
    stays = [
        put(at / f".model.pt.{HERE}.{os.getpid()}.tmp"),
        put(at / ".model.pt.other.node.17b.tmp"),
        put(at / ".notes.tmp", age_s=2 * DAY_S),
        put(at / ".model.pt.other.node.18.tmp"),
        put(at / f"model.{HERE}.{gone()}.tmp"),
    ]
    before = [path.exists() for path in [*goes, *stays]]
    launch("clean", "--dry-run")
    assert [path.exists() for path in [*goes, *stays]] == before
    said = launch("clean").stdout
    assert [path for path in goes if path.exists()] == []
    assert [path for path in stays if not path.exists()] == []
    assert "removed 5 things, 5,000 B" in said and "has ended" in said and "more than a day old" in said


def test_nothing_of_a_run_that_is_under_way_is_touched(launch: Launch) -> None:
    watcher = launch.start("count", "n=5", "hold_at=3", "--on", "local")
    launch.wait_for(lambda: any(committed_steps(RunDir(path).checkpoints) == [1, 2, 3] for path in launch.runs()))
    (path,) = launch.runs()
    run = RunDir(path)
    part = put(run.path / f"out/.x.{HERE}.{gone()}.tmp")
    said = launch("clean", "--checkpoints").stdout
    assert f"left alone    {run.name}, which is running\n" in said and "removed 0 things" in said
    write_json(run.supervisor, records.supervisor(run) | {"state": "failed", "code": 1})  # a file that lies
    os.kill(records.supervisor(run)["pid"], 19)
    try:
        write_json(run.supervisor, records.supervisor(run) | {"state": "failed", "code": 1})
        assert f"left alone    {run.name}, which is held\n" in launch("clean").stdout, "its lock does not"
    finally:
        os.kill(records.supervisor(run)["pid"], 18)
    assert part.exists() and committed_steps(run.checkpoints) == [1, 2, 3]
    open_gate(run)
    output_of(watcher)
    launch.wait_for(run.result.exists, "the run goes on")
    launch.wait_for(lambda: not _is_locked(run), "its supervisor ends")
    assert "removed 1 thing" in launch("clean").stdout


def test_a_run_that_is_being_started_keeps_its_code(launch: Launch, run: RunDir, tmp_path: Path) -> None:
    """Between the copy of the code and the link to it: the launcher holds the lock, and `clean` waits for it."""
    runs = run.path.parent
    code = Code(str(Path(__file__).parent), (".",), "0" * 40, (), (Path(__file__).name,))
    with lock_of(runs):
        copy = snapshot.take([code], runs)
        cleaning = launch.start("clean")
        wait_for(lambda: waits_for_a_lock(cleaning.pid), "clean waits for the launcher")
        assert copy.folder.exists()
        (runs / "count-next").mkdir()
        snapshot.link(copy.folder, runs / "count-next/code")
    assert "removed 0 things" in output_of(cleaning)
    assert (runs / "count-next/code/code.zip").exists()


def waits_for_a_lock(pid: int) -> bool:
    return any(
        re.search(rf"-> FLOCK\s+\S+\s+\S+\s+{pid} ", line) for line in Path("/proc/locks").read_text().splitlines()
    )


def test_checkpoints_of_finished_runs_go_only_when_asked_and_never_the_last(tmp_path: Path, launch: Launch) -> None:
    launch("count", "n=3", "--on", "local")
    (path,) = launch.runs()
    run = RunDir(path)
    for step in committed_steps(run.checkpoints):  # those of this stage are no states
        (run.checkpoints / f"step-{step:08d}/COMMIT").unlink()
    saver = Saver(Context(World(), run, 1), every=1, keep=9)
    for step in (1, 2, 3):
        saver.save(step, {"n": step})
    saver.close()
    assert "removed 0 things" in launch("clean").stdout and committed_steps(run.checkpoints) == [1, 2, 3]
    (damaged,) = (run.checkpoints / "step-00000003").glob("*.bin")
    content = damaged.read_bytes()
    damaged.write_bytes(b"\xff" * len(content))
    assert "step-00000001: the run is finished, and has step 2" in launch("clean", "--checkpoints", "--dry-run").stdout
    damaged.write_bytes(content)
    said = launch("clean", run.name, "--checkpoints").stdout
    assert committed_steps(run.checkpoints) == [3] and "removed 2 things" in said
    assert not (run.checkpoints / "step-00000001").exists()


def test_a_stopped_run_keeps_its_checkpoints(launch: Launch) -> None:
    launch("count", "n=3", "fail_at=3", "--on", "local", code=1)
    (path,) = launch.runs()
    launch("clean", "--checkpoints")
    assert committed_steps(RunDir(path).checkpoints) == [1, 2]


@pytest.mark.parametrize("plan", [{}, {"site": {}}, {"resources": {}, "site": {"storage": {}}}])
def test_a_plan_that_lacks_a_table_is_in_nobodys_way(tmp_path: Path, plan: dict[str, object]) -> None:
    write_json((run := RunDir(tmp_path / "count-a")).plan, plan)
    assert _places([run], {}) == []


def test_half_a_copy_goes_when_nobody_makes_it(launch: Launch, tmp_path: Path) -> None:
    place = tmp_path / "node"
    place.mkdir()
    launch("count", "n=3", "--on", "local", "--stage", str(place))
    root = local_copy.Copy.below(place, "x").root
    nobodys = put(root / ".aaaa.tmp/data/x").parents[1]
    made = put(root / ".bbbb.tmp/data/x").parents[1]
    whole = put(root / "cccc/data/x").parents[1]
    with open(root / "bbbb.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "half a copy of inputs" in launch("clean").stdout
        assert (nobodys.exists(), made.exists(), whole.exists()) == (False, True, True)


@pytest.mark.parametrize("verb", ["status", "book", "page", "clean", "verify"])
def test_a_folder_of_runs_that_is_named_and_is_none_is_refused(launch: Launch, verb: str) -> None:
    (launch.folder / "notes").write_text("")
    for name, fault in (("notes", "notes is a file, and no folder"), ("nowhere", "there is no folder nowhere")):
        assert f"{fault}: name the one that holds the runs" in launch(verb, "--runs", name, code=2).stderr
    assert launch(verb).stdout in ("no runs here yet\n", "nothing was spent yet\n")


def test_it_is_for_runs_that_are_there(launch: Launch) -> None:
    assert launch("clean").stdout == "no runs here yet\n"
    (launch.folder / "runs").mkdir()
    assert "there is no run 'train-x'" in launch("clean", "train-x", code=2).stderr
    assert "--checkpoints is for clean, not for status" in launch("status", "--checkpoints", code=2).stderr


def test_what_cannot_be_removed_is_an_error_and_the_rest_goes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    left = [Leftover(Path("/proc/self/status"), "not ours"), Leftover(put(tmp_path / "x"), "old")]
    assert _remove(left, dry=False) == FAILED
    out, err = capsys.readouterr()
    assert "error: /proc/self/status stays: Operation not permitted" in err
    assert "removed 1 thing, 1,000 B" in out and not (tmp_path / "x").exists()

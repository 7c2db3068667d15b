"""The context of a rank: its rank, and its share of the work."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpc.rank import context
from hpc.rank.context import Context, Input, Preempted, World, input_path
from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("environ", "world"),
    [
        ({}, World()),
        ({"HPC_RANK": "3", "HPC_SIZE": "4", "HPC_LOCAL_RANK": "1", "HPC_LOCAL_SIZE": "2"}, World(3, 4, 1, 2)),
        (
            {
                "SLURM_PROCID": "5",
                "SLURM_STEP_NUM_TASKS": "7",
                "SLURM_LOCALID": "0",
                "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
            },
            World(5, 7, 0, 2),
        ),
        # the batch script of a job is not a rank of it, although Slurm gives it a number
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, World()),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, World(1, 2, 0, 1)),
        # what our supervisor says goes before what Slurm says
        ({"HPC_RANK": "0", "HPC_SIZE": "1", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}, World()),
    ],
)
def test_the_world_is_read_from_what_started_us(environ: dict[str, str], world: World) -> None:
    assert World.from_env(environ) == world


def test_a_place_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no such rank in the world"):
        World(rank=2, size=2)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_together_are_all_the_work_each_once(size: int) -> None:
    work = list(range(5))
    assert sorted(item for rank in range(size) for item in World(rank, size).share(work)) == work


def test_progress_is_written_at_first_and_at_last_however_fast(tmp_path: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path))
    for done in range(1001):
        ctx.progress("train", done, 1000, loss=0.5)
    heartbeat = records.heartbeat(ctx.run, 0)
    assert (heartbeat["done"], heartbeat["total"], heartbeat["figures"]) == (1000, 1000, {"loss": 0.5})


def test_a_long_call_of_a_library_is_not_taken_to_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "BEAT_S", 0.05)
    ctx = Context(World(), RunDir(tmp_path))
    ctx.progress("ridge", 3, 10)
    before = records.heartbeat(ctx.run, 0)
    with ctx.beating():
        wait_for(lambda: records.heartbeat(ctx.run, 0)["time"] > before["time"])
    later = records.heartbeat(ctx.run, 0)
    assert (later["what"], later["done"]) == ("ridge", 3)
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_until_the_next_report_of_progress_a_rank_is_not_taken_to_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step compiles the network."""
    monkeypatch.setattr(context, "BEAT_S", 0.05)
    ctx = Context(World(), RunDir(tmp_path))
    ctx.progress("starting", 0, 0)
    before = records.heartbeat(ctx.run, 0)
    ctx.beat_until_progress()
    ctx.beat_until_progress()  # again: still one thread
    wait_for(lambda: records.heartbeat(ctx.run, 0)["time"] > before["time"])
    assert [thread.name for thread in threading.enumerate()].count("heartbeat") == 1
    ctx.progress("train", 1, 10)
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]
    ctx.progress("train", 2, 10)


def test_a_call_that_never_returns_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "BEAT_S", 0.05)
    ctx = Context(World(), RunDir(tmp_path))
    ctx.progress("ridge", 3, 10)
    before = records.heartbeat(ctx.run, 0)
    with ctx.beating(at_most_s=0.0):
        wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "heartbeat"])
        assert records.heartbeat(ctx.run, 0) == before


def test_a_call_that_outlives_its_attempt_writes_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "BEAT_S", 0.05)
    ctx = Context(World(), RunDir(tmp_path))
    ctx.progress("ridge", 3, 10)
    before = records.heartbeat(ctx.run, 0)
    ctx.run.attempt(2).path.mkdir(parents=True)
    with ctx.beating():
        wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "heartbeat"])
    assert records.heartbeat(ctx.run, 0) == before


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file in which nothing can be written, as on a full disk."""
    place = tmp_path / "full"
    place.symlink_to("/dev/full")
    return place


def test_what_must_be_written_waits_for_room_and_is_not_taken_to_hang(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(context, "FULL_S", 0.2)
    ctx = Context(World(), RunDir(tmp_path))
    ctx.progress("train", 7, 7)
    before = records.heartbeat(ctx.run, 0)["time"]

    def write() -> None:
        # it has said that it lives: now somebody makes room
        if records.heartbeat(ctx.run, 0)["time"] > before:
            full.unlink()
        full.write_text("model")

    with caplog.at_level(logging.ERROR):
        ctx.until_there_is_room(write)
    assert full.read_text() == "model"
    assert caplog.text.count("ALERT") == 1 and "No space left on device; waiting for room" in caplog.text


def test_who_waits_for_room_is_still_stopped(tmp_path: Path, full: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path), should_stop=lambda: True)
    with pytest.raises(Preempted):
        ctx.until_there_is_room(lambda: full.write_text("model"))


def test_an_input_is_a_run_or_a_path(tmp_path: Path) -> None:
    assert input_path(Input("train-abc"), tmp_path) == tmp_path / "train-abc" / "out"
    assert input_path(Input("data/bids"), tmp_path) == Path("data/bids")


def test_the_first_rank_ends_its_stage_when_all_are_done_and_no_other_waits(tmp_path: Path) -> None:
    """What it lists then is all that they have written."""
    run = RunDir(tmp_path)
    run.attempt(1).path.mkdir(parents=True)
    first, second = (Context(World(rank, 2, rank, 2), run, attempt=1) for rank in (0, 1))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.wait_until_all_are_done)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        second.wait_until_all_are_done()
        waiting.result(60)


@pytest.mark.parametrize("wait", [Context.wait_until_all_are_done, lambda ctx: ctx.gather(1)], ids=["end", "gather"])
def test_who_waits_for_others_does_not_hide_that_they_hang(
    wait: Callable[[Context], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that stood still in front of its end was never found: the first one waited, and beat."""
    run = RunDir(tmp_path)
    run.attempt(1).path.mkdir(parents=True)
    monkeypatch.setattr(context, "QUICK_S", 0.0)
    looks = iter([False] * 5 + [True] * 5)
    ctx = Context(World(0, 2, 0, 2), run, attempt=1, should_stop=lambda: next(looks))
    ctx.progress("count", 10, 10)
    before = records.heartbeat(run, 0)
    with pytest.raises(Preempted):
        wait(ctx)
    assert records.heartbeat(run, 0) == before


def test_who_is_asked_to_stop_does_not_wait_for_the_others(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.attempt(1).path.mkdir(parents=True)
    with pytest.raises(Preempted):
        Context(World(0, 2, 0, 2), run, attempt=1, should_stop=lambda: True).wait_until_all_are_done()

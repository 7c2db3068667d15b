"""Heartbeats: whole or absent for who reads them, and no burden to a disk that many share."""

import builtins
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.rank import context, heartbeat_writer
from hpc.rank.context import Backoff, Context, Fenced, World
from hpc.runs import heartbeats, records, status
from hpc.runs.heartbeats import SLOT_B, interval_s, record_of, slot_of
from hpc.runs.rundir import RunDir, append_line, write_json
from hpc.supervise.ranks import Ranks
from tests.waiting import wait_for

ON_CLUSTER = {"heartbeat_s": 10.0, "hang_s": 900}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "train-a")


def heartbeat(rank: int, done: int, attempt: int = 1, when: float = 1.0) -> dict[str, Any]:
    return {
        "rank": rank, "attempt": attempt, "time": when, "what": "train", "done": done, "total": 100, "host": "n1",
        "pid": 7, "began": 0.0, "from": 0, "figures": {"loss": 0.5},
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- readers


def test_a_slot_holds_what_was_said_and_never_more_than_its_room() -> None:
    short = heartbeat(3, 57)
    assert record_of(slot_of(short)) == short
    long = short | {"figures": {f"accuracy of class {number}": number / 7 for number in range(200)}, "what": "żółć"}
    read = record_of(slot_of(long)) or {}
    assert len(slot_of(long)) == SLOT_B
    assert (read["done"], read["what"]) == (57, "żółć") and 10 < len(read["figures"]) < 200
    endless = record_of(slot_of(short | {"what": "x" * 5000, "host": "y" * 5000})) or {}
    assert endless["done"] == 57 and endless["what"] == "x" * 80


def test_a_slot_that_is_half_written_is_read_again(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats.write(run, 0, {0: slot_of(heartbeat(0, 1)), 1: slot_of(heartbeat(1, 1))})
    torn = slot_of(heartbeat(1, 2))[:60]
    with open(run.node(0), "r+b") as file:
        file.seek(SLOT_B)
        file.write(torn)
    assert records.heartbeat(run, 0)["done"] == 1, "its neighbour is whole"
    assert records.heartbeat(run, 1) == {}, "whole or absent"

    def writer_goes_on(seconds: float) -> None:
        heartbeats.write(run, 0, {1: slot_of(heartbeat(1, 2))})

    monkeypatch.setattr(heartbeats.time, "sleep", writer_goes_on)
    assert records.all_heartbeats(run)[1]["done"] == 2


def test_who_reads_while_others_write_sees_no_mixture(run: RunDir) -> None:
    heartbeats.write(run, 0, {0: slot_of(heartbeat(0, 0) | {"pid": 0, "what": ""})})
    ended = threading.Event()

    def write() -> None:
        for done in itertools.count():
            if ended.is_set():
                return
            heartbeats.write(run, 0, {0: slot_of(heartbeat(0, done) | {"pid": done, "what": "x" * (done % 400)})})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [record for _ in range(500) if (record := records.heartbeat(run, 0))]
    finally:
        ended.set()
        writer.join()
    assert len(seen) > 400
    assert all(record["pid"] == record["done"] and len(record["what"]) == record["done"] % 400 for record in seen)


def test_a_rank_is_found_in_whatever_layout_it_ran_last(run: RunDir) -> None:
    heartbeats.write(run, 2, {0: slot_of(heartbeat(2, 5)), 1: slot_of(heartbeat(3, 5))})  # two nodes of two ranks
    heartbeats.write(run, 0, {rank: slot_of(heartbeat(rank, 8, attempt=2, when=2.0)) for rank in (0, 1, 2)})
    assert [records.heartbeat(run, rank).get("done") for rank in range(5)] == [8, 8, 8, 5, None]
    assert {rank: record["attempt"] for rank, record in records.all_heartbeats(run).items()} == {0: 2, 1: 2, 2: 2, 3: 1}


def test_a_run_of_an_earlier_version_is_still_read(run: RunDir) -> None:
    now = time.time()
    append_line_of_submission = {"job": str(os.getpid()), "time": now - 60, "kind": "local"}
    write_json(run.plan, {})
    run.jobs.mkdir()
    append_line(run.submissions, append_line_of_submission)
    supervisor = {"time": now, "state": "running", "code": None, "attempt": 1, "job": None, "label": "", "settings": ""}
    supervisor |= {"nodes": 1, "text": "", "host": os.uname().nodename, "pid": os.getpid(), "keeper": os.getpid()}
    write_json(run.supervisor, supervisor)
    for rank in (0, 1):
        former = {name: value for name, value in heartbeat(rank, 40 + rank, when=now).items() if name != "rank"}
        write_json(run.former_heartbeat(rank), former | {"began": now - 20})
    state = status.look(run)
    assert (state.word, state.done, state.total, state.per_s) == ("running", 40, 100, 2.0)
    assert {rank: record["done"] for rank, record in records.all_heartbeats(run).items()} == {0: 40, 1: 41}
    heartbeats.write(run, 0, {1: slot_of(heartbeat(1, 60, attempt=2, when=now + 1))})  # it was resumed today
    assert records.all_heartbeats(run)[1]["done"] == records.heartbeat(run, 1)["done"] == 60


@pytest.mark.parametrize("content", [b"", bytes(SLOT_B), b"\xff" * 3 * SLOT_B, b'00000000 {"rank": 0}'])
def test_a_file_that_a_power_cut_has_damaged_is_as_if_not_there(run: RunDir, content: bytes) -> None:
    run.node(0).parent.mkdir(parents=True)
    run.node(0).write_bytes(content)
    (run.node(0).parent / "node-x").touch()
    assert records.heartbeat(run, 0) == records.all_heartbeats(run) == {}


# ------------------------------------------------------------------------------------------------------------- writers


def test_the_ranks_of_a_node_share_one_file_that_one_of_them_writes(run: RunDir) -> None:
    ranks = [Context(World(rank, 4, rank - 2, 2), run) for rank in (2, 3)]
    for ctx in ranks:
        ctx.beat_in_background(ON_CLUSTER)
        ctx.progress("train", ctx.world.rank, 100)
    for ctx in ranks:
        ctx.heartbeats.close()
    assert [path.name for path in run.node(0).parent.iterdir()] == ["node-0002"]
    assert [records.heartbeat(run, rank)["done"] for rank in (2, 3)] == [2, 3]
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat writer"]


def test_training_itself_touches_no_disk_to_say_how_far_it_is(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = Context(World(0, 2, 0, 2), run, identity="a")
    run.path.mkdir()
    write_json(run.identity, {"id": "a"})
    ctx.beat_in_background(ON_CLUSTER)
    try:
        with counting(monkeypatch) as counts:
            for done in range(100):
                monkeypatch.setattr(ctx, "_written", -1e9)  # as if a second had passed
                ctx.progress("train", done, 1000, loss=0.5)
                ctx.beat()
        assert counts == {}
    finally:
        ctx.heartbeats.close()


def test_a_node_asks_the_disk_less_than_once_a_second_however_many_ranks_it_has(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of 8 ranks at 20 steps a second, on a clock of our own: the threads of the ranks take turns."""
    run.path.mkdir()
    write_json(run.identity, {"id": "a"})
    now = [1e6]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heartbeat_writer, "Thread", NoThread)
    node = [Context(World(rank, 8, rank, 8), run, identity="a") for rank in range(8)]
    for ctx in node:
        ctx.beat_in_background(ON_CLUSTER)
    due = {rank: now[0] for rank in range(8)}
    with counting(monkeypatch) as counts:
        for tick in range(3600):
            now[0] += 1.0
            for ctx in node:
                ctx.progress("train", tick * 20, 10**6, loss=0.5)
                ctx.fence(often=True)
                if now[0] >= due[ctx.world.rank]:
                    ctx.heartbeats._look()
                    due[ctx.world.rank] = now[0] + ctx.heartbeats.interval_s()
    for ctx in node:
        ctx.heartbeats.close()
    n_beats = counts["os.stat"]
    assert 340 <= n_beats <= 400, "each 10 s, more often in the first minute"
    assert sum(counts.values()) <= 4 * n_beats and sum(counts.values()) / 3600 < 0.5, counts
    done = [record["done"] for record in records.all_heartbeats(run).values()]
    assert len(done) == 8 and min(done) >= 3580 * 20, "who looks is at most ten seconds behind"


class NoThread:
    """In place of the thread of a heartbeat writer, which the test steps itself."""

    def __init__(self, **_: object) -> None: ...

    def start(self) -> None: ...

    def join(self, seconds: float) -> None: ...


RANK = """
import sys, time
from pathlib import Path
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir
rank = int(sys.argv[2])
ctx = Context(World(rank, 2, rank, 2), RunDir(sys.argv[1]))
ctx.beat_in_background({"heartbeat_s": 0.5, "hang_s": 900})
for done in range(10**6):
    ctx.progress("train", done, 10**6)
    time.sleep(0.05)
"""


@pytest.mark.ranks
def test_a_first_rank_that_is_stuck_does_not_silence_its_neighbours(run: RunDir) -> None:
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, run.folder, str(rank)]) for rank in (0, 1)]
    try:
        wait_for(lambda: all(records.heartbeat(run, rank).get("done", 0) > 5 for rank in (0, 1)))
        ranks[0].send_signal(signal.SIGSTOP)
        wait_for(lambda: Path(f"/proc/{ranks[0].pid}/stat").read_text().split()[2] == "T")
        stopped_at = records.heartbeat(run, 1)["done"]
        wait_for(lambda: records.heartbeat(run, 1)["done"] > stopped_at + 50, "a neighbour writes in its place")
        first = records.heartbeat(run, 0)["done"]
        wait_for(lambda: records.heartbeat(run, 1)["done"] > stopped_at + 70)
        assert records.heartbeat(run, 0)["done"] == first, "whoever looks sees who is late, and since when"
        for rank in ranks:
            rank.kill()
            rank.wait()
        left = set(heartbeat_writer.own_memory().glob("heartbeats-*"))
        heartbeat_writer.sweep(heartbeat_writer.own_memory())
        assert left - set(heartbeat_writer.own_memory().glob("heartbeats-*")), (
            "what killed ranks leave behind is swept by the next"
        )
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def test_without_memory_to_share_each_rank_writes_its_own_slot(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(heartbeat_writer, "own_memory", none)
    for rank in (0, 1):
        ctx = Context(World(rank, 2, rank, 2), run)
        ctx.beat_in_background(ON_CLUSTER)
        ctx.progress("train", 3 + rank, 100)
        ctx.heartbeats.close()
    assert [records.heartbeat(run, rank)["done"] for rank in (0, 1)] == [3, 4]


def test_a_rank_of_an_attempt_that_is_over_hears_it_from_its_thread(run: RunDir) -> None:
    one, other = (Context(World(rank, 2, rank, 2), run, attempt=1) for rank in (0, 1))
    for ctx in (one, other):
        ctx.beat_in_background({"heartbeat_s": 0.5, "hang_s": 900})
        ctx.progress("train", 1, 100)
    run.attempt(2).path.mkdir(parents=True)
    before = run.node(0).read_bytes() if run.node(0).exists() else b""
    for ctx in (one, other):
        with pytest.raises(Fenced, match="attempt 2 has begun"):
            wait_for(lambda ctx=ctx: ctx.say_how_far())  # type: ignore[misc]
    after = run.node(0).read_bytes() if run.node(0).exists() else b""
    assert after == before
    for ctx in (one, other):
        ctx.heartbeats.close()


# ----------------------------------------------------------------------------------------------------------- how often


def test_a_run_is_quick_at_first_and_a_burden_to_nobody_later() -> None:
    assert [interval_s(ON_CLUSTER, age_s) for age_s in (0, 3, 30, 60, 3600)] == [0.5, 0.5, 5.0, 10.0, 10.0]
    assert [interval_s({"heartbeat_s": 0.5, "hang_s": 900}, age_s) for age_s in (0, 3600)] == [0.5, 0.5]
    assert interval_s({}, 3600) == 0.5, "a plan of an earlier version"
    assert interval_s(ON_CLUSTER | {"hang_s": 20}, 3600) == 4.0, "a hang is more than one heartbeat that was missed"


def test_who_waits_for_hours_asks_ever_less_often_and_comes_little_too_late() -> None:
    wait, waited_s, n = Backoff(), 0.0, 0
    while waited_s < 3600:
        last_s = wait()
        assert last_s <= max(0.1, waited_s / 10) + 1e-9
        waited_s, n = waited_s + last_s, n + 1
    assert n < 420 and last_s == 10.0


def test_the_values_of_all_ranks_are_read_once_not_once_by_each(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    n, reads, real = 6, Counter[str](), context.read_json

    def read(path: Path) -> Any:
        reads[path.name] += 1
        return real(path)

    monkeypatch.setattr(context, "read_json", read)
    gathered: dict[int, list[list[Any]]] = {}

    def rank(number: int) -> None:
        ctx = Context(World(number, n), run)
        gathered[number] = [ctx.gather({"rank": number, "of": (1, 2)}), ctx.gather(number)]

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [[{"rank": number, "of": [1, 2]} for number in range(n)], list(range(n))]
    assert gathered == dict.fromkeys(range(n), expected)
    assert {name: count for name, count in reads.items() if name.startswith("rank-")} == {
        f"rank-{number:04d}.words-{time}.json": 1 for number in range(n) for time in (1, 2)
    }


@pytest.mark.parametrize("n_ranks", [8, 512])
def test_a_look_at_a_run_that_gets_on_costs_the_same_however_many_ranks_it_has(
    run: RunDir, n_ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for first in range(0, n_ranks, 8):
        heartbeats.write(run, first, {k: slot_of(heartbeat(first + k, 5, when=now)) for k in range(8)})
    ranks = Ranks.__new__(Ranks)
    ranks.run, ranks.folder, ranks.attempt, ranks.heard_since = run, run.attempt(1), 1, now - 3600
    ranks.resources, ranks._passes = {"nodes": n_ranks // 8, "ranks_per_node": 8, "hang_s": 900}, itertools.count()
    with counting(monkeypatch) as counts:
        assert ranks.hang_s(records.heartbeat(run, 0)) == 0.0
        ranks.cut_logs()
    assert sum(counts.values()) <= 6
    silent = {k: slot_of(heartbeat(k, 5, when=now - 3600)) for k in range(8)}
    heartbeats.write(run, 0, silent)
    assert bool(ranks.hang_s(records.heartbeat(run, 0))) == (n_ranks == 8), (
        "before it is called a hang, all nodes are heard"
    )
    assert len(ranks.heartbeats()) == n_ranks


class counting:  # noqa: N801  reads as what it does: with counting(…) as counts
    """Count the calls that ask a disk for a name, from any thread."""

    CALLS = ((builtins, "open"), (os, "open"), (os, "stat"), (os, "lstat"), (os, "replace"), (os, "rename"),
             (os, "mkdir"), (os, "listdir"), (os, "scandir"), (os, "unlink"))  # fmt: skip

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self.counts = monkeypatch, Counter[str]()

    def __enter__(self) -> Counter[str]:
        for module, name in self.CALLS:
            self._patch.setattr(module, name, self._counted(f"{module.__name__}.{name}", getattr(module, name)))
        return self.counts

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if not str(args[0]).startswith("/dev/shm"):
                self.counts[name] += 1
            return real(*args, **named)

        return call

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

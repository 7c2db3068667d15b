"""Which rank the others wait for: from what torch records of collectives, in ranks that really hang."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.runs.rundir import RunDir, write_json
from hpc.supervise import diagnosis, flight_recorder
from hpc.supervise.flight_recorder import Late
from hpc.supervise.ranks import Ranks
from tests.conftest import ROOT
from tests.waiting import wait_for

Record = dict[str, Any]


def entry(
    number: int, operation: str = "all_reduce", backend: str = "nccl", ended: bool = True, **other: Any
) -> Record:
    """A collective, as torch 2.13 writes it."""
    usual = {
        "collective_seq_id": number, "process_group": ["0", "default_pg"], "profiling_name": f"{backend}:{operation}",
        "is_p2p": False, "state": "completed" if ended else "scheduled", "retired": ended, "input_sizes": [[25, 4]],
        "input_dtypes": ["Float"],
    }  # fmt: skip
    return usual | other


def record(*entries: Record) -> Record:
    return {"entries": list(entries)}


IN_9 = record(entry(8), entry(9, ended=False))
BEFORE_9 = record(entry(7), entry(8))


def test_the_rank_that_is_in_no_collective_is_late() -> None:
    why = "it has not entered all_reduce 9 of nccl (25x4 float), where 2 ranks wait"
    assert flight_recorder.late({0: IN_9, 1: IN_9, 2: BEFORE_9}) == Late(2, why)


def test_a_rank_that_waits_itself_is_not_the_cause_of_others_waiting() -> None:
    """Rank 0 waits for 1 in gloo, and 1 for 2 in NCCL."""
    of_gloo = entry(50, backend="gloo"), entry(51, backend="gloo", ended=False)
    ranks = {
        0: record(entry(8), *of_gloo),
        1: record(entry(8), entry(9, ended=False), of_gloo[0]),
        2: record(entry(8), of_gloo[0]),
    }
    late = flight_recorder.late(ranks)
    assert late is not None and late.rank == 2


def test_a_rank_that_writes_nothing_is_late_if_others_wait() -> None:
    why = "it does not react at all, and 2 ranks wait in a collective"
    assert flight_recorder.late({0: IN_9, 1: None, 2: IN_9}) == Late(1, why)
    assert flight_recorder.late({0: BEFORE_9, 1: None}) is None


def test_a_gpu_that_has_not_begun_is_late() -> None:
    begun = record(entry(9, state="started", ended=False))
    begun["entries"][0]["state"] = "started"
    why = "its GPU has not begun all_reduce 9 of nccl (25x4 float), which others have: it is busy with what came before"
    assert flight_recorder.late({0: begun, 1: IN_9, 2: begun}) == Late(1, why)


def test_ranks_in_unlike_collectives_have_taken_unlike_branches() -> None:
    odd = record(entry(8), entry(9, "broadcast", ended=False))
    why = (
        "it is in broadcast 9 of nccl (25x4 float), where 2 ranks wait in all_reduce 9 of nccl (25x4 float): they took "
        "another branch"
    )
    assert flight_recorder.late({0: IN_9, 1: IN_9, 2: odd}) == Late(2, why, of_program=True)


def test_no_rank_is_accused_where_all_are_in_the_same_collective(tmp_path: Path) -> None:
    late = flight_recorder.late({0: IN_9, 1: IN_9})
    assert late is not None and late.rank is None
    heartbeat = {"rank": 0, "host": "n1", "what": "train", "done": 3, "total": 9, "silent_s": 900.0}
    folder = RunDir(tmp_path).attempt(1)
    assert diagnosis.hung(heartbeat | {"collectives": late.why, "everybody": True}, folder) == (
        "no rank made progress for 900 s: all are in all_reduce 9 of nccl (25x4 float), and it does not end: the "
        f"network between them, or the GPU of one; last progress train 3/9; stacks: {folder.path}/rank-*.stacks",
        "this machine",
        "program",
    )


def test_a_branch_of_the_program_is_not_its_nodes_fault(tmp_path: Path) -> None:
    heartbeat = {"rank": 2, "host": "n2", "what": "train", "done": 3, "total": 9, "silent_s": 900.0}
    of = {"collectives": "it is in another one", "everybody": False}
    assert diagnosis.hung(heartbeat | of | {"of_program": True}, RunDir(tmp_path).attempt(1)).node == ""
    assert diagnosis.hung(heartbeat | of | {"of_program": False}, RunDir(tmp_path).attempt(1)).node == "n2"


def test_ranks_that_are_in_no_collective_tell_nothing() -> None:
    assert flight_recorder.late({0: BEFORE_9, 1: BEFORE_9}) is None
    assert flight_recorder.late({}) is None


@pytest.mark.parametrize(
    "damaged",
    [
        [], {"entries": 7}, {"entries": ["x", None, {}]}, record(entry(9, process_group=None)),
        record(entry(9, collective_seq_id="9")), record(entry(9, profiling_name=7)),
    ],
)  # fmt: skip
def test_what_is_no_record_of_torch_is_taken_for_none(damaged: Any) -> None:
    late = flight_recorder.late({0: IN_9, 1: damaged})
    assert late is not None and late.rank == 1
    odd = record(entry(9, ended=False, input_sizes=7, input_dtypes=[]))
    assert flight_recorder.late({0: odd, 1: odd}) is not None


RANK = """
import json, sys, threading, time
from pathlib import Path
import torch
import torch.distributed as dist
from hpc.rank import ddp, signals
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir

rank, size, late, run = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), RunDir(Path(sys.argv[4]))
signals.write_stacks_to(open(run.attempt(1).stacks(rank), "w"))
ctx = Context(World(rank, size, rank, size), run, attempt=1, host=f"n{rank}")
ddp.start(ctx)
ddp.total(torch.ones(3))
ctx.progress("train", 1, 9)

def ready_once_it_waits():
    while rank != late and not any(
        not entry["retired"] for entry in json.loads(torch._C._distributed_c10d._dump_fr_trace_json())["entries"]
    ):
        time.sleep(0.05)
    (run.path / f"ready-{rank}").touch()

threading.Thread(target=ready_once_it_waits).start()
if rank == late:
    time.sleep(3600)
work = dist.all_reduce(torch.ones(3), async_op=True)
work.wait()
"""


@pytest.mark.ranks
@pytest.mark.parametrize("stopped", [False, True], ids=["busy elsewhere", "does not react"])
def test_ranks_that_hang_write_what_they_wait_for(tmp_path: Path, stopped: bool) -> None:
    """Their stacks are of no use: every rank waits outside of hpc and torch's Python, as with NCCL."""
    ranks = Ranks.__new__(Ranks)
    ranks.run, ranks.attempt, ranks.folder = RunDir(tmp_path), 1, RunDir(tmp_path).attempt(1)
    ranks.servers = None
    ranks.resources, ranks._under_mpiexec = {"nodes": 1, "ranks_per_node": 3}, False
    ranks.folder.path.mkdir(parents=True)
    write_json(ranks.run.plan, {"site": {"name": "x", "kind": "local"}, "resources": {}, "asked": {}})
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks.processes = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), "3", "1", str(tmp_path)], env=environ)
        for rank in range(3)
    ]
    try:
        wait_for(lambda: all((tmp_path / f"ready-{rank}").exists() for rank in range(3)))
        if stopped:
            ranks.processes[1].send_signal(signal.SIGSTOP)
        late = ranks.late()
    finally:
        for process in ranks.processes:
            process.kill()
            process.wait()
    assert (late["rank"], late["host"], late["everybody"]) == (1, "n1", False)
    if stopped:
        assert late["collectives"] == "it does not react at all, and 2 ranks wait in a collective"
    else:
        assert late["collectives"] == "it has not entered all_reduce 2 of gloo (3 float), where 2 ranks wait"
        assert "Thread" in ranks.folder.stacks(0).read_text()  # as before
    why = diagnosis.hung(late | {"silent_s": 900.0}, ranks.folder)
    assert why.node == "n1"
    assert why.why.startswith(
        f"no rank made progress for 900 s, because of rank 1 on n1: {late['collectives']}; last pr"
    )

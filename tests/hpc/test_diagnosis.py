"""Whether another attempt makes sense, and where."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.runs import heartbeats, records
from hpc.runs.rundir import AttemptDir, RunDir, append_line, write_json
from hpc.supervise import diagnosis
from hpc.supervise.ranks import KEPT_MB, LOG_MB, Ranks


def line(
    why: str = "",
    got_on: bool = False,
    node: str = "",
    outcome: str = "crashed",
    code: int = 1,
    at: int | None = None,
    fault: str = "program",
) -> dict[str, Any]:
    found = {"outcome": outcome, "why": why, "got_on": got_on, "node": node, "from_step": 7, "codes": [code]}
    return found | {"at": at, "fault": fault}


@pytest.mark.parametrize(
    ("lines", "hopeless"),
    [
        ([line("KeyError")], False),
        ([line("KeyError"), line("KeyError")], True),  # the same, at the same step
        ([line("KeyError"), line("another")], False),
        ([line("KeyError", got_on=True, at=9), line("KeyError", at=9)], True),  # it had saved before
        ([line("KeyError", got_on=True, at=9), line("KeyError", at=8)], False),
        ([line("KeyError"), line("KeyError", got_on=True)], False),
        ([line("a bad value", code=93)], True),  # wrong for good
        ([line("SIGKILL", node="n1"), line("SIGKILL", node="n1")], False),  # it may be the node
        ([line("SIGKILL", node=f"n{number}") for number in range(3)], True),  # too often, wherever
        ([line("SIGKILL", node="n1", got_on=True) for _ in range(9)], False),  # as long as it gets on
        ([line("ECC", node=f"n{number}", fault="node") for number in range(2)], False),  # another node would do
        ([line("out of memory", fault="user")], True),  # it would be the same anywhere
    ],
)
def test_the_budget_is_of_attempts_that_save_nothing(lines: list[dict[str, Any]], hopeless: bool) -> None:
    assert diagnosis.hopeless(lines) == hopeless


def test_jobs_that_end_before_anything_is_saved_are_counted() -> None:
    short = line(outcome="stopped") | {"walltime": True}
    good, asked = short | {"got_on": True}, short | {"walltime": False}
    assert diagnosis.too_short([good, short, short]) == 2
    assert diagnosis.too_short([short, asked, short]) == diagnosis.too_short([short, line("SIGKILL"), short]) == 1
    assert diagnosis.too_short([short, short, good]) == 0


def test_a_node_is_bad_when_it_failed_twice_in_a_row() -> None:
    assert diagnosis.bad_nodes([line(node="n1"), line(node="n2"), line(node="n1")]) == ["n1"]
    assert diagnosis.bad_nodes([line(node="n1"), line(node="n1", got_on=True), line(node="n1")]) == []


def test_broken_hardware_is_enough_by_itself_and_is_remembered() -> None:
    broken = line("ECC", got_on=True, node="n3", fault="node")
    assert diagnosis.bad_nodes([broken]) == ["n3"]
    assert diagnosis.bad_nodes([broken, line("KeyError", got_on=True)]) == ["n3"]  # a later requeue keeps off it too
    assert diagnosis.bad_nodes([line("SIGKILL", node="this machine")] * 3) == []  # no name of a node


def test_attempts_before_the_last_submission_do_not_count(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.jobs.mkdir()
    for started, submitted in ((2.0, 1.0), (6.0, 5.0)):
        append_line(run.submissions, {"time": submitted})
        append_line(run.attempts, line("KeyError") | {"started": started})
    assert [one["started"] for one in diagnosis.since_submission(run)] == [6.0]


def test_the_cause_is_not_the_neighbour_that_lost_its_connection(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).attempt(1)
    for rank, error in enumerate(["RuntimeError: gloo: Connection reset", "KeyError: 'x'"]):
        write_json(folder.error(rank), {"rank": rank, "host": f"n{rank}", "error": error})
    assert diagnosis.crashed(folder, [1]) == ("rank 1 on n1: KeyError: 'x'", "", "program")


def test_a_killed_rank_is_laid_to_its_node(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).attempt(1)
    write_json(folder.error(0), {"rank": 0, "host": "n1", "error": "RuntimeError: gloo: Connection closed by peer"})
    folder.srun.write_text("srun: error: n3: task 2: Killed\nsrun: error: n1: task 0: Terminated\n")
    assert diagnosis.crashed(folder, [137]) == ("a rank was ended by SIGKILL on n3", "n3", "program")


NEIGHBOUR_LOST = (
    "DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, remote process exited or "
    "there was a network error, NCCL version 2.21.5\nncclRemoteError: A call failed possibly due to a network error or "
    "a remote process exiting prematurely.\nLast error:\nsocketProgressOpt: Call to recv from 10.0.0.3<33759> failed : "
    "Connection reset by peer"
)
ECC = (
    "AcceleratorError: CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously "
    "reported at some other API call, so the stacktrace below might be incorrect."
)
TIMEOUT = (
    "[rank0]:[E1218 20:27:21.426415540 ProcessGroupNCCL.cpp:629] [Rank 0] Watchdog caught collective operation "
    "timeout: WorkNCCL(SeqNum=1, OpType=BROADCAST, NumelIn=4, NumelOut=4, Timeout(ms)=600000) ran for 600081 "
    "milliseconds before timing out."
)
WATCHDOG_OF_A_BROKEN_GPU = (
    "[rank2]:[E709 17:05:39.083402482 ProcessGroupNCCL.cpp:1899] [PG ID 0 PG GUID 0(default_pg) Rank 2] Process group "
    "watchdog thread terminated with exception: CUDA error: uncorrectable ECC error encountered"
)


def failed(tmp_path: Path, errors: dict[int, str], logs: dict[int, str] | None = None) -> AttemptDir:
    folder = RunDir(tmp_path).attempt(1)
    for rank, error in errors.items():
        write_json(folder.error(rank), {"rank": rank, "host": f"n{rank}", "error": error})
    for rank, text in (logs or {}).items():
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.log(rank).write_text(text)
    return folder


HOSTS = {rank: f"n{rank}" for rank in range(4)}


def test_a_broken_gpu_is_its_nodes_and_not_that_of_the_rank_that_complains_first(tmp_path: Path) -> None:
    folder = failed(tmp_path, {0: NEIGHBOUR_LOST, 3: ECC})
    cause = diagnosis.crashed(folder, [1], HOSTS)
    assert cause.why.startswith("rank 3 on n3: AcceleratorError: CUDA error: uncorrectable ECC error encountered")
    assert cause.why.endswith("(memory of that GPU is broken)")
    assert (cause.node, cause.fault) == ("n3", "node")


def test_what_nccls_watchdog_ended_is_read_from_its_log(tmp_path: Path) -> None:
    folder = failed(tmp_path, {0: NEIGHBOUR_LOST}, {2: f"step 5\n{WATCHDOG_OF_A_BROKEN_GPU}\nTHE END\n", 1: TIMEOUT})
    assert diagnosis.crashed(folder, [1, -6, -6, 0], HOSTS) == (
        "rank 2 on n2 died: Process group watchdog thread terminated with exception: CUDA error: uncorrectable ECC "
        "error encountered (memory of that GPU is broken)",
        "n2",
        "node",
    )


def test_a_rank_that_only_complains_is_never_accused(tmp_path: Path) -> None:
    everybody = failed(tmp_path / "all", dict.fromkeys(range(4), NEIGHBOUR_LOST))
    cause = diagnosis.crashed(everybody, [1], HOSTS)
    assert cause.why.startswith(
        "4 ranks lost the others, and none says why: the network, or a node; rank 0 complains: "
    )
    assert (cause.node, cause.fault) == ("this machine", "neighbour")
    assert not diagnosis.hopeless([line(cause.why, node=cause.node)] * 2)
    folder = failed(tmp_path / "one", {0: NEIGHBOUR_LOST, 3: NEIGHBOUR_LOST}, {1: TIMEOUT})
    cause = diagnosis.crashed(folder, [1, -6, 1, 1], HOSTS)
    assert cause.why.startswith("rank 2 on n2 ended without a word; rank 0 complains: DistBackendError: NCCL error")
    assert cause.node == "n2"
    assert diagnosis.crashed(folder, [-6], HOSTS) == cause  # of a rank that is not known: that of the watchdog


def test_an_abort_counts_as_a_signal(tmp_path: Path) -> None:
    folder = failed(tmp_path, {0: NEIGHBOUR_LOST}, {3: "terminate called without an active exception\n"})
    folder.srun.write_text(
        "srun: error: n3: task 3: Aborted (core dumped)\nsrun: error: n0: task 0: Exited with exit code 1\n"
    )
    assert diagnosis.crashed(folder, [134], HOSTS) == ("a rank was ended by SIGABRT on n3", "n3", "program")


def test_what_the_kernel_noted_tells_the_node_from_the_program(tmp_path: Path) -> None:
    folder = RunDir(tmp_path).attempt(1)
    error = "AcceleratorError: CUDA error: an illegal memory access was encountered"
    report = {"rank": 1, "host": "n1", "error": error}
    write_json(folder.error(1), report | {"notes": ["NVRM: Xid (PCI:0000:1a:00): 31, pid=9, MMU Fault"]})
    assert diagnosis.crashed(folder, [1], HOSTS).fault == "program"  # so says Xid 31
    write_json(folder.error(1), report | {"notes": ["NVRM: Xid (PCI:0000:1a:00): 94, pid=9, Contained ECC error"]})
    assert diagnosis.crashed(folder, [1], HOSTS) == (
        f"rank 1 on n1: {error} (Xid 94: memory of that GPU is broken); NVRM: Xid (PCI:0000:1a:00): 94, pid=9, "
        "Contained ECC error",
        "n1",
        "node",
    )


@pytest.mark.parametrize(
    ("words", "silent_s", "hangs"),
    [
        ([], 60, False),
        ([], 100, True),  # srun, or a disk, never let them live
        (["starting", "starting"], 60, False),
        (["starting", "starting"], 400, True),  # they live, and hang before the first step
        (["begun", "begun"], 400, False),  # a stage that says nothing
        (["begun"], 400, True),  # but for one that never came
        (["begun", "starting"], 400, True),
        (["train", "starting"], 20, True),
        (["begun", "train"], 5, False),
    ],
)
def test_from_its_first_word_a_rank_is_taken_to_hang_when_it_is_silent(
    tmp_path: Path, words: list[str], silent_s: float, hangs: bool
) -> None:
    ranks = Ranks.__new__(Ranks)
    ranks.run, ranks.attempt, ranks.heard_since = RunDir(tmp_path), 1, time.time() - silent_s
    ranks.resources = {"nodes": 1, "ranks_per_node": 2, "hang_s": 10}
    for rank, what in enumerate(words):
        heartbeat = {"rank": rank, "what": what, "attempt": 1, "time": time.time() - silent_s}
        heartbeats.write(ranks.run, rank, {0: heartbeats.slot_of(heartbeat)})
    assert bool(ranks.hang_s(records.heartbeat(ranks.run, 0))) == hangs


def test_a_log_that_grows_for_ever_is_cut(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log = run.attempt(1).log(0)
    log.parent.mkdir(parents=True)
    with open(log, "wb") as file:
        file.truncate(int((LOG_MB + 1) * 1e6))  # a hole: takes no room
        file.seek(0, 2)
        file.write(b"the last word\n")
    ranks = Ranks.__new__(Ranks)
    ranks.folder, ranks.resources = run.attempt(1), {"nodes": 1, "ranks_per_node": 1}
    ranks._passes = itertools.count()
    ranks.cut_logs()
    text = log.read_bytes()
    assert text.startswith(b"[cut here:") and text.endswith(b"the last word\n") and len(text) < (KEPT_MB + 1) * 1e6

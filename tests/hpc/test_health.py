"""Nodes are looked at before the first step: what makes one sick, what does not, and what a node sees of itself."""

import errno
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from hpc.codes import NEVER, STOPPED
from hpc.runs.rundir import append_line, read_lines
from hpc.supervise import diagnosis, health
from hpc.supervise.health import Health, judge, sentence
from hpc.supervise.node_check import MARK, Disk, Node, Peer
from tests.conftest import ROOT, Launch
from tests.hpc.test_supervisor import Kept, program

ASKED: dict[str, Any] = {"nodes": 3, "mem_gb": 8, "scratch_gb": 0, "gpus_per_node": 0, "stage": "auto", "account": ""}
SCRATCH = Disk("its scratch", "/scratch", 100.0)


def nodes(n: int = 3, **of_second: Any) -> list[Node]:
    """Nodes that are well, but what is said of the second."""
    well = {"disks": [Disk("the run folder", "/runs/a", 50.0), SCRATCH], "available_gb": 60.0, "total_gb": 64.0}
    return [Node(f"n{number}", **(well | (of_second if number == 2 else {}))) for number in range(1, n + 1)]


def test_nodes_that_are_well_say_nothing() -> None:
    assert judge(nodes(), ASKED) == Health()


@pytest.mark.parametrize(
    ("of_second", "why"),
    [
        (
            {"disks": [Disk("its scratch", "/scratch", 0.0, "Read-only file system", errno.EROFS)]},
            "it cannot write to its scratch /scratch (Read-only file system)",
        ),
        ({"disks": [Disk("its scratch", "/scratch", 0.01)]}, "its scratch /scratch has 0.01 GB free"),
        (
            {"disks": [Disk("the run folder", "/runs/a", 0.0, "Stale file handle", errno.ESTALE)]},
            "it cannot write to the run folder /runs/a (Stale file handle)",
        ),
        ({"available_gb": 2.0}, "2.0 GB of its memory are free, where 8 were asked for: something else takes it"),
        ({"gpu_faults": ["3 of 4 GPUs are there"]}, "3 of 4 GPUs are there"),
        ({"fabric_error": "no network interface of this node begins with ib0"}, "no network interface of this node"),
    ],
)
def test_a_sick_node_is_named_with_the_evidence(of_second: dict[str, Any], why: str) -> None:
    judged = judge(nodes(**of_second), ASKED)
    assert list(judged.sick) == ["n2"] and sentence(judged.sick).startswith(f"n2 is sick: {why}")


def test_less_scratch_than_was_asked_for_is_said_with_both_numbers() -> None:
    judged = judge(nodes(disks=[Disk("its scratch", "/scratch", 3.0)]), ASKED | {"scratch_gb": 50})
    assert judged.sick == {"n2": "its scratch /scratch has 3.00 GB free, where 50 were asked for"}
    assert judge(nodes(), ASKED | {"scratch_gb": 100}) == Health()


def test_what_all_nodes_have_is_no_nodes_fault() -> None:
    full = [
        Node(f"n{n}", [Disk("its scratch", "/scratch", 0.0, "No such file or directory", errno.ENOENT)]) for n in (1, 2)
    ]
    judged = judge(full, ASKED)
    assert judged.sick == {} and judged.notes == [
        "all 2 nodes: it cannot write to its scratch /scratch (No such file or directory)"
    ]


def test_a_full_quota_of_the_run_folder_is_no_nodes_fault() -> None:
    judged = judge(nodes(disks=[Disk("the run folder", "/runs/a", 0.0, "Disk quota exceeded", errno.EDQUOT)]), ASKED)
    assert judged == Health()


def test_a_single_node_is_sick_only_of_what_needs_no_comparison() -> None:
    absent = Disk("its scratch", "/scratch", 0.0, "No such file or directory", errno.ENOENT)
    judged = judge([Node("n1", [absent])], ASKED)
    assert judged.sick == {} and "n1: it cannot write to its scratch" in judged.notes[0]
    broken = Disk("its scratch", "/scratch", 0.0, "Input/output error", errno.EIO)
    assert list(judge([Node("n1", [broken])], ASKED).sick) == ["n1"]


def test_what_cannot_be_looked_at_is_not_held_against_a_node() -> None:
    judged = judge(nodes(disks=[], available_gb=None, total_gb=None, gpu_faults=None, late=["/scratch"]), ASKED)
    assert judged.sick == {} and judged.notes == ["n2: no answer within 2.5 s of /scratch"]
    assert judge(nodes(available_gb=4.0, total_gb=6.0), ASKED).sick == {}, "it never had what was asked for"


def ring(*ways: tuple[int, int, float, str]) -> list[Node]:
    return [Node(f"n{one}", peer=Peer(f"n{other}", mb_s, error)) for one, other, mb_s, error in ways]


def test_a_node_whose_two_ways_are_bad_is_sick_of_the_network() -> None:
    judged = judge(ring((1, 2, 0.0, "timed out"), (2, 3, 9.0, ""), (3, 4, 900.0, ""), (4, 1, 800.0, "")), ASKED)
    assert judged.sick == {
        "n2": "it is not reached at speed over the network: from n1 timed out, to n3 9.0 MB/s, where others have 900"
    }


@pytest.mark.parametrize(
    "ways",
    [
        [(1, 2, 0.0, "timed out"), (2, 3, 900.0, ""), (3, 1, 900.0, "")],  # one way: either end
        [(1, 2, 0.0, "timed out"), (2, 1, 0.0, "timed out")],
        [(1, 2, 0.0, "refused"), (2, 3, 0.0, "refused"), (3, 1, 0.0, "refused")],
    ],
)
def test_a_way_that_is_bad_and_may_be_due_to_either_end_is_noted_only(ways: list[tuple[int, int, float, str]]) -> None:
    judged = judge(ring(*ways), ASKED)
    assert judged.sick == {} and any("from n1 to n2" in note for note in judged.notes)


def test_a_clock_is_wrong_only_as_far_as_messages_can_tell() -> None:
    at = {"n1": (-0.01, 0.2), "n2": (44.0, 45.0), "n3": (-3.0, 0.1)}
    judged = judge(nodes(), ASKED, at)
    assert list(judged.sick) == ["n2"] and "ahead of the other nodes'" in judged.sick["n2"]
    unsure = at | {"n2": (-50.0, 60.0)}
    assert judge(nodes(), ASKED, unsure) == Health(), "the message took a minute"
    between_two = judge(nodes(2), ASKED, {"n1": (0.0, 0.1), "n2": (44.0, 45.0)})
    assert between_two.sick == {} and between_two.notes, "which of the two is wrong?"


def test_a_sick_node_is_left_out_and_costs_no_attempt_of_the_program() -> None:
    line = {"outcome": "sick", "codes": [], "why": "n2 is sick", "node": "n2,n4", "fault": "node", "got_on": False}
    crashed = {"outcome": "crashed", "codes": [1], "why": "x", "node": "", "fault": "program", "got_on": False}
    lines: Any = [crashed | {"from_step": 0}, line | {"from_step": 0}, crashed | {"from_step": 0}]
    assert diagnosis.bad_nodes(lines) == ["n2", "n4"]
    assert len(diagnosis.in_vain(lines)) == 2


SRUN = """#!{python}
# Stands in for srun: a task on each of three "nodes", whose lines come as they are written; all read the same stdin
import os, subprocess, sys, threading
words = sys.argv[1:]
look = words[words.index(sys.executable):]
tasks = [
    subprocess.Popen(look, stdin=subprocess.PIPE, env=dict(os.environ, SLURMD_NODENAME=f"n{{n}}")) for n in (1, 2, 3)
]
for line in sys.stdin.buffer:
    for task in tasks:
        task.stdin.write(line), task.stdin.flush()
for task in tasks:
    task.stdin.close()
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture
def three_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scratch for each node, and an srun that calls three processes nodes."""
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin/srun"
    srun.write_text(SRUN.format(python=sys.executable))
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    for number in (1, 2, 3):
        (tmp_path / f"scratch/n{number}").mkdir(parents=True)
    return tmp_path


def look(folder: Path, **resources: Any) -> Health:
    site = {"storage": {"scratch_local": [f"{folder}/scratch/$SLURMD_NODENAME"]}, "gpu": "nvidia", "fabric": ""}
    return health.look(folder, {"site": site}, ASKED | {"mem_gb": 0.1} | resources)


def test_three_nodes_look_at_themselves_and_at_each_other(three_nodes: Path) -> None:
    before = sorted(three_nodes.rglob("*"))
    assert look(three_nodes) == Health()
    assert sorted(three_nodes.rglob("*")) == before, "they leave nothing behind"
    (three_nodes / "scratch/n2").rmdir()
    (three_nodes / "scratch/n2").touch()
    assert look(three_nodes).sick == {
        "n2": f"it cannot write to its scratch {three_nodes}/scratch/n2 (Not a directory)"
    }
    assert look(three_nodes, stage="off").sick == {}, "the run does not use it"


def test_nodes_that_do_not_answer_are_noted_and_nothing_more(
    three_nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (three_nodes / "bin/srun").write_text("#!/bin/sh\necho 'srun: error: no way' >&2\nexit 1\n")
    assert look(three_nodes) == Health(notes=["3 of 3 nodes could not be looked at: srun: error: no way"])
    (three_nodes / "bin/srun").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(health, "START_S", 0.2)
    monkeypatch.setattr(health, "ANSWER_S", 0.2)
    assert look(three_nodes) == Health(notes=["3 of 3 nodes could not be looked at"])


def test_an_answer_counts_though_its_node_has_ended_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine where this process has to wait for a core."""
    read = health._read

    def late(stream: Iterable[str], take: Callable[[str], object]) -> None:
        lines = list(stream)
        time.sleep(0.5)
        read(lines, take)

    monkeypatch.setattr(health, "_read", late)
    disks = {"storage": {"scratch_local": [str(tmp_path / "nowhere/file")]}, "gpu": "nvidia", "fabric": ""}
    (tmp_path / "nowhere").touch()
    assert list(health.look(tmp_path, {"site": disks}, ASKED | {"nodes": 1, "mem_gb": 0.1}).sick.values()) == [
        f"it cannot write to its scratch {tmp_path}/nowhere/file (Not a directory)"
    ]


def test_a_stop_that_is_requested_ends_the_looks(three_nodes: Path) -> None:
    (three_nodes / "bin/srun").write_text("#!/bin/sh\nexec sleep 60\n")
    assert health.look(three_nodes, {"site": {}}, ASKED, over=lambda: True) == Health()


def test_the_look_imports_nothing_heavy_and_prints_one_line(tmp_path: Path) -> None:
    task = json.dumps({"run": str(tmp_path), "scratch": ["$NOT_SET/x"], "n_gpus": 0}) + "\n"
    code = "import sys, hpc.supervise.node_check as check, os; check.main(os.environ); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=task, capture_output=True, text=True, cwd=ROOT, check=True
    )
    line, modules = done.stdout.splitlines()
    node = Node.from_json(json.loads(line.removeprefix(MARK)))
    assert {disk.path for disk in node.disks} >= {str(tmp_path)} and not any(disk.error for disk in node.disks)
    assert not {"torch", "numpy", "omegaconf", "yaml", "asyncio"} & set(modules.split())


SICK = {"started": 9e9, "ended": 9e9, "outcome": "sick", "codes": [], "node": "n9", "fault": "node", "why": "x"}


@pytest.fixture
def on_n9(launch: Launch) -> Kept:
    """A job on the node n9, whose disk for copies is no folder."""
    kept = Kept(launch, "bed")
    plan = json.loads(kept.run.plan.read_text())
    (launch.folder / "disk").touch()
    plan["resources"]["stage"] = str(launch.folder / "disk")
    kept.run.plan.write_text(json.dumps(plan))
    kept.environ["SLURMD_NODENAME"] = "n9"
    kept.ranks_do("exit 93")
    program(kept.said / "sinfo", "echo n8 idle; echo n9 mix; echo n7 down*")
    return kept


def events(kept: Kept) -> str:
    return "\n".join(event["text"] for event in read_lines(kept.run.events))


def test_a_job_leaves_its_only_node_if_that_is_sick(on_n9: Kept) -> None:
    assert on_n9()[0] == STOPPED
    (attempt,) = read_lines(on_n9.run.attempts)
    assert (attempt["outcome"], attempt["node"], attempt["fault"]) == ("sick", "n9", "node")
    assert "n9 is sick: it cannot write to its scratch" in attempt["why"] and "Not a directory" in attempt["why"]
    requeue, update = (on_n9.said / "scontrol.said").read_text().splitlines()[:2]
    assert requeue == "requeue 7" and update.endswith("ExcNodeList=n9")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"before": 2}, "handed back 2 times before"),
        ({"options": {"nodelist": "n9"}}, "--nodelist wants it"),
        ({"sinfo": "echo n9 mix; echo n7 down; echo n8 idle*"}, "there are not enough other nodes"),
    ],
)
def test_where_handing_back_cannot_help_the_run_goes_on(on_n9: Kept, given: dict[str, Any], why: str) -> None:
    for _ in range(given.get("before", 0)):
        append_line(on_n9.run.attempts, SICK)
    plan = json.loads(on_n9.run.plan.read_text())
    plan["resources"]["options"] |= given.get("options", {})
    on_n9.run.plan.write_text(json.dumps(plan))
    program(on_n9.said / "scontrol", 'test "$2" != hostnames || echo n9')
    if "sinfo" in given:
        program(on_n9.said / "sinfo", given["sinfo"])
    assert on_n9()[0] == NEVER, "the rank has been started"
    assert f"{why}, so the run goes on there all the same" in events(on_n9)


def test_a_profile_can_leave_the_looks_out(on_n9: Kept) -> None:
    plan = json.loads(on_n9.run.plan.read_text())
    plan["site"]["node_check"] = "off"
    on_n9.run.plan.write_text(json.dumps(plan))
    assert on_n9()[0] == NEVER and "sick" not in events(on_n9)

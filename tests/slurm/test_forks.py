"""Ranks that died are forked anew from the processes that srun, or the supervisor, has started for them; none of these
outlives the run."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.conftest import Launch
from tests.slurm.test_runs import attempts, on, texts, under_way
from tests.waiting import is_stopped, open_gate, output_of

__all__ = ["on"]  # a fixture

WORDS = ("count", "n=6", "--nodes", "2", "--ranks", "1")


def processes(run: RunDir) -> dict[int, int]:
    """The processes of the ranks of a run, with their parents; those that wait to be reaped do not count."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        # By its folder: runs of other tests have its name too
        is_rank = b"hpc.worker" in words and b"srun" not in words[0] and os.fsencode(run.path) in words
        if is_rank and state != "Z":
            parents[int(folder.name)] = int(parent)
    return parents


def ranks(launch: Launch, run: RunDir, attempt: int) -> dict[int, int]:
    """The rank processes of an attempt, once all have begun, each with its parent."""

    def have_begun() -> bool:
        heartbeats = [records.heartbeat(run, rank) for rank in (0, 1)]
        return all(word.get("attempt") == attempt and word["what"] != "starting" for word in heartbeats)

    launch.wait_for(have_begun, f"attempt {attempt} is under way")
    here = processes(run)
    return {pid: here[pid] for pid in (records.heartbeat(run, rank)["pid"] for rank in (0, 1))}


def finishes(launch: Launch, run: RunDir, watcher: "subprocess.Popen[str]") -> None:
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out
    nothing_is_left(launch, run)


def nothing_is_left(launch: Launch, run: RunDir) -> None:
    launch.wait_for(lambda: not processes(run), "all of its processes are gone")


def test_a_killed_rank_and_its_neighbour_are_forked_from_the_processes_that_were_there(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, *WORDS, on=on)
    first = ranks(launch, run, 1)
    os.kill(list(first)[1], signal.SIGKILL)
    second = ranks(launch, run, 2)
    os.kill(next(iter(second)), signal.SIGKILL)
    third = ranks(launch, run, 3)
    assert set(first.values()) == set(second.values()) == set(third.values())
    assert len({*first, *second, *third, *first.values()}) == 8
    finishes(launch, run, watcher)
    assert not list(run.jobs.glob("*/fork-servers.json")), "nor a secret"
    assert [line["outcome"] for line in attempts(run)] == ["crashed", "crashed", "finished"]
    assert [line["codes"] for line in attempts(run)] == [[0, -9], [-9, 0], [0, 0]]


def test_a_killed_fork_server_costs_a_start_and_nothing_else(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, *WORDS, on=on)
    first = ranks(launch, run, 1)
    os.kill(first[list(first)[1]], signal.SIGKILL)
    second = ranks(launch, run, 2)
    assert set(first.values()).isdisjoint(second.values()), "the step has ended, and another has begun"
    assert not {*first, *first.values()} & set(processes(run))
    os.kill(list(second)[1], signal.SIGKILL)
    assert set(ranks(launch, run, 3).values()) == set(second.values())
    finishes(launch, run, watcher)
    assert [line["from_step"] for line in attempts(run)] == [0, 3, 3]


def test_a_supervisor_that_stood_still_when_a_rank_died_has_it_forked_afterwards(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, *WORDS, on=on)
    first = ranks(launch, run, 1)
    supervisor = records.supervisor(run)["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    launch.wait_for(lambda: is_stopped(supervisor), "the supervisor stands still")
    dead = list(first)[1]
    os.kill(dead, signal.SIGKILL)
    launch.wait_for(lambda: dead not in processes(run), "the rank is gone")
    os.kill(supervisor, signal.SIGCONT)
    assert set(ranks(launch, run, 2).values()) == set(first.values())
    finishes(launch, run, watcher)


def test_with_a_killed_supervisor_all_that_could_fork_ends(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, *WORDS, on=on)
    first = ranks(launch, run, 1)
    os.kill(records.supervisor(run)["pid"], signal.SIGKILL)
    launch.wait_for(lambda: not {*first, *first.values()} & set(processes(run)), "ranks and fork servers are gone")
    second = ranks(launch, run, 2)
    assert set(first.values()).isdisjoint(second.values())
    finishes(launch, run, watcher)


def test_after_a_stop_nothing_is_left(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, *WORDS, on=on)
    first = ranks(launch, run, 1)
    os.kill(list(first)[1], signal.SIGKILL)
    ranks(launch, run, 2)
    launch("stop", run.name)
    output_of(watcher)
    assert watcher.returncode == 75 and "stopped at step 3" in texts(run)
    nothing_is_left(launch, run)


def test_after_an_end_at_once_nothing_is_left(launch: Launch, on: str) -> None:
    run, watcher = under_way(launch, *WORDS, on=on)
    ranks(launch, run, 1)
    launch("stop", run.name, "--now")
    output_of(watcher)
    nothing_is_left(launch, run)


@pytest.mark.ranks
def test_with_a_machine_that_goes_down_nothing_is_left(launch: Launch) -> None:
    """Keeper and supervisor are killed at once; nobody could end the others."""
    run, watcher = under_way(launch, *WORDS, on="local")
    ranks(launch, run, 1)
    state = records.supervisor(run)
    for pid in (state["keeper"], state["pid"]):
        os.kill(pid, signal.SIGKILL)
    nothing_is_left(launch, run)
    output_of(watcher)

"""What Slurm and the kernel do to a run's ranks, in whole sentences: golden texts.

The lines of srun are those that Slurm 22.05.8 and 24.11.5 printed when it was done to them.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.runs import records
from hpc.runs.rundir import AttemptDir, RunDir, write_json
from hpc.site import memory
from hpc.slurm import words
from hpc.supervise import diagnosis, step_end
from hpc.supervise.fault_texts import Fault
from tests.conftest import Launch
from tests.hpc.test_diagnosis import ECC, HOSTS, NEIGHBOUR_LOST, line
from tests.waiting import LONG_S, wait_for

MB = 1 << 20
LOST = """\
srun: error: Node failure on n3
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
srun: got SIGCONT
srun: forcing job termination
"""
PROLOG = """\
srun: error: Task launch for StepId=25.0 failed on node n2: Job prolog failed
srun: error: Application launch failed: Job prolog failed
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
"""
OOM_22 = """\
srun: error: n2: task 3: Out Of Memory
srun: launch/slurm: _step_signal: Terminating StepId=2.0
srun: error: n1: tasks 0-1: Terminated
srun: Force Terminated StepId=2.0
"""
OOM_24 = OOM_22.replace("launch/slurm: _step_signal: ", "")
OOM_OF_STEP_22 = (
    "slurmstepd-n2: error: Detected 1 oom-kill event(s) in StepId=2.0. Some of your processes may have been killed by "
    "the cgroup out-of-memory handler.\n"
)
OOM_OF_STEP_24 = (
    "slurmstepd-n2: error: Detected 1 oom_kill event in StepId=1.0. Some of the step tasks have been OOM Killed.\n"
)


def attempt(tmp_path: Path, srun: str = "", kind: str = "slurm", mem_gb: float | None = None) -> AttemptDir:
    run = RunDir(tmp_path / "train-k3f9")
    write_json(run.plan, {"name": run.name, "site": {"name": "x", "kind": kind}, "resources": {"mem_gb": mem_gb}})
    folder = run.attempt(1)
    folder.path.mkdir(parents=True)
    if srun:
        folder.srun.write_text(srun)
    return folder


def killed(folder: AttemptDir, rank: int = 3, code: int = -signal.SIGKILL, **sizes: int | None) -> None:
    """What the fork server of a rank leaves when the kernel has killed it."""
    write_json(folder.memory(rank), {"rank": rank, "host": f"n{rank}", "code": code, "n_killed": 1, **sizes})


def test_a_rank_at_the_limit_of_its_job(tmp_path: Path) -> None:
    folder = attempt(tmp_path, OOM_22)
    killed(folder, limit_b=300 * MB, peak_b=300 * MB, rank_b=294 * MB)
    write_json(folder.error(0), {"rank": 0, "host": "n0", "error": NEIGHBOUR_LOST})
    assert diagnosis.crashed(folder, [0, 0, 1, -9], HOSTS) == (
        "out of memory: rank 3 on n3 was killed at the limit of 300 MB a node; the rank itself had 294 MB; resume "
        "train-k3f9 --mem 1 asks for more, fewer --ranks a node share it among fewer",
        "",
        "user",
    )


def test_it_is_not_tried_again_with_the_same_and_no_node_is_blamed(tmp_path: Path) -> None:
    folder = attempt(tmp_path)
    killed(folder, limit_b=64 << 30, peak_b=64 << 30, rank_b=60 << 30)
    cause = diagnosis.crashed(folder, [-9], HOSTS)
    assert "--mem 128" in cause.why
    lines = [line(cause.why, got_on=True, node=cause.node, fault=cause.fault)]
    assert diagnosis.hopeless(lines) and diagnosis.bad_nodes(lines) == []


def test_a_worker_of_a_loader_at_the_limit(tmp_path: Path) -> None:
    """The kernel ends the largest process, which need not be the rank."""
    folder = attempt(tmp_path)
    error = "RuntimeError: DataLoader worker (pid 4711) is killed by signal: Killed."
    write_json(folder.error(2), {"rank": 2, "host": "n2", "error": error})
    killed(folder, rank=2, code=1, limit_b=16 << 30, peak_b=16 << 30, rank_b=900 * MB)
    assert diagnosis.crashed(folder, [1], HOSTS) == (
        "out of memory: a process of rank 2 on n2 was killed at the limit of 16 GB a node; the rank itself had 900 MB; "
        "resume train-k3f9 --mem 32 asks for more, fewer --ranks a node share it among fewer",
        "",
        "user",
    )


@pytest.mark.parametrize(
    ("limit_b", "peak_b", "limit"), [(64 << 30, 3 << 30, ", and not at the limit of its job, 64 GB"), (None, None, "")]
)
def test_a_node_without_memory_is_another_matter(
    tmp_path: Path, limit_b: int | None, peak_b: int | None, limit: str
) -> None:
    folder = attempt(tmp_path)
    killed(folder, limit_b=limit_b, peak_b=peak_b, rank_b=2 << 30)
    cause = diagnosis.crashed(folder, [-9], HOSTS)
    assert cause == (
        f"out of memory: rank 3 on n3 was killed as the node had no memory left{limit}; the rank itself had 2 GB",
        "n3",
        "program",
    )
    lines = [line(cause.why, node=cause.node, fault=cause.fault)] * 2
    assert not diagnosis.hopeless(lines) and diagnosis.bad_nodes(lines) == ["n3"]


@pytest.mark.parametrize("srun", [OOM_22, OOM_24])
def test_the_word_of_srun_alone(tmp_path: Path, srun: str) -> None:
    """Of MPI processes, which have no fork server, and of a fork server that was killed itself."""
    assert diagnosis.crashed(attempt(tmp_path, srun, mem_gb=4), [1], HOSTS) == (
        "out of memory: rank 3 on n2 was killed at the limit of 4 GB a node; resume train-k3f9 --mem 8 asks for more, "
        "fewer --ranks a node share it among fewer",
        "",
        "user",
    )


@pytest.mark.parametrize("srun", [OOM_OF_STEP_22, OOM_OF_STEP_24])
def test_the_word_of_slurmstepd_alone(tmp_path: Path, srun: str) -> None:
    assert diagnosis.crashed(attempt(tmp_path, srun), [1], HOSTS) == (
        "out of memory: a rank on n2 was killed at the limit of its job; resume train-k3f9 --mem GB asks for more, "
        "fewer --ranks a node share it among fewer",
        "",
        "user",
    )


def test_without_slurm_there_is_no_mem_to_ask_for(tmp_path: Path) -> None:
    folder = attempt(tmp_path, kind="local")
    killed(folder, limit_b=2 << 30, peak_b=2 << 30, rank_b=1 << 30)
    assert diagnosis.crashed(folder, [-9], HOSTS).why == (
        "out of memory: rank 3 on n3 was killed at the limit of 2 GB a node; the rank itself had 1 GB; fewer --ranks "
        "share it among fewer"
    )


def test_broken_hardware_counts_more_than_memory(tmp_path: Path) -> None:
    folder = attempt(tmp_path, OOM_22)
    write_json(folder.error(1), {"rank": 1, "host": "n1", "error": ECC})
    assert diagnosis.crashed(folder, [1], HOSTS).node == "n1"


@pytest.mark.parametrize(
    ("srun", "cause"),
    [
        (LOST, ("node failure: n3 is lost, says Slurm", "n3", "node")),
        (PROLOG, ("prolog failed: the site's own script before a job has failed on n2", "n2", "node")),
    ],
)
def test_a_node_that_is_lost_and_one_whose_prolog_fails(
    tmp_path: Path, srun: str, cause: tuple[str, str, Fault]
) -> None:
    folder = attempt(tmp_path, srun)
    write_json(folder.error(0), {"rank": 0, "host": "n0", "error": NEIGHBOUR_LOST})
    assert diagnosis.crashed(folder, [1], HOSTS) == cause
    assert diagnosis.bad_nodes([line(cause[0], node=cause[1], fault=cause[2])]) == [cause[1]]
    assert words.short(cause[0])


def test_what_a_rank_says_itself_stays_where_slurm_says_nothing(tmp_path: Path) -> None:
    folder = attempt(tmp_path, "srun: error: n2: task 3: Exited with exit code 1\n")
    write_json(folder.error(3), {"rank": 3, "host": "n2", "error": "KeyError: 'x'"})
    assert step_end.cause(folder) is None
    assert diagnosis.crashed(folder, [1], HOSTS) == ("rank 3 on n2: KeyError: 'x'", "", "program")


def test_an_srun_that_starts_nothing_says_why(tmp_path: Path) -> None:
    said = "Unable to create step for job 2: Invalid generic resource (gres) specification"
    folder = attempt(tmp_path, f"srun: error: {said}\n")
    assert diagnosis.crashed(folder, [1], {}) == (f"no rank has started: {said}", "this machine", "program")
    assert diagnosis.crashed(attempt(tmp_path / "2", OOM_22[:0]), [1], {}).why.startswith("exit codes [1], logs in ")


V1 = {
    "slurm_n2/uid_0/job_3/step_0/task_1": {
        "memory.limit_in_bytes": "9223372036854771712", "memory.max_usage_in_bytes": "308330496",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
    },
    "slurm_n2/uid_0/job_3/step_0": {
        "memory.limit_in_bytes": "314572800", "memory.max_usage_in_bytes": "312000000",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
    },
    "slurm_n2/uid_0/job_3": {"memory.limit_in_bytes": "314572800", "memory.max_usage_in_bytes": "314572800"},
}  # fmt: skip
V2 = {
    "system.slice/slurmstepd.scope/job_3/step_0/user/task_1": {
        "memory.max": "max", "memory.peak": "308330496", "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1",
    },
    "system.slice/slurmstepd.scope/job_3/step_0/user": {"memory.max": "314572800", "memory.peak": "314572800"},
    "system.slice/slurmstepd.scope/job_3": {"memory.max": "314572800"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "cgroup", "mount", "answer"),
    [
        (V1, "4:memory:/{}\n0::/", "{} rw,relatime shared:9 - cgroup cgroup rw,memory", (314572800, 312000000, 2)),
        (V2, "0::/{}", "{} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate", (314572800, 314572800, 1)),
        ({"": {"memory.max": "1000"}}, "0::/", "{} rw - cgroup2 cgroup2 rw", (1000, None, 0)),  # in a container
        ({}, "0::/{}", "{} rw - cgroup2 cgroup2 rw", (None, None, 0)),
    ],
)
def test_the_groups_of_a_process_are_read_up_to_the_outermost(
    tmp_path: Path,
    groups: dict[str, dict[str, str]],
    cgroup: str,
    mount: str,
    answer: tuple[int | None, int | None, int],
) -> None:
    fs, proc = tmp_path / "cgroup", tmp_path / "proc"
    proc.mkdir()
    (fs / next(iter(groups), "gone")).mkdir(parents=True)
    for name, files in groups.items():
        for file, text in files.items():
            (fs / name / file).write_text(text + "\n")
    (proc / "cgroup").write_text(cgroup.format(next(iter(groups), "gone")) + "\n")
    (proc / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/vda rw\n30 22 0:26 / " + mount.format(fs) + "\n")
    assert memory.of_this_process(proc) == memory.Memory(*answer)


def test_where_there_are_no_groups_nothing_is_known(tmp_path: Path) -> None:
    assert memory.of_this_process(tmp_path) == memory.Memory()


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of processes with LIMIT_MB of memory, as Slurm makes one for a job."""
    for place, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        folder = Path("/sys/fs/cgroup") / place / f"hpc-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists():
            break
        folder.rmdir()
    else:
        pytest.skip("this user cannot make a group of processes with a limit of its memory (cgroup)")
    (folder / limit).write_text(str(LIMIT_MB * MB))
    yield folder
    wait_for(lambda: not (folder / "cgroup.procs").read_text(), "its processes have ended")
    folder.rmdir()


LIMIT_MB = 500


@pytest.mark.ranks
def test_the_kernel_ends_a_rank_and_the_run_says_so(launch: Launch, group: Path) -> None:
    words = ["count", "n=6", "eat_at=4", "hold_at=4", "--ranks", "2", "--on", "local"]
    command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *launch.command(*words)]
    done = subprocess.run(
        command, cwd=launch.folder, env=launch.environ, capture_output=True, text=True, timeout=LONG_S, check=False
    )
    host = os.uname().nodename
    assert done.returncode == 93, done.stdout + done.stderr
    assert re.search(
        rf"out of memory: rank 1 on {host} was killed at the limit of {LIMIT_MB} MB a node; the rank itself had \d+ "
        "MB; fewer --ranks share it among fewer",
        done.stderr,
    ), done.stderr
    run = RunDir(launch.runs()[0])
    (attempt,) = records.attempts(run)
    assert (attempt["fault"], attempt["node"]) == ("user", "")

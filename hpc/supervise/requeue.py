"""The Slurm job around a supervisor: its id, when it ends, and how to requeue it."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from signal import SIG_IGN, SIGCONT, SIGTERM, signal

from hpc.runs import records, submissions
from hpc.runs.rundir import RunDir
from hpc.slurm import commands

AGAIN_S = 5
"""The earliest restart of a requeued job: later than the end of its last process."""
ASK_EVERY_S = 120.0
"""How often to ask for the end of the walltime: an admin may change it, and so may `scontrol update`."""


@dataclass(frozen=True)
class Job:
    """`id` means this job alone: the last element of an array has the same plain number as the whole array."""

    id: str
    restarts: int
    nodes: int | None
    ranks_per_node: int | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Job | None":
        """Return the job of this batch step, with its actual layout."""
        if "SLURM_JOB_ID" not in environ:
            return None
        id = environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_TASK_ID" in environ:
            id = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
        names = ("SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE")
        nodes, per_node = (int(environ[name]) if name in environ else None for name in names)
        return cls(id, int(environ.get("SLURM_RESTART_COUNT", 0)), nodes, per_node)


class EndOfWalltime:
    """Asks Slurm for the remaining time of the job, in the background, so that a slow Slurm delays nothing."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.at: float | None = None
        self._asking: subprocess.Popen[str] | None = None
        self._next = 0.0

    def left_s(self) -> float | None:
        """Return the remaining time. None: no limit, or not known yet."""
        now = time.monotonic()
        if self._asking is not None and self._asking.poll() is not None:
            answer = self._asking.communicate()[0].strip()
            self._asking = None
            with suppress(ValueError):  # no limit, or Slurm does not answer: keep the last value
                self.at = time.mktime(time.strptime(answer, "%Y-%m-%dT%H:%M:%S"))
        elif self._asking is None and now > self._next:
            self._next = now + ASK_EVERY_S
            self._asking = commands.start("squeue", "-h", "-j", self.job, "-o", "%e")
        return None if self.at is None else self.at - time.time()


def to_keep_off(bad_nodes: Sequence[str], required: str) -> list[str]:
    """Return those bad nodes that a job can be kept off: a job that is to have a node (--nodelist) and is kept off it
    would wait for ever."""
    if not required or not bad_nodes:
        return list(bad_nodes)
    answer = commands.run("scontrol", "show", "hostnames", required)
    return [node for node in bad_nodes if answer.ok and node not in answer.out.split()]


def requeue(job: str, keep_off: Sequence[str], until: float) -> str | None:
    """Put this job back into the queue, to start again in a few seconds, on other nodes than `keep_off`; return the
    error, or None. If the controller does not answer, retry until the time `until` (monotonic).

    Slurm holds a requeued job for two minutes, unless its start time is still in the future when its last process ends.
    So we set that time at once, and leave: StartTime=now would be forgotten, and so would be a time that passes before
    we are gone (measured, docs/decisions/0006-requeue-without-the-hold.md).
    """
    for number in (SIGTERM, SIGCONT):  # Slurm sends both to us and to scontrol as soon as it has requeued
        signal(number, SIG_IGN)
    while True:
        answer = commands.run("scontrol", "requeue", job, patience_s=commands.ACT_S)
        # The controller took it, but its answer was lost: the second time, it says that the job is pending
        if answer.ok or "pending" in answer.error.lower() or "already" in answer.error.lower():
            break
        if commands.is_refusal(answer.error) or time.monotonic() > until:
            return answer.error
        time.sleep(commands.RETRY_S)
    changes = [f"StartTime=now+{AGAIN_S}", *([f"ExcNodeList={','.join(keep_off)}"] if keep_off else [])]
    update = ("scontrol", "update", f"JobId={job}")
    if not commands.run(*update, *changes, patience_s=commands.ACT_S).ok and keep_off:
        commands.run(
            *update, changes[0], patience_s=commands.ACT_S
        )  # a node that Slurm does not know must not keep the hold on
    return None


def successor(run: RunDir, job: str, keep_off: Sequence[str], until: float) -> str:
    """Submit a new job that runs the same folder when this one has ended, if a site does not requeue; return its id. It
    is retried like requeue: if an answer was lost, the second job finds the run taken, or finished. It starts on other
    nodes than `keep_off`, unless Slurm refuses that.

    Raises RuntimeError with the message of sbatch.
    """
    began = time.time()
    script = run.script.read_text()
    words = ("sbatch", "--parsable", f"--dependency=afterany:{job}")
    answer = commands.insist(*words, *_exclude(keep_off), until=until, text=script)
    if not answer.ok and keep_off:
        answer = commands.insist(*words, until=until, text=script)
    if not answer.ok:
        raise RuntimeError(f"sbatch did not take the job: {answer.error}")
    next_job = answer.out.strip().partition(";")[0]
    return submissions.note(run, records.plan(run), next_job, began, successor=True)


def _exclude(nodes: Sequence[str]) -> list[str]:
    return [f"--exclude={','.join(nodes)}"] if nodes else []

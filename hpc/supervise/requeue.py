"""The Slurm job around a supervisor: its id, when it ends, and how to requeue it."""

import math
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from signal import SIG_IGN, SIGCONT, SIGTERM, signal
from typing import Any

from hpc.runs import records, submissions
from hpc.runs.rundir import RunDir
from hpc.slurm import commands, words

AGAIN_S, AFTER_EPILOG_S = 5, 3
"""The earliest restart of a requeued job: later than the end of its last process, and of the epilog behind that."""
AFTER_SILENCE_S = 30
"""The same when the controller was away meanwhile: slurmd may see only after ten seconds that the job has ended, and a
job that is started again before is held until somebody releases it."""
HOLD_S = 120.0
"""How long Slurm holds a requeued job otherwise."""
EPILOG = re.compile(r"^Epilog(Slurmctld)?(\[\d+\])?\s*=\s*/", re.MULTILINE)
"""In `scontrol show config`. 24.11 numbers them."""
OUT_OF_WORK = ("down", "drain", "drng", "fail", "maint", "unk", "boot_fail", "inval")
"""States of nodes, as sinfo has them, in which they take no job."""
PREEMPTED_S = 2.0
"""How long to wait, when the ranks have saved, for the answer to whether the job is preempted."""
SELDOM_S, SOON_S = 1800.0, 120.0
"""How often to ask for the end of the walltime, far from it and near it: an administrator may change it."""
NO_LIMIT = 4_000_000_000
"""A job without a limit ends in the year 2106."""


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
    """The end of the job: what Slurm has said of it when the job began (since 23.02), and whether that has changed.
    Asked in the background, so that a slow Slurm delays nothing.

    Parameters
    ----------
    job
        Its id.
    environ
        That of the batch step, with SLURM_JOB_END_TIME where Slurm sets it.
    """

    def __init__(self, job: str, environ: Mapping[str, str] | None = None) -> None:
        self.job = job
        said = (environ or {}).get("SLURM_JOB_END_TIME", "")
        self.at = float(said) if said.isdecimal() and 0 < int(said) < NO_LIMIT else None
        self._asking: subprocess.Popen[str] | None = None
        self._next = 0.0 if self.at is None else time.monotonic() + self._interval_s()

    def _interval_s(self) -> float:
        """Half of what is left: the nearer the end, the less time a change of it may take to be known."""
        left_s = SELDOM_S if self.at is None else self.at - time.time()
        return min(SELDOM_S, max(SOON_S, left_s / 2))

    def left_s(self) -> float | None:
        """Return the remaining time. None: no limit, or not known yet."""
        now = time.monotonic()
        if self._asking is not None and self._asking.poll() is not None:
            at = words.time_of(self._asking.communicate()[0])
            self._asking = None
            self.at = self.at if at is None else at  # no limit, or Slurm does not answer: keep the last value
            self._next = now + self._interval_s()
        elif self._asking is None and now > self._next:
            self._asking = commands.start("squeue", "-h", "-j", self.job, "-o", "%e")
        return None if self.at is None else self.at - time.time()


def is_held_long(run: RunDir, job: Job) -> bool:
    """Whether Slurm would hold this job for two minutes after a requeue, so that a new job is better: when the last
    process of the job ends is not ours to say where a site has an epilog.

    Not for an element of an array, which has its turn in --max-parallel, nor for a job that somebody else has
    submitted, with who knows which options.
    """
    lines = records.submissions(run)
    if "_" in job.id or not lines or str(lines[-1].get("job")) != job.id:
        return False
    return bool(EPILOG.search(commands.run("scontrol", "show", "config").out))


def epilog_s(run: RunDir, job: Job) -> float:
    """Return how long the end of this job took when it was last requeued, epilogs included; 0 if it never was."""
    if not job.restarts:
        return 0.0
    # A requeued job is submitted anew when its last process has ended
    submitted = words.time_of(commands.run("squeue", "-h", "-j", job.id, "-o", "%V").out)
    if submitted is None:
        return 0.0
    left = [line["ended"] for line in records.attempts(run) if line["ended"] < submitted + 1]
    took_s = submitted - left[-1] if left else 0.0
    return took_s if 0 < took_s < HOLD_S else 0.0


class Preemption:
    """Whether Slurm wants the nodes of the job for another one: it sends the same signals as at the end of the
    walltime. Asked in the background, when a signal has come."""

    def __init__(self, job: str) -> None:
        self.job = job
        self._asking: subprocess.Popen[str] | None = None
        self._answer: bool | None = None

    def ask(self) -> None:
        with suppress(OSError):  # no scontrol here: then it is not known
            self._asking = self._asking or commands.start("scontrol", "show", "job", "-o", self.job)

    def is_known(self) -> bool:
        """Whether Slurm has said so. The first call waits for an answer that is still on its way."""
        if self._answer is None and self._asking is not None:
            try:
                self._answer = is_preempted(words.fields(self._asking.communicate(timeout=PREEMPTED_S)[0]))
            except subprocess.TimeoutExpired:
                self._asking.kill()
                self._answer = False
        return bool(self._answer)


def is_preempted(job: Mapping[str, str]) -> bool:
    """Whether a job is being preempted, by what `scontrol show job` says of it; not whether it once was."""
    at, start = job.get("PreemptTime", "None"), job.get("StartTime", "Unknown")
    return at[:1].isdigit() and (not start[:1].isdigit() or at >= start)


def to_keep_off(bad_nodes: Sequence[str], required: str) -> list[str]:
    """Return those bad nodes that a job can be kept off: a job that is to have a node (--nodelist) and is kept off it
    would wait for ever."""
    if not required or not bad_nodes:
        return list(bad_nodes)
    answer = commands.run("scontrol", "show", "hostnames", required)
    return [node for node in bad_nodes if answer.ok and node not in answer.out.split()]


def has_others(resources: Mapping[str, Any], bad_nodes: Sequence[str]) -> bool:
    """Whether the partition has enough nodes that work, besides these; also if Slurm does not say."""
    partition = resources.get("partition") or os.environ.get("SLURM_JOB_PARTITION", "")
    answer = commands.run("sinfo", "-h", "-N", *(["-p", partition] if partition else []), "-o", "%N %t")
    rows = [line.split() for line in answer.out.splitlines()]
    silent = "*"  # Slurm's mark of a node that does not respond
    work = {row[0] for row in rows if len(row) == 2 and not row[1].startswith(OUT_OF_WORK) and silent not in row[1]}
    return not work or len(work - set(bad_nodes)) >= int(resources["nodes"])


def requeue(job: str, keep_off: Sequence[str], until: float, epilog_s: float = 0.0) -> str | None:
    """Put this job back into the queue, to start again in a few seconds, on other nodes than `keep_off`; return the
    error, or None. If the controller does not answer, retry until the time `until` (monotonic).

    Slurm holds a requeued job for two minutes, unless its start time is still in the future when its last process ends.
    So we set that time at once, behind the epilogs, and leave: StartTime=now would be forgotten, and so would be a time
    that passes before we are gone (measured, docs/decisions/0006-requeue-without-the-hold.md).
    """
    for number in (SIGTERM, SIGCONT):  # Slurm sends both to us and to scontrol as soon as it has requeued
        signal(number, SIG_IGN)
    update = ("scontrol", "update", f"JobId={job}")
    start_s = max(AGAIN_S, math.ceil(epilog_s) + AFTER_EPILOG_S)
    while True:
        start = f"StartTime=now+{start_s}"
        answer = commands.run("scontrol", "requeue", job, patience_s=commands.ACT_S)
        # The controller took it, but its answer was lost: the second time, it says that the job is pending
        if answer.ok or "pending" in answer.error.lower() or "already" in answer.error.lower():
            answer = commands.run(*update, start, *_off(keep_off), patience_s=commands.ACT_S)
            if not answer.ok and commands.is_refusal(answer.error):
                # A node that Slurm does not know must not keep the hold on
                commands.run(*update, start, patience_s=commands.ACT_S)
                return None
            if answer.ok:
                return None
            # A controller that died in between may have forgotten the requeue, and would take the job for running
        elif commands.is_refusal(answer.error):
            return answer.error
        if time.monotonic() > until:
            return answer.error
        start_s = max(start_s, AFTER_SILENCE_S)
        time.sleep(commands.RETRY_S)


def _off(nodes: Sequence[str]) -> list[str]:
    return [f"ExcNodeList={','.join(nodes)}"] if nodes else []


def successor(run: RunDir, job: str, keep_off: Sequence[str], until: float, nodes: int | None = None) -> str:
    """Submit a new job that runs the same folder when this one has ended, if a site does not requeue, or holds what it
    requeues; return its id. It is retried like requeue: if an answer was lost, the second job finds the run taken, or
    finished. It starts on other nodes than `keep_off`, unless Slurm refuses that. What waits for this job waits for the
    new one then. `nodes`: how many it gets; None: as many as the first job of the run.

    Raises RuntimeError with the message of sbatch.
    """
    began = time.time()
    script = run.script.read_text()
    sbatch = ("sbatch", "--parsable", f"--dependency=afterany:{job}", *([f"--nodes={nodes}"] if nodes else []))
    answer = commands.insist(*sbatch, *_exclude(keep_off), until=until, text=script)
    if not answer.ok and keep_off:
        answer = commands.insist(*sbatch, until=until, text=script)
    if not answer.ok:
        raise RuntimeError(f"sbatch did not take the job: {answer.error}")
    next_job = answer.out.strip().partition(";")[0]
    submissions.note(run, records.plan(run), next_job, began, successor=True, nodes=nodes)
    _follow(job, next_job)
    return next_job


def give_up(job: str) -> None:
    """Cancel our own job, which another follows."""
    for number in (SIGTERM, SIGCONT):
        signal(number, SIG_IGN)
    commands.run("scancel", job, patience_s=commands.ACT_S)


def _follow(job: str, next_job: str) -> None:
    """Have the jobs that wait for this one wait for the one that goes on for it."""
    lines = commands.run("squeue", "--me", "-h", "--states=PENDING", "-o", "%i|%E").out.splitlines()
    for waiting, _, dependency in (line.partition("|") for line in lines):
        now = re.sub(rf"(?<=:){re.escape(job)}(?![\d_])", next_job, re.sub(r"\(\w+\)", "", dependency))
        if waiting != next_job and now != re.sub(r"\(\w+\)", "", dependency):
            commands.run("scontrol", "update", f"JobId={waiting}", f"Dependency={now}", patience_s=commands.ACT_S)


def _exclude(nodes: Sequence[str]) -> list[str]:
    return [f"--exclude={','.join(nodes)}"] if nodes else []

"""The Slurm job that a supervisor is the batch step of: who it is, when it ends, and how it comes back."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from signal import SIG_IGN, SIGCONT, SIGTERM, signal

from hpc.runs.rundir import RunDir

AGAIN_S = 5
"""When a requeued job may start again: later than its last process has ended."""
ASK_EVERY_S = 120.0
"""How often the end of the walltime is asked for: an admin may change it, and so may `scontrol update`."""
PATIENCE_S = 20.0
RETRY_S = 2.0


@dataclass(frozen=True)
class Job:
    """`id` means this job alone: the last element of an array has the plain number of the whole."""

    id: str
    restarts: int
    nodes: int | None
    ranks_per_node: int | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Job | None":
        """The job of this batch step, with the layout that whoever submitted it chose."""
        if "SLURM_JOB_ID" not in environ:
            return None
        id = environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_TASK_ID" in environ:
            id = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
        names = ("SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE")
        nodes, per_node = (int(environ[name]) if name in environ else None for name in names)
        return cls(id, int(environ.get("SLURM_RESTART_COUNT", 0)), nodes, per_node)


class EndOfWalltime:
    """How long the job still has, as Slurm says; asked in the background, so that a slow Slurm holds up nothing."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.at: float | None = None
        self._asking: subprocess.Popen[str] | None = None
        self._next = 0.0

    def left_s(self) -> float | None:
        """None: no limit, or not known yet."""
        now = time.monotonic()
        if self._asking is not None and self._asking.poll() is not None:
            said = self._asking.communicate()[0].strip()
            self._asking = None
            with suppress(ValueError):  # no limit, or Slurm does not answer: what was known holds
                self.at = time.mktime(time.strptime(said, "%Y-%m-%dT%H:%M:%S"))
        elif self._asking is None and now > self._next:
            self._next = now + ASK_EVERY_S
            words = ["squeue", "-h", "-j", self.job, "-o", "%e"]
            self._asking = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        return None if self.at is None else self.at - time.time()


def requeue(job: str, keep_off: Sequence[str], until: float) -> str | None:
    """Put this job back into the queue, to start again in a few seconds, on other nodes than `keep_off`; gives why
    not, or None. A controller that does not answer is tried until the time `until` (monotonic).

    Slurm holds a requeued job for two minutes, unless its start time lies in the future when its last process has
    ended. So we set that time at once, and leave: StartTime=now would be forgotten, and so would be a time that is
    over before we are gone (measured, docs/decisions/0006-requeue-without-the-hold.md).
    """
    for number in (SIGTERM, SIGCONT):  # Slurm sends both to us and to scontrol as soon as it has requeued
        signal(number, SIG_IGN)
    while True:
        refused = _scontrol("requeue", job)
        if refused is None:
            break
        # The controller took it, but its answer was lost: asked again, it says that the job is pending
        if "pending" in refused.lower() or "already" in refused.lower():
            break
        if _is_refusal(refused) or time.monotonic() > until:
            return refused
        time.sleep(RETRY_S)
    changes = [f"StartTime=now+{AGAIN_S}", *([f"ExcNodeList={','.join(keep_off)}"] if keep_off else [])]
    if _scontrol("update", f"JobId={job}", *changes) is not None and keep_off:
        _scontrol("update", f"JobId={job}", changes[0])  # a node that Slurm does not know must not keep the hold on
    return None


def successor(run: RunDir, job: str, until: float) -> str:
    """Where a site does not requeue: a new job that runs the same folder when this one has ended; gives its id. Tried
    as long as requeue is: should an answer be lost, the second job finds the run taken, or finished.

    Raises RuntimeError with what sbatch says against it.
    """
    from hpc.plan import plan
    from hpc.submit import executors

    while True:
        try:
            return executors.slurm_plain(plan.of_folder(run), f"afterany:{job}")
        except executors.SubmitError as error:
            if _is_refusal(str(error)) or time.monotonic() > until:
                raise RuntimeError(str(error)) from None
        time.sleep(RETRY_S)


def _scontrol(*words: str) -> str | None:
    """What it says against it, or None."""
    try:
        done = subprocess.run(["scontrol", *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else " ".join(done.stderr.split()) or f"exit code {done.returncode}"


REFUSALS = (
    "disabled", "permission denied", "invalid", "batch job", "not permitted", "violates", "not available",
    "unrecognized", "no such file",
)  # fmt: skip
"""What Slurm says when it means it. All else is a controller that is busy, restarts, or cannot be reached."""
PASSING = ("credential", "authentication", "munge", "protocol")
"""Invalid for a moment: a munge that hiccups, or a controller that is just being upgraded."""


def _is_refusal(said: str) -> bool:
    words = said.lower()
    return any(word in words for word in REFUSALS) and not any(word in words for word in PASSING)

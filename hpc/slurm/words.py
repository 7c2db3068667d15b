"""What Slurm's words say: why a step or a job ended, or why it waits.

The words are those of srun and slurmstepd in a log, of squeue, scontrol and sacct; seen on Slurm 22.05 and 24.11. Cheap
to import, for status.
"""

from __future__ import annotations

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

OUT_OF_MEMORY, NODE_FAILURE, PREEMPTED, TIME_LIMIT = "out of memory", "node failure", "preempted", "time limit"
PROLOG, CONSTRAINT, NEVER_STARTS, HELD = "prolog failed", "bad constraint", "never starts", "held"
FORGOTTEN, CANCELLED, REQUEUED = "forgotten", "cancelled", "requeued"
SHORT = (
    OUT_OF_MEMORY, NODE_FAILURE, PREEMPTED, TIME_LIMIT, PROLOG, CONSTRAINT, NEVER_STARTS, HELD, FORGOTTEN, CANCELLED,
)  # fmt: skip
"""The short words for what Slurm does to runs. A sentence about it begins with its word and a colon."""


def short(text: str) -> str:
    """Return the short word with which a sentence begins; empty if it begins with none."""
    word = text.partition(":")[0]
    return word if word in SHORT else ""


class Line:
    """A line of a log that says how a step or a job ended.

    Parameters
    ----------
    kind
        One of SHORT, or REQUEUED for `scontrol requeue`, by whomever.
    text
        The line.
    node
        The node that it names.
    rank
        The task that it names, if it is one.
    """

    def __init__(self, kind: str, text: str, node: str = "", rank: int | None = None) -> None:
        self.kind = kind
        self.text = text
        self.node = node
        self.rank = rank


_OF_STEPS = (
    (OUT_OF_MEMORY, re.compile(r"error: (?P<node>\S+): tasks? (?P<tasks>[\d,-]+): Out Of Memory")),
    (OUT_OF_MEMORY, re.compile(r"slurmstepd(?:-(?P<node>\S+))?: error: Detected \d+ oom[-_ ]kill event")),
    (PROLOG, re.compile(r"error: Task launch for \S+ failed on node (?P<node>\S+): .*[Pp]rolog failed")),
    (PROLOG, re.compile(r"Error running slurm prolog")),
    (NODE_FAILURE, re.compile(r"error: Node failure on (?P<node>\S+)")),
)
_CANCELLED = re.compile(
    r"\*\*\* (?P<what>JOB|STEP) (?P<id>\S+) ON (?P<node>\S+) CANCELLED AT (?P<at>\S+)(?P<due>.*) \*\*\*"
)
_DUE = {
    "TIME LIMIT": TIME_LIMIT, "PREEMPTION": PREEMPTED, "NODE FAILURE": NODE_FAILURE, "JOB REQUEUE": REQUEUED,
}  # fmt: skip


def of_step(lines: Iterable[str]) -> Line | None:
    """Return the line in the output of srun that says how Slurm, or a node, ended the step. The order of _OF_STEPS is
    that of causes; among equals the first counts, as what follows is its consequence."""
    texts = list(lines)
    for kind, pattern in _OF_STEPS:
        for text in texts:
            if match := pattern.search(text):
                return _line(kind, text, match.groupdict())
    return None


def _line(kind: str, text: str, parts: dict[str, str | None]) -> Line:
    tasks = parts.get("tasks") or ""
    return Line(kind, text.strip(), parts.get("node") or "", int(tasks) if tasks.isdecimal() else None)


def of_job(lines: Iterable[str]) -> Line | None:
    """Return the last line in the log of a job with which slurmstepd says why Slurm ended it: `*** JOB 6 ON n1
    CANCELLED AT 2026-11-29T09:10:50 DUE TO PREEMPTION ***`. Without a reason it was scancel."""
    last = None
    for text in lines:
        if (match := _CANCELLED.search(text)) and match["what"] == "JOB":
            due = match["due"].partition(",")[0].replace("DUE TO", "").strip()
            last = Line(_DUE.get(due, CANCELLED), text.strip(), match["node"] if due == "NODE FAILURE" else "")
    return last


_STATES = {
    "OUT_OF_MEMORY": OUT_OF_MEMORY, "NODE_FAIL": NODE_FAILURE, "BOOT_FAIL": NODE_FAILURE, "PREEMPTED": PREEMPTED,
    "TIMEOUT": TIME_LIMIT, "DEADLINE": TIME_LIMIT, "CANCELLED": CANCELLED,
}  # fmt: skip
ENDED = (*_STATES, "COMPLETED", "FAILED", "REVOKED")
"""The states of a job that has ended. After its first word sacct may say more: `CANCELLED by 1000`."""


def of_state(state: str) -> str:
    """Return the short word for the state of a job; empty if it says nothing that is Slurm's doing."""
    return _STATES.get(state.partition(" ")[0], "")


_REASONS = {
    "JobHeldUser": HELD, "JobHeldAdmin": HELD, "launch_failed_requeued_held": HELD,
    "job_requeued_in_held_state": HELD, "BadConstraints": CONSTRAINT, "DependencyNeverSatisfied": NEVER_STARTS,
    "PartitionNodeLimit": CONSTRAINT, "PartitionTimeLimit": CONSTRAINT, "PartitionConfig": CONSTRAINT,
    "AccountNotAllowed": CONSTRAINT, "QOSNotAllowed": CONSTRAINT, "InvalidAccount": CONSTRAINT,
    "InvalidQOS": CONSTRAINT,
    "NodeDown": NODE_FAILURE, "OutOfMemory": OUT_OF_MEMORY, "TimeLimit": TIME_LIMIT,
}  # fmt: skip


def reason(text: str) -> str:
    """Return the reason of a job as one word: squeue has spaces where scontrol has lines."""
    return text.replace(" ", "_")


def of_reason(text: str) -> str:
    """Return the short word for the reason for which a job waits, or has ended; empty for the usual ones."""
    return _REASONS.get(reason(text), "")


def waiting(job: str, why: str) -> str:
    """Return a sentence, with what to do, on a job that will not start by itself; empty for one that just waits. `why`:
    the reason that squeue or scontrol gives."""
    released = f"`scontrol release {job}` lets it go"
    sentences = {
        "JobHeldUser": f"its owner holds job {job}; {released}",
        "JobHeldAdmin": f"an administrator holds job {job}, and nobody else can release it",
        "job_requeued_in_held_state": f"job {job} was put back into the queue to be held there; {released}",
        "launch_failed_requeued_held": (
            f"Slurm could not start job {job} on its nodes, put it back into the queue and holds it there; {released}"
        ),
        "BadConstraints": f"no nodes have what job {job} asks for",
        "DependencyNeverSatisfied": f"what job {job} was to follow has failed",
    }
    kind = of_reason(why)
    if kind not in (HELD, CONSTRAINT, NEVER_STARTS):
        return ""
    return f"{kind}: {sentences.get(reason(why)) or f'job {job} asks for what it may not have here ({why})'}"


def ended(job: str, state: str) -> str:
    """Return a sentence on a job that Slurm has ended, by its last state; empty if it ended by itself."""
    sentences = {
        OUT_OF_MEMORY: f"job {job} needed more than it had asked for",
        NODE_FAILURE: f"Slurm has lost a node of job {job}",
        PREEMPTED: f"Slurm has given the nodes of job {job} to another one",
        TIME_LIMIT: f"Slurm has ended job {job} at the end of its walltime",
        CANCELLED: f"job {job} was cancelled{state.partition(' ')[2] and f' {state.partition(chr(32))[2]}'}",
    }
    kind = of_state(state)
    return f"{kind}: {sentences[kind]}" if kind else ""


def time_of(text: str) -> float | None:
    """Parse a time as Slurm's commands print it; None if it is none, as N/A or Unknown."""
    try:
        return time.mktime(time.strptime(text.strip(), "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


def at(seconds: float) -> str:
    """Return a time as Slurm's commands take it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def fields(line: str) -> dict[str, str]:
    """Parse what `scontrol show job -o` says of a job: NAME=VALUE, where a value may hold spaces."""
    starts = list(re.finditer(r"(?:^|\s)([A-Za-z][\w:/.*]*)=", line))
    ends = [match.start() for match in starts[1:]] + [len(line)]
    return {match[1]: line[match.end() : end].strip() for match, end in zip(starts, ends)}


def essence(stderr: str) -> str:
    """Return an error of a command in one line: each of its sentences once, without the name of the command."""
    sentences = [re.sub(r"^\w+: (error|fatal): ", "", line.strip()) for line in stderr.splitlines()]
    return "; ".join(dict.fromkeys(filter(None, sentences)))

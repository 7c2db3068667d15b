"""Why a run is in the state it is: a sentence, the next command, and what was said by whom.

Everything is read from the run folder and from the log of its job; Slurm is asked three questions, and may be silent.
"""

from __future__ import annotations

import math
import re
import signal
import time

from hpc import media
from hpc.codes import NEVER
from hpc.runs import records, status
from hpc.slurm import commands, words
from hpc.slurm.squeue import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpc.runs.records import Attempt, Submission
    from hpc.runs.rundir import RunDir
    from hpc.runs.status import State

    Ask = Callable[..., commands.Answer]

LAUNCH = "python -m hpc.launch"
ATTEMPTS, EVENTS = 5, 3
"""How many of the last ones are shown."""
SHOWN = (
    "JobState", "Reason", "Dependency", "Restarts", "ExitCode", "DerivedExitCode", "TimeLimit", "StartTime", "EndTime",
    "PreemptTime", "NodeList", "FailedNode", "MinMemoryNode", "Features", "Comment", "AdminComment", "SystemComment",
)  # fmt: skip
"""What of `scontrol show job` may say why."""
OF_SACCT = "JobID,State,ExitCode,DerivedExitCode,Reason,ReqMem,MaxRSS,MaxRSSNode,MaxRSSTask,NodeList,End"


class Facts:
    """What is known of a run, before anything is made of it."""

    def __init__(
        self, state: State, submitted: Submission, attempts: Sequence[Attempt], events: Sequence[str] = (),
        log: Sequence[str] = (), srun: Sequence[str] = (), job: Mapping[str, str] | None = None,
        books: Sequence[Mapping[str, str]] = (), silence: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.state = state
        self.submitted = submitted
        self.attempts = attempts
        self.events = events
        self.log = log
        """The end of what the job has printed."""
        self.srun = srun
        """What srun has printed in the last attempt."""
        self.job = job or {}
        """The fields of `scontrol show job`."""
        self.books = books
        """The lines of sacct, of the job and its steps."""
        self.silence = silence
        """Which of Slurm's commands did not answer, and why."""


class Explanation:
    """The answer. Its fields are those of `why --json`."""

    def __init__(self, run: str, word: str, why: str, text: str, next: list[str], evidence: list[list[str]]) -> None:
        self.run = run
        self.word = word
        """The state, as `status` has it."""
        self.why = why
        """The short word of what Slurm has done to it; empty if it was not Slurm."""
        self.text = text
        self.next = next
        """Commands to give now, the most likely first."""
        self.evidence = evidence
        """Who said it, and the words."""


def explain(run: RunDir, ask: Ask = commands.run) -> Explanation:
    """Collect what is known of a run, and say why it is in its state."""
    return judge(collect(run, status.look(run, Queue()), ask))


def collect(run: RunDir, state: State, ask: Ask) -> Facts:
    """Read the run folder and, of a run in Slurm, the log of its job; ask scontrol, and sacct if there is one."""
    submitted = (records.submissions(run) or [{}])[-1]
    srun = run.attempt(run.last_attempt()).srun_lines()
    facts = Facts(
        state, submitted, records.attempts(run)[-ATTEMPTS:], [each["text"] for each in records.events(run)[-EVENTS:]],
        status.job_log(state.job, submitted, run), srun,
    )  # fmt: skip
    if state.on_slurm and state.job and state.word != "finished":
        of_cluster = commands.of_cluster(state.cluster)
        shown = ask("scontrol", *of_cluster, "show", "job", "-o", state.job)
        # Since then only: a controller that was started anew counts from 1 again
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(submitted.get("time", 0)))
        books = ask("sacct", *of_cluster, "-n", "-P", "-D", "-S", since, "-j", state.job, "-o", OF_SACCT)
        facts.job = words.fields(shown.out)
        rows = [line.split("|") for line in books.out.splitlines() if line.count("|") == OF_SACCT.count(",")]
        facts.books = [dict(zip(OF_SACCT.split(","), row)) for row in rows]
        facts.silence = [
            f"{name}: {answer.error}" for name, answer in (("scontrol", shown), ("sacct", books)) if not answer.ok
        ]
    return facts


def judge(facts: Facts) -> Explanation:
    """Say why. Reads nothing, and asks nobody."""
    state = facts.state
    text = _sentence(facts)
    why = words.short(text)
    return Explanation(state.run, state.word, why, text, _next(facts, why, text), _evidence(facts))


def _sentence(facts: Facts) -> str:
    """Return the sentence: what `status` has, or more if a log or Slurm's books say more."""
    state = facts.state
    step, job = words.of_step([*facts.srun, *facts.log]), words.of_job(facts.log)
    if state.word in ("finished", "running"):
        return state.text or _state_alone(state.word)
    if state.why == words.HELD and step is not None and step.kind == words.PROLOG:
        where = f" on {step.node}" if step.node else ""
        return (
            f"{words.PROLOG}: the site's own script before a job has failed{where}, so Slurm put job {state.job} back "
            f"into the queue and holds it there; `scontrol release {state.job}` lets it go"
        )
    if state.why == words.CONSTRAINT and facts.job.get("Features", "(null)") != "(null)":
        return f"{state.text}: --constraint {facts.job['Features']}"
    if state.why == words.NODE_FAILURE and step is not None and step.kind == words.NODE_FAILURE:
        return f"{words.NODE_FAILURE}: {step.node} is lost; {state.text.removeprefix(f'{words.NODE_FAILURE}: ')}"
    if state.why and state.why != words.FORGOTTEN:
        return state.text
    if killed := next((row for row in facts.books if words.of_state(row["State"]) == words.OUT_OF_MEMORY), None):
        of_step = f", in step {killed['JobID']}" if "." in killed["JobID"] else ""
        at = f" on {killed['NodeList']}" if killed["NodeList"] else ""
        most = f"; the most that one of its tasks had was {killed['MaxRSS']}" if killed["MaxRSS"] else ""
        return f"{words.OUT_OF_MEMORY}: Slurm says so of job {state.job}{of_step}{at}{most}"
    if step is not None and step.kind == words.NODE_FAILURE:
        return f"{words.NODE_FAILURE}: Slurm has lost {step.node}, a node of job {state.job}; {state.text}"
    if sentence := words.ended(state.job, facts.job.get("JobState", "")):
        return f"{sentence}; {state.text}"
    if state.word in ("lost", "stopped", "queued") and job is not None and job.kind in words.SHORT and not state.why:
        return f"{words.ended(state.job, _STATE_OF[job.kind])}; {state.text}"
    if state.word == "lost" and (by := _signal(facts)):
        return f"job {state.job} was ended by {by}; {state.text}"
    return state.text or _state_alone(state.word)


def _state_alone(word: str) -> str:
    """Return the sentence about a run of which no more is known than its state."""
    return f"it is {word}"


def _signal(facts: Facts) -> str:
    """Return the signal that has ended the job, by its name, as its exit code says: 0:9; empty if none has."""
    of_job = next((row["ExitCode"] for row in facts.books if row["JobID"] == facts.state.job), "")
    number = (of_job or facts.job.get("ExitCode", "")).partition(":")[2]
    known = {str(each.value): each.name for each in signal.Signals}
    return known.get(number, "")


_STATE_OF = {
    words.TIME_LIMIT: "TIMEOUT", words.PREEMPTED: "PREEMPTED", words.NODE_FAILURE: "NODE_FAIL",
    words.CANCELLED: "CANCELLED",
}  # fmt: skip


def _next(facts: Facts, why: str, text: str) -> list[str]:
    """Return what to do now."""
    state = facts.state
    resume, stop, look = f"{LAUNCH} resume {state.run}", f"{LAUNCH} stop {state.run}", f"{LAUNCH} status {state.run}"
    if state.word == "finished":
        return []
    if state.word == "running":
        return [f"{LAUNCH} logs {state.run} -f"]
    waits = not state.ended
    if facts.submitted.get("kind") == "refused":
        return ["sinfo -s", f"{resume} --partition NAME --account NAME --time TIME --dry-run"]
    if why == words.OUT_OF_MEMORY:
        return [f"{resume} --mem {_more_gb(text, facts.job.get('MinMemoryNode', ''))}"]
    if why == words.TIME_LIMIT and not waits:
        longer = _twice(facts.job.get("TimeLimit", ""))
        return [resume, *([f"{resume} --time {longer}"] if longer else [])]
    if why in (words.HELD, words.PROLOG) and waits:
        if "JobHeldAdmin" in facts.job.get("Reason", "") or "an administrator holds" in text:
            return [f"scontrol show job {state.job}", stop]
        return [f"scontrol release {state.job}", stop]
    if why == words.CONSTRAINT and waits:
        has = facts.job.get("Features", "(null)") != "(null)"
        return ['sinfo -o "%P %D %c %m %G %l %f"', stop, f"{resume} --constraint FEATURE" if has else resume]
    if why == words.NEVER_STARTS:
        first = next(iter(re.findall(r"it was to follow ([^\s,]+)", text)), "")
        mend = [f"{LAUNCH} why {first}", f"{LAUNCH} resume {first}"] if first else []
        return [*mend, *([stop] if waits else []), resume]
    if waits:
        return [look]
    if state.code == NEVER and "resume" not in text:  # it would be the same again
        return [f"{LAUNCH} logs {state.run}"]
    return [f"{LAUNCH} logs {state.run}", resume] if state.word == "failed" else [resume]


def _more_gb(text: str, asked: str) -> str:
    """Return what to say to --mem: what the sentence has, or twice what was asked for, as `300M`."""
    if advised := re.search(r"--mem (\d+)", text):
        return advised[1]
    gb = {"M": 1 / 1024, "G": 1.0, "T": 1024.0}
    if not re.fullmatch(r"[\d.]+[MGT]", asked):
        return "GB"
    return f"{max(1, math.ceil(2 * float(asked[:-1]) * gb[asked[-1]]))}"


def _twice(limit: str) -> str:
    """Return twice a time limit, `1-12:00:00`, in minutes; empty if it is none."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if match is None:
        return ""
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return f"{2 * ((days * 24 + hours) * 60 + minutes)}m"


def _evidence(facts: Facts) -> list[list[str]]:
    """Return what was said, by whom, the earliest first."""
    evidence = [[f"attempt {line.get('attempt', '?')}", _of_attempt(line)] for line in facts.attempts]
    reasons = [line["why"] for line in facts.attempts if line["why"]]
    evidence += [["supervisor", text] for text in facts.events if not any(text.startswith(why) for why in reasons)]
    if facts.state.node_counts:
        evidence.append(["nodes", _of_nodes(facts)])
    lines = (words.of_step(facts.srun), words.of_step(facts.log), words.of_job(facts.log))
    evidence += [[who, line.text] for who, line in zip(("srun", "log of the job", "log of the job"), lines) if line]
    if facts.job:
        shown = [f"{name}={facts.job[name]}" for name in SHOWN if facts.job.get(name, "(null)") not in ("(null)", "")]
        evidence.append(["scontrol", " ".join(shown)])
    evidence += [["sacct", " ".join(f"{name}={value}" for name, value in row.items() if value)] for row in facts.books]
    return evidence + [["silent", text] for text in facts.silence]


def _of_attempt(line: Attempt) -> str:
    nodes = f" of job {line['job']}" if line.get("job") else ""
    why = f": {line['why']}" if line["why"] else ""
    if line["outcome"] == "sick":
        return f"no rank was started{nodes}{why}"
    return f"{line['outcome']}{nodes}, from step {line['from_step']}, exit codes {line['codes']}{why}"


def _of_nodes(facts: Facts) -> str:
    """Say which numbers of nodes a malleable run has had, and what that means for its parameters."""
    state = facts.state
    had = [str(nodes) for line in facts.attempts if (nodes := line.get("nodes"))]
    had = [each for place, each in enumerate(had) if had[place - 1 : place] != [each]]
    return f"{media.one_of(state.node_counts, 'node')}; so far {', then '.join(had) or state.nodes}; {state.exact}"


def text(explanation: Explanation) -> str:
    """Format an explanation for a terminal."""
    rows = [f"{explanation.run} is {explanation.word}", ""]
    if explanation.text != _state_alone(explanation.word):
        rows += [media.one_line(explanation.text), ""]
    rows += [f"  {'next' if not number else '  or'}  {command}" for number, command in enumerate(explanation.next)]
    rows += ["", "said by"] if explanation.evidence else []
    width = max((len(who) for who, _ in explanation.evidence), default=0)
    rows += [f"  {who:<{width}}  {media.one_line(words_of)}" for who, words_of in explanation.evidence]
    return "\n".join(rows).rstrip()

"""Why an attempt failed, what caused it, and whether to try again. Reads nothing but the run folder."""

import re
import signal
from collections import Counter
from typing import Any

from hpc.codes import NEVER
from hpc.runs import records
from hpc.runs.rundir import AttemptDir, RunDir, append_line, committed_steps, read_json

BUDGET = 3
"""The most attempts in a row that save nothing; attempts with progress are not counted."""
TOO_SHORT = 3
"""Ends of the walltime in a row before anything was saved."""
STRIKES = 2
"""Failed attempts on the same node, after which it is excluded."""


def products(run: RunDir) -> object:
    """Return a value that changes when work has been saved."""
    out = sorted(path.name for path in run.out.rglob("*")) if run.out.exists() else []
    return committed_steps(run.checkpoints), out


def since_submission(run: RunDir) -> "list[records.Attempt]":
    """Return the attempts since a user last submitted it: a new submission means that it is worth another try. A job
    that follows another because a site does not requeue does not count as one."""
    given = [line["time"] for line in records.submissions(run) if not line.get("successor")]
    return [line for line in records.attempts(run) if line["started"] > (given or [0.0])[-1]]


def account_for_lost(run: RunDir) -> None:
    """Note the attempts that ended together with their supervisor, which could not note them."""
    noted = {line.get("attempt") for line in records.attempts(run)}
    steps = committed_steps(run.checkpoints)
    for number in range(1, run.last_attempt() + 1):
        folder = run.attempt(number)
        start = None if number in noted else read_json(folder.start)
        if start is None:
            continue
        files = [path for path in folder.path.iterdir() if path.exists()]
        heartbeats = [records.heartbeat(run, 0), records.supervisor(run)]
        times = [heartbeat_of["time"] for heartbeat_of in heartbeats if heartbeat_of.get("attempt") == number]
        end: dict[str, Any] = {
            "ended": max([path.stat().st_mtime for path in files] + times),
            "outcome": "lost",
            "codes": [],
            "why": "it ended with its supervisor",
            "node": "",
            "got_on": bool(steps) and steps[-1] > start["from_step"],
        }
        append_line(run.attempts, start | end)


def too_short(lines: "list[records.Attempt]") -> int:
    """Count the attempts at the end of the list that met the end of the walltime before they had saved anything."""
    n = 0
    for line in reversed(lines):
        if line["outcome"] != "stopped" or not line.get("walltime") or line["got_on"]:
            break
        n += 1
    return n


def in_vain(lines: "list[records.Attempt]") -> "list[records.Attempt]":
    """Return the attempts at the end of the list that failed and saved nothing."""
    attempts: list[records.Attempt] = []
    for line in reversed(lines):
        if line["outcome"] not in ("crashed", "hung", "lost") or line["got_on"]:
            break
        attempts.insert(0, line)
    return attempts


def hopeless(lines: "list[records.Attempt]") -> bool:
    """Whether it failed for good: the same error twice at the same step, or too many attempts that saved nothing."""
    vain = in_vain(lines)
    if NEVER in lines[-1]["codes"]:
        return True
    by_itself = vain and not vain[-1]["node"]  # an error of the program; a kill or a hang may be due to the machine
    return bool(by_itself and _again(lines)) or len(vain) >= BUDGET


def _again(lines: "list[records.Attempt]") -> bool:
    """Whether the last attempt ended with the error of the one before, at the step of that error. Their first steps
    may differ, as the one before may have saved on its way."""
    if len(lines) < 2 or lines[-1]["why"] != lines[-2]["why"]:
        return False
    before, last = lines[-2:]
    at_before, at = before.get("at"), last.get("at")
    if at is None or at_before is None:  # no rank has reported it
        return last["from_step"] == before["from_step"] and not before["got_on"]
    return max(at, last["from_step"]) == max(at_before, before["from_step"])


def bad_nodes(lines: "list[records.Attempt]") -> list[str]:
    """Return the nodes on which it failed repeatedly without progress."""
    strikes = Counter(line["node"] for line in in_vain(lines) if line["node"])
    return sorted(node for node, count in strikes.items() if count >= STRIKES)


def ever_bad_nodes(lines: "list[records.Attempt]") -> list[str]:
    """Return the nodes that were bad after any of the attempts: progress elsewhere does not mend a node."""
    return sorted({node for end in range(1, len(lines) + 1) for node in bad_nodes(lines[:end])})


def hung(late: dict[str, Any], folder: AttemptDir) -> str:
    if not late["host"]:
        return f"no rank has started within {late['silent_s']:.0f} s; output of srun: {folder.srun}"
    progress = f"{late['what']} {late['done']}/{late['total']}" if late["total"] else late["what"]
    return (
        f"no rank made progress for {late['silent_s']:.0f} s; the others seem to wait for rank {late['rank']} on "
        f"{late['host']}, last progress {progress}; stacks: {folder.path}/rank-*.stacks"
    )


def crashed(folder: AttemptDir, codes: list[int]) -> tuple[str, str]:
    """Return the reason, from the first error that a rank has written or from the exit codes, and the node of a killed
    rank; an empty node if the program itself failed."""
    errors = _errors(folder)
    bad = [code for code in codes if code != 0]
    # srun reports a rank's signal as 128 + its number
    killed = [
        signal.Signals(number).name for code in bad if (number := -code if code < 0 else code - 128) in (7, 9, 11)
    ]
    if errors and not _lost_neighbour(errors[0]):
        return f"rank {errors[0]['rank']} on {errors[0]['host']}: {errors[0]['error']}", ""
    if killed:
        node = _node_of_the_dead(folder)
        return f"a rank was ended by {killed[0]}{node and f' on {node}'}", node or "this machine"
    if errors:
        return f"rank {errors[0]['rank']} on {errors[0]['host']}: {errors[0]['error']}", errors[0]["host"]
    if not bad:
        return f"rank 0 ended well, but {folder.metrics} is not there: it did not come to the end of its stage", ""
    return f"exit codes {bad}, logs in {folder.path}", _node_of_the_dead(folder) or "this machine"


def at(folder: AttemptDir) -> int | None:
    """Return the step of the rank whose error ended the attempt; None if none has written one."""
    return next((error.get("at") for error in _errors(folder)), None)


def _errors(folder: AttemptDir) -> list[dict[str, Any]]:
    """Return the errors that the ranks have written. A rank that lost its neighbour complains of the connection; the
    cause is the neighbour's error, which comes first."""
    errors = [error for path in sorted(folder.path.glob("rank-*.error.json")) if (error := read_json(path))]
    return sorted(errors, key=_lost_neighbour)


def _node_of_the_dead(folder: AttemptDir) -> str:
    """Parse srun's message, `srun: error: n2: task 3: Killed`; messages of tasks that srun itself ended come later."""
    try:
        text = folder.srun.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    match = re.search(r"error: (\S+): tasks? [\d,-]+: (?:Killed|Bus error|Segmentation fault|Aborted)", text)
    return match[1] if match else ""


def _lost_neighbour(error: dict[str, Any]) -> bool:
    return "onnection" in error["error"] or "gloo" in error["error"]

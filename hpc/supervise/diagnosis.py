"""Why an attempt failed, what caused it, and whether to try again. Reads nothing but the run folder."""

import os
import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpc.codes import NEVER
from hpc.media import many
from hpc.runs import records
from hpc.runs.rundir import AttemptDir, RunDir, append_line, committed_steps, read_json
from hpc.supervise import fault_texts, shapes, step_end
from hpc.supervise.fault_texts import Fault

BUDGET = 3
"""The most attempts in a row that save nothing; attempts with progress are not counted."""
TOO_SHORT = 3
"""Ends of the walltime in a row before anything was saved."""
STRIKES = 2
"""Failed attempts on the same node, after which it is excluded; a fault of its hardware is enough by itself."""
SOME_MACHINE = "this machine"
"""Stands for a node where it may be due to a machine, and none can be named; it is never excluded."""
TAIL_B = 65536
"""How much of the end of a rank's log is read for the words of its libraries."""


class Cause(NamedTuple):
    """Why an attempt ended, the node that it is laid to (empty if it is the program itself), and whose fault it is."""

    why: str
    node: str = ""
    fault: Fault = "program"


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
            **shapes.speed(heartbeats[0], number),
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
        if line["outcome"] == "sick":  # no rank was started: it says nothing of the program
            continue
        if line["outcome"] not in ("crashed", "hung", "lost") or line["got_on"]:
            break
        attempts.insert(0, line)
    return attempts


def hopeless(lines: "list[records.Attempt]") -> bool:
    """Whether it failed for good: the same error twice at the same step, or too many attempts that saved nothing."""
    vain = in_vain(lines)
    if NEVER in lines[-1]["codes"] or lines[-1].get("fault") == "user":
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
    """Return the nodes on which it failed repeatedly without progress, or whose hardware failed, with progress or
    without."""
    strikes = Counter(line["node"] for line in in_vain(lines))
    nodes = {node for node, count in strikes.items() if count >= STRIKES}
    nodes |= {node for line in lines if line.get("fault") == "node" for node in line["node"].split(",")}
    return sorted(nodes - {"", SOME_MACHINE})


def ever_bad_nodes(lines: "list[records.Attempt]") -> list[str]:
    """Return the nodes that were bad after any of the attempts: progress elsewhere does not mend a node."""
    return sorted({node for end in range(1, len(lines) + 1) for node in bad_nodes(lines[:end])})


def hung(late: dict[str, Any], folder: AttemptDir) -> Cause:
    """Return the reason of a hang. `late`: the heartbeat of the rank that is late, for how long all were silent, and
    what the ranks' records of collectives say, if they were written."""
    silent = f"{late['silent_s']:.0f} s"
    if not late["host"]:
        return Cause(f"no rank has started within {silent}; output of srun: {folder.srun}")
    progress = f"{late['what']} {late['done']}/{late['total']}" if late["total"] else late["what"]
    stacks = f"last progress {progress}; stacks: {folder.path}/rank-*.stacks"
    if late.get("everybody"):
        return Cause(f"no rank made progress for {silent}: {late['collectives']}; {stacks}", SOME_MACHINE)
    whom = f"rank {late['rank']} on {late['host']}"
    if collectives := late.get("collectives"):
        node = "" if late.get("of_program") else late["host"]
        return Cause(f"no rank made progress for {silent}, because of {whom}: {collectives}; {stacks}", node)
    return Cause(f"no rank made progress for {silent}; the others seem to wait for {whom}, {stacks}", late["host"])


def crashed(folder: AttemptDir, codes: list[int], hosts: Mapping[int, str] | None = None) -> Cause:
    """Return what caused the end of an attempt: what Slurm, or the kernel, has done to it; or the first error that a
    rank has written and that is no complaint about another rank; or the words of its libraries in the log of a rank
    that died without writing one; or how it died.

    `hosts`: the node of each rank that has started.
    """
    hosts = hosts or {}
    errors = _errors(folder)
    by_slurm = step_end.cause(folder)
    if by_slurm and not (errors and errors[0]["fault"] in ("node", "user")):
        return Cause(*by_slurm)
    if errors and errors[0]["fault"] != "neighbour":
        return _of_error(errors[0])
    last_words = _last_words(folder, hosts)
    for rank, line in last_words.items():
        fault, advice = fault_texts.verdict(line)
        if fault != "neighbour":
            host = hosts.get(rank, "")
            where = f"{host and f' on {host}'}"
            node = (host or SOME_MACHINE) if fault == "node" else ""
            return Cause(f"rank {rank}{where} died: {line}{advice and f' ({advice})'}", node, fault)
    bad = [code for code in codes if code != 0]
    complaining = {error["rank"] for error in errors} | last_words.keys()
    dead = _dead(folder, codes, len(hosts))
    is_watchdog = dead is not None and dead.by == "SIGABRT" and dead.rank is None and bool(last_words)
    if dead is not None and dead.rank not in complaining and not is_watchdog:
        where = dead.node and f" on {dead.node}"
        return Cause(f"a rank was ended by {dead.by}{where}", dead.node or SOME_MACHINE)
    if complaining:
        return _of_complaints(errors, last_words, hosts, complaining)
    if not bad:
        return Cause(f"rank 0 ended well, but {folder.metrics} is not there: it did not come to the end of its stage")
    if not hosts and (said := step_end.first_error(folder)):
        return Cause(f"no rank has started: {said}", SOME_MACHINE)
    return Cause(f"exit codes {bad}, logs in {folder.path}", _node_of_the_dead(folder) or SOME_MACHINE)


def _of_error(error: dict[str, Any]) -> Cause:
    fault, advice = error["fault"], error["advice"]
    notes = "".join(f"; {note}" for note in error.get("notes", []))
    why = f"rank {error['rank']} on {error['host']}: {error['error']}{advice and f' ({advice})'}{notes}"
    return Cause(why, error["host"] if fault == "node" else "", fault)


def _of_complaints(
    errors: Sequence[dict[str, Any]], last_words: Mapping[int, str], hosts: Mapping[int, str], complaining: set[int]
) -> Cause:
    """Return the cause where all that is known are complaints of ranks about each other. Those whom no rank has heard
    of since are suspected, if they are on one node; a rank that complains never is."""
    words = {error["rank"]: f"{error['error']}" for error in errors} | dict(last_words)
    rank = min(words)
    complaint = f"rank {rank} complains: {words[rank]}"
    silent = sorted(hosts.keys() - complaining)
    nodes = {hosts[one] for one in silent}
    if len(nodes) == 1:
        whom = f"rank {', '.join(map(str, silent))} on {min(nodes)}"
        return Cause(f"{whom} ended without a word; {complaint}", min(nodes), "neighbour")
    why = f"{many(len(complaining), 'rank')} lost the others, and none says why: the network, or a node; {complaint}"
    return Cause(why, SOME_MACHINE, "neighbour")


def at(folder: AttemptDir) -> int | None:
    """Return the step of the rank whose error ended the attempt; None if none has written one."""
    return next((error.get("at") for error in _errors(folder)), None)


def _errors(folder: AttemptDir) -> list[dict[str, Any]]:
    """Return the errors that the ranks have written, with whose fault they are; that of hardware first, complaints
    about other ranks last. What the kernel of the node had to say counts as well."""
    errors = [error for path in sorted(folder.path.glob("rank-*.error.json")) if (error := read_json(path))]
    for error in errors:
        verdict = fault_texts.verdict("\n".join([error["error"], *error.get("notes", [])]))
        error |= {"fault": verdict.fault, "advice": verdict.advice}
    order: list[Fault] = ["node", "user", "program", "neighbour"]
    return sorted(errors, key=lambda error: order.index(error["fault"]))


def _last_words(folder: AttemptDir, hosts: Mapping[int, str]) -> dict[int, str]:
    """Return the telling line in the log of each rank that has written no error: C++ ends a process (SIGABRT) without
    Python. Those of hardware first."""
    words = {}
    for rank in hosts:
        if folder.error(rank).exists():
            continue
        if line := fault_texts.telling_line(_tail(folder.log(rank))):
            words[rank] = line[:500]
    order: list[Fault] = ["node", "user", "program", "neighbour"]
    return dict(sorted(words.items(), key=lambda item: order.index(fault_texts.verdict(item[1]).fault)))


def _tail(log: Path) -> list[str]:
    try:
        with open(log, "rb") as file:
            file.seek(-min(TAIL_B, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []


class Dead(NamedTuple):
    """A rank that a signal ended; its number is not known where srun names several tasks."""

    rank: int | None
    node: str
    by: str


SIGNALS = (signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGSEGV)


def _dead(folder: AttemptDir, codes: Sequence[int], n_ranks: int) -> Dead | None:
    """Return the rank that a signal ended first, if one did. srun reports a rank's signal as 128 + its number, and has
    one code for all of them; here each rank has its own, in their order if there are as many."""
    numbers = [-code if code < 0 else code - 128 for code in codes]
    place = next((place for place, number in enumerate(numbers) if number in SIGNALS), None)
    if place is None:
        return None
    by = signal.Signals(numbers[place]).name
    if match := _died_first(folder):
        return Dead(int(match[2]) if match[2].isdigit() else None, match[1], by)
    return Dead(place if len(codes) == n_ranks else None, "", by)


def _node_of_the_dead(folder: AttemptDir) -> str:
    match = _died_first(folder)
    return match[1] if match else ""


def _died_first(folder: AttemptDir) -> re.Match[str] | None:
    """Parse srun's message, `srun: error: n2: task 3: Killed`; messages of tasks that srun itself ended come later."""
    try:
        text = folder.srun.read_text(errors="replace")
    except FileNotFoundError:
        return None
    return re.search(r"error: (\S+): tasks? ([\d,-]+): (?:Killed|Bus error|Segmentation fault|Aborted)", text)

"""jobs/allocations.jsonl: what each job of a run was given, and from when to when, by the word of its supervisor.

    {"job": "812", "restarts": 0, "began": …, "queued_s": 61.2, "nodes": 2, "cpus": 8, "gpus": 8, "account": "plgx"}
    {"job": "812", "restarts": 0, "ended": …, "energy_j": 90210.5}

A job that was killed has no second line: it ended when it was last heard of. Runs of earlier versions have no such
file: what they were given is what their plan asked for, from the first to the last sign of an attempt.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hpc.runs import folding, records
from hpc.runs.folding import ALLOCATIONS
from hpc.runs.rundir import Damaged, RunDir, all_lines, append_line, committed_steps, read_json

T = TypeVar("T", int, float)
SLURM, SUPERVISOR, ATTEMPTS = "Slurm", "supervisor", "attempts"
"""Whose word an allocation is."""


@dataclass(frozen=True)
class Allocation:
    """What one job had, from its start to its end; a requeued job has one for each of its starts."""

    job: str
    restarts: int
    began: float
    ended: float
    nodes: int
    cpus: int
    gpus: int
    account: str = ""
    user: str = ""
    queued_s: float | None = None
    """How long it waited for that; None: not known."""
    energy_j: float | None = None
    source: str = SUPERVISOR

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.began)


def of_plan(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nodes, cores, GPUs and the grant of a job, if its site gives what the plan asks for."""
    nodes = int(resources["nodes"])
    return {
        "nodes": nodes,
        "cpus": nodes * int(resources["ranks_per_node"]) * int(resources.get("cpus_per_rank", 1)),
        "gpus": nodes * int(resources["gpus_per_node"]),
        "account": resources.get("account", ""),
    }


def of_run(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of a run by its plan.json. Outside of Slurm it computes in the cores that it asked for, or in all
    of the machine's but one, as hpc/rank/threads.py says."""
    resources = plan["resources"]
    asked = of_plan(resources)
    if plan["site"]["kind"] == "slurm":
        return asked
    n_cpus, n_ranks = os.cpu_count() or 1, int(resources["nodes"]) * int(resources["ranks_per_node"])
    of_a_rank = int(plan.get("asked", {}).get("cpus") or max(1, (n_cpus - 1) // n_ranks))
    return asked | {"cpus": min(n_cpus, n_ranks * of_a_rank)}


def of_job(environ: Mapping[str, str], resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of the Slurm job around this process, by Slurm's variables."""
    asked = of_plan(resources)
    nodes = _whole(environ.get("SLURM_JOB_NUM_NODES")) or int(asked["nodes"])
    gpus_on_node = _whole(environ.get("SLURM_GPUS_ON_NODE"))
    return {
        "nodes": nodes,
        "cpus": _cpus(environ.get("SLURM_JOB_CPUS_PER_NODE", "")) or asked["cpus"],
        "gpus": asked["gpus"] if gpus_on_node is None else nodes * gpus_on_node,
        "account": environ.get("SLURM_JOB_ACCOUNT", asked["account"]),
    }


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _cpus(text: str) -> int:
    """Parse SLURM_JOB_CPUS_PER_NODE, `4(x2),2`, to the cores of all nodes."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return sum(int(cpus) * int(times or 1) for cpus, times in parts)


def begin(run: RunDir, job: str, restarts: int, environ: Mapping[str, str], plan: Mapping[str, Any]) -> Allocation:
    """Note the start of a job, unless a supervisor of the same job before this one has; return what the job has. `job`:
    that of Slurm, or the pid of the keeper on this machine. `plan`: the content of plan.json."""
    on_slurm = plan["site"]["kind"] == "slurm" and "SLURM_JOB_ID" in environ
    before = [each for each in read(run) if (each.job, each.restarts) == (job, restarts)]
    if before and on_slurm:
        return before[-1]
    began = float(_whole(environ.get("SLURM_JOB_START_TIME")) or time.time())
    line = {"job": job, "restarts": restarts, "began": began, "queued_s": _queued_s(run, job, restarts, began)}
    line |= of_job(environ, plan["resources"]) if on_slurm else of_run(plan)
    append_line(run.allocations, line)
    return read(run)[-1]


def end(run: RunDir, allocation: Allocation, energy_j: float | None) -> None:
    """Note the end of a job."""
    measured = {} if energy_j is None else {"energy_j": round(energy_j, 1)}
    line = {"job": allocation.job, "restarts": allocation.restarts, "ended": time.time()}
    append_line(run.allocations, line | measured)


def _queued_s(run: RunDir, job: str, restarts: int, began: float) -> float | None:
    """Return how long a job has waited: since it was submitted, or, if it follows other runs or jobs, since the last of
    them has ended; of a requeued job, since the end of its last start."""
    if restarts and (before := read(run)):
        return max(0.0, began - before[-1].ended)
    line = next((line for line in reversed(records.submissions(run)) if str(line.get("job")) == job), None)
    if line is None or line.get("kind") != "slurm":
        return 0.0 if line is not None else None
    parent = run.path.parent
    ends = [_ended(RunDir(parent / name)) for name in line.get("after", [])]
    ends += [one.ended for one in read(run)[-1:]] if line.get("successor") else []
    return max(0.0, began - max([line["time"], *ends]))


def _ended(run: RunDir) -> float:
    try:
        return records.result(run).get("ended", 0.0)
    except Damaged:
        return 0.0


def read(run: RunDir) -> list[Allocation]:
    """Return the allocations of a run, in their order, as its supervisors have noted them."""
    lines = [line for line in all_lines(run.allocations) or folding.folded(run, ALLOCATIONS) if line is not None]
    starts: list[dict[str, Any]] = []
    last_of: dict[str, dict[str, Any]] = {}
    for line in lines:
        key = f"{line.get('job')}/{line.get('restarts')}"
        if "began" in line:
            last_of[key] = dict(line)
            starts.append(last_of[key])
        elif key in last_of:
            last_of[key] |= line
    allocations = [each for line in starts if (each := _allocation(line)) is not None]
    allocations.sort(key=lambda each: each.began)
    limits = [*(each.began for each in allocations[1:]), time.time()]
    return [
        each if each.ended else replace(each, ended=_last_sign(run, each.began, limit, is_last=each is allocations[-1]))
        for each, limit in zip(allocations, limits)
    ]


def _allocation(line: Mapping[str, Any]) -> Allocation | None:
    try:
        return Allocation(
            job=str(line["job"]),
            restarts=_number(int, line["restarts"]),
            began=_number(float, line["began"]),
            ended=_number(float, line.get("ended", 0.0)),
            nodes=_number(int, line["nodes"]),
            cpus=_number(int, line["cpus"]),
            gpus=_number(int, line["gpus"]),
            account=str(line.get("account", "")),
            queued_s=None if line.get("queued_s") is None else _number(float, line["queued_s"]),
            energy_j=None if line.get("energy_j") is None else _number(float, line["energy_j"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):  # a disk has damaged it: that start is not counted
        return None


def _number(kind: Callable[[Any], T], value: Any) -> T:
    """Read a number that is not below zero; nothing here is near the largest time there is."""
    number = kind(value)
    if not 0 <= number < records.LATEST:
        raise ValueError(value)
    return number


def _last_sign(run: RunDir, began: float, limit: float, is_last: bool) -> float:
    """Return until when a job lived that has noted no end: now, if it runs; else until it was last heard of, before
    the next one began."""
    if is_last and is_running(run):
        return limit
    signs = [began, heard_of(run), *(line["ended"] for line in attempts(run))]
    return max((sign for sign in signs if began <= sign <= limit), default=began)


def is_running(run: RunDir) -> bool:
    """Whether its supervisor says so, and has said it lately."""
    supervisor = records.supervisor(run)
    return supervisor.get("state") == "running" and time.time() - supervisor["time"] < SILENT_S


SILENT_S = 120.0
"""A supervisor that has not written for longer is gone: then its job ended when it was last heard of."""


def heard_of(run: RunDir) -> float:
    """Return when the run was last heard of; 0 if it never was."""
    return max(float(records.supervisor(run).get("time", 0.0)), float(records.heartbeat(run, 0).get("time", 0.0)))


def attempts(run: RunDir) -> list[records.Attempt]:
    """Return all attempts of a run in their order, with those that nobody has accounted for yet: the one that runs, and
    those that ended with their supervisor."""
    lines = list(records.attempts(run))
    noted = {line.get("attempt") for line in lines}
    for number in range(1, run.last_attempt() + 1):
        start = None if number in noted else _start(run, number)
        if start is not None:
            lines.append(_unaccounted(run, number, start))
    return sorted(lines, key=lambda line: line["started"])


def _start(run: RunDir, number: int) -> Any:
    try:
        start = read_json(run.attempt(number).start)
    except Damaged:
        return None
    return start if isinstance(start, dict) and isinstance(start.get("started"), int | float) else None


def _unaccounted(run: RunDir, number: int, start: Mapping[str, Any]) -> records.Attempt:
    heartbeat, supervisor = records.heartbeat(run, 0), records.supervisor(run)
    is_last = number == supervisor.get("attempt", number)
    signs = [each["time"] for each in (heartbeat, supervisor) if each.get("attempt") == number]
    line: Any = {
        "codes": [], "why": "", "node": "", "from_step": 0, **start,
        "ended": time.time() if is_last and is_running(run) else max([start["started"], *signs]),
        "outcome": "running" if is_last and is_running(run) else "lost",
        "got_on": max(committed_steps(run.checkpoints), default=0) > start.get("from_step", 0),
    }  # fmt: skip
    if heartbeat.get("attempt") == number:
        line["done"] = heartbeat.get("done", 0)
    return line


def of_attempts(run: RunDir, plan: Mapping[str, Any], until: float) -> list[Allocation]:
    """Return the allocations of a run until it has noted them: by its attempts, as its plan asked for them."""
    if not {"nodes", "ranks_per_node", "gpus_per_node"} <= plan.get("resources", {}).keys() or "site" not in plan:
        return []
    had = of_run(plan)
    jobs: dict[str, list[records.Attempt]] = {}
    for line in attempts(run):
        if line["started"] < line["ended"] and line["started"] < until:
            jobs.setdefault(str(line.get("job") or ""), []).append(line)
    spans = {job: (min(a["started"] for a in each), max(a["ended"] for a in each)) for job, each in jobs.items()}
    return [
        Allocation(job, 0, began, ended, **had, queued_s=_queued_s(run, job, 0, began), source=ATTEMPTS)
        for job, (began, ended) in spans.items()
    ]


def owner(run: RunDir) -> str:
    """Return the user whose run it is."""
    try:
        uid = os.stat(run.folder).st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # of another machine
        return str(uid)


def by_records(run: RunDir, plan: Mapping[str, Any]) -> list[Allocation]:
    """Return the allocations of a run by its own records."""
    noted = read(run)
    until = noted[0].began if noted else float("inf")
    return [*of_attempts(run, plan, until), *noted]

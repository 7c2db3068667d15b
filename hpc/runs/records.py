"""What the files of a run folder hold that processes pass to one another, as types, and the version of all of them.

plan.json has the version of its folder, `schema`. It is raised when a file changes in such a way that another version
would misread it. A folder of an older version is read; one of a newer version is refused.
"""

from __future__ import annotations

import os

from hpc.errors import ConfigError
from hpc.runs import folding, heartbeats
from hpc.runs.rundir import (
    LIST,
    RESULT,
    SUBMISSIONS,
    SUPERVISOR,
    Damaged,
    RunDir,
    all_lines,
    read_bytes,
    read_heartbeat,
    read_json,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any, Literal, TypedDict

    Check = Callable[[object], bool]
    Fields = Mapping[str, Check]

    class PlanRecord(TypedDict, total=False):
        """plan.json: what the launcher has decided."""

        schema: int
        name: str
        again: int
        label: str
        settings: str
        asked: dict[str, Any]
        stage: str
        entry: str
        inputs: dict[str, str]
        secrets: dict[str, str]  # names, by the settings that name them
        unnamed: list[str]  # settings that are no part of the run's name
        sources: list[str]
        site: dict[str, Any]
        resources: dict[str, Any]
        code: list[dict[str, Any]]
        python: str
        python_path: list[str]
        packages: dict[str, str]  # package -> its place in code/, which has the snapshot
        meaning: int  # of the stage, when what is saved here was computed
        identity: str  # that of identity.json
        snapshot: str  # the SHA-256 of code/manifest.json
        cwd: str
        exact: str  # of a malleable run: on which numbers of nodes it ends with the same bits, and where to rounding
        pause_at: int  # of a trial of a search: the step after which it rests
        budget: dict[str, Any]  # hours and unit that the run may spend: hpc/book/budget.py

    class Submission(TypedDict, total=False):
        """A line of jobs/submitted.jsonl: a run was submitted or started."""

        job: str  # of Slurm, or a pid; none if it was refused
        name: str
        label: str
        settings: str
        site: str
        kind: str  # of the site; refused and cancelled end the submission
        nodes: int
        cluster: str  # empty: that of the machine where it was submitted
        after: list[str]
        log: str
        time: float
        successor: bool
        text: str

    class Attempt(TypedDict, total=False):
        """A line of attempts.jsonl: one start of the ranks, from its beginning to its end."""

        attempt: int
        started: float
        job: str | None
        from_step: int
        ranks: int
        nodes: int
        threads: int
        ended: float
        outcome: Literal["finished", "stopped", "crashed", "hung", "lost", "sick"]
        codes: list[int | None]
        why: str
        node: str
        fault: str  # whose: program, user, node, neighbour
        at: int | None  # the step of the rank whose error ended it
        got_on: bool
        walltime: bool
        paces: dict[str, dict[str, Any]]  # of each rank: its host, and how its time went (pace.py)
        total: int  # the steps of the whole run
        done: int  # the last step that was done, saved or not
        per_s: float  # steps per second; 0 if there was none

    class Event(TypedDict, total=False):
        """A line of events.jsonl: what the supervisor says."""

        time: float
        text: str

    class Result(TypedDict, total=False):
        """result.json: the run is finished."""

        metrics: dict[str, Any] | None
        attempts: int
        seconds: float
        ended: float
        meaning: int
        exact: str  # of a malleable run: whether its parameters are the same bits on any of its numbers of nodes
        read: dict[str, int]  # the runs, and the copies of products, that it has read, and their meaning then

    Heartbeat = TypedDict(
        "Heartbeat",
        {
            "time": float, "attempt": int, "host": str, "pid": int, "what": str, "began": float, "from": int,
            "done": int, "total": int, "figures": dict[str, float], "rank": int, "went_back": int,
            "pace": dict[str, Any],
        },
        total=False,
    )  # fmt: skip
    """A slot of heartbeat/node-0000: how far a rank is."""

    class SupervisorHeartbeat(TypedDict, total=False):
        """heartbeat/supervisor.json: the state of the run."""

        time: float
        state: str
        code: int | None
        attempt: int
        job: str | None
        label: str
        settings: str
        nodes: int
        text: str
        host: str
        pid: int
        keeper: int
        pulse: Heartbeat
        node_counts: list[int]  # of a malleable run
        exact: str  # what the changes of its number of nodes mean for its parameters

    class Owner(TypedDict, total=False):
        """heartbeat/owner.json: the holder of the lock."""

        host: str
        pid: int
        job: str | None
        since: float
        restarts: int


SCHEMA = 3
"""The version of the run folders that this program writes. 0: those of releases without a version; 1: those without an
identity, a manifest of the code, a list of products and a meaning; 2: those whose code is a folder, and whose files are
not joined when they have finished."""
WITH_LISTS = 2
"""The first version whose runs list their products."""


LATEST, LARGEST = 1e11, 1 << 53
"""A time, and a count, that nothing here reaches: the year 5138; the last whole number that a float can tell apart."""


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LATEST < value < LATEST


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and _is_count(value) and value > 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def is_number(value: object) -> bool:
    """A figure of a training, which may be NaN or infinite."""
    return isinstance(value, float) or (_is_count(value) and not isinstance(value, bool))


def _are(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _table(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _fields(fields: Fields, needed: Iterable[str] = ()) -> Check:
    """A table whose known fields are of their kinds."""
    return lambda value: isinstance(value, dict) and not _wrong(value, fields, needed)


def _is_metric(value: object) -> bool:
    """Anything, or a value beside what chance gives."""
    return not isinstance(value, dict) or ("value" in value and is_number(value.get("chance", 0.0)))


_anything = _table(lambda value: True)
_code: Fields = {
    "root": _is_text, "imports": lambda value: _is_text(value) or _are(_is_text)(value), "commit": _is_text,
    "modified": _are(_is_text),
}  # fmt: skip
_PLAN: Fields = {
    "schema": _is_count, "name": _is_text, "again": _is_count, "label": _is_text, "settings": _is_text,
    "asked": _anything, "stage": _is_text, "entry": _is_text, "inputs": _table(_is_text), "sources": _are(_is_text),
    "site": _fields(
        {"name": _is_text, "kind": _is_text, "storage": _fields({"scratch_local": _are(_is_text)})}
    ),
    "resources": _fields(
        {
            "nodes": _is_positive, "ranks_per_node": _is_positive, "gpus_per_node": _is_count, "account": _is_text,
            "stage": _is_text, "share": _is_text, "node_counts": _are(_is_positive),
        }
    ),
    "code": _are(_fields(_code, ("root", "commit", "modified"))), "python": _is_text, "python_path": _are(_is_text),
    "cwd": _is_text, "secrets": _table(_is_text), "identity": _is_text, "snapshot": _is_text, "meaning": _is_count,
    "packages": _table(_is_text), "unnamed": _are(_is_text), "exact": _is_text,
    "pause_at": _is_positive, "budget": _fields({"hours": is_number, "unit": lambda value: value in ("gpuh", "cpuh")}),
}  # fmt: skip
LATER = ("schema", "secrets", "identity", "snapshot", "meaning", "packages", "unnamed", "exact", "pause_at", "budget")
"""What plan.json of earlier versions lacks."""
NEEDED = {"site": ("name", "kind"), "resources": ("nodes", "ranks_per_node", "gpus_per_node")}
"""What a run cannot be started without, in these tables of it."""
_SUBMISSION: Fields = {
    "job": _is_text, "name": _is_text, "label": _is_text, "settings": _is_text, "site": _is_text, "kind": _is_text,
    "nodes": _is_count, "after": _are(_is_text), "log": _is_text, "time": _is_time, "successor": _is_flag,
    "text": _is_text,
}  # fmt: skip
_ATTEMPT: Fields = {
    "attempt": _is_count, "started": _is_time, "job": _or_none(_is_text), "from_step": _is_count, "ranks": _is_count,
    "threads": _is_count, "ended": _is_time, "outcome": _is_text, "codes": _are(_or_none(_is_count)), "why": _is_text,
    "node": _is_text, "fault": _is_text, "at": _or_none(_is_count), "got_on": _is_flag, "walltime": _is_flag,
    "paces": _table(_anything),
    "nodes": _is_positive, "total": _is_count, "done": _is_count, "per_s": is_number,
}  # fmt: skip
_EVENT: Fields = {"time": _is_time, "text": _is_text}
_RESULT: Fields = {
    "metrics": _or_none(_table(_is_metric)),
    "attempts": _is_count,
    "seconds": is_number,
    "ended": _is_time,
    "meaning": _is_count,
    "exact": _is_text,
    "read": _table(_is_count),
}
_HEARTBEAT: Fields = {
    "time": _is_time, "attempt": _is_count, "host": _is_text, "pid": _is_count, "what": _is_text, "began": _is_time,
    "from": _is_count, "done": _is_count, "total": _is_count, "figures": _table(is_number), "rank": _is_count,
    "went_back": _is_count, "pace": _anything,
}  # fmt: skip
_SUPERVISOR: Fields = {
    "time": _is_time, "code": _or_none(_is_count), "attempt": _is_count, "job": _or_none(_is_text), "label": _is_text,
    "settings": _is_text, "nodes": _is_count, "text": _is_text, "host": _is_text, "pid": _is_count,
    "keeper": _is_count, "pulse": _fields(_HEARTBEAT), "node_counts": _are(_is_positive), "exact": _is_text,
    "state": lambda value: value in ("running", "finished", "failed", "stopped", "requeued", "left"),
}  # fmt: skip
_OWNER: Fields = {
    "host": _is_text, "pid": _is_count, "job": _or_none(_is_text), "since": _is_time, "restarts": _is_count,
}  # fmt: skip


def _wrong(record: object, fields: Fields, needed: Iterable[str]) -> str:
    """Return what is not as it was written, or an empty text. Fields that are not known here are left alone."""
    if not isinstance(record, dict):
        return f"it holds a {type(record).__name__}, no table of names and values"
    for name, value in record.items():
        if name in fields and not fields[name](value):
            return f"{name} is {repr(value)[:60]}"
    lacking = [name for name in needed if name not in record]
    return f"{lacking[0]} is not there" if lacking else ""


def _checked(path: Path | str, record: Any, fields: Fields, needed: Iterable[str] = ()) -> Any:
    if why := _wrong(record, fields, needed):
        raise Damaged(f"{path} is damaged: {why}")
    return record


def _lines(run: RunDir, name: str, fields: Fields, needed: Iterable[str], read: list[Any] | None = None) -> list[Any]:
    """Read the lines of a file that are as they were written; of a finished run, they are in events.jsonl. `read`: all
    lines of that file, if they have been read already."""
    lines = (all_lines(f"{run.folder}/{name}") if read is None else read) or folding.folded(run, name)
    return [line for line in lines if line is not None and "of" not in line and not _wrong(line, fields, needed)]


def _pulse(run: RunDir, name: str, fields: Fields, needed: Iterable[str]) -> Any:
    """Read a file below heartbeat/. They are not flushed to the disk, and written again soon: a damaged one is none."""
    record = read_heartbeat(f"{run.folder}/{name}")
    if not record:
        record = next(reversed(folding.folded(run, name)), {})
    return {} if _wrong(record, fields, needed) else record


def plan(run: RunDir) -> PlanRecord:
    """Read plan.json; empty if there is none. Raises ConfigError for a folder of a newer version."""
    path = f"{run.folder}/plan.json"
    record: Any = read_json(path)
    if record is None:
        return {}
    schema = record.get("schema", 0) if isinstance(record, dict) else 0
    if _is_count(schema) and schema > SCHEMA:
        raise ConfigError(
            f"{run.folder} was written by a newer version of hpc (version {schema} of run folders; this one "
            f"reads up to {SCHEMA}): use that version, or another folder with --runs"
        )
    _checked(path, record, _PLAN)
    for key in ("settings", "sources"):
        if key in record:
            record[key] = masked(record[key])
    read: PlanRecord = record
    return read


def whole_plan(run: RunDir) -> PlanRecord:
    """Read plan.json of a run that is to be started; empty if there is none. Raises Damaged if it lacks anything."""
    record: Any = plan(run)
    if not record:
        return {}
    path = f"{run.folder}/plan.json"
    _checked(path, record, _PLAN, [name for name in _PLAN if name not in LATER])
    for name, needed in NEEDED.items():
        if why := _wrong(record[name], {}, needed):
            raise Damaged(f"{path} is damaged: of {name}, {why}")
    return record


def masked(typed: Any) -> Any:
    """Return what was typed, a text or a list of texts, without addresses of webhooks and mail, which earlier versions
    took literally."""
    if isinstance(typed, list):
        return [masked(word) for word in typed]
    if "://" not in typed and "@" not in typed:
        return typed
    import re

    return re.sub(r"(https?://)\S+|[\w.+-]+@[\w-]+\.[\w.-]+", r"\1…", typed)


def submissions(run: RunDir, read: list[Any] | None = None) -> list[Submission]:
    """Read how often it was submitted. `read`: all lines of that file, if they have been read already."""
    return _lines(run, SUBMISSIONS, _SUBMISSION, ("time",), read)


def attempts(run: RunDir) -> list[Attempt]:
    usual = {"codes": [], "why": "", "node": "", "got_on": False, "from_step": 0}
    return [usual | line for line in _lines(run, folding.ATTEMPTS, _ATTEMPT, ("started", "outcome"))]


def events(run: RunDir) -> list[Event]:
    return _lines(run, folding.EVENTS, _EVENT, ("time", "text"))


def metrics(run: RunDir) -> list[dict[str, float]]:
    """Read the lines of metrics.jsonl: a step, and its figures."""
    lines = _lines(run, "metrics.jsonl", {"step": _is_count}, ("step",))
    return [line for line in lines if all(map(is_number, line.values()))]


def result(run: RunDir) -> Result:
    """Read result.json; empty if the run is not finished. Raises Damaged."""
    path = f"{run.folder}/{RESULT}"
    record: Any = read_json(path)
    return {} if record is None else _checked(path, record, _RESULT)


def meaning(run: RunDir) -> int:
    """Return the version of meaning of a run's results: 1 for those of versions that did not note it."""
    return result(run).get("meaning") or plan(run).get("meaning", 1)


def meaning_of(plan: PlanRecord, result: Result) -> int:
    """As `meaning`, of records that have been read already."""
    return result.get("meaning") or plan.get("meaning", 1)


def made_by(path: str) -> tuple[str, int] | None:
    """Return the stage that has made a folder, or the folder of a file, and the version of meaning of its results, as
    the list of its products says; None if it has none that says so."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    head = (all_lines(f"{folder}/{LIST}") or [None])[0] or {}
    stage, meaning = head.get("stage"), head.get("meaning")
    return (stage, meaning) if isinstance(stage, str) and isinstance(meaning, int) else None


def meanings(run: RunDir) -> dict[str, Any]:
    """Return what result.json says of meaning: that of this run, and those of the runs and of the copies of runs'
    products that it has read."""
    record = plan(run)
    parent, refs = os.path.dirname(run.folder), record.get("inputs", {}).values()
    runs = {ref: RunDir(f"{parent}/{ref}") for ref in refs if "/" not in ref}
    read = {ref: meaning(upstream) for ref, upstream in runs.items() if os.path.exists(f"{upstream.folder}/{RESULT}")}
    read |= {ref: copy[1] for ref in refs if "/" in ref and (copy := made_by(os.path.join(record["cwd"], ref)))}
    return {"meaning": record.get("meaning", 1), "read": read}


def heartbeat(run: RunDir, rank: int) -> Heartbeat:
    """Read how far a rank is; empty before it has said so."""
    record: Any = heartbeats.of_rank(run, rank)
    if not record:
        record = next((line for line in folding.folded(run, folding.RANKS) if line.get("rank") == rank), {})
    return {} if _wrong(record, _HEARTBEAT, ("time", "attempt")) else record


def all_heartbeats(run: RunDir) -> dict[int, Heartbeat]:
    """Read how far each rank is, of those that have said so in any attempt; also of a run that has finished."""
    records: Any = heartbeats.of_all(run)
    if not records:
        records = {line["rank"]: line for line in folding.folded(run, folding.RANKS) if type(line.get("rank")) is int}
    return {rank: record for rank, record in records.items() if not _wrong(record, _HEARTBEAT, ("time", "attempt"))}


def supervisor(run: RunDir) -> SupervisorHeartbeat:
    """Read the state of the run; empty before its supervisor has said anything."""
    record: Any = _pulse(run, SUPERVISOR, _SUPERVISOR, ("time", "state", "text", "host", "pid"))
    return record


def owner(run: RunDir) -> Owner:
    """Read who holds the lock; empty if nobody has."""
    record: Any = _pulse(run, folding.OWNER, _OWNER, ("host", "pid"))
    return record


def damaged(run: RunDir, *, is_heard: bool | None = None) -> list[str]:
    """Return a sentence for each file of the run, of those that others read, that is not as it was written. `is_heard`:
    whether the file of its supervisor says anything; None if it has not been read yet."""
    return whole(run, is_heard=is_heard)[2]


def whole(
    run: RunDir, *, is_heard: bool | None = None, submitted: list[Any] | None = None
) -> tuple[PlanRecord, Result, list[str]]:
    """Return its plan and its result, empty if there is none or it is damaged, and the same sentences. `submitted`: all
    lines of jobs/submitted.jsonl, if they have been read already."""
    read: list[Any] = []
    sentences = []
    for one in (plan, result):
        try:
            read.append(one(run))
        except (Damaged, ConfigError) as error:
            read.append({})
            sentences.append(str(error).replace(f"{run.folder}/", ""))
    sentences += [f"attempts.jsonl is damaged: {why}" for why in damaged_attempts(run)]
    sentences += [
        f"{SUBMISSIONS} is damaged: {why}"
        for why in _damaged_lines(run, SUBMISSIONS, _SUBMISSION, ("time",), submitted)
    ]
    if is_heard is None:
        is_heard = bool(supervisor(run))
    if not is_heard and (why := _damaged_pulse(f"{run.folder}/{SUPERVISOR}")):
        sentences.append(f"{SUPERVISOR} is damaged: {why}")
    return read[0], read[1], sentences


def _damaged_pulse(path: str) -> str:
    """A file of no bytes, or of zeros, is what a node that goes down leaves, and counts as none."""
    try:
        record = read_json(path)
    except Damaged:
        return "it is not JSON" if read_bytes(path).strip(b"\0") else ""
    return "" if record is None else _wrong(record, _SUPERVISOR, ("time", "state", "text", "host", "pid"))


def damaged_attempts(run: RunDir) -> list[str]:
    """Return `line 3: started is 'x'` for each attempt that does not count."""
    return _damaged_lines(run, "attempts.jsonl", _ATTEMPT, ("started", "outcome"))


def _damaged_lines(
    run: RunDir, name: str, fields: Fields, needed: Iterable[str], read: list[Any] | None = None
) -> list[str]:
    lines = enumerate(all_lines(f"{run.folder}/{name}") if read is None else read, start=1)
    wrong = ((number, _not_json(line) or _wrong(line, fields, needed)) for number, line in lines)
    return [f"line {number}: {why}" for number, why in wrong if why]


def _not_json(line: object) -> str:
    return "it is no table in JSON" if line is None else ""

"""What the files of a run folder hold that processes pass to one another, as types, and the version of all of them.

plan.json has the version of its folder, `schema`. It is raised when a file changes in such a way that another version
would misread it. A folder of an older version is read; one of a newer version is refused.
"""

from __future__ import annotations

import os

from hpc.errors import ConfigError
from hpc.runs.rundir import RESULT, RunDir, read_heartbeat, read_json, read_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict

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

    class Submission(TypedDict, total=False):
        """A line of jobs/submitted.jsonl: a run was submitted or started."""

        job: str  # of Slurm, or a pid; none if it was refused
        name: str
        label: str
        settings: str
        site: str
        kind: str  # of the site; refused and cancelled end the submission
        nodes: int
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
        threads: int
        ended: float
        outcome: Literal["finished", "stopped", "crashed", "hung", "lost"]
        codes: list[int | None]
        why: str
        node: str
        at: int | None  # the step of the rank whose error ended it
        got_on: bool
        walltime: bool

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
        read: dict[str, int]  # the runs that it has read, and their meaning then

    Heartbeat = TypedDict(
        "Heartbeat",
        {
            "time": float, "attempt": int, "host": str, "pid": int, "what": str, "began": float, "from": int,
            "done": int, "total": int, "figures": dict[str, float],
        },
        total=False,
    )  # fmt: skip
    """heartbeat/rank-0000.json: how far a rank is."""

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

    class Owner(TypedDict, total=False):
        """heartbeat/owner.json: the holder of the lock."""

        host: str
        pid: int
        job: str | None
        since: float
        restarts: int


SCHEMA = 2
"""The version of the run folders that this program writes. 0: those of releases without a version; 1: those without an
identity, a manifest of the code and a meaning."""


def plan(run: RunDir) -> PlanRecord:
    """Read plan.json; empty if there is none. Raises ConfigError for a folder of a newer version."""
    record: Any = read_json(run.plan) or {}
    if record.get("schema", 0) > SCHEMA:
        raise ConfigError(
            f"{run.folder} was written by a newer version of hpc (version {record['schema']} of run folders; this one "
            f"reads up to {SCHEMA}): use that version, or another folder with --runs"
        )
    for key in ("settings", "sources"):
        if key in record:
            record[key] = masked(record[key])
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


def submissions(run: RunDir) -> list[Submission]:
    return read_lines(run.submissions)


def attempts(run: RunDir) -> list[Attempt]:
    return read_lines(run.attempts)


def events(run: RunDir) -> list[Event]:
    return read_lines(run.events)


def result(run: RunDir) -> Result:
    """Read result.json; empty if the run is not finished."""
    record: Any = read_json(run.result) or {}
    return record


def meaning(run: RunDir) -> int:
    """Return the version of meaning of a run's results: 1 for those of versions that did not note it."""
    return result(run).get("meaning") or plan(run).get("meaning", 1)


def meanings(run: RunDir) -> dict[str, Any]:
    """Return what result.json says of meaning: that of this run, and those of the runs that it has read."""
    record = plan(run)
    parent = os.path.dirname(run.folder)
    runs = {ref: RunDir(f"{parent}/{ref}") for ref in record.get("inputs", {}).values() if "/" not in ref}
    read = {ref: meaning(upstream) for ref, upstream in runs.items() if os.path.exists(f"{upstream.folder}/{RESULT}")}
    return {"meaning": record.get("meaning", 1), "read": read}


def heartbeat(run: RunDir, rank: int) -> Heartbeat:
    """Read how far a rank is; empty before it has said so."""
    record: Any = read_heartbeat(run.heartbeat(rank))
    return record


def supervisor(run: RunDir) -> SupervisorHeartbeat:
    """Read the state of the run; empty before its supervisor has said anything."""
    record: Any = read_heartbeat(run.supervisor)
    return record


def owner(run: RunDir) -> Owner:
    """Read who holds the lock; empty if nobody has."""
    record: Any = read_heartbeat(run.owner)
    return record

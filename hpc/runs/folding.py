"""A finished run in few files: sites count them. What many files said while it ran is joined in events.jsonl, and what
only those needed who worked in it is deleted. A run that is to go on gets its files back.

    events.jsonl    {"time", "text"}, what the supervisor has said; since the end of the run also
                    {"of": "attempts.jsonl", …}, {"of": "jobs/submitted.jsonl", …}, {"of": "jobs/allocations.jsonl", …}:
                    the lines of those files
                    {"of": "heartbeat/supervisor.json", …}, {"of": "heartbeat/owner.json", …}
                    {"of": "heartbeat/node", "rank": 0, …}: the last heartbeat of each rank
"""

from __future__ import annotations

import json
import time

from hpc.runs import heartbeats
from hpc.runs.rundir import (
    SUBMISSIONS,
    SUPERVISOR,
    RunDir,
    all_lines,
    append_line,
    atomic_write,
    encoded,
    read_heartbeat,
    read_json,
    read_lines,
    write_json,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

ATTEMPTS, EVENTS, OWNER, RANKS = "attempts.jsonl", "events.jsonl", "heartbeat/owner.json", "heartbeat/node"
ALLOCATIONS = "jobs/allocations.jsonl"
FILES_OF_LINES = (SUBMISSIONS, ATTEMPTS, ALLOCATIONS)
SINGLE = (SUPERVISOR, OWNER)
PASSING = (
    "start.json", "metrics.json", "words-*.json", "rank-*.done", "rank-*.staged.json", "rank-*.words-*.json",
    "rank-*.stopped", "rendezvous.json", "fork-servers.json",
)  # fmt: skip
"""What processes of an attempt have passed to one another, or what its line in attempts.jsonl has."""
OURS = r"\d\d:\d\d:\d\d {name} |submitit INFO "
"""How lines begin that a job has printed and that are in events.jsonl, or of no interest."""


def folded(run: RunDir, name: str) -> list[dict[str, Any]]:
    """Return the lines of a file that is now in events.jsonl."""
    lines = read_lines(f"{run.folder}/{EVENTS}")
    return [{key: value for key, value in line.items() if key != "of"} for line in lines if line.get("of") == name]


def fold(run: RunDir) -> None:
    """Join the files of a run that has finished. Whoever is interrupted here leaves both, and the files count."""
    lines: list[dict[str, Any]] = []
    done = []
    for name in FILES_OF_LINES:
        path = run.path / name
        if None not in (read := all_lines(path)):  # damaged lines stay where they are found
            lines += [{"of": name} | line for line in read if line is not None]
            done.append(path)
    lines += [{"of": name} | record for name in SINGLE if (record := read_heartbeat(run.path / name))]
    lines += [{"of": RANKS} | record for _, record in sorted(heartbeats.of_all(run).items())]
    append_line(run.events, *lines)
    submitted = read_lines(run.submissions)
    _delete_heartbeats(run)
    for path in (*done, run.script, run.identity, *_of_attempts(run), *_of_jobs(run, submitted)):
        path.unlink(missing_ok=True)


def unfold(run: RunDir) -> None:
    """Give a run that is to go on its files back."""
    if not any("of" in line for line in read_lines(run.events)):
        return
    for name in FILES_OF_LINES:
        if (lines := folded(run, name)) and not (run.path / name).exists():
            append_line(run.path / name, *lines)
    for name in SINGLE:
        for record in folded(run, name)[-1:]:
            if not (run.path / name).exists():
                write_json(run.path / name, record)
    if slots := {line["rank"]: heartbeats.slot_of(line) for line in folded(run, RANKS)}:
        heartbeats.write(run, 0, slots)
    plan = read_json(run.plan)
    if isinstance(plan, dict) and plan.get("identity") and not run.identity.exists():
        write_json(run.identity, {"id": plan["identity"], "made": time.time()})
    events = [line for line in read_lines(run.events) if "of" not in line]
    text = b"".join(encoded(json.dumps(line, ensure_ascii=False)) + b"\n" for line in events)
    atomic_write(run.events, lambda file: file.write(text))


def _delete_heartbeats(run: RunDir) -> None:
    import shutil

    # The lock is open in this process: where the disk is NFS, its folder stays
    shutil.rmtree(run.supervisor.parent, ignore_errors=True)


def _of_attempts(run: RunDir) -> Iterator[Path]:
    for folder in sorted(run.jobs.glob("attempt-*")):
        for pattern in PASSING:
            yield from folder.glob(pattern)
        yield from (path for path in folder.glob("rank-*") if not path.stat().st_size)
        if (srun := folder / "srun.log").exists() and not srun.stat().st_size:
            yield srun


def _of_jobs(run: RunDir, submitted: list[Any]) -> Iterator[Path]:
    """Yield what submitit and Slurm have written for the jobs of this run, but what somebody may want to read."""
    from pathlib import Path

    yield from run.jobs.glob("*_submission.sh")
    yield from run.jobs.glob(".submission_file_*.sh")
    logs = [run.jobs / "supervisor.log"]
    for line in submitted:
        folder, job = Path(str(line.get("log") or run.jobs)), line.get("job", "")
        yield folder / f"{job}_submitted.pkl"
        logs.append(folder / f"{job}_0_log.out")
    yield from (log for log in logs if _is_ours(log, run.name))


def _is_ours(log: Path, name: str) -> bool:
    """Whether all that a log says is in events.jsonl."""
    import re

    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return all(re.match(OURS.format(name=re.escape(name)), line) for line in lines if line.strip())

"""jobs/submitted.jsonl: one line for each time a run was submitted or started."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.runs.rundir import RunDir, append_line


def note(
    run: RunDir,
    plan: Mapping[str, Any],
    job: str,
    began: float,
    *,
    name: str = "",
    after: Sequence[str] = (),
    log: Path | None = None,
    successor: bool = False,
    nodes: int | None = None,
) -> str:
    """Note a submission; return the job.

    Parameters
    ----------
    plan
        The content of plan.json.
    job
        The Slurm job, or the pid of the keeper on this machine.
    began
        A time before the job could start, so that all it writes is later.
    name
        The name of the job in Slurm, if it is not that of the run.
    after
        The runs that must succeed before it starts.
    log
        The folder of the job's output, if it is not that of the run.
    successor
        Whether it was submitted by a job of this run.
    nodes
        How many it asks for, if not as many as the plan.
    """
    line = {
        "job": job,
        "name": name or plan["label"] or plan["name"],
        "label": plan["label"],
        "settings": plan["settings"],
        "site": plan["site"]["name"],
        "kind": plan["site"]["kind"],
        "nodes": nodes or plan["resources"]["nodes"],
        "cluster": plan["resources"].get("cluster", ""),
        "after": list(after),
        "log": str(log or run.jobs),
        "time": began,
        "successor": successor,
    }
    append_line(run.submissions, line)
    return job

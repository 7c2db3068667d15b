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
) -> str:
    """Note a submission; gives the job.

    Parameters
    ----------
    plan
        What plan.json holds.
    job
        The Slurm job, or the pid of the keeper on this machine.
    began
        Before the job could start, so that all it writes is later.
    name
        Of the job in Slurm, where it is not the run's own.
    after
        The runs that must have succeeded before it starts.
    log
        The folder of the job's output, where it is not the run's own.
    successor
        Whether a job of this run has submitted it.
    """
    line = {
        "job": job,
        "name": name or plan["label"] or plan["name"],
        "label": plan["label"],
        "settings": plan["settings"],
        "site": plan["site"]["name"],
        "kind": plan["site"]["kind"],
        "nodes": plan["resources"]["nodes"],
        "after": list(after),
        "log": str(log or run.jobs),
        "time": began,
        "successor": successor,
    }
    append_line(run.submissions, line)
    return job

"""Which version of meaning a run that is planned will have, and what of it will not be by today's code."""

import os
from pathlib import Path

from hpc.config import stages
from hpc.plan.plan import Science
from hpc.rank.context import input_run
from hpc.runs import records
from hpc.runs.outdated import by_code, outdated, outdated_folder
from hpc.runs.rundir import RunDir, committed_steps


def planned(science: Science, runs: Path) -> int:
    """Return the meaning of the run that is planned: today's, or the one of what it has saved and goes on from."""
    run = RunDir(runs / science.name)
    return records.meaning(run) if _has_saved(run) else stages.meaning(stages.load(science.entry))


def notes(science: Science, runs: Path) -> tuple[str, ...]:
    """Return what of a planned run is not by today's code: what it goes on from, and what it reads. Of a finished run
    nothing is planned."""
    run = RunDir(runs / science.name)
    if run.result.exists():
        return ()
    was, now = planned(science, runs), stages.meaning(stages.load(science.entry))
    goes_on = f"goes on from what was saved {by_code(science.stage, science.entry, was)}, and counts as {was}; "
    refs = list(dict.fromkeys(science.inputs.values()))
    inputs = [upstream for ref in refs if (upstream := input_run(ref, runs))]
    return (
        *([goes_on + "--again begins anew"] if was != now else []),
        *(f"reads {upstream.name}, made {text}" for upstream in inputs if (text := outdated(upstream))),
        *(f"reads {ref}, made {text}" for ref in refs if "/" in ref and (text := outdated_folder(ref))),
    )


def _has_saved(run: RunDir) -> bool:
    """Whether an attempt has left anything that the next one goes on from."""
    if not run.path.exists():
        return False
    return bool(committed_steps(run.checkpoints)) or any(names for _, _, names in os.walk(run.out))

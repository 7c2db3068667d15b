"""Whether finished runs mean what today's code would give: a stage has a number that is raised when its results change.

`hpc.config.stages.with_meaning` has the numbers and the reasons; plan.json and result.json those of each run.
"""

import os
from pathlib import Path

from hpc.config import stages
from hpc.errors import ConfigError
from hpc.plan.plan import Science
from hpc.rank.context import input_run
from hpc.runs import records
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
    goes_on = f"goes on from what was saved {_by_code(science.stage, science.entry, was)}, and counts as {was}; "
    inputs = [upstream for ref in science.inputs.values() if (upstream := input_run(ref, runs))]
    return (
        *([goes_on + "--again begins anew"] if was != now else []),
        *(f"reads {upstream.name}, made {text}" for upstream in inputs if (text := outdated(upstream))),
    )


def outdated(run: RunDir) -> str:
    """Return why a finished run is not what today's code would give, `by code whose results differ (preprocess 3 → 4:
    ...)`; empty if it is, or if it is not finished."""
    if not run.result.exists():
        return ""
    plan, was = records.plan(run), records.meaning(run)
    if text := _by_code(plan.get("stage", ""), plan.get("entry", ""), was):
        return text
    read = records.result(run).get("read", {})
    for ref in plan.get("inputs", {}).values():
        upstream = input_run(ref, run.path.parent)
        if upstream is None or not upstream.result.exists():
            continue
        before, stage = read.get(ref, 1), records.plan(upstream).get("stage", "")
        if before != (then := records.meaning(upstream)):
            return f"from {ref} as it was before it was made anew ({stage} {before} → {then})"
        if text := outdated(upstream):
            return f"from {ref}, made {text}"
    return ""


def _by_code(stage: str, entry: str, was: int) -> str:
    try:
        function = stages.load(entry)
    except ConfigError:  # of a package that is not installed here: nothing is known of what it would give today
        return ""
    now, reasons = stages.meaning(function), stages.reasons(function, was)
    if now == was:
        return ""
    return (
        f"by code whose results differ ({stage} {was} → {now}: {'; '.join(reasons) or 'by a later version than this'})"
    )


def _has_saved(run: RunDir) -> bool:
    """Whether an attempt has left anything that the next one goes on from."""
    if not run.path.exists():
        return False
    return bool(committed_steps(run.checkpoints)) or any(names for _, _, names in os.walk(run.out))

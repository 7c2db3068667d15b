"""Whether finished runs mean what today's code would give: a stage has a number that is raised when its results change.

`hpc.config.stages.with_meaning` has the numbers and the reasons; plan.json and result.json those of each run. `status`
asks for every run, so no stage is imported here unless its source does not tell.
"""

from __future__ import annotations

import os

from hpc.config import plugins
from hpc.errors import ConfigError
from hpc.runs import records
from hpc.runs.rundir import RESULT, RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc.runs.records import PlanRecord, Result


def outdated(
    run: RunDir,
    with_reasons: bool = True,
    above: tuple[str, ...] = (),
    known: tuple[PlanRecord, Result] | None = None,
) -> str:
    """Return why a finished run is not what today's code would give, `by code whose results differ (preprocess 3 → 4:
    ...)`; empty if it is, or if it is not finished. `above`: the folders of the runs that have led to it. `known`: its
    plan and result, if they have been read already."""
    if known is None and not os.path.exists(f"{run.folder}/{RESULT}"):
        return ""
    plan, result = known or (records.plan(run), records.result(run))
    if text := by_code(plan.get("stage", ""), plan.get("entry", ""), records.meaning_of(plan, result), with_reasons):
        return text
    read = result.get("read", {})
    for ref in plan.get("inputs", {}).values():
        if "/" in ref:
            if text := outdated_folder(os.path.join(plan.get("cwd", ""), ref), read.get(ref), with_reasons):
                return f"from {ref}, made {text}"
            continue
        upstream = RunDir(f"{os.path.dirname(run.folder)}/{ref}")
        if not os.path.exists(f"{upstream.folder}/{RESULT}"):
            continue
        if upstream.folder in (*above, run.folder):  # a plan.json was put into the folder of another run
            return f"from {ref}, which reads it in turn: the plan.json of one of them is damaged"
        of_upstream = records.plan(upstream), records.result(upstream)
        before, stage = read.get(ref, 1), of_upstream[0].get("stage", "")
        if before != (then := records.meaning_of(*of_upstream)):
            return f"from {ref} as it was before it was made anew ({stage} {before} → {then})"
        if text := outdated(upstream, with_reasons, (*above, run.folder), of_upstream):
            return f"from {ref}, made {text}"
    return ""


def outdated_folder(folder: str, was: int | None = None, with_reasons: bool = True) -> str:
    """Return the same of a copy of a run's products, by the list in it; empty if it is none. `was`: its version of
    meaning when it was read."""
    made_by = records.made_by(folder)
    if made_by is None:
        return ""
    stage, meaning = made_by
    return by_code(stage, plugins.points("hpc.stages").get(stage, ""), was or meaning, with_reasons)


def by_code(stage: str, entry: str, was: int, with_reasons: bool = True) -> str:
    """Return in what today's results of a stage differ from those of a version of meaning; empty if in nothing."""
    try:
        raises = plugins.meanings(entry)
    except ConfigError:  # of a package that is not installed here: nothing is known of what it would give today
        return ""
    now = max(raises, default=1)
    if now == was:
        return ""
    reasons = "; ".join(reason for number, reason in raises.items() if number > was) or "by a later version than this"
    return f"by code whose results differ ({stage} {was} → {now}{f': {reasons}' if with_reasons else ''})"

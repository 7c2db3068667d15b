"""What reads the trials of all folds of a search as one: a section that can read several runs, as a cross-validation.

It gets all trials that have ended, not the chosen ones alone: it chooses within each fold itself, and knows out of how
many.
"""

import copy
from collections.abc import Mapping, Sequence

from hpc.cli import planner
from hpc.cli.options import Arguments
from hpc.plan.plan import Plan
from hpc.runs import records


def plans(
    args: Arguments, environ: Mapping[str, str], readers: Sequence[Plan], best: str, trials: Sequence[str]
) -> list[Plan]:
    """Return a run of each section that reads a trial directly and can read several, with all of these trials.

    Parameters
    ----------
    args
        The line of a trial, without what only one fold has.
    readers, best
        What reads the chosen trial of a fold, and its name.
    trials
        The names of the trials of all folds.
    """
    made = []
    for reader in readers:
        for field, ref in reader.science.inputs.items():
            if ref == best and reader.science.config.get(field) == [best]:
                own = copy.copy(args)
                words = planner.words_of_pipeline(own)
                own.name, own.verb = None, reader.science.section
                own.words = [*words, f"{own.verb}.{field}=[{','.join(trials)}]"]
                made.append(planner.make(own, environ)[-1])
    return made


def record(plan: Plan) -> dict[str, object]:
    """Return what came of it, as JSON: its run, and its metrics if it has finished."""
    metrics = records.result(plan.run).get("metrics") or {}
    return {"section": plan.science.section, "run": plan.science.name, "metrics": metrics}

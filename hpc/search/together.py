"""What reads the trials of all folds of a search as one: a section that can read several runs, as a cross-validation.

It gets all trials that have ended, not the chosen ones alone: it chooses within each fold itself, and knows out of how
many.
"""

from collections.abc import Iterator, Sequence

from hpc.plan.plan import Plan
from hpc.runs import records


def settings(readers: Sequence[Plan], best: str, trials: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each section that reads a trial directly and can read several, with the setting by which it reads all.

    Parameters
    ----------
    readers, best
        What reads the chosen trial of a fold, and its name.
    trials
        The names of the trials of all folds.
    """
    for reader in readers:
        for field, ref in reader.science.inputs.items():
            if ref == best and reader.science.config.get(field) == [best]:
                yield reader.science.section, f"{reader.science.section}.{field}=[{','.join(trials)}]"


def record(plan: Plan) -> dict[str, object]:
    """Return what came of it, as JSON: its run, and its metrics if it has finished."""
    metrics = records.result(plan.run).get("metrics") or {}
    return {"section": plan.science.section, "run": plan.science.name, "metrics": metrics}

"""Which of the runs of one name go on: asynchronous successive halving, by their folders alone.

No process decides for the others. A run that comes to a rung writes down how good it is, reads what the others wrote at
that rung, and ends if it is behind. So it can be stopped, requeued or started later like any other.
"""

import math

from eegdecode.training import Halving
from hpc.context import Context
from hpc.rundir import RunDir, read_json, write_json


def rung(cfg: Halving, step: int) -> int | None:
    """The number of the rung that is reached with that step, or None."""
    number = round(math.log(step / cfg.first_steps, cfg.factor)) if step >= cfg.first_steps else -1
    return number if number >= 0 and step == cfg.first_steps * cfg.factor**number else None


def goes_on(cfg: Halving, number: int, loss: float, ctx: Context) -> bool:
    """Whether this run is among the best of those that have reached the rung. Rank 0 asks, and tells the others."""
    mine = ctx.out / f"rung-{number}.json"
    kept = read_json(mine)
    if kept is not None:  # an attempt before this one was here
        return bool(kept["goes_on"])
    others = [found["loss"] for run in peers(ctx) if (found := read_json(run.out / f"rung-{number}.json")) is not None]
    better = sum(other < loss for other in others)
    goes = better < max(1, math.ceil((len(others) + 1) / cfg.factor))
    found = {"loss": loss, "better": better, "of": len(others) + 1, "goes_on": goes}
    ctx.until_there_is_room(lambda: write_json(mine, found))
    return goes


def peers(ctx: Context) -> list[RunDir]:
    """The other runs with the same --name."""
    label = (read_json(ctx.run.plan) or {}).get("label")
    beside = (RunDir(folder) for folder in sorted(ctx.run.path.parent.iterdir()) if folder.is_dir())
    return [
        run
        for run in beside
        if label and run.path != ctx.run.path and (read_json(run.plan) or {}).get("label") == label
    ]

"""Asynchronous successive halving among the runs of one --name, through their run folders alone.

No process decides for the others. A run that reaches a rung writes its validation loss, reads what the others wrote at
that rung, and ends if it is behind. So it can be stopped, requeued or started later like any other run.
"""

import logging
import math
from typing import Any

from eegdecode.training.config import Halving, Train
from hpc import config
from hpc.rank.context import Context
from hpc.runs import products, records
from hpc.runs.rundir import RunDir

log = logging.getLogger(__name__)


def rung(cfg: Halving, step: int) -> int | None:
    """Return the number of the rung that is reached with that step, or None."""
    number = round(math.log(step / cfg.first_steps, cfg.factor)) if step >= cfg.first_steps else -1
    return number if number >= 0 and step == cfg.first_steps * cfg.factor**number else None


def remark(ctx: Context) -> None:
    """Warn if the run has no others to be compared with."""
    if ctx.world.is_first and not _label(ctx.run):
        log.warning("optim.halving compares runs of one --name, and this one has none: it will not end early")


def goes_on(cfg: Train, number: int, loss: float, ctx: Context) -> bool:
    """Whether this run is among the best of those that have reached the rung. Rank 0 decides for all ranks."""
    assert cfg.optim.halving is not None
    mine = ctx.out / f"rung-{number}.json"
    earlier = products.read(mine)
    if earlier is not None:  # an earlier attempt was here
        return bool(earlier["goes_on"])
    learns = learned(cfg)
    records = [record for run in peers(ctx) if (record := products.read(run.out / f"rung-{number}.json")) is not None]
    others = [record["loss"] for record in records if record.get("learns") == learns]
    better = sum(other < loss for other in others)
    goes = better < max(1, math.ceil((len(others) + 1) / cfg.optim.halving.factor))
    record = {"loss": loss, "learns": learns, "better": better, "of": len(others) + 1, "goes_on": goes}
    ctx.until_there_is_room(lambda: products.write_json(mine, record))
    return goes


def learned(cfg: Train) -> dict[str, Any]:
    """Return what identifies the task: only losses of one task compare, but other tasks may share the --name."""
    return {"target": cfg.target, "objective": config.plain(cfg.objective), "begins_anew": cfg.start is None}


def peers(ctx: Context) -> list[RunDir]:
    """Return the other runs with the same --name."""
    label = _label(ctx.run)
    siblings = (RunDir(folder) for folder in sorted(ctx.run.path.parent.iterdir()) if folder.is_dir())
    return [run for run in siblings if label and run.path != ctx.run.path and _label(run) == label]


def _label(run: RunDir) -> str:
    return str(records.plan(run).get("label", ""))

"""Runs the stage of a run folder in this rank."""

from hpc import config
from hpc.config import stages
from hpc.rank.context import BEGUN, Context
from hpc.runs.rundir import read_json, write_json


def work(ctx: Context) -> None:
    """Run the stage of a run folder; rank 0 writes its metrics for the supervisor."""
    plan = read_json(ctx.run.plan)
    assert plan is not None, f"{ctx.run.path} has no plan.json"
    stage = stages.load(plan["entry"])
    cfg = config.build(stages.schema(stage), config.load([ctx.run.config]), plan["stage"])
    ctx.progress(BEGUN, 0, 0)
    metrics = stage(cfg, ctx)
    if ctx.world.is_first:
        ctx.until_there_is_room(lambda: write_json(ctx.run.attempt(ctx.attempt).metrics, metrics))

"""Runs the stage of a run folder in this rank."""

from hpc import config
from hpc.config import stages
from hpc.rank.context import BEGUN, Context
from hpc.runs import products, records
from hpc.runs.rundir import write_json


def work(ctx: Context) -> None:
    """Run the stage of a run folder; rank 0 writes its metrics for the supervisor."""
    plan = records.plan(ctx.run)
    assert plan, f"{ctx.run.path} has no plan.json"
    stage = stages.load(plan["entry"])
    cfg = config.build(stages.schema(stage), config.load([ctx.run.config]), plan["stage"])
    ctx.meaning = plan.get("meaning", 1)
    ctx.progress(BEGUN, 0, 0)
    metrics = stage(cfg, ctx)
    ctx.fence()
    if ctx.world.is_first:
        about = {"stage": plan["stage"], "meaning": ctx.meaning}
        ctx.until_there_is_room(lambda: products.close(ctx.out, ctx.beat, **about))
        ctx.until_there_is_room(lambda: write_json(ctx.run.attempt(ctx.attempt).metrics, metrics))

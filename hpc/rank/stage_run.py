"""Runs the stage of a run folder in this rank."""

import logging
from typing import Any

from hpc import config
from hpc.config import stages
from hpc.rank.context import BEGUN, Context, Input, input_path, input_run
from hpc.runs import products, provenance, records
from hpc.runs.rundir import RunDir, write_json

log = logging.getLogger(__name__)


def load(run: RunDir) -> "tuple[Any, Any, records.PlanRecord]":
    """Return the stage of a run folder, its config, and the plan."""
    plan = records.plan(run)
    assert plan, f"{run.path} has no plan.json"
    stage = stages.load(plan["entry"])
    return stage, config.build(stages.schema(stage), config.load([run.config]), plan["stage"]), plan


def import_ahead(run: RunDir) -> None:
    """Import what a rank will import, before it is forked. What fails here, the rank meets itself, and reports it."""
    try:
        stage, _, _ = load(run)
        stages.import_ahead(stage)
    except Exception as error:  # noqa: BLE001  any module may raise anything
        log.info("not imported ahead: %s", error)


def work(ctx: Context) -> None:
    """Run the stage of a run folder; rank 0 writes its metrics for the supervisor."""
    stage, cfg, plan = load(ctx.run)
    ctx.meaning, ctx.pause_at = plan.get("meaning", 1), plan.get("pause_at")
    ctx.progress(BEGUN, 0, 0)
    metrics = stage(cfg, ctx)
    ctx.fence()
    ctx.wait_until_all_are_done()
    if ctx.world.is_first:
        about = {"stage": plan["stage"], "meaning": ctx.meaning}
        pages = stages.what_it_leaves(stage).pages
        ctx.until_there_is_room(lambda: products.close(ctx.out, ctx.beat, pages, **about))
        _note_provenance(ctx, plan, cfg)
        ctx.until_there_is_room(lambda: write_json(ctx.run.attempt(ctx.attempt).metrics, metrics))


def _note_provenance(ctx: Context, plan: "records.PlanRecord", cfg: Any) -> None:
    """Note what this run was computed with, for `hpc replay`."""
    runs = ctx.run.path.parent
    paths = {
        ref: input_path(Input(ref), runs) for ref in plan.get("inputs", {}).values() if input_run(ref, runs) is None
    }
    literal = [path for path, secret in config.secrets_of(cfg).items() if secret.is_literal]
    settings = config.blanked(config.plain(cfg), literal)
    ctx.until_there_is_room(lambda: provenance.write(ctx.run, settings, paths, ctx.world.size, ctx.beat))

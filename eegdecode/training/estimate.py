"""Estimate how long a training takes and what it costs, from a few steps of it: `python -m hpc.launch estimate …`"""

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eegdecode.training import loop
from eegdecode.training.config import Estimate, Optim
from hpc.media import many
from hpc.rank import threads
from hpc.rank.context import Context
from hpc.runs import records
from hpc.runs.rundir import committed_steps, read_lines

log = logging.getLogger(__name__)

WARMUP = 5
"""The first steps are slower and are not counted."""


def run(cfg: Estimate, ctx: Context) -> dict[str, object]:
    """Train for a few steps with one validation and one checkpoint at their end, and extrapolate."""
    probed = replace(
        cfg,
        optim=replace(
            cfg.optim,
            steps=cfg.probe_steps,
            warmup_steps=min(cfg.optim.rising, cfg.probe_steps - 1),
            validate_every=cfg.probe_steps,
            checkpoint_every=cfg.probe_steps,
            patience=0,
            halving=None,
            find_lr=None,
        ),
        watch=replace(cfg.watch, profile=None, trackers=()),
        trainable=replace(cfg.trainable, unfreeze_at=cfg.trainable.unfreeze_at and (1,)),  # later steps cost most
    )
    first = max(committed_steps(ctx.run.checkpoints), default=0)  # where an earlier attempt was stopped
    loop.fit(probed, ctx)
    took_s = time.time() - ctx.began  # including the imports
    if not ctx.world.is_first:
        return {}
    step_s, whole_s = counted(cfg.optim, read_lines(ctx.run.metrics), first, took_s)
    resources = records.plan(ctx.run).get("resources", {})
    n_gpus = resources.get("nodes", 1) * resources.get("gpus_per_node", 0)
    n_cpus = ctx.world.size * threads.given(os.environ)
    figures, sentence = costs(whole_s / 3600, n_gpus, n_cpus, cfg.price_a_day)
    log.info("%d steps of %.3g s on %s: %s", cfg.optim.steps, step_s, many(ctx.world.size, "rank"), sentence)
    return figures | {"step_s": step_s, "steps": cfg.optim.steps}


def costs(hours: float, n_gpus: int, n_cpus: int, price_a_day: float) -> tuple[dict[str, object], str]:
    """Return what so many hours cost, as figures and as a sentence: in GPU-hours, or without a GPU in CPU-hours, which
    have no price of a GPU."""
    if not n_gpus:
        cpu_hours = hours * n_cpus
        unpriced = "; no price, as price_a_day is that of a GPU" if price_a_day else ""
        return {"hours": hours, "cpu_hours": cpu_hours}, f"{hours:.2f} h, {cpu_hours:.3g} CPU-hours{unpriced}"
    gpu_hours = hours * n_gpus
    figures: dict[str, object] = {"hours": hours, "gpu_hours": gpu_hours}
    sentence = f"{hours:.2f} h, {gpu_hours:.3g} GPU-hours"
    if price_a_day:
        figures["price"] = gpu_hours / 24 * price_a_day
        sentence += f", {figures['price']:.2f} at {price_a_day:g} a GPU and day"
    return figures, sentence


def counted(cfg: Optim, lines: Sequence[dict[str, float]], first: int, took_s: float) -> tuple[float, float]:
    """Return the seconds of a step, and of the whole training. `lines` are those of the probe, which validated after
    its last step. The steps after `first` were done in the `took_s` of this attempt."""
    steps_s = np.array([line["seconds"] for line in lines])
    step_s = float(steps_s[min(WARMUP, len(steps_s) - 1) :].mean())
    mine = [line["seconds"] + line.get("validation_s", 0.0) for line in lines if line["step"] > first]
    once_s = took_s - sum(mine)  # opening, building and a save
    n_steps = cfg.steps + (cfg.find_lr.steps if cfg.find_lr else 0)
    n_validations = math.ceil(cfg.steps / cfg.validate_every)
    return step_s, n_steps * step_s + n_validations * lines[-1]["validation_s"] + once_s

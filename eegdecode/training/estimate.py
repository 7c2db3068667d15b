"""How long a training will take, and what it will cost: from some steps of it. `python -m hpc.launch estimate …`"""

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eegdecode.training import loop
from hpc.context import Context
from hpc.rundir import read_lines

if TYPE_CHECKING:
    from eegdecode.stages import Estimate

log = logging.getLogger(__name__)

WARMUP = 5
"""First steps, which are slower and not counted."""


def run(cfg: "Estimate", ctx: Context) -> dict[str, object]:
    """Train for some steps, with one validation and one save at their end, and count up."""
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
        watch=replace(cfg.watch, profile=None),
        trainable=replace(cfg.trainable, free_at=cfg.trainable.free_at and (1,)),  # as dear as it becomes
    )
    loop.fit(probed, ctx)
    took_s = time.time() - ctx.began  # with the imports
    if not ctx.world.is_first:
        return {}
    steps_s = np.array([line["seconds"] for line in read_lines(ctx.run.metrics)])
    step_s = float(steps_s[min(WARMUP, len(steps_s) - 1) :].mean())
    once_s = took_s - steps_s.sum()  # opening, building, a validation and a save
    more = (cfg.optim.steps / cfg.optim.validate_every - 1) * read_lines(ctx.run.metrics)[-1]["validation_s"]
    hours = (cfg.optim.steps * step_s + once_s + more) / 3600
    gpu_hours = hours * ctx.world.size
    found: dict[str, object] = {"hours": hours, "gpu_hours": gpu_hours, "step_s": step_s, "steps": cfg.optim.steps}
    said = f"{cfg.optim.steps} steps of {step_s:.3g} s: {hours:.2f} h on {ctx.world.size} rank(s)"
    if cfg.price_a_day:
        found["price"] = gpu_hours / 24 * cfg.price_a_day
        said += f", {found['price']:.2f} at {cfg.price_a_day:g} a GPU and day"
    log.info("%s", said)
    return found

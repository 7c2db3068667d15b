"""`descent`: a loss that falls with the steps, to a floor that the settings decide; for searches. `grade` reads it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from counting.stages import hold
from hpc.config.stages import Searched, searched_by
from hpc.rank.context import Context, Input, Preempted
from hpc.runs import records
from hpc.runs.rundir import append_line, committed_steps, write_json


@dataclass(frozen=True)
class Descent:
    lr: float = 1e-3
    act: str = "relu"
    fold: int = 0
    steps: int = 9
    every: int = 1
    rival: str | None = None
    """What others do has a part in the result."""
    fails_above: float = math.inf
    """With a larger lr it fails, each time."""
    held_above: float = math.inf
    """With a larger lr it waits at the gate before its first step."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ()


def loss_of(cfg: Descent, step: int) -> float:
    floor = (math.log10(cfg.lr) + 2) ** 2 + (cfg.act != "elu")
    return floor + 1 / step


@searched_by(Searched("min:val_loss", steps="steps", every="every", fixed=("fold",), without=("rival",)))
def descent(cfg: Descent, ctx: Context) -> dict[str, object]:
    step = max(committed_steps(ctx.run.checkpoints), default=0)
    with open(Path(ctx.run.path) / "starts", "a") as file:
        file.write(f"{step}\n")
    if cfg.lr > cfg.held_above and not step:
        hold(ctx, ctx.should_stop)
    while step < cfg.steps:
        step += 1
        if cfg.lr > cfg.fails_above:
            raise ValueError(f"an lr of {cfg.lr} diverges")
        if step % cfg.every == 0:
            append_line(ctx.run.metrics, {"step": step, "val_loss": loss_of(cfg, step)})
        write_json(ctx.run.checkpoints / f"step-{step:08d}" / "COMMIT", {})
        ctx.progress("descend", step, cfg.steps)
        if (ctx.should_stop() or ctx.pauses_after(step)) and step < cfg.steps:
            raise Preempted
    best = min(line["val_loss"] for line in records.metrics(ctx.run))
    (ctx.out / "fold.txt").write_text(str(cfg.fold))
    return {"val_loss": best}


@dataclass(frozen=True)
class Grade:
    of: Input


def grade(cfg: Grade, ctx: Context) -> dict[str, object]:
    """What the test set says of a chosen trial; each time it does, it counts."""
    fold = int((ctx.input(cfg.of) / "fold.txt").read_text())
    with open(ctx.run.path.parent / "tests", "a") as file:
        file.write(f"{cfg.of}\n")
    return {"accuracy": {"value": 0.5 + fold / 10, "chance": 0.5}}

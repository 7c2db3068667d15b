"""`count`: adds up 1..n, a checkpoint a step, with the faults that tests ask for."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from hpc.rank.context import Context, Input, Preempted
from hpc.runs.rundir import committed_steps, write_json


@dataclass(frozen=True)
class Plain:
    name: Literal["plain"] = "plain"


@dataclass(frozen=True)
class Squares:
    name: Literal["squares"] = "squares"
    power: int = 2


@dataclass(frozen=True)
class Count:
    n: int = 5
    step_s: float = 0.0
    rule: Plain | Squares = field(default_factory=Plain)
    after: Input | None = None
    kill_at: int | None = None
    """Rank size-1 kills itself at this step, the first time it comes there, when the step before is saved."""
    kill_on: str | None = None
    """Ranks on this node kill themselves before the first step, each time."""
    eat_at: int | None = None
    """Rank size-1 takes memory at this step, each time it comes there, until somebody ends it."""
    fail_at: int | None = None
    fail_once_at: int | None = None
    """As fail_at, but each rank only once."""
    bad_at: int | None = None
    hold_at: int | None = None
    """Behind this step, each time it stands there, a rank waits at the gate."""
    hold_rank: int | None = None
    """Only this rank waits at the gate; the others come to their end."""
    slow_in: Literal["data", "compute", "save"] | None = None
    """Rank size-1 takes `slow_s` longer for that in each step, and all wait for it before the next."""
    slow_s: float = 0.2

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("eat_at", "fail_once_at", "hold_rank", "slow_in", "slow_s")

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}")


GATE_S = 3600.0
"""If nobody opens it within this time, the test that should have is gone."""


def hold(ctx: Context, is_asked: Callable[[], bool]) -> None:
    """Wait at the gate, until a file `gate` in the run folder opens it or a stop is asked for. Who waits says so."""
    until = time.monotonic() + GATE_S
    while not (ctx.run.path / "gate").exists() and not is_asked():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody has opened the gate: touch {ctx.run.path / 'gate'}")
        ctx.beat()
        time.sleep(0.02)


def eat() -> None:
    """Take memory until the kernel ends this process, as the limit of its job is less than what it takes."""
    taken = []
    for _ in range(400):
        taken.append(b"x" * 5_000_000)
        time.sleep(0.002)
    raise MemoryError(f"{len(taken)} portions of 5 MB, and nobody has ended it: is there no limit?")


def count(cfg: Count, ctx: Context) -> dict[str, object]:
    saved = committed_steps(ctx.run.checkpoints)
    step, total = 0, 0
    if saved:
        step, total = saved[-1], json.loads((ctx.run.checkpoints / f"step-{saved[-1]:08d}/COMMIT").read_text())["total"]
    print(f"rank {ctx.world.rank} of {ctx.world.size} starts at {step}", flush=True)
    here = ctx.run.attempt(ctx.attempt).path
    write_json(here / f"here-{ctx.world.rank}", step)
    while len(list(here.glob("here-*"))) < ctx.world.size:  # nobody saves before all have read where to start
        ctx.pause(0.01)
    if cfg.kill_on and cfg.kill_on == ctx.host:
        os.kill(os.getpid(), signal.SIGKILL)
    while step < cfg.n:
        if step == cfg.hold_at and cfg.hold_rank in (None, ctx.world.rank):
            hold(ctx, ctx.should_stop)
            if ctx.should_stop():
                raise Preempted
        time.sleep(cfg.step_s)
        if cfg.slow_in is not None:
            is_slow = ctx.world.rank == ctx.world.size - 1
            with nullcontext() if cfg.slow_in == "compute" else ctx.phase(cfg.slow_in):
                time.sleep(cfg.slow_s if is_slow else 0.0)
            ctx.gather(step)
        step += 1
        if step == cfg.fail_at:
            raise RuntimeError(f"told to fail at step {step}")
        once = ctx.run.path / f"failed-{ctx.world.rank}"
        if step == cfg.fail_once_at and not once.exists():
            once.touch()
            raise RuntimeError(f"told to fail once at step {step}")
        if step == cfg.bad_at:
            raise ValueError(f"told to refuse step {step}")
        if step == cfg.eat_at and ctx.world.rank == ctx.world.size - 1:
            eat()
        mark = ctx.run.path / "killed"
        if step == cfg.kill_at and ctx.world.rank == ctx.world.size - 1 and not mark.exists():
            while step - 1 not in committed_steps(ctx.run.checkpoints):
                ctx.pause(0.01)
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        total += step ** getattr(cfg.rule, "power", 1)
        if ctx.world.is_first:
            write_json(ctx.run.checkpoints / f"step-{step:08d}" / "COMMIT", {"total": total})
        ctx.progress("count", step, cfg.n, total=total)
        if ctx.should_stop() and step < cfg.n:
            raise Preempted
    (ctx.out / "total.txt").write_text(str(total))
    return {"total": total, "half": {"value": total / 2, "chance": 0.5}}


@dataclass(frozen=True)
class Tally:
    of: Input


def tally(cfg: Tally, ctx: Context) -> dict[str, object]:
    total = int((ctx.input(cfg.of) / "total.txt").read_text())
    (ctx.out / "page.html").write_text(f"<p>{total}</p>")
    return {"digits": len(str(total)), "page": "page.html"}


@dataclass(frozen=True)
class Pools:
    pass


def pools(cfg: Pools, ctx: Context) -> dict[str, object]:
    """How many threads each library that computes in several has on this rank."""
    import numpy  # noqa: F401  its BLAS and that of scipy are two
    import scipy.linalg  # noqa: F401
    import torch
    from threadpoolctl import threadpool_info

    # First those that stand in the environment; torch sets OpenMP's to its own
    threads = {Path(pool["filepath"]).name: pool["num_threads"] for pool in threadpool_info()}
    ctx.out.mkdir(parents=True, exist_ok=True)
    write_json(ctx.out / f"pools-{ctx.world.rank}.json", threads | {"torch": torch.get_num_threads()})
    return {}


def wrong(config: Count) -> None:
    """Not a stage: its parameters have the wrong names."""

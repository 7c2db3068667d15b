"""`held`: our training, each rank of which waits at the gate behind a step, so that a test can break it there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from counting.stages import hold
from eegdecode import stages
from hpc.context import Context


@dataclass(frozen=True)
class Held(stages.Train):
    """The settings of a training, those of its section where the file has one."""

    section: ClassVar[str] = "train"
    hold_at: int = 7


def held(cfg: Held, ctx: Context) -> dict[str, object]:
    ctx.should_stop = _at_gate(cfg.hold_at, ctx, ctx.should_stop)
    return stages.train(cfg, ctx)


def _at_gate(step: int, ctx: Context, is_asked: Callable[[], bool]) -> Callable[[], bool]:
    """Whether a stop was asked for. Training wants to know behind each step, so it is held there."""

    def should_stop() -> bool:
        if ctx.reached == step:
            hold(ctx, is_asked)
        return is_asked()

    return should_stop

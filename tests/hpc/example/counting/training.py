"""Our own stages, but that each rank waits at the gate in the midst of its work, so that a test can break it there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from counting.stages import hold
from eegdecode import stages
from eegdecode.preprocessing.config import Preprocess
from eegdecode.training.config import Train
from hpc.config.stages import checked_by
from hpc.rank.context import Context


@dataclass(frozen=True)
class Held(Train):
    """The settings of a training; they start from those of its section if the file has one."""

    section: ClassVar[str] = "train"
    hold_at: int = 7


@checked_by(stages.check_training)
def held(cfg: Held, ctx: Context) -> dict[str, object]:
    """`held`: behind a step, as training looks there whether it is to stop."""
    _hold_when(lambda: ctx.reached == cfg.hold_at, ctx)
    return stages.train(replace(cfg, watch=replace(cfg.watch, every=1)), ctx)  # so that it looks after each step


@dataclass(frozen=True)
class HeldPreprocess(Preprocess):
    section: ClassVar[str] = "preprocess"


def held_preprocess(cfg: HeldPreprocess, ctx: Context) -> dict[str, object]:
    """`held_preprocess`: in the midst of a recording, when another is whole."""
    _hold_when(lambda: any(ctx.out.glob("*.h5")), ctx)
    return stages.preprocess(cfg, ctx)


def _hold_when(is_there: Callable[[], bool], ctx: Context) -> None:
    """Wait at the gate before it is said whether a stop was asked for."""
    is_asked = ctx.should_stop

    def should_stop() -> bool:
        if is_there():
            hold(ctx, is_asked)
        return is_asked()

    ctx.should_stop = should_stop

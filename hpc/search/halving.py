"""Asynchronous successive halving (ASHA, Li et al. 2020): many trials get a few steps, and the best of them more.

A trial is trained to the first rung, the number of steps of which is the least. Of the trials that have come to a rung,
the best 1/factor are promoted: they go on from their checkpoints to the next rung, which has `factor` times as many
steps. The last rung is the whole training.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hpc.errors import ConfigError

FACTOR = 3


@dataclass(frozen=True)
class Rungs:
    steps: tuple[int, ...]
    """How many steps a trial has done at each rung; at the last one, all."""
    factor: int


def rungs(text: str, total: int, every: int, at: str) -> Rungs:
    """Return the rungs of `--halving 100` or `--halving 100:4`.

    Parameters
    ----------
    text
        The steps of the first rung, and the factor.
    total
        The steps of a whole training.
    every
        The steps from one score to the next.
    at
        The setting that is `every`, for an error.
    """
    first, colon, factor = text.partition(":")
    if not all(part.isascii() and part.isdecimal() for part in (first, *([factor] if colon else []))):
        raise ConfigError(f"--halving needs steps of the first rung, as 100, or with a factor, as 100:4, got {text!r}")
    n_first, times = int(first), int(factor) if colon else FACTOR
    if n_first < 1 or times < 2:
        raise ConfigError(f"--halving {text}: the first rung needs a step at least, and the factor is 2 or more")
    if n_first % every:
        raise ConfigError(
            f"--halving {text}: trials are compared where they have a score, so the first rung is a multiple of {at}, "
            f"which is {every}"
        )
    if n_first >= total:
        raise ConfigError(f"--halving {text}: a whole training has {total} steps, and the first rung needs fewer")
    # No rung is nearer to the last one than by the factor
    n_rungs = max(1, math.floor(round(math.log(total / n_first, times), 9)))
    return Rungs((*(n_first * times**number for number in range(n_rungs)), total), times)


def check(n_trials: int, rungs: Rungs) -> None:
    """Refuse fewer trials than it takes for one of them to come to the last rung."""
    needed = rungs.factor ** (len(rungs.steps) - 1)
    if n_trials < needed:
        steps = ", ".join(map(str, rungs.steps))
        raise ConfigError(
            f"of {n_trials} trials none would come to the last of the rungs ({steps} steps): say --trials {needed} or "
            "more, or a later first rung"
        )


def promotion(
    rungs: Rungs, losses: Sequence[tuple[int, int, float]], issued: Collection[tuple[int, int]]
) -> tuple[int, int] | None:
    """Return the trial that is promoted next, and the rung that it goes to; None if there is none.

    Parameters
    ----------
    losses
        Of each trial that has come to a rung: its number, the rung, and its loss there; infinite if it has failed.
    issued
        The trials and rungs that were sent on their way before.
    """
    for rung in reversed(range(len(rungs.steps) - 1)):
        here = sorted((loss, trial) for trial, at, loss in losses if at == rung)
        for loss, trial in here[: len(here) // rungs.factor]:
            if math.isfinite(loss) and (trial, rung + 1) not in issued:
                return trial, rung + 1
    return None

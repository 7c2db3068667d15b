"""Ranks of a stage as processes of their own, as they are in life: HDF5 is no library for several threads."""

import multiprocessing
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir
from tests.ranks import forked
from tests.waiting import LONG_S

Stage = Callable[[Any, Context], dict[str, object]]


def on_ranks(stage: Stage, cfg: Any, run: Path, size: int) -> list[dict[str, object]]:
    """What each of them gives; all are there at once, as they wait for each other."""
    if size == 1:
        return [one(stage, cfg, run, 0, 1)]
    with ProcessPoolExecutor(size, mp_context=forked()) as ranks:
        going = [ranks.submit(one, stage, cfg, run, rank, size) for rank in range(size)]
        return [each.result(timeout=LONG_S) for each in going]


def one(stage: Stage, cfg: Any, run: Path, rank: int, size: int) -> dict[str, object]:
    return stage(cfg, Context(World(rank, size), RunDir(run)))


def on_older_processor(isa: str, act: Callable[..., Any], *given: Any) -> Any:
    """Run it with oneDNN limited to these instructions; oneDNN reads the limit once a process."""
    if platform.machine() != "x86_64":
        pytest.skip(f"{isa} is a word for processors of x86, here is {platform.machine()}")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ONEDNN_MAX_CPU_ISA", isa)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            return process.submit(act, *given).result(timeout=LONG_S)

"""Ranks meet, or say who is missing."""

import multiprocessing
from pathlib import Path

import pytest

from hpc.rank import ddp
from hpc.rank.context import Context, World
from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.waiting import LONG_S

pytestmark = pytest.mark.ranks


def alone(run: Path) -> None:
    ddp.RENDEZVOUS_S = 1
    ctx = Context(World(0, 2), RunDir(run), attempt=1)
    with pytest.raises(TimeoutError, match="rank 1 of 2 has not come within 1 s: see its log, in"):
        ddp.start(ctx)
    assert records.heartbeat(ctx.run, 0)["what"] == "starting"


def test_a_rank_that_does_not_come_is_named_soon(tmp_path: Path) -> None:
    rank = multiprocessing.get_context("spawn").Process(target=alone, args=(tmp_path,))
    rank.start()
    rank.join(LONG_S)
    rank.kill()
    assert rank.exitcode == 0

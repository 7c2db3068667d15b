"""Ranks that average their gradients: which lines are in their logs, and which are not."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from hpc.rank import ddp
from hpc.rank.context import Context, World
from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.waiting import LONG_S

pytestmark = pytest.mark.ranks


def two_steps(rank: int, run: Path) -> None:
    (run / "log").mkdir(parents=True, exist_ok=True)
    os.dup2(os.open(run / f"log/{rank}", os.O_CREAT | os.O_WRONLY), 2)
    where = ddp.start(Context(World(rank, 2), RunDir(run), attempt=1))
    network = nn.Linear(2, 2)
    model = ddp.wrap(network, where)
    network(torch.ones(1, 2))  # on its own, before the first step
    os.write(2, b"before\n")
    network.register_forward_hook(lambda *_: os.write(2, b"meanwhile\n") and None)
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
    os.write(2, b"after\n")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.ones(1, 3))
    os.write(2, b"at the end\n")
    ddp.stop()
    os._exit(0)  # as a worker does: now and then gloo aborts in an interpreter that shuts down


def test_the_log_has_all_but_the_remark_that_an_option_was_not_needed(tmp_path: Path) -> None:
    ranks = [multiprocessing.get_context("spawn").Process(target=two_steps, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(LONG_S)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    said = ["before", "meanwhile", "meanwhile", "after", "at the end"]
    assert [(tmp_path / f"log/{rank}").read_text().split("\n")[:-1] for rank in (0, 1)] == [said, said]


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

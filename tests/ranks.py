"""Ranks as processes of their own, as they are in life."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

from tests.waiting import LONG_S

IMPORTED = ["torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict", "eegdecode.training.loop",
            "eegdecode.preprocessing.study", "eegdecode.evaluation.evaluate"]  # fmt: skip
"""What ranks need not import one by one."""


def forked() -> ForkServerContext:
    """Processes that are forked from one that has imported everything and has no threads, as hpc/rank/forkserver.py
    forks the ranks of a run. Their environment is that of the first call."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(IMPORTED)
    return server


def in_ranks(function: Callable[..., object], n: int, *arguments: Any) -> None:
    """Call `function(rank, *arguments)` in n processes, and wait until each has ended with 0."""
    ranks = [forked().Process(target=function, args=(rank, *arguments), daemon=True) for rank in range(n)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(LONG_S)
        process.kill()
    assert [process.exitcode for process in ranks] == [0] * n

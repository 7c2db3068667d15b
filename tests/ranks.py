"""Ranks as processes of their own, as they are in life."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from tests.waiting import LONG_S


def in_ranks(function: Callable[..., object], n: int, *arguments: Any) -> None:
    """Call `function(rank, *arguments)` in n processes, and wait until each has ended with 0."""
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=function, args=(rank, *arguments), daemon=True) for rank in range(n)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(LONG_S)
        process.kill()
    assert [process.exitcode for process in ranks] == [0] * n

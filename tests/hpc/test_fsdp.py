"""A sharded model gathers blocks in half precision, and is kept, summed and saved in float32."""

import os
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hpc.rank import ddp, fsdp
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir
from tests.ranks import in_ranks

pytestmark = pytest.mark.ranks
RANKS, WIDTH, LAYERS = 2, 64, 3
HALF = torch.bfloat16


class Block(nn.Module):
    """Takes weights of half precision, and numbers of float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.gathered: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.gathered.append(self.layer.weight.dtype)
        assert x.dtype == torch.float32, "the sum that runs through all blocks is not rounded"
        out: torch.Tensor = x + self.layer(x)
        return out


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.BatchNorm1d(WIDTH)  # would refuse weights of half precision

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.norm(x)
        return out


class Sent(TorchDispatchMode):
    """Counts the bytes that collectives of each type are given."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[tuple[str, torch.dtype]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace == "c10d":
            kind = "gather" if "gather" in str(func) else "sum"
            (tensor, *_) = [each for each in tree_leaves(args[1]) if isinstance(each, torch.Tensor)]
            self.bytes[kind, tensor.dtype] += tensor.nbytes
        return func(*args, **(kwargs or {}))


def built() -> Network:
    torch.manual_seed(0)
    return Network()


def trained(network: Network, half: torch.dtype | None) -> tuple[Network, torch.optim.Optimizer, Sent]:
    where = torch.device("cpu")
    model = ddp.wrap(network, where, shard=True, half=half, in_half=list(network.blocks))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    with Sent() as sent:
        for step in range(2):
            x = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(step + 10 * ddp.rank()))
            with torch.autocast("cpu", HALF):
                model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    return network, optimizer, sent


def check(rank: int) -> None:
    whole, _, plain = trained(built(), None)
    network, optimizer, halved = trained(built(), HALF)
    assert {kind for block in network.blocks for kind in block.gathered} == {HALF}  # type: ignore[union-attr]
    assert {kind for block in whole.blocks for kind in block.gathered} == {torch.float32}  # type: ignore[union-attr]

    assert halved.bytes["gather", HALF] > 0 and ("gather", HALF) not in plain.bytes
    rest = halved.bytes["gather", torch.float32]  # the batch norm
    assert halved.bytes["gather", HALF] * 2 == plain.bytes["gather", torch.float32] - rest
    assert halved.bytes["sum", torch.float32] == plain.bytes["sum", torch.float32]
    assert {dtype for kind, dtype in halved.bytes if kind == "sum"} == {torch.float32}

    state = fsdp.state_of(network, optimizer)
    tensors = [each for each in tree_leaves(state) if isinstance(each, torch.Tensor)]
    assert len(tensors) > 3 * 2 * LAYERS
    assert {each.dtype for each in tensors if each.is_floating_point()} == {torch.float32}
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(fsdp.whole(network.state_dict()[name]), fsdp.whole(value), rtol=0.05, atol=0.02)


def one_rank(rank: int, folder: Path) -> None:
    ddp.start(Context(World(rank, RANKS, rank, RANKS), RunDir(folder), attempt=1))
    try:
        check(rank)
        code = 0
    except Exception:  # noqa: BLE001  the process ends at once, so it is printed here
        traceback.print_exc()
        code = 1
    os._exit(code)


def test_blocks_are_gathered_in_half_precision_and_all_else_is_in_float32(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    in_ranks(one_rank, RANKS, tmp_path)

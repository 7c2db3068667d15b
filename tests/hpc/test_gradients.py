"""Ranks average their gradients: the mean that one process would compute, added in one order in whatever buckets."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hpc.rank import ddp, gradients
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir
from tests.ranks import in_ranks

RANKS = 3
TINY_MB = 1e-5
Claim = Callable[[int], object]


CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    """What each of the ranks asserts by itself. One group of ranks does it for all: starting them takes longest."""
    CLAIMS[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tracebacks of the ranks by claim."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "log").mkdir()
    in_ranks(on_a_rank, RANKS, folder)
    return {name: "".join((folder / f"{name}-{rank}").read_text() for rank in range(RANKS)) for name in CLAIMS}


def on_a_rank(rank: int, folder: Path) -> None:
    ddp.start(Context(World(rank, RANKS, rank, RANKS), RunDir(folder), attempt=1))
    for name, function in CLAIMS.items():
        text = ""
        try:
            function(rank)
        except Exception:  # noqa: BLE001  the other ranks go on to the next claim, and so must this one
            text = f"rank {rank}: {traceback.format_exc()}"
        (folder / f"{name}-{rank}").write_text(text)
        ddp.barrier()
    ddp.stop()
    os._exit(0)  # as a worker does: now and then gloo aborts in an interpreter that shuts down


class Net(nn.Module):
    """Some layers, of which one is used on rank 1 alone and one on none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.norm = nn.BatchNorm2d(8)
        self.readout = nn.Linear(8 * 6 * 6, 4)
        self.of_one, self.of_none = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, with_one: bool) -> torch.Tensor:
        out = self.readout(self.norm(self.convolution(x)).relu().flatten(1))
        return self.of_one(out) if with_one else out


def signal(rank: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(100 * seed + rank))


def shares(net: nn.Module, seed: int = 0) -> list[list[torch.Tensor | None]]:
    """Compute the gradients of each rank, here."""
    found = []
    for rank in range(RANKS):
        net.zero_grad()
        net(signal(rank, seed), rank == 1).square().mean().backward()
        found.append([parameter.grad for parameter in net.parameters()])
    net.zero_grad()
    return found


def mean_by_hand(net: nn.Module, seed: int = 0) -> list[torch.Tensor | None]:
    means: list[torch.Tensor | None] = []
    for each in zip(*shares(net, seed), strict=True):
        first, second, third = (torch.zeros(1) if share is None else share for share in each)
        means.append(None if all(share is None for share in each) else ((first + second) + third) / RANKS)
    return means


@claim
def adds_in_order(rank: int) -> None:
    for bucket_mb in (gradients.BUCKET_MB, TINY_MB):
        for at_once_mb in (gradients.AT_ONCE_MB, 0.0):
            gradients.AT_ONCE_MB = at_once_mb
            net = Net()
            model = gradients.Averaged(net, in_order=True, bucket_mb=bucket_mb)
            for seed in range(3):
                expected = mean_by_hand(net, seed)
                model(signal(rank, seed), rank == 1).square().mean().backward()
                for (name, one), mean in zip(net.named_parameters(), expected, strict=True):
                    assert (one.grad is None) == (mean is None) == name.startswith("of_none"), name
                    assert mean is None or torch.equal(one.grad, mean), (name, bucket_mb, at_once_mb)  # type: ignore[arg-type]
                    assert mean is None or one.grad.stride() == one.stride(), name  # type: ignore[union-attr]
                net.zero_grad()
            assert len(model.buckets) == (1 if bucket_mb == gradients.BUCKET_MB else 10)


@pytest.mark.ranks
def test_shares_are_added_in_one_order_in_any_buckets_also_where_some_ranks_have_none(failures: dict[str, str]) -> None:
    assert not failures["adds_in_order"]


@claim
def as_the_network_adds(rank: int) -> None:
    net = Net()
    model = gradients.Averaged(net, in_order=False, bucket_mb=TINY_MB)
    expected = mean_by_hand(net)
    model(signal(rank), rank == 1).square().mean().backward()
    for one, mean in zip(net.parameters(), expected, strict=True):
        assert (one.grad is None) == (mean is None)
        assert mean is None or torch.allclose(one.grad, mean, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.ranks
def test_shares_may_be_added_by_the_library_too(failures: dict[str, str]) -> None:
    assert not failures["as_the_network_adds"]


@claim
def alone_and_then_together(rank: int) -> None:
    net = Net()
    model = gradients.Averaged(net, in_order=True)
    one, other = mean_by_hand(net, 1), mean_by_hand(net, 2)
    with ddp.alone(model):
        model(signal(rank, 1), rank == 1).square().mean().backward()
    assert torch.equal(net.readout.weight.grad, shares(net, 1)[rank][4])  # type: ignore[arg-type]
    with ddp.alone(model):
        model(signal(rank, 1), rank == 1).square().mean().backward()
    model(signal(rank, 2), rank == 1).square().mean().backward()
    for parameter, first, second in zip(net.parameters(), one, other, strict=True):
        if first is not None:
            assert torch.allclose(parameter.grad, first + second, atol=1e-6)  # type: ignore[arg-type,operator]


@pytest.mark.ranks
def test_gradients_stay_on_their_rank_while_told_to(failures: dict[str, str]) -> None:
    assert not failures["alone_and_then_together"]


@claim
def freed_later(rank: int) -> None:
    net = Net()
    model = gradients.Averaged(net, in_order=True)
    net.convolution.requires_grad_(False)
    model(signal(rank), True).square().mean().backward()
    sent = sum(bucket.flat.numel() for bucket in model.buckets)
    assert net.convolution.weight.grad is None and net.readout.weight.grad is not None
    net.zero_grad()
    net.convolution.requires_grad_(True)
    expected = mean_by_hand(net)
    model(signal(rank), rank == 1).square().mean().backward()
    assert torch.equal(net.convolution.weight.grad, expected[0])  # type: ignore[arg-type]
    assert sum(bucket.flat.numel() for bucket in model.buckets) > sent, "frozen parameters are not sent"


@pytest.mark.ranks
def test_what_is_trained_later_is_sent_from_then_on(failures: dict[str, str]) -> None:
    assert not failures["freed_later"]


class Centred(nn.Module):
    """Writes a buffer in a forward pass, and reads it in the next, as a codebook does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(1))
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = (x - self.centre) * self.weight
        self.centre.copy_(x.mean()[None])
        return out


@claim
def buffers_are_those_of_rank_0(rank: int) -> None:
    net = nn.Sequential(Centred(), nn.BatchNorm1d(1))
    model = gradients.Averaged(net, in_order=True)
    for _ in range(2):
        model(torch.full((2, 1), float(rank)) + torch.tensor([[0.0], [1.0]])).sum().backward()
        assert net[0].centre.item() == pytest.approx(rank + 0.5)
    model._expect()
    gradients.broadcast(model.followed)
    assert net[0].centre.item() == pytest.approx(0.5)
    assert net[1].running_var is not None and len(model.followed) == 1
    net[1].running_var.fill_(rank + 1)
    ddp.same_statistics(net)
    assert net[1].running_var.item() == 1


@pytest.mark.ranks
def test_a_buffer_that_is_read_again_is_that_of_rank_0(failures: dict[str, str]) -> None:
    assert not failures["buffers_are_those_of_rank_0"]


@claim
def unlike(rank: int) -> None:
    with pytest.raises(ValueError, match=r"the model of rank 2 has other parameters than that of rank 0 \(here 2 tens"):
        gradients.Averaged(nn.Linear(2, 3 if rank == 2 else 2), in_order=True)
    ddp.wrap(nn.Linear(2, 2), torch.device("cpu"))


@pytest.mark.ranks
def test_ranks_with_unlike_models_are_refused_by_name(failures: dict[str, str]) -> None:
    assert not failures["unlike"]


@claim
def size_decides(rank: int) -> None:
    small, where = nn.Linear(2, 2), torch.device("cpu")
    orders = {}
    for exact in (None, True, False):
        orders[exact] = [ddp.wrap(small, where, exact=exact).in_order]
        ddp.IN_ORDER_UP_TO_MB = 1e-6
        orders[exact].append(ddp.wrap(small, where, exact=exact).in_order)
        ddp.IN_ORDER_UP_TO_MB = 50.0
    assert orders == {None: [True, False], True: [True, True], False: [False, False]}


@pytest.mark.ranks
def test_large_models_are_added_in_order_only_where_that_is_asked_for(failures: dict[str, str]) -> None:
    assert not failures["size_decides"]


@pytest.mark.parametrize("n_shares", [4, 6, 12, 40])
def test_the_same_shares_have_the_same_sum_on_any_number_of_ranks_that_has_a_power_of_two_of_each(
    n_shares: int,
) -> None:
    shares = torch.randn(n_shares, 1000, generator=torch.Generator().manual_seed(0))
    of_one_each = gradients.tree_sum(list(shares.clone()))
    assert (of_one_each - shares.double().sum(0)).abs().max() < 1e-5
    for each in (2, 4, 8):
        if n_shares % each == 0:
            n_ranks = n_shares // each
            on_ranks = [gradients.tree_sum(list(shares[rank::n_ranks].clone())) for rank in range(n_ranks)]
            assert torch.equal(gradients.tree_sum(on_ranks), of_one_each)
    assert not torch.equal(shares.sum(0), of_one_each)

"""A training on four ranks ends with the same bits over a stop, and with `compute.exact` on fewer ranks too."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eegdecode import stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Trainable
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.transformer import Transformer
from eegdecode.objectives import Batch
from eegdecode.objectives.clip import Clip
from eegdecode.training import exact
from eegdecode.training.augmentations.mixup import Mixup
from eegdecode.training.augmentations.noise import Noise
from eegdecode.training.augmentations.time_shift import TimeShift
from eegdecode.training.config import Compute, Ema, FindRate, Optim, Sam, Train, why_not_exact
from hpc.checkpoint import checkpoint
from hpc.rank import ddp, gradients
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir
from tests.eegdecode.test_loop import AskedAt, assert_same_parameters, figures
from tests.ranks import in_ranks

STEPS, STOP_AT, RANKS = 9, 3, 4
Runs = dict[str, Path]


def config(store: Path) -> Train:
    return Train(
        data=(Input(str(store)),),
        model=BiLSTM(hidden=8, dropout=0.3),
        windows=RandomWindows(length_s=1.0, batch=8),
        optim=Optim(steps=STEPS, warmup_steps=2, validate_every=3, checkpoint_every=50, average=Ema(decay=0.9)),
    )


def stopped(cfg: Train) -> dict[str, Train]:
    """The trainings that are stopped, and compared with those that are not."""
    return {
        "bilstm": cfg,
        "added by the library": replace(cfg, compute=Compute(exact=False)),
        "with batch norms": replace(cfg, model=EEGNet(filters=2)),
        "freed step by step": replace(
            cfg,
            model=Transformer(width=8, heads=2, layers=2, dropout=0.3),
            trainable=Trainable("head", unfreeze_at=(2, 5)),
            compute=Compute(accumulate=2),
        ),
    }


def of_four_shares(cfg: Train) -> Train:
    return replace(cfg, model=EEGNet(filters=2), augment=(Mixup(), TimeShift(), Noise()))


@pytest.fixture(scope="module")
def runs(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All trainings, by one group of ranks: starting them takes longest."""
    folder = tmp_path_factory.mktemp("runs")
    cfg = config(tiny_store.recordings[0].path.parent)
    in_ranks(one_rank, RANKS, cfg, folder)
    return folder


def one_rank(rank: int, cfg: Train, folder: Path) -> None:
    for name, each in stopped(cfg).items():
        train(each, folder / name / "whole", World(rank, RANKS, rank, RANKS))
        with pytest.raises(Preempted):
            train(each, folder / name / "parts", World(rank, RANKS, rank, RANKS), stop_at=STOP_AT)
        train(each, folder / name / "parts", World(rank, RANKS, rank, RANKS), attempt=2)
    for n in (4, 2, 1):
        if rank < n:
            each = replace(of_four_shares(cfg), compute=Compute(exact=True, shares=RANKS))
            train(each, folder / f"exact on {n}", World(rank, n, rank, n))
    os._exit(0)


def train(cfg: Train, run: Path, world: World, attempt: int = 1, stop_at: int = 0) -> None:
    stages.train(cfg, Context(world, RunDir(run), attempt, AskedAt(stop_at if world.rank == world.size - 1 else 0)))


@pytest.mark.ranks
@pytest.mark.parametrize("name", ["bilstm", "added by the library", "with batch norms", "freed step by step"])
def test_stopped_on_four_ranks_equals_uninterrupted(runs: Path, name: str) -> None:
    assert_same_parameters(runs / name / "whole", runs / name / "parts")
    assert [line["step"] for line in figures(runs / name / "whole")] == list(range(1, STEPS + 1))
    assert figures(runs / name / "parts") == figures(runs / name / "whole")
    one, other = (checkpoint.latest(RunDir(runs / name / run).checkpoints) for run in ("whole", "parts"))
    averages = [each[1]["average"]["kept"] for each in (one, other)]  # type: ignore[index]
    assert all(torch.equal(averages[0][key], averages[1][key]) for key in averages[0])


@pytest.mark.ranks
def test_four_shares_are_the_same_on_four_ranks_on_two_and_on_one(runs: Path) -> None:
    for n in (2, 1):
        assert_same_parameters(runs / "exact on 4", runs / f"exact on {n}")
        for line, other in zip(figures(runs / f"exact on {n}"), figures(runs / "exact on 4"), strict=True):
            assert line == pytest.approx(other, rel=1e-5)
            assert line["grad_norm"] == other["grad_norm"]


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_shares_one_after_the_other_add_up_as_the_tree_does(n: int) -> None:
    shares = torch.randn(n, 1000, generator=torch.Generator().manual_seed(0))
    total = exact.TreeSum()
    most = 0
    for number in exact.order(n):
        total.add([shares[number], None])
        most = max(most, len(total.sums))
    assert sorted(exact.order(n)) == list(range(n))
    (one, other) = total.value
    assert one is not None and torch.equal(one, gradients.tree_sum(list(shares.clone()))) and other is None
    assert most <= n.bit_length(), "holds no more than a sum a level"


def test_shares_of_a_rank_are_those_of_as_many_ranks() -> None:
    column = torch.arange(24)
    whole = Batch(column, column, column, column)
    on_eight = [whole.signal[rank::8] for rank in range(8)]
    for n_ranks in (1, 2, 4):
        for rank in range(n_ranks):
            mine = Batch(*(each[rank::n_ranks] for each in whole))
            for number, share in enumerate(exact.interleaved(mine, 8 // n_ranks)):
                assert torch.equal(share.signal, on_eight[rank + n_ranks * number])


def test_portions_that_cannot_be_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="accumulate must be a power of two, .*, got 6: use 4 or 8"):
        Compute(exact=True, accumulate=6)
    Compute(exact="auto", accumulate=6)


def test_it_says_what_it_promises_and_what_not() -> None:
    cfg = config(Path("store"))
    assert exact.promises(cfg, 4, "cpu") == []
    (loose,) = exact.promises(cfg, 1, "cuda")
    assert "a stopped run ends the same but for rounding" in loose and "compute.exact=true" in loose
    cfg = replace(cfg, compute=Compute(exact=True, accumulate=2))
    (promise,) = exact.promises(cfg, 4, "cuda")
    assert "on other nodes too, and on any number of ranks that has 8 as its product with compute.accumulate" in promise
    assert "the same kind of GPU and with the same versions of torch" in promise
    assert "as many threads a rank" in exact.promises(cfg, 4, "cpu")[0]

    contrast = replace(cfg, objective=Clip(), optim=replace(cfg.optim, sam=Sam(), find_lr=FindRate()))
    promise, but = exact.promises(contrast, 4, "cpu")
    assert "on any number of ranks" not in promise and "on other nodes too" in promise
    assert "another number of ranks changes bits, because of objective=clip" in but
    assert "optim.sam" in but and "optim.find_lr" in but

    sharded = replace(cfg, compute=Compute(exact=True, shard=True, compile=True))
    promise, nodes, compiled = exact.promises(sharded, 4, "cuda")
    assert "other nodes" not in promise and "another number of ranks or other nodes change bits" in nodes
    assert "another compilation may choose other kernels" in compiled

    graphed = replace(cfg, compute=Compute(exact=True, graph=True))
    assert "a graph is used if two steps have the same bits without it" in exact.promises(graphed, 1, "cuda")[-1]
    assert not any("graph" in sentence for sentence in exact.promises(graphed, 1, "cpu"))


def test_deterministic_algorithms_are_for_gpus_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ddp, "deterministic", lambda: calls.append("on"))
    cfg = config(Path("store"))
    exact.begin(cfg, 1, torch.device("cuda"))
    exact.begin(replace(cfg, compute=Compute(exact=True)), 1, torch.device("cpu"))
    assert not calls
    exact.begin(replace(cfg, compute=Compute(exact=True)), 1, torch.device("cuda"))
    assert calls == ["on"]


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        (Compute(), "compute.exact=true compute.shares=4 gives the same bits"),
        (Compute(exact=True, accumulate=2), "compute.exact=true compute.shares=4 gives the same bits"),
        (Compute(exact=True, shares=4), ""),
        (
            Compute(exact=True, shares=4, shard=True),
            "its parameters are equal but for rounding, because of compute.sha",
        ),
    ],
)
def test_a_training_says_what_other_numbers_of_ranks_do_to_its_parameters(compute: Compute, says: str) -> None:
    differs = why_not_exact(Train(data=(Input("store"),), compute=compute), [1, 2, 4])
    assert says in differs and bool(says) == bool(differs)
    contrast = Train(data=(Input("store"),), compute=compute, objective=Clip())
    assert "because of objective=" in why_not_exact(contrast, [1, 2, 4])


def test_shares_are_computed_on_the_ranks_that_divide_them() -> None:
    shares = Compute(exact=True, shares=12)
    assert [shares.on(n).accumulate for n in (3, 6, 12)] == [4, 2, 1]
    with pytest.raises(ValueError, match="shares=12 is for 3, 6 or 12 ranks, each with 1, 2, 4, 8 … shares, but there"):
        shares.on(4)
    with pytest.raises(ValueError, match="for exact=true, and takes the place of accumulate, got shares=4, exact=auto"):
        Compute(shares=4)

"""Training goes on where it was stopped, bit for bit, and is the same on one rank and on two."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eegdecode import stages
from eegdecode.data import RandomWindows
from eegdecode.data.stored import Store
from eegdecode.models import BiLSTM
from eegdecode.objectives import Regression
from eegdecode.stages import Train
from eegdecode.training import Optim, loop, state
from hpc import checkpoint
from hpc.context import Context, Input, Preempted, World
from hpc.rundir import RunDir, committed_steps, read_lines

STEPS = 12


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4, dropout=0.3),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=STEPS, warmup_steps=2, validate_every=4, checkpoint_every=5),
    )


class AskedAt:
    """Asked to stop at its n-th look: one a step, and one a trial in validation."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def start(cfg: Train, run: Path, stop_at: int = 0, **world: Any) -> dict[str, object]:
    return stages.train(cfg, Context(World(), RunDir(run), should_stop=AskedAt(stop_at)))


def figures(run: Path) -> list[dict[str, float]]:
    """metrics.jsonl, less what is never the same: how long a step took."""
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "data_wait_s")}
        for line in read_lines(RunDir(run).metrics)
    ]


def assert_same_parameters(one: Path, other: Path) -> None:
    for kept in ("model.pt", "last step"):
        first, second = (
            state.load(RunDir(run).out).parameters
            if kept == "model.pt"
            else checkpoint.latest(RunDir(run).checkpoints)[1]["model"]  # type: ignore[index]
            for run in (one, other)
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), kept


def test_interrupted_twice_equals_uninterrupted(cfg: Train, tmp_path: Path) -> None:
    whole = start(cfg, tmp_path / "whole")
    for stop_at in (3, 4):  # at step 3, then 4 steps later
        with pytest.raises(Preempted):
            start(cfg, tmp_path / "parts", stop_at)
    parts = start(cfg, tmp_path / "parts")

    assert parts == whole
    assert_same_parameters(tmp_path / "whole", tmp_path / "parts")
    assert [line["step"] for line in figures(tmp_path / "parts")] == list(range(1, STEPS + 1))
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")


def test_what_a_kill_took_is_done_again(cfg: Train, tmp_path: Path) -> None:
    start(cfg, tmp_path / "whole")

    def killed() -> bool:
        if read_lines(tmp_path / "killed" / "metrics.jsonl")[-1]["step"] == 8:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        stages.train(cfg, Context(World(), RunDir(tmp_path / "killed"), should_stop=killed))
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')  # the kill came in the middle of a line
    start(cfg, tmp_path / "killed")

    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    assert_same_parameters(tmp_path / "whole", tmp_path / "killed")


def test_how_often_it_saves_changes_nothing_else(cfg: Train, tmp_path: Path) -> None:
    start(cfg, tmp_path / "every 5")
    start(replace(cfg, optim=replace(cfg.optim, checkpoint_every=None, keep_every=3)), tmp_path / "as pays")
    assert committed_steps(RunDir(tmp_path / "every 5").checkpoints) == [10, 12]
    assert committed_steps(RunDir(tmp_path / "as pays").checkpoints) == [3, 6, 9, 12]
    assert figures(tmp_path / "as pays") == figures(tmp_path / "every 5")
    assert_same_parameters(tmp_path / "as pays", tmp_path / "every 5")


def test_a_finished_run_started_again_says_the_same(cfg: Train, tmp_path: Path) -> None:
    assert start(cfg, tmp_path / "run") == start(cfg, tmp_path / "run")


def test_stopped_at_any_look_it_ends_the_same(cfg: Train, tmp_path: Path) -> None:
    """Between steps and in the middle of validation, the last one included; after that a wish comes too late."""
    whole = start(cfg, tmp_path / "whole")
    for look in range(1, 100):
        run = tmp_path / f"stopped at look {look}"
        try:
            start(cfg, run, stop_at=look)
            break
        except Preempted:
            assert start(cfg, run) == whole
        assert figures(run) == figures(tmp_path / "whole")
        assert_same_parameters(tmp_path / "whole", run)
    assert look > STEPS + 3, "it looks more than once a step"


def test_the_model_kept_is_the_best_in_validation(cfg: Train, tmp_path: Path) -> None:
    found = start(cfg, tmp_path / "run")
    checked = [line for line in figures(tmp_path / "run") if "val_loss" in line]
    assert [line["step"] for line in checked] == [4, 8, 12]
    best = min(checked, key=lambda line: line["val_loss"])
    trained = state.load(RunDir(tmp_path / "run").out)
    assert (trained.step, trained.validation["loss"]) == (best["step"], best["val_loss"])
    assert (found["best_step"], found["val_r"]) == (best["step"], best["val_r"])


def test_a_trained_model_is_read_back_whole(cfg: Train, tmp_path: Path) -> None:
    start(cfg, tmp_path / "run")
    trained = state.load(RunDir(tmp_path / "run").out)
    assert (trained.model, trained.split, trained.data) == (cfg.model, cfg.split, cfg.data)
    assert trained.network()(torch.zeros(1, 64, 8), torch.tensor([0])).shape == (1, 64, 1)
    with pytest.raises(ValueError, match="holds no model.pt: name a train run that has finished"):
        state.load(tmp_path)


def test_a_batch_that_ranks_cannot_share_is_refused(cfg: Train, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch is 4 .* which 3 ranks cannot share evenly: take 3 or 6"):
        loop.fit(cfg, Context(World(0, 3), RunDir(tmp_path)))


def test_a_loss_that_is_no_number_ends_the_run_by_name(cfg: Train, tmp_path: Path) -> None:
    wild = replace(cfg, objective=Regression(loss="mse"), optim=replace(cfg.optim, lr=1e30))
    with pytest.raises(FloatingPointError, match=r"(inf|nan) at step \d+ \(lr .*\): lower optim.lr"):
        start(wild, tmp_path / "run")


def test_the_rate_rises_and_falls_to_nothing() -> None:
    cfg = Optim(lr=1.0, steps=110, warmup_steps=10)
    rates = [loop.learning_rate(cfg, step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"lr": 0.0}, "lr and clip_norm must be above 0"),
        ({"steps": 0}, "steps, validate_every and checkpoint_every must be at least 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 400, 50 and 0"),
        ({"keep_every": -1}, "keep_every must be a number of steps, or 0 for none, got -1"),
        ({"steps": 10, "warmup_steps": 10}, r"warmup_steps must be fewer than steps \(10\), got 10"),
    ],
)
def test_nonsense_is_refused(knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optim(**knobs)  # type: ignore[arg-type]


@pytest.mark.ranks
def test_two_ranks_follow_the_course_of_one_and_stop_together(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(cfg, model=BiLSTM(hidden=4))  # dropout draws anew on each rank
    start(cfg, tmp_path / "alone")
    two_ranks(cfg, tmp_path / "two")
    two_ranks(cfg, tmp_path / "parts", stop_at=3)
    assert committed_steps(RunDir(tmp_path / "parts").checkpoints) == [3]
    two_ranks(cfg, tmp_path / "parts", attempt=2)

    for line, alone in zip(figures(tmp_path / "two"), figures(tmp_path / "alone"), strict=True):
        assert line == pytest.approx(alone, rel=1e-3, abs=1e-5)
    assert figures(tmp_path / "parts") == figures(tmp_path / "two")
    assert_same_parameters(tmp_path / "parts", tmp_path / "two")


def two_ranks(cfg: Train, run: Path, attempt: int = 1, stop_at: int = 0) -> None:
    """Train on two ranks, processes of their own; only rank 1 is asked to stop."""
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=one_rank, args=(rank, cfg, run, attempt, stop_at), daemon=True) for rank in (0, 1)]
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(120)
        assert [rank.exitcode for rank in ranks] == [3 if stop_at else 0] * 2
    finally:
        for rank in ranks:
            rank.kill()  # one whose partner has died waits for long


def one_rank(rank: int, cfg: Train, run: Path, attempt: int, stop_at: int) -> None:
    """Ends as a worker does, at once: with 0, or with 3 when it was stopped and all was saved."""
    try:
        should_stop = AskedAt(stop_at if rank else 0)
        stages.train(cfg, Context(World(rank, 2, rank, 2), RunDir(run), attempt, should_stop))
    except Preempted:
        saved = committed_steps(RunDir(run).checkpoints)
        os._exit(3 if saved == [stop_at] else 4)
    os._exit(0)

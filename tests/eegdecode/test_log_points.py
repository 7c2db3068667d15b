"""Between two log points a step reads nothing, exchanges nothing and touches no file; at one, nothing is lost."""

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from bench import loop as bench_loop
from bench import spy
from eegdecode import stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.models.bilstm import BiLSTM
from eegdecode.objectives import Batch
from eegdecode.training import loop
from eegdecode.training.augmentations.mixup import Mixup
from eegdecode.training.augmentations.noise import Noise
from eegdecode.training.config import Optim, Train, Watch
from eegdecode.training.loop import Training
from eegdecode.training.monitor import log_points
from eegdecode.training.monitor.log_points import LogPoints
from hpc.rank import ddp
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs import records
from hpc.runs.rundir import RunDir, read_lines

STEPS = 12
needs_a_compiler = pytest.mark.skipif(
    not torch.cuda.is_available() and spy.compiler() is None, reason="no GPU, and no C++ compiler to imitate one"
)


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4),
        augment=(Mixup(), Noise()),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=STEPS, warmup_steps=0, validate_every=STEPS, checkpoint_every=STEPS),
    )


@pytest.fixture
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log points as on a machine whose steps take no time."""
    monkeypatch.setattr(log_points, "AT_MOST_S", 1e6)


def training(cfg: Train, run: Path) -> Training:
    ctx = Context(World(), RunDir(run))
    begun = Training(cfg, ctx, store.open_store(*(ctx.input(name) for name in cfg.data)), torch.device("cpu"))
    begun.resume()
    return begun


def lines(run: Path) -> list[dict[str, float]]:
    times = ("seconds", "data_wait_s", "validation_s")
    return [{name: line[name] for name in line if name not in times} for line in read_lines(RunDir(run).metrics)]


def test_how_often_figures_are_read_changes_none_of_them(cfg: Train, tmp_path: Path, no_hurry: None) -> None:
    for every in (1, 5, 50):
        stages.train(replace(cfg, watch=Watch(every=every)), Context(World(), RunDir(tmp_path / str(every))))
    assert [line["step"] for line in lines(tmp_path / "1")] == list(range(1, STEPS + 1))
    assert lines(tmp_path / "5") == lines(tmp_path / "50") == lines(tmp_path / "1")


def test_a_run_is_asked_to_stop_at_log_points_and_loses_nothing(cfg: Train, tmp_path: Path, no_hurry: None) -> None:
    cfg, run = replace(cfg, watch=Watch(every=4)), tmp_path / "parts"
    stages.train(cfg, Context(World(), RunDir(tmp_path / "whole")))
    with pytest.raises(Preempted):
        stages.train(cfg, Context(World(), RunDir(run), should_stop=lambda: len(lines(run)) > 1))
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4, 5], "the first, and four steps later"
    stages.train(cfg, Context(World(), RunDir(run)))
    assert lines(run) == lines(tmp_path / "whole")


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_batch_that_gave_nan_is_drawn_again_and_no_parameter_changed_since(
    cfg: Train, tmp_path: Path, no_hurry: None, where: str
) -> None:
    begun = training(cfg, tmp_path / "run")
    begun.advance()
    objective, batches = begun.objective, []
    parameters: list[dict[str, torch.Tensor]] = []

    def wild(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, watched = objective(model, batch)
        batches.append(Batch(*(column.clone() for column in batch)))
        parameters.append({name: value.clone() for name, value in begun.network.state_dict().items()})
        if len(batches) == 3:
            loss = loss * math.nan if where == "loss" else loss + NanGradient.apply(loss)
        return loss, watched

    begun.stepper.objective = wild
    message = r"(loss|grad_norm) nan.* at step 3 \(lr .*this rank's batch is in"
    while len(batches) < STEPS - 2:
        begun.advance()
    with pytest.raises(FloatingPointError, match=message):
        begun.advance()
    assert len(batches) == STEPS - 1, "read at the next log point, which is the validation"
    (path,) = begun.ctx.out.glob("nonfinite-step-00000003-*.pt")
    for name, column in torch.load(path, weights_only=True).items():
        assert torch.equal(column, getattr(batches[2], name)), name
    for later in (parameters[3], begun.network.state_dict()):
        assert all(torch.equal(later[name], value) for name, value in parameters[2].items())
    begun.close()


class NanGradient(torch.autograd.Function):
    """Nothing, whose gradient is NaN."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.nan


def test_between_log_points_a_step_opens_nothing_and_exchanges_only_gradients(tmp_path: Path) -> None:
    case = bench_loop.cases()["EEGNet, 2 windows"]
    assert bench_loop.counted(case, tmp_path / "steady") == ([], [])


@needs_a_compiler
def test_between_log_points_a_step_reads_nothing_of_a_gpu_and_no_copy_to_it_blocks(tmp_path: Path) -> None:
    assert bench_loop.waited(bench_loop.cases()["EEGNet, 2 windows"], tmp_path) == []


def test_what_the_bench_counts_is_seen(tmp_path: Path) -> None:
    """So that its zeros are not those of a counter that sees nothing."""
    case = bench_loop.cases()["EEGNet, 2 windows"]

    def noisy(self: Training) -> None:
        train_step(self)
        (tmp_path / "a file").write_text("x")
        (tmp_path / "a file").stat()
        ddp.any_rank(False)

    train_step = Training.train_step
    with patch.object(Training, "train_step", noisy):
        files, collectives = bench_loop.counted(case, tmp_path / "noisy")
    assert len([each for each in files if "a file" in each]) >= 10 and len(collectives) == 5


@needs_a_compiler
def test_what_the_bench_counts_of_a_gpu_is_seen(tmp_path: Path) -> None:
    def noisy(self: Training) -> None:
        train_step(self)
        torch.tensor([1.0]).to(next(self.network.parameters()).sum().cpu().device).to(self.batches.device)

    train_step = Training.train_step
    with patch.object(Training, "train_step", noisy):
        lines = bench_loop.waited(bench_loop.cases()["EEGNet, 2 windows"], tmp_path)
    kinds = [line.partition(":")[0] for line in lines]
    assert sorted(kinds) == ["blocking_copies"] * 10 + ["host_reads"] * 10, "five steps, data on the GPU and not"


def test_steps_that_become_slow_have_a_log_point_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_points, "AT_MOST_S", 1.0)
    points = LogPoints(every=50, step=0)

    def next_after(step: int, seconds: float) -> int:
        points.add(step, {"loss": torch.tensor(1.0)}, torch.tensor(2.0), lr=0.1, seconds=seconds)
        points.read()
        return next(number for number in range(step + 1, 1000) if points.due(number)) - step

    assert [next_after(1, s) for s in (0.001, 0.03, 0.3, 0.6, 5.0)] == [50, 33, 3, 1, 1]


def test_a_rank_that_is_slow_between_log_points_still_says_where_it_is(
    cfg: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_hurry: None
) -> None:
    begun = training(cfg, tmp_path / "run")
    for _ in range(3):
        begun.advance()
    assert not begun.log_points.due(4)
    monkeypatch.setattr(loop, "BEAT_S", 0.0)
    begun.ctx._written = 0.0  # no heartbeat for long
    begun.advance()
    assert records.heartbeat(begun.ctx.run, 0)["done"] == 4
    begun.close()

"""A batch that does not fit into the memory of a GPU: found before the first step, with what would fit; and without a
trace if it does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eegdecode import stages
from eegdecode.data.config import BucketedWindows, RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives import Batch
from eegdecode.training import loop, model_file, optim
from eegdecode.training.config import Compute, Ema, Optim, Train
from eegdecode.training.monitor import memory
from eegdecode.training.step import Stepper
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_lines

CPU = torch.device("cpu")


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=EEGNet(),
        windows=RandomWindows(length_s=1.0, batch=8),
        optim=Optim(steps=4, warmup_steps=1, validate_every=2, checkpoint_every=2),
    )


class Limited(nn.Module):
    """A network with a batch norm, on a device that holds so many windows of so many samples."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.norm, self.layer, self.most = nn.BatchNorm1d(3), nn.Linear(3, 1), most
        self.seen: list[tuple[int, ...]] = []

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(signal.shape))
        if len(signal) * signal.shape[1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        out: torch.Tensor = self.layer(nn.functional.dropout(self.norm(signal.mT).mT, 0.5, self.training))
        return out


def squares(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return (model(batch.signal) - batch.target).square().mean(), {}


def tried(cfg: Train, most: int, n_times: int = 10) -> tuple[Limited, Stepper]:
    network = Limited(most)
    stepper = Stepper(cfg.optim, cfg.compute, network, network, squares, optim.adamw(network, cfg.optim), CPU)
    keys = torch.arange(8)
    batch = Batch(torch.randn(8, 10, 3), torch.randn(8, 10, 1), keys, keys)
    memory.try_longest(cfg, Context(World(), RunDir(Path("/nowhere"))), stepper, batch, n_times, n_times)
    return network, stepper


def test_a_batch_that_fits_leaves_no_trace(cfg: Train) -> None:
    torch.manual_seed(3)
    fresh = Limited(80)
    torch.manual_seed(3)
    network, stepper = tried(cfg, 80)
    assert network.seen == [(8, 10, 3)] and network.training == fresh.training
    for name, value in fresh.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not stepper.optimizer.state


def test_the_state_of_random_numbers_is_as_before(cfg: Train) -> None:
    keys, network = torch.arange(8), Limited(80)
    stepper = Stepper(cfg.optim, cfg.compute, network, network, squares, optim.adamw(network, cfg.optim), CPU)
    batch = Batch(torch.randn(8, 10, 3), torch.randn(8, 10, 1), keys, keys)
    before = torch.get_rng_state()
    memory.try_longest(cfg, Context(World(), RunDir(Path("/nowhere"))), stepper, batch, 10, 10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("most", "accumulate", "n_times", "message"),
    [
        (79, 1, 10, "8 windows a rank of 10 samples do not fit into this device: with compute.accumulate=2 they do, 4 "
         "windows at a time"),
        (39, 2, 10, "8 windows a rank of 10 samples in 2 portions do not fit into this device: with "
         "compute.accumulate=4 they do, 2 windows at a time"),
        (80, 1, 25, "8 windows a rank of 25 samples do not fit into this device: with compute.accumulate=4 they do, 2 "
         "windows at a time"),
        (9, 1, 10, "not even one window of 10 samples fits into this device: take a smaller model, shorter windows, or "
         "compute.precision=bf16, or compute.shard=true on several GPUs"),
    ],
)  # fmt: skip
def test_a_batch_that_does_not_fit_is_refused_with_what_does(
    cfg: Train, most: int, accumulate: int, n_times: int, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        tried(replace(cfg, compute=Compute(accumulate=accumulate)), most, n_times)


def test_the_windows_are_as_long_as_the_longest_and_targets_as_far(cfg: Train) -> None:
    network, _ = tried(cfg, 1000, n_times=25)
    assert network.seen == [(8, 25, 3)]
    keys = torch.arange(2)
    batch = Batch(
        torch.arange(8.0).view(2, 4, 1), torch.arange(4.0).view(2, 2, 1), keys, keys
    )  # a target at half the rate
    longer = memory._lengthened(batch, 7, 4)
    assert longer.signal[0, :, 0].tolist() == [0, 1, 2, 3, 0, 1, 2] and longer.target[0, :, 0].tolist() == [0, 1, 0, 1]
    a_value_a_trial = memory._lengthened(batch._replace(target=torch.ones(2, 3)), 7, 0)
    assert a_value_a_trial.target.shape == (2, 3)


def test_what_the_optimizer_will_keep_is_counted(cfg: Train) -> None:
    _, stepper = tried(cfg, 80)
    n_bytes = sum(4 * parameter.numel() for parameter in stepper.trained)
    assert memory._later_bytes(cfg, stepper) == 2 * n_bytes
    assert memory._later_bytes(replace(cfg, optim=replace(cfg.optim, average=Ema())), stepper) == 3 * n_bytes
    squares(stepper.network, Batch(*[torch.ones(2, 2, 3)] * 4))[0].backward()
    stepper.optimizer.step()
    assert memory._later_bytes(cfg, stepper) == 0  # it has them already


class Tried(loop.Training):
    """A training that tries the longest batch, as on a GPU."""

    def resume(self) -> None:
        super().resume()
        batch = next(self.batches.at(self.state.step))
        memory.try_longest(
            self.cfg, self.ctx, self.stepper, batch, self.draw.longest, self.spec.n_steps(self.draw.longest)
        )
        self.upcoming = self.batches.at(self.state.step, self.cfg.optim.steps)


@pytest.mark.parametrize("buckets", [False, True])
def test_training_is_the_same_to_the_bit_with_the_trial(
    cfg: Train, buckets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if buckets:
        cfg = replace(cfg, model=BiLSTM(hidden=4, dropout=0.3), windows=BucketedWindows(batch=2, padding=0.5))
    stages.train(cfg, Context(World(), RunDir(tmp_path / "plain")))
    monkeypatch.setattr(loop, "Training", Tried)
    stages.train(cfg, Context(World(), RunDir(tmp_path / "tried")))
    plain, with_trial = (model_file.load(RunDir(tmp_path / name).out).parameters for name in ("plain", "tried"))
    assert plain.keys() == with_trial.keys() and all(torch.equal(plain[name], with_trial[name]) for name in plain)
    losses = [[line["loss"] for line in read_lines(RunDir(tmp_path / name).metrics)] for name in ("plain", "tried")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("at", "accumulate", "kind", "message"),
    [
        (0, 1, ValueError, "training does not fit into this device, with 8 windows a rank in 1 portion: say "
         "compute.accumulate=2, 4 windows at a time"),
        (2, 2, ValueError, "training does not fit into this device after step 2, with 8 windows a rank in 2 portions: "
         "say compute.accumulate=4, 2 windows at a time"),
        (40, 8, RuntimeError, "training does not fit into this device after step 40, with 8 windows a rank in 8 "
         "portions: take a smaller model, shorter windows, or compute.precision=bf16"),
    ],
)  # fmt: skip
def test_memory_that_does_not_suffice_later_is_explained_too(
    cfg: Train, at: int, accumulate: int, kind: Any, message: str, tmp_path: Path
) -> None:
    @memory.explained
    def fit(cfg: Train, ctx: Context) -> None:
        for step in range(at + 1):
            ctx.progress("train", step, 100)
        raise torch.OutOfMemoryError("CUDA out of memory. Process 4711 has 70.00 GiB memory in use.")

    with pytest.raises(kind, match=f"^{message}$"):
        fit(replace(cfg, compute=Compute(accumulate=accumulate)), Context(World(), RunDir(tmp_path)))

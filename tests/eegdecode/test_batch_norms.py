"""Batch norms are validated with statistics of the parameters as they are; training does not notice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eegdecode import stages
from eegdecode.data.config import EpochWindows, Split
from eegdecode.data.store import store
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives.classification import Classification
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training import model_file, optim
from eegdecode.training.config import Compute, Optim, Train
from eegdecode.training.train_state import Best
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.eegdecode.test_loop import AskedAt, two_ranks

SFREQ, N_TRIALS, CHANNELS = 64.0, 80, ("C3", "Cz", "C4")


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """EEGNet for some steps, on two classes that its first filters tell apart: a rhythm is there, or it is not."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    store.write_manifest(folder, ["sub-01"])
    kinds = rng.permutation(np.arange(N_TRIALS) % 2)
    times = np.arange(round(N_TRIALS * SFREQ)) / SFREQ
    rhythm = 3 * np.sin(2 * np.pi * 10 * times) * np.repeat(kinds, round(SFREQ))
    signal = (rng.normal(size=(len(times), 3)) + rhythm[:, None]).astype(np.float32) * 3
    trials = tuple(Trial(float(n), 1.0, f"s{n}") for n in range(N_TRIALS))
    values = {"side": kinds.astype(np.float32)[:, None]}
    store.write(folder, Recording("sub-01", "sub-01", Signal(signal, SFREQ, CHANNELS).stream(), trials, values=values))
    return Train(
        data=(Input(str(folder)),),
        target="side",
        model=EEGNet(dropout=0.0),
        objective=Classification(),
        split=Split(by="trial", shared=("subject", "stimulus"), train=0.5, val=0.3, test=0.2),
        windows=EpochWindows(tmin_s=0.0, tmax_s=1.0, batch=16),
        optim=Optim(lr=0.01, steps=20, warmup_steps=2, validate_every=5, checkpoint_every=7),
    )


def trained(cfg: Train, run: Path, stop_at: int = 0) -> dict[str, torch.Tensor]:
    ctx = Context(World(), RunDir(run), should_stop=AskedAt(stop_at) if stop_at else lambda: False)
    stages.train(cfg, ctx)
    return model_file.load(RunDir(run).out).parameters


def test_a_short_training_of_eegnet_does_not_collapse(
    cfg: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With running means, whose momentum is .01, it does: they have moved by a sixth in 20 steps."""
    trained(cfg, tmp_path / "anew")
    new = model_file.load(RunDir(tmp_path / "anew").out)
    assert new.validation["balanced_accuracy"] > 0.8 and new.validation["most_predicted"] < 0.75
    monkeypatch.setattr(optim, "batch_norms", lambda network: [])
    trained(cfg, tmp_path / "running")
    old = model_file.load(RunDir(tmp_path / "running").out)
    assert old.validation["loss"] > new.validation["loss"]
    losses = [[line["loss"] for line in records.metrics(RunDir(tmp_path / name))] for name in ("anew", "running")]
    assert losses[0] == losses[1], "training is the same, bit for bit"


def test_interrupted_it_ends_alike(cfg: Train, tmp_path: Path) -> None:
    whole = trained(cfg, tmp_path / "whole")
    for stop_at in (4, 6):
        with pytest.raises(Preempted):
            trained(cfg, tmp_path / "parts", stop_at)
    parts = trained(cfg, tmp_path / "parts")
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


@pytest.mark.ranks
def test_statistics_are_those_of_whole_batches_on_any_number_of_ranks(cfg: Train, tmp_path: Path) -> None:
    """With a rate of next to nothing, two ranks have the parameters of one; their running means differ all the same."""
    cfg = replace(cfg, optim=replace(cfg.optim, lr=1e-9, steps=4, validate_every=4), compute=Compute())
    one = trained(cfg, tmp_path / "one")
    two_ranks(cfg, tmp_path / "two")
    two = model_file.load(RunDir(tmp_path / "two").out).parameters
    assert {name for name in one if "running" in name}
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)


def test_new_statistics_are_those_of_the_windows_and_frozen_norms_keep_theirs() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4, momentum=0.01), nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = 3 * torch.randn(6, 50, 4) + 5
    with optim.estimated_statistics(network, lambda: [network(batch) for batch in x]) as changed:
        assert changed and not network.training
        torch.testing.assert_close(network[0].running_mean, x.mean(dim=(0, 1)))
        torch.testing.assert_close(network[0].running_var, x.var(dim=1).mean(dim=0))
        assert torch.equal(network[2].running_mean, before["2.running_mean"]) and network[0].momentum == 0.01
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with optim.estimated_statistics(nn.Linear(2, 2), lambda: pytest.fail("there is nothing to estimate")) as changed:
        assert not changed


def test_the_best_step_is_chosen_by_any_figure(cfg: Train, tmp_path: Path) -> None:
    by_accuracy = replace(cfg.optim, choose_by="balanced_accuracy", steps=15)
    trained(replace(cfg, optim=by_accuracy), tmp_path / "run")
    checks = [line for line in records.metrics(RunDir(tmp_path / "run")) if "val_loss" in line]
    best = max(checks, key=lambda line: (line["val_balanced_accuracy"], -line["val_loss"]))
    assert model_file.load(RunDir(tmp_path / "run").out).step == best["step"]
    with pytest.raises(ValueError, match="are loss, accuracy, balanced_accuracy, auroc, .* but got 'acuracy'"):
        replace(cfg, optim=replace(cfg.optim, choose_by="acuracy"))


def test_of_equal_figures_the_lower_loss_is_better() -> None:
    best = Best().after(1, {"loss": 1.0, "auroc": 0.7}, dict, "auroc")
    best = best.after(2, {"loss": 0.9, "auroc": 0.6}, dict, "auroc")
    assert (best.step, best.misses) == (1, 1)
    best = best.after(3, {"loss": 0.8, "auroc": 0.7}, dict, "auroc")
    assert (best.step, best.misses) == (3, 0)
    with pytest.raises(ValueError, match="choose_by=r is no figure of this validation, which has loss, auroc"):
        best.after(4, {"loss": 0.8, "auroc": 0.7}, dict, "r")

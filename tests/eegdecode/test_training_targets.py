"""Target statistics come from the training set alone; decoded values have the target's units."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from eegdecode import objectives, stages
from eegdecode.data.config import EpochWindows, RandomWindows
from eegdecode.data.loading.draw import Draw
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.decode import predict
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives import Batch
from eegdecode.objectives.classification import Classification, focal
from eegdecode.objectives.diffusion import Diffusion
from eegdecode.objectives.regression import Regression
from eegdecode.signals import Recording, Signal, SignalSpec, Trial
from eegdecode.training import model_file, target_statistics
from eegdecode.training.config import Optim, Soup, Train
from eegdecode.training.validator import Validator
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir

TRIALS = tuple(Trial(1.0 + 2 * number, 2.0, f"{number:02d}.wav") for number in range(20))
KLASS = np.array([[0.0]] * 14 + [[1.0]] * 4 + [[2.0]] * 2)


@pytest.fixture
def opened(tmp_path: Path) -> Store:
    """A target far from 0, with features of different size and one constant; and classes, the last of them rare."""
    store.write_manifest(tmp_path, ["sub-01"])
    rng = np.random.default_rng(0)
    mel = np.array([1e4, -3.0, 7.0]) + rng.normal(size=(45 * 16, 3)) * np.array([1e-2, 50.0, 0.0])
    signal = Signal(rng.normal(size=(45 * 64, 4)).astype(np.float32), 64.0, ("Cz", "Pz", "Oz", "Fz")).stream()
    recording = Recording(
        "sub-01", "sub-01", signal, TRIALS, targets={"mel": Signal(mel, 16.0, ("a", "b", "c")).stream()},
        values={"klass": KLASS},
    )  # fmt: skip
    store.write(tmp_path, recording)
    return store.open_store(tmp_path)


def places(opened: Store, cfg: RandomWindows | EpochWindows, n: int = 20) -> Draw:
    segments = [splits.Segment(0, trial) for trial in TRIALS[:n]]
    return Draw(cfg, segments, opened.recordings, 0)


def test_mean_and_spread_are_those_of_what_is_trained_with_and_of_nothing_else(opened: Store) -> None:
    mean, std = target_statistics.moments(opened, "mel", places(opened, RandomWindows(length_s=1), n=7).places)
    trained = np.asarray(opened.recordings[0].target("mel"), np.float64)[16 : 16 * 15]
    np.testing.assert_allclose(mean, trained.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std[:2], trained.std(axis=0)[:2], rtol=1e-6)
    assert std[2] == 1, "what is always the same is not divided by its spread"
    locked = target_statistics.moments(opened, "klass", places(opened, EpochWindows(tmax_s=1), n=16).places)
    np.testing.assert_allclose(locked, (KLASS[:16].mean(axis=0), KLASS[:16].std(axis=0)))


def test_classes_are_weighed_as_scikit_learn_balances_them(opened: Store) -> None:
    drawn = places(opened, EpochWindows(tmax_s=1)).places
    weights = target_statistics.weights(opened, "klass", drawn, opened.spec("klass"))
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=KLASS[:, 0]))
    with pytest.raises(ValueError, match="weighs classes by how often they occur, but the training set has none of 2"):
        target_statistics.weights(
            opened, "klass", places(opened, EpochWindows(tmax_s=1), 16).places, opened.spec("klass")
        )


def test_weighted_windows_count_as_in_torch_and_portions_add_up() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, classes = torch.randn(12, 3, generator=draw), torch.arange(12) % 3
    truth, weights = functional.one_hot(classes, 3).float(), torch.tensor([0.5, 1.0, 4.0])
    loss = focal(logits, truth, 0, weights=weights)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, classes, weights, reduction="sum") / 12)
    torch.testing.assert_close(focal(logits, truth, 0, weights=torch.ones(3)), focal(logits, truth, 0))
    parts = [focal(logits[part], truth[part], 0, weights=weights) for part in (slice(0, 3), slice(3, 12))]
    torch.testing.assert_close((3 * parts[0] + 9 * parts[1]) / 12, loss)


def test_a_loss_is_in_spreads_and_what_is_watched_in_the_targets_units() -> None:
    spec = SignalSpec(("E1",), 64.0, 1, ("sub-01",), target_mean=(300.0,), target_std=(20.0,))
    outputs = torch.tensor([[0.0], [1.0]])
    batch = Batch(outputs, torch.tensor([[310.0], [300.0]]), torch.zeros(2), torch.zeros(2))
    loss, watched = objectives.build(Regression(loss="mse", standardize=True), spec)(lambda x, subject: x, batch)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx((0.5**2 + 1) / 2) and watched["off_by"].item() == pytest.approx(15)
    assert objectives.in_units(outputs, spec).flatten().tolist() == [300, 320]


def trained(cfg: Train, run: Path) -> model_file.Trained:
    stages.train(cfg, Context(World(), RunDir(run)))
    return model_file.load(RunDir(run).out)


def test_what_a_standardised_model_decodes_has_the_targets_units(opened: Store, tmp_path: Path) -> None:
    cfg = Train(
        data=(Input(str(opened.recordings[0].path.parent)),),
        target="mel",
        model=BiLSTM(hidden=4),
        objective=Regression(loss="mse", standardize=True),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=3, validate_every=3),
    )
    ours = trained(cfg, tmp_path / "ours")
    raw = trained(replace(cfg, objective=Regression(loss="mse")), tmp_path / "raw")
    assert raw.spec.target_mean == () and ours.spec.target_mean[0] == pytest.approx(1e4, rel=1e-4)
    assert raw.validation["loss"] > 1e7 and ours.validation["loss"] < 2, "the offset is known before the first step"
    decoded_pair = predict.decode([RunDir(tmp_path / "ours").out], Context(World(), RunDir(tmp_path / "evaluate")))
    assert decoded_pair is not None
    decoded, truth = (
        np.concatenate([getattr(t, what) for t in decoded_pair[1].trials]) for what in ("output", "target")
    )
    np.testing.assert_allclose(decoded[:, 0], truth[:, 0], rtol=1e-4)
    np.testing.assert_allclose(decoded[:, 2], 7, atol=1)
    trained(replace(cfg, seed=1), tmp_path / "another")
    several = tuple(Input(str(RunDir(tmp_path / run).out)) for run in ("ours", "another"))
    metrics = stages.soup(Soup(several, "uniform"), Context(World(), RunDir(tmp_path / "soup")))
    assert metrics["val_loss"] < 2 and model_file.load(RunDir(tmp_path / "soup").out).spec == ours.spec  # type: ignore[operator]


def test_made_out_of_noise_it_has_the_targets_units_too(opened: Store, tmp_path: Path) -> None:
    cfg = config_of_diffusion(opened)
    ours = trained(cfg, tmp_path / "run")
    data, parts = predict.open_data(ours, Context(World(), RunDir(tmp_path / "evaluate")))
    batch = Validator(ours.train(), parts.test, data, ours.spec, ours.network()).batch(0, torch.device("cpu"))
    outputs = predict.outputs_of(ours, ours.network(), batch)
    assert outputs[..., 0].mean().item() == pytest.approx(1e4, rel=1e-3)


def config_of_diffusion(opened: Store) -> Train:
    from eegdecode.models.dit import DiT
    from eegdecode.models.joined import Joined

    return Train(
        data=(Input(str(opened.recordings[0].path.parent)),),
        target="mel",
        model=Joined(encoder=BiLSTM(hidden=4), generator=DiT(width=16, layers=1, heads=2, patch=(4, 3)), features=3),
        objective=Diffusion(steps=20, last=0.3, standardize=True),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=3, validate_every=3),
    )


def test_a_balanced_objective_is_of_the_training_part_and_not_balanced_twice(opened: Store, tmp_path: Path) -> None:
    cfg = Train(
        data=(Input(str(opened.recordings[0].path.parent)),),
        target="klass",
        model=EEGNet(filters=2),
        objective=Classification(balanced=True),
        split=splits.Split(by="trial", val_units=("sub-01 at 5.000 s",), test_units=("sub-01 at 7.000 s",)),
        windows=EpochWindows(tmax_s=1.5, batch=4),
        optim=Optim(steps=2, validate_every=2),
    )
    assert trained(cfg, tmp_path / "run").spec.class_weights == (0.5, 1.5, 3.0), "12, 4 and 2 are left to train with"
    with pytest.raises(ValueError, match="balanced and windows.balance=stimulus would both balance the classes"):
        replace(cfg, windows=EpochWindows(balance="stimulus"))

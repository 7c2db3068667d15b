"""The package for the EEG challenge runs where only torch is, and says there what our model says."""

import ast
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegdecode import stages
from eegdecode.data.config import BidsEvents, EpochWindows, Split
from eegdecode.data.loading import gather
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.targets.label import Label
from eegdecode.evaluation import submission, submitted
from eegdecode.evaluation.config import Evaluate, Submission
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.tcn import TCN
from eegdecode.objectives import in_units
from eegdecode.objectives.regression import Regression
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.preprocessing.steps.align import Align
from eegdecode.preprocessing.steps.bad_channels import BadChannels
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.clip import Clip
from eegdecode.preprocessing.steps.ica import ICA
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.preprocessing.steps.set_channels import SetChannels
from eegdecode.signals import Signal
from eegdecode.synth.config import Eeg2025
from eegdecode.synth.study import make_study
from eegdecode.training import model_file, validator
from eegdecode.training.config import Optim, Train
from eegdecode.training.model_file import Trained
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_json
from tests.conftest import ROOT

NAMES = ("Cz", "E90", "E100", "E110")
"""What is picked comes in the order of the recording."""


def context(run: Path) -> Context:
    return Context(World(), RunDir(run))


def made(run: Path) -> Input:
    return Input(str(RunDir(run).out))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six children; two models of their reaction times, and one of their scores that is of another kind."""
    folder = tmp_path_factory.mktemp("challenge")
    make_study(Eeg2025(n_subjects=6, n_trials=6), context(folder / "study"))
    cfg = Preprocess(
        made(folder / "study"),
        events=BidsEvents(stimulus="value", only=("*_target",)),
        steps=(Bandpass(low_hz=0.5, high_hz=None), Resample(sfreq=100.0), Pick(names=NAMES), Scale()),
        targets=(Label(column="rt_from_stimulus"), Label(column="externalizing")),
    )
    stages.preprocess(cfg, context(folder / "data"))
    stages.preprocess(replace(cfg, steps=cfg.steps[:2]), context(folder / "as-the-judge-has-it"))
    first = Train(
        data=(made(folder / "data"),),
        target="rt_from_stimulus",
        model=EEGNet(),
        objective=Regression(loss="mse"),
        split=Split(by="subject", train=0.34, val=0.33, test=0.33, shared=("stimulus",)),
        windows=EpochWindows(tmin_s=0.5, tmax_s=2.5, batch=4, baseline_s=0.2),
        optim=Optim(steps=4, validate_every=2, warmup_steps=0, lr=0.01),
    )
    stages.train(first, context(folder / "rt"))
    other = replace(first, seed=1, objective=Regression(loss="mse", standardize=True))
    stages.train(other, context(folder / "rt-too"))
    stages.train(replace(first, target="externalizing", model=TCN(width=8, blocks=2)), context(folder / "score"))
    return folder


@pytest.fixture(scope="module")
def trained(runs: Path) -> Trained:
    return model_file.load(Path(made(runs / "rt")))


@pytest.fixture(scope="module")
def packed(runs: Path) -> tuple[Path, dict[str, Any]]:
    """The zip, unpacked; and what the stage says of it."""
    cfg = Submission(challenge_1=(made(runs / "rt"), made(runs / "rt-too")), challenge_2=(made(runs / "score"),))
    metrics = stages.submission(cfg, context(runs / "package"))
    folder = runs / "unpacked"
    with zipfile.ZipFile(RunDir(runs / "package").out / "submission.zip") as whole:
        assert sorted(whole.namelist()) == [
            "eegdecode.zip", "submission.py", "weights_challenge_1.pt", "weights_challenge_2.pt"
        ]  # fmt: skip
        whole.extractall(folder)
    return folder, metrics


ELSEWHERE = """
import importlib.abc, sys
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("mne", "h5py", "omegaconf", "scipy", "braindecode"):
            raise ImportError(f"the judge has no {name}")
sys.meta_path.insert(0, Bare())
sys.path.insert(0, ".")
import numpy, torch
from submission import Submission
entry = Submission(100, torch.device("cpu"))
for number in (1, 2):
    model = getattr(entry, f"get_model_challenge_{number}")()
    model.eval()
    for n in (1, 5):
        x = torch.from_numpy(numpy.load("x.npy"))[:n]
        with torch.inference_mode():
            numpy.save(f"y{number}-{n}.npy", model.forward(x).numpy())
import eegdecode, hpc
for package in (eegdecode, hpc):
    assert "eegdecode.zip" in package.__file__, package.__file__
"""


def test_in_a_process_without_us_it_says_what_our_models_say(packed: tuple[Path, Any], runs: Path) -> None:
    folder, _ = packed
    x = (np.random.default_rng(0).normal(size=(5, 129, 200)) * 2e-5).astype(np.float32)
    x[0, 109] += 1.0  # a channel far out, and one that is dead, as the reference is
    x[:, 128] = 0
    x[1, 99, 50] = 1e-2  # and a spike that is cut off
    np.save(folder / "x.npy", x)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    picked = x[:, [89, 99, 109, 128]].transpose(0, 2, 1)
    low, middle, high = np.quantile(picked.astype(np.float64), (0.25, 0.5, 0.75), axis=1, keepdims=True)
    spread = (high - low) / 1.349
    scaled = np.divide(picked - middle, spread, out=np.zeros(picked.shape), where=spread > 1e-7 * np.abs(middle))
    window = torch.from_numpy(scaled.clip(-20, 20)).float()
    window -= window[:, :20].mean(dim=1, keepdim=True)  # the baseline
    for number, names in ((1, ("rt", "rt-too")), (2, ("score",))):
        several = [model_file.load(Path(made(runs / name))) for name in names]
        with torch.no_grad():
            outputs = [in_units(one.network()(window, torch.zeros(5, dtype=torch.int64)), one.spec) for one in several]
        ours = np.mean([out.numpy() for out in outputs], axis=0)
        for n in (1, 5):
            theirs = np.load(folder / f"y{number}-{n}.npy")
            assert theirs.shape == (n, 1) and np.ptp(ours) > 1e-3
            assert np.abs(theirs - ours[:n])[1:].max(initial=0) < 1e-5
            assert np.abs(theirs - ours[:n]).max() < 1e-2, "far out, float32 of the raw signal has fewer digits"


def test_the_score_is_beside_that_of_evaluate_and_adds_up(packed: tuple[Path, Any], runs: Path) -> None:
    _, metrics = packed
    one, two, overall = (metrics[name]["value"] for name in ("nrmse_1", "nrmse_2", "overall"))
    assert overall == pytest.approx(0.3 * one + 0.7 * two) and one != two
    models = (made(runs / "rt"), made(runs / "rt-too"))
    stages.evaluate(Evaluate(model=models), context(runs / "evaluated"))
    report = read_json(RunDir(runs / "evaluated").out / "report.json") or {}
    assert metrics["nrmse_1_scaled_by_recording"]["value"] == pytest.approx(
        report["figures"]["nrmse"]["value"], abs=1e-5
    )


def test_the_score_is_that_of_the_signals_as_the_judge_has_them(packed: tuple[Path, Any], runs: Path) -> None:
    folder, metrics = packed
    cfg = model_file.load(Path(made(runs / "rt"))).train()
    data = store.open_store(Path(made(runs / "as-the-judge-has-it")))
    decoder = submitted.Decoder(torch.load(folder / "weights_challenge_1.pt", weights_only=False))
    truth, outputs = [], []
    for places in validator.batches(
        cfg.windows, splits.split(cfg.split, data.recordings).test, data, whole_trials=False
    ):
        signal, target, _ = gather.gather(data, places, cfg.target)
        assert signal.shape[1:] == (200, 129) and 1e-6 < signal.std() < 1e-4, "all channels, in volt"
        with torch.no_grad():
            outputs.append(decoder(torch.from_numpy(signal).mT).numpy())
        truth.append(target)
    wanted, got = np.concatenate(truth), np.concatenate(outputs)
    assert metrics["nrmse_1"]["value"] == pytest.approx(np.sqrt(((got - wanted) ** 2).mean()) / wanted.std(), abs=1e-4)


def test_the_overall_score_is_that_of_the_rules() -> None:
    assert round(sum(submission.SHARES[n] * nrmse for n, nrmse in ((1, 0.94021), (2, 0.99717))), 5) == 0.98008


def test_nobody_who_was_measured_is_named_in_it(packed: tuple[Path, Any]) -> None:
    for path in packed[0].glob("*.pt"):
        assert b"NDAR" not in path.read_bytes() and path.stat().st_size > 1000


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_the_code_in_it_needs_no_other_of_ours(packed: tuple[Path, Any]) -> None:
    paths = (path for package in ("eegdecode", "hpc") for path in (ROOT / package).rglob("*.py"))
    ours = {path.relative_to(ROOT).as_posix() for path in paths}
    with zipfile.ZipFile(packed[0] / "eegdecode.zip") as whole:
        there = set(whole.namelist())
        assert there <= ours
        for name in there:
            tree = ast.parse(whole.read(name), feature_version=(3, 10))
            for_types = {id(each) for node in ast.walk(tree) if _is_for_types(node) for each in ast.walk(node)}
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
                    asked = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                    files = {f"{each.replace('.', '/')}{end}" for each in asked for end in (".py", "/__init__.py")}
                    assert files & ours <= there, f"{name} needs {files & ours - there}"


@pytest.mark.parametrize(
    "chain",
    [
        (Reference(),),
        (Pick(names=NAMES), Reference(), Scale(clip=2.0)),
        (Reference(), Pick(names=NAMES), Scale(method="standard"), Clip(limit=1.5)),
        (SetChannels(channels=("Cz", "E7", "E3")), Clip(limit=1e-5)),
        (Bandpass(low_hz=0.5, high_hz=None), Notch(hz=60.0), Pick(names=NAMES)),
    ],
    ids=lambda chain: "-".join(step.name for step in chain),
)
def test_a_window_goes_through_the_steps_as_a_recording_does(chain: tuple[StepConfig, ...]) -> None:
    raw = (np.random.default_rng(0).normal(size=(200, 129)) * 2e-5).astype(np.float32)
    here = [step for step in chain if not isinstance(step, Bandpass | Notch)]  # the judge has done that
    ours = chains.apply(here, Signal(raw, 100.0, submission.CHANNELS).stream()).signal()
    steps_ = submission.prepared(chain, ours.channels)
    x = submitted.scaled((steps_["channels"] @ torch.from_numpy(raw.T)).mT[None], steps_["scale"])
    unit = np.abs(ours.data).max()
    assert np.abs(x.clamp(-steps_["clamp"], steps_["clamp"])[0].numpy() - ours.data).max() < 1e-5 * unit


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ((ICA(),), "the step ica needs a whole recording, but the judge gives single windows"),
        ((Align(),), "the step align needs a whole recording"),
        ((BadChannels(),), "the step bad_channels needs a whole recording"),
        ((Scale(), Reference()), "the step reference comes after scale or clip"),
        (
            (Bandpass(low_hz=6.0, high_hz=14.0),),
            "bandpass from 6 to 14 Hz removes more than the judge, who gives 0.5 to 50 Hz",
        ),
        ((Bandpass(low_hz=None),), "bandpass from 0 to 20 Hz removes more"),
        ((Notch(hz=25.0),), "notch at 25 Hz removes more"),
        ((Pick(names=("Fz",)),), "pick: there is no channel Fz among E1"),
        (
            (),
            r"the model reads 2 channels \(Cz E7\), but of the 129 of the judge .* steps make 129 \(E1 E2 E3 … Cz\)",
        ),
    ],
)
def test_steps_that_the_judge_leaves_no_room_for_are_refused(chain: tuple[StepConfig, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        submission.prepared(chain, ("Cz", "E7"))


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (
            {"name": "epochs", "tmin_s": 0.0, "tmax_s": 2.0},
            "from 0.5 s after the stimulus .* learnt from windows from 0 s",
        ),
        ({"name": "epochs", "tmin_s": 0.5, "tmax_s": 1.5}, "windows of 2 s, but rt learnt from windows of 1 s"),
        ({"name": "random", "length_s": 2.0}, "learnt from windows drawn by random: train with windows={name: epochs"),
    ],
)
def test_windows_other_than_the_judges_are_refused(trained: Trained, windows: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        submission._refuse_other_windows(1, replace(trained, config={**trained.config, "windows": windows}))


def test_models_that_do_not_fit_are_refused(trained: Trained, runs: Path) -> None:
    with pytest.raises(ValueError, match="the judge gives 100 Hz, but rt reads 128 Hz: preprocess with"):
        submission._refuse_other_windows(1, replace(trained, spec=replace(trained.spec, sfreq=128.0)))
    with pytest.raises(ValueError, match=r"needs one number a window, but rt .* a signal in time with 1 output\(s\)"):
        submission._refuse_other_windows(1, replace(trained, spec=replace(trained.spec, target_sfreq=64.0)))
    mixed = Submission(challenge_2=(made(runs / "rt"), made(runs / "score")))
    with pytest.raises(ValueError, match="challenge 2: models that decode together need one target"):
        stages.submission(mixed, context(runs / "mixed"))
    with pytest.raises(ValueError, match="challenge_1=RUN challenge_2=RUN"):
        Submission()


def test_a_layer_for_each_subject_is_refused(runs: Path) -> None:
    cfg = model_file.load(Path(made(runs / "rt"))).train()
    stages.train(replace(cfg, model=BiLSTM(hidden=4, layers=1, subject_layer=True)), context(runs / "own"))
    with pytest.raises(ValueError, match="own has a layer for each of its subjects, but the judge's are others"):
        stages.submission(Submission(challenge_1=(made(runs / "own"),)), context(runs / "of-own"))


@pytest.mark.parametrize("file", ["data/out/*.h5", "data/out/index.json", "rt/out/model.pt"])
def test_no_package_is_made_of_what_is_not_what_was_written(runs: Path, file: str) -> None:
    for path in runs.glob(file):
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))
        try:
            with pytest.raises(ValueError, match=rf"challenge 1: \S+{path.name} is damaged: its SHA-256"):
                stages.submission(Submission(challenge_1=(made(runs / "rt"),)), context(runs / "of-zeros"))
        finally:
            path.write_bytes(content)
    assert not list(runs.glob("of-zeros/out/*.zip"))


def test_the_entry_says_what_is_wrong(
    packed: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="these models read 100 Hz, but SFREQ is 500"):
        submitted.Submission(500, "cpu")
    monkeypatch.setattr(submitted, "FOLDERS", (tmp_path,))
    with pytest.raises(FileNotFoundError, match=r"weights_challenge_2.pt is not in the zip: it was made without"):
        submitted.find("weights_challenge_2.pt")
    decoder = submitted.Decoder(torch.load(packed[0] / "weights_challenge_1.pt", weights_only=False))
    with pytest.raises(ValueError, match=r"129 channels x 200 samples, but got \(129, 100\)"):
        decoder(torch.zeros(2, 129, 100))

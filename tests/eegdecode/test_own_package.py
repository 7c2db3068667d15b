"""One of each thing from a package of a user's own: found by its entry point, used by its name, shown in the help."""

import json
import re
from collections.abc import Iterator

import pytest
import torch

from eegdecode import noise
from eegdecode.objectives import Batch, scored_as, takes_soft_labels
from eegdecode.signals import SignalSpec
from eegdecode.training import setup
from eegdecode.training.augment import Augmentation
from eegdecode.training.config import Train
from hpc import config
from hpc.codes import USAGE
from hpc.config import plugins
from hpc.runs.rundir import RunDir, read_json
from tests.conftest import ROOT, Launch, users_environ

MYLAB = str(ROOT / "tests/eegdecode/mylab")
STUDY = """\
synthesize: {name: music, n_subjects: 2, n_pieces: 3, piece_s: [12, 14], n_channels: 4}
preprocess:
  study: synthesize
  steps: [reference, {name: resample, sfreq: 50}, scale, {name: mylab_square, factor: 0.5}]
  targets: [{name: envelope, sfreq: 20}, {name: mylab_ramp, sfreq: 10}]
size_of_store: {data: preprocess}
train:
  data: preprocess
  target: mylab_ramp
  model: {name: mylab_mlp, width: 5}
  objective: mylab_huber
  augment: [mylab_flip, noise]
  windows: {length_s: 2, batch: 4}
  optim: {steps: 6, validate_every: 3}
evaluate: {model: train}
"""


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    launch = Launch(tmp_path_factory.mktemp("mylab"), users_environ())
    launch.environ["PYTHONPATH"] = MYLAB
    (launch.folder / "study.yaml").write_text(STUDY)
    return launch


@pytest.mark.ranks
def test_one_of_each_works_together(launch: Launch) -> None:
    launch("pipeline", "study.yaml", "--on", "local")
    runs = {run.name.partition("-")[0]: RunDir(run) for run in launch.runs()}
    assert runs.keys() == {"synthesize", "preprocess", "size_of_store", "train", "evaluate"}
    metrics = {name: (read_json(run.result) or {})["metrics"] for name, run in runs.items()}
    assert metrics["size_of_store"]["bytes"] > 1000
    assert "val_error" in metrics["train"]
    figures = json.loads((runs["evaluate"].out / "report.json").read_text())["figures"]
    sign = figures["mylab_sign"]
    assert sign["chance"] == 0.5 and 0 <= sign["value"] <= 1 and 0 < sign["p"] <= 1
    page = (runs["evaluate"].out / "report.html").read_text()
    assert "Same sign" in page and "the share of samples whose sign is right." in page
    settings = runs["train"].config.read_text()
    assert "mylab_mlp" in settings and "mylab_flip" in settings


CLASSES = """\
synthesize: {name: motor, n_classes: 2, n_subjects: 2, n_trials: 48, effect: 1.5}
preprocess:
  study: synthesize
  steps: [{name: pick, names: [C3, Cz, C4]}, {name: bandpass, low_hz: 4, high_hz: 38}, {name: resample, sfreq: 128}]
  targets: [{name: label}]
train:
  data: preprocess
  target: stimulus
  model: {name: shallow}
  objective: {name: mylab_hinge, margin: 2}
  split: {by: run, train: 0.5, val: 0.25, test: 0.25, shared: [subject, stimulus]}
  windows: {name: epochs, tmin_s: 0.5, tmax_s: 3.5, batch: 16}
  optim: {steps: 12, validate_every: 6}
evaluate: {model: train}
"""


@pytest.mark.ranks
def test_an_objective_that_declares_classes_is_scored_as_ours_is(launch: Launch) -> None:
    (launch.folder / "classes.yaml").write_text(CLASSES)
    launch("pipeline", "classes.yaml", "--on", "local", "--runs", "hinge")
    (run,) = (launch.folder / "hinge").glob("evaluate-*")
    report = json.loads((RunDir(run).out / "report.json").read_text())
    accuracy = report["figures"]["balanced_accuracy"]
    assert accuracy["chance"] == 0.5 and 0 <= accuracy["value"] <= 1
    assert report["kind"] == "classes" and {"csp", "bandpower", "riemann"} <= report["baselines"].keys()
    mixed = launch("train", "classes.yaml", "augment=[mixup]", "--runs", "hinge", "--dry-run", code=USAGE).stderr
    assert "mixup would make soft labels, which only objective=classification can learn" in mixed


def test_what_an_objective_declares_is_checked(mylab: None) -> None:
    cfg = config.build(Train, {"data": ["x"], "objective": "mylab_hinge"}, "train")
    assert setup.has_classes(cfg), "the split needs every class in the training set, as for ours"
    hinge = cfg.objective
    assert scored_as(hinge) == "classes" and not takes_soft_labels(hinge)
    of_class = type(hinge)
    wrong = type("Wrong", (of_class,), {"scored_as": "class"})()
    with pytest.raises(ValueError, match="scored_as of mylab_hinge must be classes or retrieval, .* got 'class'"):
        scored_as(wrong)


@pytest.fixture
def mylab(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package, as if it were installed here."""
    monkeypatch.syspath_prepend(MYLAB)
    plugins.forget()
    yield
    plugins.forget()


def test_its_augmentation_changes_the_windows_of_a_step(mylab: None) -> None:
    settings = {"data": ["preprocess"], "augment": [{"name": "mylab_flip", "p": 0.4}, "time_shift"]}
    flip = config.build(Train, settings, "train").augment[0]
    keys = torch.arange(200)
    batch = Batch(noise.normal(keys, 1, 16, 2), torch.zeros(200, 16, 1), torch.zeros_like(keys), keys)
    signal = Augmentation([flip], SignalSpec(("A", "B"), 64.0, 1, target_sfreq=64.0), soft=False)(batch).signal
    flipped = (signal == -batch.signal).all(dim=(1, 2))
    assert torch.equal(signal[~flipped], batch.signal[~flipped])
    assert flipped.float().mean().item() == pytest.approx(0.4, abs=0.1)


def test_its_verb_and_its_stage_are_in_the_help(launch: Launch) -> None:
    text = launch("--help").stdout
    assert re.search(r"count-files FILE \.\.\. +count the files that are named", text)
    assert "size_of_store" in text
    assert launch("count-files", "study.yaml", "other.txt", "suffix=.yaml").stdout == "1 files\n"
    assert "suffix=''" in launch("count-files", "--help").stdout
    assert "data  (must be given)" in launch("size_of_store", "--help").stdout


def test_what_it_adds_can_be_looked_up(launch: Launch) -> None:
    assert "width=16" in launch("settings", "train.model.mylab_mlp").stdout
    assert "mylab_mlp" in launch("settings", "train.model").stdout
    assert "that a window is flipped" in launch("settings", "train.augment.mylab_flip").stdout
    assert "of the power" in launch("settings", "preprocess.steps.mylab_square").stdout
    error = launch("train", "study.yaml", "model.name=mylab_mpl", "--dry-run", code=2).stderr
    assert "Did you mean 'mylab_mlp'" in error

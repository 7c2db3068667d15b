"""A training that cannot run on its data is refused before a job waits in a queue; otherwise it is described."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from eegdecode import noise, stages
from eegdecode.data.config import EpochWindows, Split
from eegdecode.data.store import store
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Trainable
from eegdecode.models.deep4 import Deep4
from eegdecode.models.eegpt import EEGPT
from eegdecode.models.shallow import Shallow
from eegdecode.objectives import Batch
from eegdecode.objectives.classification import Classification
from eegdecode.objectives.clip import Clip
from eegdecode.objectives.regression import Regression
from eegdecode.signals import Recording, Signal, SignalSpec, Trial
from eegdecode.training import exact
from eegdecode.training.config import Compute, Optim, Start, Train
from hpc import config
from hpc.cli import preflight
from hpc.config.stages import check
from hpc.errors import ConfigError
from hpc.plan.plan import Plan, Science
from hpc.rank import ddp
from hpc.rank.context import Input
from hpc.runs.rundir import write_json
from hpc.site import allocation
from tests.conftest import Launch

KINDS = ("left", "right", "feet")
BY_RUN = Split(by="run", shared=("subject", "stimulus"))


def classes(folder: Path, *kinds: tuple[str, ...]) -> Path:
    """A store with a recording for each of these, with trials of these classes; a trial has the name of its class."""
    names = [f"sub-01_run-{number}" for number in range(len(kinds))]
    folder.mkdir(exist_ok=True)
    store.write_manifest(folder, names)
    for name, own in zip(names, kinds, strict=True):
        noise = np.random.default_rng(len(name) + len(own)).normal(size=(64 * 30, 4)).astype(np.float32)
        noise += names.index(name)
        signal = Signal(noise, 64.0, ("C3", "Cz", "C4", "Pz")).stream()
        trials = tuple(Trial(2.0 * at, 2.0, kind) for at, kind in enumerate(own))
        values = {"kind": np.array([[KINDS.index(kind)] for kind in own], np.float32)}
        recording = Recording(name, "sub-01", signal, trials, values=values)
        store.write(folder, recording, made={"classes": {"kind": list(KINDS)}})
    store.write_index(folder)
    return folder


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return classes(tmp_path / "whole", KINDS * 2, KINDS, KINDS, KINDS)


def training(folder: Path, **knobs: Any) -> Train:
    usual: dict[str, Any] = {
        "target": "kind", "model": Shallow(filters=4), "objective": Classification(), "split": BY_RUN,
        "windows": EpochWindows(tmax_s=2.0, batch=4),
    }  # fmt: skip
    return Train(data=(Input(str(folder)),), **(usual | knobs))


def told(cfg: Train) -> str:
    return check(stages.train, cfg, 1, lambda ref: Path(ref) if Path(ref).exists() else None)


def test_what_can_run_is_told_by_its_size_and_the_numbers_it_computes_in(whole: Path) -> None:
    assert told(training(whole)) == (
        "shallow of 203 parameters fits 4 channels x 128 samples · computes in float32, on NVIDIA's GPUs convolutions "
        "in TF32, a CUDA graph where it can be"
    )
    half = Compute(precision="bf16", compile=True, graph=False, tf32=True, exact=True)
    numbers = "computes in bf16, weights in float32, compiled"
    assert told(training(whole, compute=half)).endswith(
        f" · {numbers}, on NVIDIA's GPUs products in TF32, deterministic algorithms"
    )
    assert half.numbers("cuda") == f"{numbers}, products in TF32, deterministic algorithms"
    assert half.numbers("cpu") == numbers


def test_tf32_is_for_gpus_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(ddp, "tf32", calls.append)
    for wanted in ("auto", True, False):
        for device in ("cpu", "cuda"):
            cfg = training(whole, compute=Compute(tf32=wanted))  # type: ignore[arg-type]
            exact.begin(cfg, 1, torch.device(device))
    assert calls == [True, False]


def test_tf32_is_torchs_switches() -> None:
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    assert before == (False, True), "auto: torch rounds in convolutions only"
    try:
        for wanted in (True, False):
            ddp.tf32(wanted)
            assert (matrices.allow_tf32, convolutions.allow_tf32) == (wanted, wanted)
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"target": "knd"}, "target must be one of kind, which sub-01_run-0 has, but got 'knd'"),
        ({"objective": Regression()}, "this target is 1: use objective.loss=mse or l1"),
        ({"objective": Clip(), "model": BiLSTM()}, "clip compares targets by their direction"),
        ({"model": Deep4()}, "deep4: got 4 channels x 128 samples; needs at least 441 samples"),
        ({"windows": EpochWindows(tmax_s=3.0)}, "the window of left at 0.00 s .* reaches into right at 2.00 s"),
        ({"split": Split()}, "has trials of kind .*, but the training set has only .* The split is by stim"),
        ({"split": Split(by="subject")}, "a split by subject needs 3 of them at least"),
        (
            {"windows": EpochWindows(tmax_s=2.0, batch=10**9)},
            "windows.batch=1000000000 are 2.05 TB in each step, with 4 channels x 128 samples: ask for fewer",
        ),
        ({"trainable": Trainable("last")}, "train=last needs blocks that follow each other"),
        ({"optim": Optim(layer_decay=0.8)}, "layer_decay=0.8 needs a model whose blocks follow each other"),
        ({"start": Start(Input("/nowhere/there.pt"), need="all")}, None),
        (
            {"start": Start(Input(__file__))},
            r"start.source: .*test_training_setup.py .* is neither from torch.save nor",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_run_is_refused_before_it_is_submitted(
    whole: Path, tmp_path: Path, knobs: dict[str, Any], message: str | None
) -> None:
    """But for an input that is not there: that is another's to say."""
    cfg = training(whole, **knobs)
    here = allocation.load("local")
    science = Science("train", "eegdecode.stages:train", config.plain(cfg), {})
    plan = Plan(
        science=science,
        sources=(),
        site=here,
        resources=allocation.fit(here, allocation.Request()),
        code=(),
        runs=str(tmp_path / "runs"),
        cwd="/",
        python="python",
    )
    if message is None:
        (checked,) = preflight.checked([plan], {})
        assert any("parameters fits 4 channels" in check for check in checked.checks)
        return
    with pytest.raises(ConfigError, match=f"^train: .*{message}"):
        preflight.checked([plan], {})
    write_json(plan.run.result, {})
    preflight.checked([plan], {})  # what has finished is not run again


@dataclasses.dataclass(frozen=True)
class NineDraws:
    name: Literal["nine_draws"] = "nine_draws"


def apply(cfg: NineDraws, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    noise.uniform(batch.rng_key, what + 8)
    return batch


def test_an_augmentation_that_draws_too_often_is_refused(whole: Path) -> None:
    with pytest.raises(ValueError, match="augmentation nine_draws draws with what . 8: it has 8 draws"):
        told(training(whole, augment=(NineDraws(),)))


def test_parameters_to_begin_with_are_tried_too(whole: Path, tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="lacks tensors that start.need=encoder asks for: 0 of 10 tensors found"):
        told(training(whole, start=Start(Input(str(tmp_path / "other.pt")))))


def test_nothing_heavy_is_imported_while_the_data_are_still_to_be_made() -> None:
    program = (
        "import sys; from eegdecode import stages; from hpc.config.stages import check, schema\n"
        "cfg = schema(stages.train)(data=('preprocess-1',))\n"
        "assert check(stages.train, cfg, 1, lambda ref: None).startswith('computes in float32')\n"
        "assert not {'torch', 'h5py', 'mne'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_torch_it_says_that_it_was_not_tried(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eegdecode.training.setup", None)
    monkeypatch.delattr("eegdecode.training.setup", raising=False)
    assert told(training(whole)).startswith("not checked against its data (")


def test_large_models_are_tried_without_their_numbers(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda weight, **_: _no_numbers(weight))
    large = EEGPT(variant="large", spatial_filter=0)
    assert told(training(whole, model=large)).startswith("eegpt of 25,")


def _no_numbers(weight: torch.Tensor) -> None:
    assert weight.is_meta


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (
            [("left", "right"), ("feet", "left"), ("left", "right")],
            "the validation set has trials of kind feet, but the training set has only left, right. The split is by",
        ),
        (
            [("left", "right"), ("left", "right"), ("feet", "feet")],
            "the test set has trials of kind feet, but the training set has only left, right",
        ),
        (
            [("left", "left"), ("left", "left"), ("left", "left")],
            "all training trials are of kind left, so there is nothing to classify",
        ),
        ([("left", "right"), ("left", "right"), ("left", "left")], None),
    ],
)
def test_a_class_that_training_never_sees_is_refused_and_one_that_only_it_sees_is_said(
    tmp_path: Path, kinds: list[tuple[str, ...]], message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = classes(tmp_path / "some", *kinds)
    split = dataclasses.replace(BY_RUN, val_units=("sub-01_run-1",), test_units=("sub-01_run-2",))
    cfg = training(folder, split=split)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            told(cfg)
        return
    told(cfg)
    assert "the test set has no trial of kind right, which the training set has" in caplog.text
    told(training(folder, split=split, objective=Regression(loss="mse")))  # numbers are not told apart


def test_more_ranks_than_gpus_are_refused_for_what_computes_on_them(launch: Launch) -> None:
    layout = ["--gpus", "2", "--ranks", "8", "--on", "lem-gpu", "--account", "hpc-x", "--dry-run"]
    assert "8 ranks a node cannot share 2 GPUs: one GPU takes one rank." in launch("train", *layout, code=2).stderr
    assert "8 ranks, 2 GPUs a node" in launch("preprocess", "demo", *layout).stdout  # reads files, on CPUs

"""The package for the competition of 2026 is run by a judge as its: a benchmark of benchopt, on simulated data."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegdecode import stages
from eegdecode.data.config import EpochWindows, Split
from eegdecode.evaluation import submission_2026
from eegdecode.evaluation.config import Submission
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.submission_2026 import TRACKS
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives.classification import Classification
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.clip import Clip
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.training import model_file
from eegdecode.training.config import Optim, Train
from eegdecode.training.validator import Validator
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir
from tests.eegdecode import preprocessed

CHAIN = (Notch(hz=50.0), Bandpass(low_hz=0.1, high_hz=None), Resample(sfreq=120.0), Scale())

JUDGE = {
    "benchmark_utils/__init__.py": "",
    "benchmark_utils/base_solver.py": """
import os
from pathlib import Path
from benchopt import BaseSolver

class CompetSolver(BaseSolver):
    sampling_strategy = "run_once"

    def set_objective(self, **meta):
        self.model = self.load_model({**meta, "submission_dir": Path(os.environ["COMPET_SUBMISSION_DIR"])})

    def run(self, _):
        pass

    def get_result(self):
        return {"model": self.model}
""",
    "datasets/simulated.py": """
from pathlib import Path
import numpy as np, torch
from benchopt import BaseDataset

class Dataset(BaseDataset):
    name = "Simulated"

    def get_data(self):
        given = np.load(Path(__file__).resolve().parents[1] / "windows.npz")
        x, names = torch.from_numpy(given["x"]), given["names"].tolist()
        meta = {"sfreq": float(given["sfreq"]), "ch_names": names, "n_chans": len(names), "n_times": x.shape[2]}
        return {"x": x, "y": given["y"], "n_classes": 2, "device": "cpu", **meta}
""",
    "objective.py": """
import copy
import numpy as np
from benchopt import BaseObjective

class Objective(BaseObjective):
    name = "BCI-decoding"
    sampling_strategy = "run_once"

    def set_data(self, x, y, **meta):
        self.x, self.y, self.meta = x, y, meta

    def get_objective(self):
        return self.meta

    def evaluate_result(self, model):
        streamed = copy.deepcopy(model)
        answers = np.array([int(streamed.predict(self.x[k : k + 1])) for k in range(len(self.y))])
        recall = [(answers[self.y == k] == k).mean() for k in np.unique(self.y)]
        return {"balanced_accuracy": float(np.mean(recall)), "answers": "".join(map(str, answers))}

    def get_one_result(self):
        return {"model": None}
""",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("2026")
    data = preprocessed.run(folder, lambda cfg: replace(cfg, steps=CHAIN))
    cfg = Train(
        data=(Input(str(data.out)),),
        target="trial_type",
        model=EEGNet(),
        objective=Classification(),
        split=Split(by="trial", train=0.4, val=0.2, test=0.4, stratify="stimulus", shared=("subject", "stimulus")),
        windows=EpochWindows(tmin_s=0.0, tmax_s=1.0, batch=4, baseline_s=0.1),
        optim=Optim(steps=4, validate_every=2, warmup_steps=0, lr=0.01),
    )
    for seed in (0, 1):
        stages.train(replace(cfg, seed=seed), Context(World(), RunDir(folder / f"runs/train-{seed}")))
    return folder / "runs"


def out(runs: Path, name: str) -> Input:
    return Input(str(RunDir(runs / name).out))


def judged(folder: Path, package: Path, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """What the judge's benchopt makes of the package."""
    submitted, benchmark = folder / "submitted", folder / "benchmark"
    zipfile.ZipFile(package).extractall(submitted)
    for name, text in JUDGE.items():
        (benchmark / name).parent.mkdir(parents=True, exist_ok=True)
        (benchmark / name).write_text(text)
    np.savez(benchmark / "windows.npz", x=x, y=y, names=np.array(names), sfreq=120.0)
    (benchmark / "solvers").mkdir()
    (benchmark / "solvers/_submission.py").write_bytes((submitted / "submission.py").read_bytes())
    command = ["run", str(benchmark), "-s", "eegdecode", "-r", "1", "--no-cache", "--no-plot", "--no-html"]
    environ = {"COMPET_SUBMISSION_DIR": str(submitted), "BENCHOPT_DEBUG": "true", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchopt", *command, "--no-display", "--output", "judged"],
        cwd=folder, env=os.environ | environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    import pandas

    [row] = pandas.read_parquet(next((benchmark / "outputs").glob("judged*.parquet"))).to_dict("records")
    return {name.removeprefix("objective_"): value for name, value in row.items()}


def test_the_judge_runs_it_by_benchopt_and_has_our_score(runs: Path, tmp_path: Path) -> None:
    cfg = Submission(
        track="bci_decoding", model=(out(runs, "train-0"), out(runs, "train-1")), classes=("right", "left")
    )
    made = Context(World(), RunDir(runs / "package"))
    metrics = stages.submission(cfg, made)
    package = made.out / "submission.zip"
    assert sorted(zipfile.ZipFile(package).namelist()) == ["eegdecode.zip", "submission.py", "weights.pt"]
    assert b"sub-01" not in zipfile.ZipFile(package).read("weights.pt"), "nobody who was measured is named in it"
    several = [model_file.load(Path(name)) for name in cfg.model]
    data, parts = predict.open_data(several[0], made)
    networks = [each.network() for each in several]
    windows = Validator(several[0].train(), parts.test, data, several[0].spec, networks[0])
    batches = [windows.batch(number, torch.device("cpu")) for number in range(len(windows.batches))]
    x = torch.cat([batch.signal for batch in batches]).mT.numpy()
    label = torch.cat([batch.target for batch in batches])[:, 0].numpy()
    y = np.array([("right", "left").index(several[0].spec.classes[int(each == 1)]) for each in label])
    assert x.shape[1:] == (3, 120)
    others = np.random.default_rng(0).normal(size=(len(x), 1, 120)).astype(np.float32)
    row = judged(tmp_path, package, np.concatenate([x[:, [2, 0, 1]], others], axis=1), y, ["PZ", "Fz", "Cz", "EOG"])
    with torch.no_grad():
        logits = [torch.cat([network(batch.signal, batch.subject) for batch in batches]) for network in networks]
    own = torch.stack([each.softmax(dim=1) for each in logits]).mean(dim=0).argmax(dim=1)
    assert row["answers"] == "".join(str(1 - int(each)) for each in own)
    assert row["balanced_accuracy"] == pytest.approx(metrics["balanced_accuracy"]["value"])
    text = (made.out / "description.md").read_text()
    assert "| train-0 |" in text and "hpc replay" in text and "eegnet" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sfreq": 100.0}, "these models read 120 Hz, but the judge gives 100 Hz"),
        ({"n_times": 480}, "these models read 120 samples, but the judge gives 480"),
        ({"n_classes": 4}, "these models have 2 outputs, but the judge's n_classes is 4"),
        ({"ch_names": ["Fz", "Cz"]}, "these models read Pz, but the judge has only Fz Cz"),
        ({"ch_names": None, "n_chans": 8}, "these models read 3 channels, but the judge gives 8"),
    ],
)
def test_the_package_says_what_of_the_judges_signal_it_cannot_read(change: dict[str, Any], message: str) -> None:
    import types

    judge = types.ModuleType("benchmark_utils.base_solver")
    judge.CompetSolver = object  # type: ignore[attr-defined]
    entry: dict[str, Any] = {"__name__": "submission"}
    before = dict(sys.modules)
    sys.modules |= {"benchmark_utils": types.ModuleType("benchmark_utils"), "benchmark_utils.base_solver": judge}
    try:
        exec(compile(submission_2026.ENTRY.read_text(), "submission.py", "exec"), entry)
    finally:
        for name in ("benchmark_utils", "benchmark_utils.base_solver"):
            sys.modules.pop(name)
        sys.modules |= before
    saved = {"sfreq": 120.0, "n_given": 120, "n_outputs": 2, "channels": ("Fz", "Cz", "Pz")}
    meta = {"sfreq": 120.0, "n_times": 120, "n_classes": 2, "n_chans": 3, "ch_names": ["pz", "Cz", "FZ"]}
    assert entry["places"](saved, meta) == [2, 1, 0]
    with pytest.raises(ValueError, match=message):
        entry["places"](saved, meta | change)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ((Reference(), Scale()), "the model reads mixtures of channels, but the judge gives single ones"),
        ((Resample(sfreq=120.0),), "learnt from signals as they were recorded: preprocess with {name: scale}"),
        ((Scale(method="standard"),), "by quartiles, but the model learnt from standard deviations"),
        ((Bandpass(low_hz=4.0, high_hz=None), Scale()), "bandpass from 4 to inf Hz removes more than the judge"),
    ],
)
def test_steps_that_the_judge_does_not_do_are_refused(chain: tuple[StepConfig, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        submission_2026.clip_of(chain, ("Fz", "Cz"), TRACKS["bci_decoding"])


def test_values_are_clipped_as_in_training_or_by_the_judge() -> None:
    given = TRACKS["bci_decoding"]
    assert submission_2026.clip_of(CHAIN, ("Fz", "Cz"), given) == 20
    assert submission_2026.clip_of((*CHAIN, Clip(limit=5.0)), ("Fz", "Cz"), given) == 5
    with pytest.raises(ValueError, match="signals as they were recorded: preprocess without the step scale"):
        submission_2026.clip_of((Scale(),), ("Fz", "Cz"), TRACKS["emg_pose"])


def test_a_model_of_another_task_and_unknown_classes_are_refused(runs: Path) -> None:
    ctx = Context(World(), RunDir(runs / "refused"))
    with pytest.raises(ValueError, match="sleep_onset asks for seconds until sleep, but train-0 decodes trial_type as"):
        stages.submission(Submission(track="sleep_onset", model=(out(runs, "train-0"),)), ctx)
    cfg = Submission(track="bci_decoding", model=(out(runs, "train-0"),), classes=("feet", "left"))
    with pytest.raises(ValueError, match="in the judge's order: left, right, got"):
        stages.submission(cfg, ctx)
    with pytest.raises(ValueError, match="has both: track=bci_decoding model=RUN"):
        Submission(track="bci_decoding")
    assert not list(ctx.out.glob("*.zip"))


def test_errors_count_alike_in_each_span_before_sleep() -> None:
    true = np.array([10.0, 20.0, 50.0, 600.0])
    assert submission_2026.binned_mae(true, true + np.array([4, 8, 30, -60])) == pytest.approx((6 + 30 + 60) / 3)

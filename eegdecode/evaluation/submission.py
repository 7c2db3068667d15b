"""Build a submission to the EEG challenge of 2025: `python -m hpc.launch submission challenge_1=RUN challenge_2=RUN`

submission.zip has no folders: submission.py (a copy of submitted.py), weights_challenge_1.pt and _2.pt, and in
eegdecode.zip the code that these need. It is unpacked and called once as the judge does, in a process of its own.

The score is that of the package on the test set, window by window. If training scaled by whole recordings, which the
judge does not give, the score with that scaling is reported too.
"""

import io
import logging
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from eegdecode import models
from eegdecode.data.config import EpochWindows
from eegdecode.data.loading.windows import n_baseline
from eegdecode.data.split.splits import Splits
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation import submitted
from eegdecode.evaluation.config import Submission
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.metrics.nrmse import nrmse
from eegdecode.evaluation.submitted import N_CHANNELS, N_TIMES, SFREQ_HZ
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.signals import Signal
from eegdecode.training import model_file, validator
from eegdecode.training.model_file import Trained
from eegdecode.training.validator import Validator
from hpc.config import choices
from hpc.rank import ddp
from hpc.rank.context import Context, Input, Preempted
from hpc.runs import products

log = logging.getLogger(__name__)

CHANNELS = (*(f"E{number}" for number in range(1, N_CHANNELS)), "Cz")
"""Of the challenge, in its order."""
BAND_HZ = (0.5, 50.0)
"""The pass band of the judge's signals."""
SHARES = {1: 0.3, 2: 0.7}
"""Weights of the challenges in the overall score."""
FIRST_S = 0.5
"""The windows of challenge 1 begin so long after the stimulus."""
NEEDED = ("__init__.py", "signals.py", "noise.py", "models", "sphere.py")
"""The files that build any network."""
OF_HPC = ("errors.py", "codes.py", "config/choices.py", "config/late.py", "config/plugins.py")
"""What these need of the batch layer: a model is found by its name."""
ENOUGH = 1e-5
"""Outputs of the package may differ from ours by so much, relative to the largest if that is above 1."""


def run(cfg: Submission, ctx: Context) -> dict[str, object]:
    """Write submission.zip, and return its scores."""
    if not ctx.world.is_first:
        return {}
    files = {"submission.py": Path(submitted.__file__).read_bytes(), submitted.CODE: code()}
    metrics: dict[str, object] = {}
    expected: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    scores: dict[int, float] = {}
    for number, runs in ((1, cfg.challenge_1), (2, cfg.challenge_2)):
        if not runs:
            log.warning("challenge_%d is missing: the judge asks for both, so this package is only a trial", number)
            continue
        try:
            saved, one = _challenge(number, runs, ctx)
        except ValueError as error:
            raise ValueError(f"challenge {number}: {error}") from None
        files[f"weights_challenge_{number}.pt"] = _bytes(saved)
        expected[number] = one.first
        scores[number] = one.nrmse
        metrics[f"nrmse_{number}"] = {"value": one.nrmse, "chance": 1.0}
        if saved["scale"]:
            metrics[f"nrmse_{number}_scaled_by_recording"] = {"value": one.nrmse_stored, "chance": 1.0}
    if len(scores) == len(SHARES):
        metrics["overall"] = {"value": sum(SHARES[number] * score for number, score in scores.items()), "chance": 1.0}
    package = zipped(files)
    try_out(package, expected)
    products.write_bytes(ctx.out / "submission.zip", package)
    return {**metrics, "megabytes": round(len(package) / 1e6, 3), "package": "submission.zip"}


def _challenge(number: int, runs: Sequence[Input], ctx: Context) -> tuple[dict[str, Any], "Scored"]:
    """What is saved of the models of a challenge, and their scores."""
    several = [model_file.load(ctx.input(name)) for name in runs]
    predict.refuse_unlike(several)
    trained = several[0]
    data, parts = predict.open_data(trained, ctx)
    for each in several:
        _refuse_other_windows(number, each)
    (_, chain), *others = predict.preprocessed(data)
    if unlike := [other for _, other in others if other != chain]:
        raise ValueError(f"its data were preprocessed in unlike ways, {chain} and {unlike[0]}: preprocess them alike")
    saved = {
        **prepared(chain, trained.spec.channels),
        "n_times": trained.spec.n_times,
        "baseline": n_baseline(trained.train().windows, trained.spec.sfreq),
        "models": [_plain(each) for each in several],
    }
    return saved, score(saved, several, data, parts, ctx)


def _refuse_other_windows(number: int, trained: Trained) -> None:
    windows, spec = trained.train().windows, trained.spec
    if predict.kind_of(trained) != "values" or spec.n_outputs != 1:
        raise ValueError(
            f"the judge needs one number a window, but {trained.run.name} decodes {trained.target} as "
            f"{'a signal in time' if spec.is_sequence else trained.config['objective']['name']} with "
            f"{spec.n_outputs} output(s): train objective=regression with a target of one number"
        )
    if number == 1 and not (isinstance(windows, EpochWindows) and math.isclose(windows.tmin_s, FIRST_S)):
        which = f"from {windows.tmin_s:g} s on" if isinstance(windows, EpochWindows) else f"drawn by {windows.name}"
        raise ValueError(
            f"the judge gives 2 s from {FIRST_S:g} s after the stimulus on, but {trained.run.name} learnt from windows "
            f"{which}: train with windows={{name: epochs, tmin_s: 0.5, tmax_s: 2.5}}"
        )
    lasts = windows.tmax_s - windows.tmin_s if isinstance(windows, EpochWindows) else getattr(windows, "length_s", 0.0)
    if not math.isclose(lasts, N_TIMES / SFREQ_HZ):
        raise ValueError(
            f"the judge gives windows of 2 s, but {trained.run.name} learnt from "
            f"{f'windows of {lasts:g} s' if lasts else 'whole trials'}: train with windows of 2 s"
        )
    if spec.sfreq != SFREQ_HZ:
        raise ValueError(
            f"the judge gives {SFREQ_HZ} Hz, but {trained.run.name} reads {spec.sfreq:g} Hz: "
            f"preprocess with {{name: resample, sfreq: {SFREQ_HZ}}}"
        )


def prepared(chain: Sequence[StepConfig], wanted: Sequence[str]) -> dict[str, Any]:
    """The preprocessing steps in a form that can be applied to single windows; refuses those that cannot.

    `wanted`: the channels that the networks read.
    """
    units = Signal(np.eye(N_CHANNELS, dtype=np.float32), SFREQ_HZ, CHANNELS).stream()
    made = chains.on_windows(chains.with_pick(chain), SingleWindows(units, BAND_HZ, "the judge"))
    reduced = made.stream.signal()
    if reduced.channels != tuple(wanted):
        raise ValueError(
            f"the model reads {len(wanted)} channels ({_some(wanted)}), but of the {N_CHANNELS} of the judge "
            f"(E1 … E128, Cz) its steps make {reduced.n_channels} ({_some(reduced.channels)}): pick among these in "
            "preprocess"
        )
    return {"channels": torch.from_numpy(reduced.data.T.copy()), "scale": made.scale, "clamp": made.clip}


def _plain(trained: Trained) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """Settings, spec and parameters of a network, without the names of its training subjects."""
    spec = replace(trained.spec, subjects=())
    without = models.build(trained.model, spec).state_dict()
    if any(value.shape != without[name].shape for name, value in trained.parameters.items()):
        raise ValueError(
            f"{trained.run.name} has a layer for each of its subjects, but the judge's are others: "
            "train with model.subject_layer=false"
        )
    return trained.model, spec, trained.parameters


class Scored(NamedTuple):
    nrmse: float
    nrmse_stored: float  # of the networks on the stored, preprocessed signals
    first: tuple[torch.Tensor, torch.Tensor]  # a batch as the judge gives it, and the outputs for it


def score(saved: dict[str, Any], several: Sequence[Trained], data: Store, parts: Splits, ctx: Context) -> Scored:
    """Score on the windows of the test set, mapped back to the judge's channels."""
    trained, device = several[0], ddp.device(ctx)
    decoder, back = submitted.Decoder(saved).to(device), torch.linalg.pinv(saved["channels"]).to(device)
    cfg = trained.train()
    test_set = Validator(cfg, parts.test, data, trained.spec, decoder.networks[0])
    test_set.batches = validator.batches(cfg.windows, parts.test, data, whole_trials=False)
    truth, packaged, stored = [], [], []
    first = None
    for number in range(len(test_set.batches)):
        ctx.progress("score", number, len(test_set.batches))
        if ctx.should_stop():
            raise Preempted
        batch = test_set.batch(number, device)
        x = back @ batch.signal[:, :N_TIMES].mT
        with torch.no_grad():
            packaged.append(decoder(x).cpu())
            predicted = [predict.outputs_of(*one, batch) for one in zip(several, decoder.networks, strict=True)]
            stored.append(torch.stack(predicted).mean(dim=0).cpu())
        truth.append(batch.target.cpu())
        first = first or (x.cpu(), packaged[0])
    assert first is not None
    wanted = torch.cat(truth).numpy()
    own, of_stored = (float(nrmse(torch.cat(predicted).numpy(), wanted)[0]) for predicted in (packaged, stored))
    return Scored(own, of_stored, first)


def code() -> bytes:
    """The files that build any network, as a zip from which Python imports."""
    root, batch = Path(__file__).parents[1], Path(choices.__file__).parents[1]
    paths = [
        path for name in NEEDED for path in ((root / name).rglob("*.py") if (root / name).is_dir() else (root / name,))
    ]
    files = {f"eegdecode/{path.relative_to(root)}": path.read_bytes() for path in sorted(paths)}
    files |= {f"hpc/{name}": (batch / name).read_bytes() for name in OF_HPC}
    return zipped(files | {f"hpc/{folder}__init__.py": b"" for folder in ("", "config/")})


def try_out(package: bytes, expected: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Unpack the package and call it as the judge does, in an isolated process; its outputs must equal ours."""
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        zipfile.ZipFile(io.BytesIO(package)).extractall(folder)
        torch.save({number: x for number, (x, _) in expected.items()}, Path(folder) / "windows.pt")
        done = subprocess.run([sys.executable, "-I", "-c", AS_THE_JUDGE, folder], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the package does not run by itself:\n{done.stderr}")
        outputs = torch.load(Path(folder) / "outputs.pt", weights_only=True)
    for number, (_, ours) in expected.items():
        away = (outputs[number] - ours).abs().max().item()
        if not away <= ENOUGH * max(1.0, ours.abs().max().item()):
            raise RuntimeError(f"challenge {number}: outputs of the package differ from our model's by {away:.2g}")


AS_THE_JUDGE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from submission import Submission
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
entry, outputs = Submission(100, device), {}
with torch.inference_mode():
    for number, x in torch.load(sys.argv[1] + "/windows.pt", weights_only=True).items():
        model = getattr(entry, f"get_model_challenge_{number}")()
        model.eval()
        outputs[number] = model.forward(x.to(dtype=torch.float32, device=device)).cpu()
torch.save(outputs, sys.argv[1] + "/outputs.pt")
"""


def zipped(files: dict[str, bytes]) -> bytes:
    """The same bytes for the same files: no times in it."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return whole.getvalue()


def _bytes(saved: dict[str, Any]) -> bytes:
    whole = io.BytesIO()
    torch.save(saved, whole)
    return whole.getvalue()


def _some(names: Sequence[str]) -> str:
    return " ".join(names) if len(names) <= 6 else f"{' '.join(names[:3])} … {names[-1]}"

"""Build a submission to the neural-interfaces competition of 2026: `hpc submission track=bci_decoding model=RUN`

submission.zip has no folders: submission.py (a copy of submitted_2026.py), weights.pt, and in eegdecode.zip the code
that these need. It is unpacked and called as the judge's benchopt does, in a process of its own. Beside it,
description.md has what rules 4 and 7 ask for: which data, how much was computed, and how to compute it again.

The judge gives windows of NeuralBench's pipeline: filtered, resampled, each channel of a recording scaled by its
quartiles and clipped. So what training did to whole recordings is that, and nothing else.
"""

import io
import logging
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from eegdecode import models
from eegdecode.data.config import EpochWindows
from eegdecode.data.loading.windows import n_baseline
from eegdecode.evaluation.config import Scoring, Submission, Track
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.decode.predictions import Decoded, Kind
from eegdecode.evaluation.metrics import metrics
from eegdecode.evaluation.report import sections
from eegdecode.evaluation.submission import code, zipped
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.signals import Signal
from eegdecode.training import model_file, validator
from eegdecode.training.model_file import Trained
from eegdecode.training.validator import Validator
from hpc import media
from hpc.rank import ddp
from hpc.rank.context import Context
from hpc.runs import products, records

log = logging.getLogger(__name__)

ENTRY = Path(__file__).with_name("submitted_2026.py")
"""Not imported: it needs the judge's own package."""
CLIP = 20.0
"""The judge clips to so many spreads."""
ENOUGH = 1e-5
"""Outputs of the package may differ from ours by so much, relative to the largest if that is above 1."""
BINS_S = (0.0, 40.0, 90.0, 300.0, 600.0)
"""Of the track sleep_onset: errors count alike in each of these spans before the onset."""


@dataclass(frozen=True)
class Given:
    """What the judge of a track gives and asks for, by NeuralBench's task as of November 2026."""

    task: str
    kind: Kind
    sfreq: float
    length_s: float
    band_hz: tuple[float, float]
    is_scaled: bool
    notch_hz: tuple[float, ...]


OF_EEG: dict[str, Any] = {"sfreq": 120.0, "band_hz": (0.1, 60.0), "is_scaled": True, "notch_hz": (50.0, 60.0)}
TRACKS: dict[Track, Given] = {
    "image_decoding": Given("embeddings of the image that was seen", "retrieval", length_s=1.0, **OF_EEG),
    "bci_decoding": Given("the class of a mental command", "classes", length_s=4.0, **OF_EEG),
    "sleep_onset": Given("seconds until sleep", "values", length_s=5.0, **OF_EEG),
    "emg_pose": Given(
        "angles of the joints in radians", "sequence", 2000.0, 5.0, (0.0, math.inf), is_scaled=False, notch_hz=()
    ),
}


def run(cfg: Submission, ctx: Context) -> dict[str, object]:
    """Write submission.zip and description.md, and return the scores on the test set."""
    assert cfg.track
    given = TRACKS[cfg.track]
    several = [model_file.load(ctx.input(name)) for name in cfg.model]
    predict.refuse_unlike(several)
    data, _ = predict.open_data(several[0], ctx)
    for each in several:
        refuse_other_task(cfg.track, given, each)
    clips = {clip_of(chain, each.spec.channels, given) for _, chain in predict.preprocessed(data) for each in several}
    if len(clips) > 1:
        raise ValueError(f"its data are clipped in unlike ways, to {sorted(clips)} spreads: preprocess them alike")
    saved = contents(cfg, given, several, clips.pop())
    for sentence in departures(given, several[0]):
        log.warning("%s", sentence)
    decoded = predict.decode([each.run.out for each in several], ctx)
    if not ctx.world.is_first:
        return {}
    assert decoded is not None
    weights = io.BytesIO()
    torch.save(saved, weights)
    package = zipped({"submission.py": ENTRY.read_bytes(), "eegdecode.zip": code(), "weights.pt": weights.getvalue()})
    try_out(package, *first_windows(several, saved, ctx))
    products.write_text(ctx.out / "description.md", description(cfg, given, several))
    products.write_bytes(ctx.out / "submission.zip", package)
    megabytes = round(len(package) / 1e6, 3)
    return {**scores(cfg.track, decoded[1]), "megabytes": megabytes, "package": "submission.zip"}


def refuse_other_task(track: Track, given: Given, trained: Trained) -> None:
    kind, spec = predict.kind_of(trained), trained.spec
    if kind != given.kind or (kind == "values" and spec.n_outputs != 1):
        raise ValueError(
            f"{track} asks for {given.task}, but {trained.run.name} decodes {trained.target} as {kind} with "
            f"{spec.n_outputs} output(s)"
        )
    if any(each.shape != trained.parameters[name].shape for name, each in _of_strangers(trained).items()):
        raise ValueError(
            f"{trained.run.name} has a layer for each of its subjects, but the judge's are others: "
            "train with model.subject_layer=false"
        )


def _of_strangers(trained: Trained) -> dict[str, torch.Tensor]:
    """The parameters of that network if it knew no subjects."""
    with torch.device("meta"):
        return models.build(trained.model, replace(trained.spec, subjects=())).state_dict()


def clip_of(chain: Sequence[StepConfig], wanted: Sequence[str], given: Given) -> float:
    """To which value windows of the judge are clipped; refuses steps that the judge does not do.

    `wanted`: the channels that the networks read. They are picked by name from the judge's.
    """
    units = Signal(np.eye(len(wanted), dtype=np.float32), given.sfreq, tuple(wanted)).stream()
    own = [step for step in chain if not (isinstance(step, Notch) and step.hz in given.notch_hz)]
    made = chains.on_windows(chains.with_pick(own), SingleWindows(units, given.band_hz, "the judge"))
    if made.stream.channels != tuple(wanted) or not np.array_equal(made.stream.signal().data, np.eye(len(wanted))):
        scaled = ", which are scaled already" if given.is_scaled else ""
        raise ValueError(
            f"the model reads mixtures of channels, but the judge gives single ones{scaled}: preprocess without steps "
            "such as reference or set_channels with interpolation"
        )
    if given.is_scaled and made.scale != "robust":
        learnt = "standard deviations" if made.scale else "signals as they were recorded"
        raise ValueError(
            "the judge gives each channel in units of its spread, by quartiles, but the model learnt from "
            f"{learnt}: preprocess with {{name: scale}}"
        )
    if made.scale and not given.is_scaled:
        raise ValueError("the judge gives signals as they were recorded: preprocess without the step scale")
    return min(made.clip, CLIP) if given.is_scaled else made.clip


def contents(cfg: Submission, given: Given, several: Sequence[Trained], clip: float) -> dict[str, Any]:
    """What weights.pt holds."""
    first = several[0]
    return {
        "kind": given.kind,
        "channels": first.spec.channels,
        "sfreq": first.spec.sfreq,
        "n_given": round(length_s(first) * first.spec.sfreq),
        "n_times": first.spec.n_times or round(length_s(first) * first.spec.sfreq),
        "clip": clip,
        "baseline": n_baseline(first.train().windows, first.spec.sfreq),
        "n_outputs": first.spec.n_outputs,
        "order": order(cfg, first.spec.classes) if given.kind == "classes" else [],
        "models": [(each.model, replace(each.spec, subjects=()), each.parameters) for each in several],
    }


def order(cfg: Submission, classes: Sequence[str]) -> list[int]:
    """Of each of our classes, its place in the judge's order."""
    theirs = cfg.classes or tuple(classes)
    if sorted(theirs) != sorted(classes):
        raise ValueError(f"classes has the model's classes in the judge's order: {', '.join(classes)}, got {theirs}")
    log.info("the judge's classes 0, 1 … are taken to be %s", ", ".join(theirs))
    return [theirs.index(name) for name in classes]


def length_s(trained: Trained) -> float:
    windows = trained.train().windows
    if isinstance(windows, EpochWindows):
        return windows.tmax_s - windows.tmin_s
    if not (length := float(getattr(windows, "length_s", 0.0) or 0.0)):
        raise ValueError(
            f"the judge gives windows, but {trained.run.name} learnt from whole trials: train with windows"
        )
    return length


def departures(given: Given, trained: Trained) -> list[str]:
    """Sentences on windows that are not those of the public data of the track. The sealed ones may be others."""
    ours = {"rate": f"{trained.spec.sfreq:g} Hz", "windows": f"{length_s(trained):g} s"}
    theirs = {"rate": f"{given.sfreq:g} Hz", "windows": f"{given.length_s:g} s"}
    return [
        f"{what} of {ours[what]}, where the public data of the track have {theirs[what]}; the package refuses others"
        for what in ours
        if ours[what] != theirs[what]
    ]


def first_windows(several: Sequence[Trained], saved: dict[str, Any], ctx: Context) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows as the judge gives them, and what our networks decode from them, in the form of `predict`."""
    data, parts = predict.open_data(several[0], ctx)
    device = ddp.device(ctx)
    networks = [each.network().to(device) for each in several]
    cfg = several[0].train()
    test_set = Validator(cfg, parts.test, data, several[0].spec, networks[0])
    test_set.batches = validator.batches(cfg.windows, parts.test, data, whole_trials=False)
    batch = test_set.batch(0, device)
    with torch.no_grad():
        outputs = [predict.outputs_of(each, network, batch) for each, network in zip(several, networks, strict=True)]
    if saved["kind"] == "classes":
        chosen = torch.stack([functional.softmax(output, dim=-1) for output in outputs]).mean(dim=0).argmax(dim=-1)
        wanted = torch.tensor(saved["order"], device=device)[chosen]
    else:
        mean = torch.stack(outputs).mean(dim=0)
        wanted = mean[:, 0] if saved["kind"] == "values" else mean.mT if saved["kind"] == "sequence" else mean
    return batch.signal[:, : saved["n_given"]].mT.cpu(), wanted.cpu()


def try_out(package: bytes, x: torch.Tensor, wanted: torch.Tensor) -> None:
    """Unpack the package and call it as the judge does, in an isolated process; its outputs must equal ours."""
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        zipfile.ZipFile(io.BytesIO(package)).extractall(folder)
        saved = torch.load(Path(folder) / "weights.pt", weights_only=False)
        torch.save({"x": x, "channels": saved["channels"], "sfreq": saved["sfreq"]}, Path(folder) / "windows.pt")
        done = subprocess.run([sys.executable, "-I", "-c", AS_THE_JUDGE, folder], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the package does not run by itself:\n{done.stderr}")
        outputs = torch.load(Path(folder) / "outputs.pt", weights_only=True)
    away = (outputs.double() - wanted.double()).abs().max().item()
    if outputs.shape != wanted.shape or not away <= ENOUGH * max(1.0, wanted.double().abs().max().item()):
        raise RuntimeError(f"outputs of the package differ from our models' by {away:.2g}")


AS_THE_JUDGE = """
import copy, sys, types
from pathlib import Path
for name in ("benchmark_utils", "benchmark_utils.base_solver"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["benchmark_utils.base_solver"].CompetSolver = object
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
import torch
from submission import Solver
given = torch.load(folder / "windows.pt", weights_only=True)
x, names = given["x"], list(given["channels"])
device = "cuda" if torch.cuda.is_available() else "cpu"
meta = {"device": device, "submission_dir": folder, "sfreq": given["sfreq"], "ch_names": names[::-1]}
meta |= {"n_chans": len(names), "n_times": x.shape[2]}
model = Solver().load_model(meta)
x = x.flip(1).to(device)
one_by_one = copy.deepcopy(model)
outputs = torch.cat([one_by_one.predict(x[number : number + 1]) for number in range(len(x))])
assert len(model.predict(x)) == len(outputs)
torch.save(outputs.cpu(), folder / "outputs.pt")
"""


def scores(track: Track, decoded: Decoded) -> dict[str, object]:
    """The figures of the track on our test set."""
    cfg, table = Scoring(), metrics(decoded.kind)
    if track == "sleep_onset":
        true, answers = decoded.truth[:, 0], decoded.output[:, 0]
        constant = np.full(len(true), np.median(true))
        return {
            "bmae_s": {"value": binned_mae(true, answers), "chance": binned_mae(true, constant)},
            "mae_s": {"value": float(np.abs(answers - true).mean()), "chance": float(np.abs(constant - true).mean())},
        }
    if track == "emg_pose":
        errors = np.degrees(np.abs(decoded.output - decoded.truth).mean())
        constant = np.degrees(np.abs(decoded.truth.mean(axis=0) - decoded.truth).mean())
        return {"mae_degrees": {"value": float(errors), "chance": float(constant)}}
    figures: dict[str, object] = {}
    for name in {"bci_decoding": ("balanced_accuracy",), "image_decoding": ("top5", "top1")}[track]:
        metric = table[name]
        value = metric.score(decoded, cfg)
        if value is not None:
            chance = metric.chance(decoded, cfg) if callable(metric.chance) else metric.chance
            figures[name] = {"value": float(np.mean(value)), "chance": float(chance)}
    return figures


def binned_mae(true: np.ndarray, answers: np.ndarray) -> float:
    """The mean over the spans of BINS_S of the mean absolute error in each; empty spans are left out."""
    span = np.digitize(true, BINS_S[1:-1])
    inside = (true >= BINS_S[0]) & (true <= BINS_S[-1])
    errors = [np.abs(answers - true)[inside & (span == number)] for number in range(len(BINS_S) - 1)]
    return float(np.mean([each.mean() for each in errors if len(each)]))


def description(cfg: Submission, given: Given, several: Sequence[Trained]) -> str:
    """The method description: data, computing, and how to compute it again (rules 4 and 7 of the competition)."""
    runs = sections.lineages([each.run for each in several])
    about = sections.capsule(runs, several)
    studies = dict.fromkeys(ref for run in runs for ref in records.plan(run).get("inputs", {}).values() if "/" in ref)
    lines = [
        f"# Submission to the track {cfg.track}: {given.task}",
        "",
        f"{about['facts']} Of several models, the outputs are averaged.",
        "",
        "## Data",
        "",
        "Say of each where it can be had and under which licence, and name the corpora of pretrained weights.",
        "",
        *(f"* {media.markdown(Path(ref).name)}" for ref in studies),
        "",
        "## Computing",
        "",
        "| run | code | attempts | hours | GPU-hours |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(map(media.markdown, row))} |" for row in about["rows"]),
        "",
        "## Compute it again",
        "",
        "`hpc replay RUN` computes a run again and compares; `hpc capsule RUN` packs it for somebody else.",
    ]
    for name, settings in about["settings"]:
        lines += ["", f"### {name}", "", "```", settings, "```"]
    return "\n".join(lines) + "\n"

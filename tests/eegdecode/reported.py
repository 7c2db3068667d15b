"""A chain of runs that ends in an evaluation, and what decoders of every kind of target might give there."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from eegdecode import stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.report import relevance, report, sections
from eegdecode.evaluation.results import Result
from eegdecode.models.bilstm import BiLSTM
from eegdecode.page import page
from eegdecode.training.config import Optim, Train
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, append_line, read_json, write_json

NAMES = ("synthesize-a", "preprocess-b", "train-c", "evaluate-d")
SUBJECTS, PIECES = 2, 5


def chain(runs: Path, data: Store, study: Path) -> Context:
    """The last of four runs: what it evaluates was trained in ten steps, in two attempts on four GPUs that the
    site imitates."""
    code = [{"root": "/home/somebody/thesis", "commit": "0123456789abcdef", "modified": ["a.py"]}]
    for name, before in zip(NAMES, [None, *NAMES], strict=False):
        inputs = {"data": before} if before else {}
        inputs |= {"study": str(study)} if name.startswith("preprocess") else {}
        resources = {"gpus_per_node": 4, "ranks_per_node": 4}
        plan = {"stage": name.split("-")[0], "inputs": inputs, "code": code, "resources": resources}
        plan["site"] = {"gpu": "imitated"}
        write_json(runs / name / "plan.json", plan)
    for outcome in ("stopped", "done"):
        line = {"outcome": outcome, "started": 0.0, "ended": 900.0, "ranks": 4}
        append_line(runs / "train-c" / "attempts.jsonl", line)
    write_json(runs / "train-c" / "result.json", {})
    cfg = Train(
        data=(Input(str(data.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4),
        windows=RandomWindows(length_s=2.0, batch=8),
        optim=Optim(steps=10, warmup_steps=2, validate_every=4),
    )
    train = RunDir(runs / "train-c")
    stages.train(cfg, Context(World(), train))  # on this machine, which may have none
    write_json(train.plan, read_json(train.plan) | {"resources": {"gpus_per_node": 4, "ranks_per_node": 4}})
    return Context(World(), RunDir(runs / "evaluate-d"))


def page_of(result: Result) -> str:
    """The report of a result, in one line, with nothing in it of data and training."""
    text = page(
        "evaluation/report/report",
        **report.of_result(result),
        run="evaluate-d",
        target="answer",
        has_subject_layer=False,
        weighed="",
        made_up=False,
        examples=None,
        channels=relevance.OnHead(),
        lags=None,
        n_features=1,
        learning=[],
        data=[],
        audited=sections.Audited("", "audit"),
        capsule={"rows": [], "facts": "", "settings": []},
    )
    return " ".join(text.split())


def heard(target: str, clarity: float, stimuli: tuple[str, ...] = (), seconds: float = 5.0) -> Decoded:
    """Pieces that all subjects hear, decoded as clearly as that; as `mel` at 16 Hz, or `audio` at 8 kHz."""
    rng = np.random.default_rng(0)
    sfreq, n_features = {"mel": (16.0, 8), "audio": (8000.0, 1)}[target]
    trials = []
    for piece in range(PIECES):
        name = stimuli[piece % len(stimuli)] if stimuli else f"piece-{piece}.wav"
        loudness = np.repeat(rng.uniform(size=(round(seconds * 4), n_features)), round(sfreq / 4), axis=0)
        tones = 2 * np.pi * 220 * (1 + piece / 3) * np.arange(len(loudness)) / sfreq
        truth = 5 * loudness if target == "mel" else loudness * np.sin(tones)[:, None]
        for subject in range(SUBJECTS):
            made = clarity * truth + truth.std() * rng.normal(size=truth.shape)
            trials.append(DecodedTrial(f"sub-{subject}", name, truth, made, f"rec-{subject}", piece))
    decoded = Decoded(sfreq, tuple(trials), (f"Checksum: blake2b:{32 * '0'}.",), "sequence", target)
    return replace(decoded, baselines={"ridge": decoded.output * 0.5 + decoded.truth.std()})

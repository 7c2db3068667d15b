"""A finished preprocess run of a small study, with labels, a bad span, two lengths of trials and positions."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from eegdecode import stages
from eegdecode.data.config import BidsEvents
from eegdecode.data.targets.label import Label
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.signals import Signal
from eegdecode.synth.tree import write_recording, write_tsv
from hpc.config import files
from hpc.rank.context import Context, Input, World
from hpc.runs import products
from hpc.runs.rundir import RunDir, write_json

CHANNELS, SFREQ, N_TRIALS, LASTS_S = ("Fz", "Cz", "Pz", "EOG"), 128.0, 6, 1.5
BAD = (5, 0.5)
"""The trial in which the bad span is, and its length in seconds."""


def study(folder: Path) -> Path:
    """Two subjects, as mne-bids writes them; the fifth trial of each has a span of BAD_cough."""
    for subject in (1, 2):
        rng = np.random.default_rng([4, subject])
        rows = [(f"{1 + 2 * k}", "0", ("left", "right")[k % 2], f"{k % 3}") for k in range(N_TRIALS)]
        rows.append((f"{1 + 2 * BAD[0] + 0.2:g}", f"{BAD[1]:g}", "BAD_cough", "n/a"))
        path = folder / f"sub-{subject:02d}/eeg/sub-{subject:02d}_task-hands_run-1_eeg.vhdr"
        path.parent.mkdir(parents=True)
        signal = Signal((1e-5 * rng.normal(size=(15 * 128, 4))).astype(np.float32), SFREQ, CHANNELS)
        write_recording(path, signal, {"EOG": "EOG"}, ("onset", "duration", "trial_type", "level"), rows, {})
        bare = path.parent / f"sub-{subject:02d}"
        places = [("Fz", 0.0, 0.07, 0.05), ("Cz", 0.0, 0.0, 0.09), ("Pz", 0.0, -0.07, 0.05)]
        write_tsv(Path(f"{bare}_electrodes.tsv"), ("name", "x", "y", "z"), [[str(x) for x in row] for row in places])
        write_json(Path(f"{bare}_coordsystem.json"), {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"})
    write_tsv(folder / "participants.tsv", ("participant_id", "age"), [("sub-01", "20"), ("sub-02", "31")])
    write_json(folder / "dataset_description.json", {"Name": "Hands", "BIDSVersion": "1.9.0", "License": "CC0"})
    return folder


def run(folder: Path, change: Callable[[Preprocess], Preprocess] = lambda cfg: cfg) -> RunDir:
    """Preprocess it, as a run that has finished."""
    ctx = Context(World(), RunDir(folder / "runs/preprocess-abcd1234"))
    cfg = Preprocess(
        Input(str(study(folder / "hands"))),
        events=BidsEvents(stimulus="trial_type", duration_s=LASTS_S),
        steps=(Resample(sfreq=64),),
        targets=(Label(column="trial_type"),),
    )
    cfg = change(replace(cfg, labels=("age",)))
    stages.preprocess(cfg, ctx)
    plan = {
        "stage": "preprocess", "name": ctx.run.name, "inputs": {"study": str(folder / "hands")}, "schema": 2,
        "code": [{"root": "/somewhere", "commit": "c0ffee", "version": "", "modified": []}],
    }  # fmt: skip
    write_json(ctx.run.plan, plan)
    ctx.run.config.write_text(files.to_yaml(asdict(cfg)))
    products.close(ctx.out, stage="preprocess")
    write_json(ctx.run.result, {"metrics": {}, "attempts": 1})
    return ctx.run

"""Decode the test part of a trained model's data, each trial as a whole."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from eegdecode.data import splits, store
from eegdecode.data.splits import Parts
from eegdecode.data.stored import Store
from eegdecode.training import state
from eegdecode.training.judge import to_device, whole_trial
from eegdecode.training.state import Trained
from hpc import ddp
from hpc.context import Context, Preempted
from hpc.rundir import atomic_write


@dataclass(frozen=True)
class DecodedTrial:
    """What was heard and what was made of the EEG, both [time, feature]."""

    subject: str
    stimulus: str
    target: np.ndarray
    output: np.ndarray


@dataclass(frozen=True)
class Decoded:
    """The test trials, decoded; `audit` says in sentences what the split means."""

    sfreq: float
    trials: tuple[DecodedTrial, ...]
    audit: tuple[str, ...]


def decode(model: Path, ctx: Context) -> tuple[Trained, Decoded]:
    """The model of a folder, and the test trials as it decodes them; they are kept in predictions.npz."""
    trained = state.load(model)
    data, parts = open_data(trained, ctx)
    where = ddp.device(ctx)
    network = trained.network().to(where)
    trials = []
    for done, segment in enumerate(parts.test):
        ctx.progress("decode", done, len(parts.test))
        if ctx.should_stop():
            raise Preempted
        signal, target, whose = to_device(whole_trial(data, segment, trained.target), where)
        with torch.no_grad():
            output = network(signal, whose).cpu().numpy()
        subject = data.recordings[segment.recording].subject
        trials.append(DecodedTrial(subject, segment.trial.stimulus, target[0].cpu().numpy(), output[0]))
    ctx.progress("decode", len(parts.test), len(parts.test))
    decoded = Decoded(trained.spec.sfreq, tuple(trials), tuple(parts.audit()))
    save(ctx.out / "predictions.npz", decoded)
    return trained, decoded


def open_data(trained: Trained, ctx: Context) -> tuple[Store, Parts]:
    """The data a model was trained on, split as then."""
    data = store.open_store(*(ctx.input(name) for name in trained.data))
    spec = replace(data.spec(trained.target), n_times=trained.spec.n_times)
    if spec != trained.spec:
        raise ValueError(
            f"the model fits {trained.spec}, but {', '.join(trained.data)} now holds {spec}: train it again"
        )
    return data, splits.split(trained.split, data.recordings)


def save(path: Path, decoded: Decoded) -> None:
    """For work beyond the report: target_0000, output_0000, … [time, feature], in the order of `trials`."""
    arrays = {"trials": np.array([(trial.subject, trial.stimulus) for trial in decoded.trials])}
    arrays["sfreq"] = np.array(decoded.sfreq)
    for number, trial in enumerate(decoded.trials):
        arrays |= {f"target_{number:04d}": trial.target, f"output_{number:04d}": trial.output}
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]

"""Decode the test set of a trained model's data: every window once, shared out over the ranks, in a fixed order."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from eegdecode import objectives
from eegdecode.data.io import guard
from eegdecode.data.split import splits
from eegdecode.data.split.splits import Splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.config import Average, Scoring
from eegdecode.evaluation.decode import ensemble
from eegdecode.evaluation.decode.averaging import Averaging, by_stimulus
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial, Kind
from eegdecode.objectives import Batch, scored_as
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.training import model_file, setup
from eegdecode.training.model_file import Trained
from eegdecode.training.validator import Validator
from hpc import config
from hpc.rank import ddp
from hpc.rank.context import Context, Preempted
from hpc.runs.rundir import atomic_write

log = logging.getLogger(__name__)

WINDOWS = ("name", "length_s", "stride_s", "tmin_s", "tmax_s", "baseline_s", "patch", "wrap")
"""The settings of training windows that define which samples a model reads."""


def decode(
    models: Sequence[Path],
    ctx: Context,
    weigh: ensemble.Weigh = "mean",
    retrieval_from: int = Scoring.retrieval_from,
    of: Literal["test", "val", "control"] = "test",
    part: str = "",
    average: Average = "none",
) -> tuple[Trained, Decoded] | None:
    """The first of the models, and the windows of a set decoded by all of them together; None on ranks but the first.
    `of`: the set; a control is tested on the test set.

    Several models must be of one task on one split. `part` names what is decoded, if a stage decodes more than once.
    `average`: see Evaluate.
    """
    several = [model_file.load(model) for model in models]
    trained = several[0]
    data, parts = open_data(trained, ctx)
    refuse_unlike(several)
    device = ddp.device(ctx)
    networks = [each.network().to(device) for each in several]
    kind = kind_of(trained, retrieval_from)
    validator = Validator(trained.train(), parts.val if of == "val" else parts.test, data, trained.spec, networks[0])
    averaging = averaged(validator, data, kind, average)
    mine = ctx.world.share(range(len(validator.batches)))
    outputs: list[np.ndarray] = []
    for done, number in enumerate(mine):
        ctx.progress(f"decode {of}", done, len(mine))
        if ctx.should_stop():
            raise Preempted
        batch = _batch(validator, number, device, averaging)
        pairs = zip(several, networks, strict=True)
        with torch.no_grad():
            predicted = torch.stack([outputs_of(each, network, batch) for each, network in pairs])
        if kind == "classes":
            predicted = functional.log_softmax(predicted, dim=-1)
        outputs += list(ensemble.together(predicted.cpu().numpy(), weigh, kind == "classes"))
    ctx.progress(f"decode {of}", len(mine), len(mine))
    sizes = [len(rows) for rows in _rows(validator, averaging)]
    merged = _all_ranks(outputs, sizes, ctx, f"{part}-{of}")
    if merged is None:
        return None
    windows = _trials(validator, merged, data, trained, kind, averaging)
    return trained, Decoded(
        trained.spec.target_sfreq,
        tuple(stitched(windows, trained.spec.target_sfreq) if kind == "sequence" else windows),
        (
            *parts.audit(),
            _checksum(data),
            *scored_by(trained, kind, retrieval_from),
            *([averaging.sentence()] if averaging else []),
        ),
        kind,
        trained.target,
        trained.spec.classes if kind == "classes" else (),
    )


def averaged(validator: Validator, data: Store, kind: Kind, average: Average) -> Averaging | None:
    """Order the windows of a set for averages, if there are to be some."""
    if average == "none":
        return None
    if kind != "retrieval":
        raise ValueError(
            f"average={average} is for retrieval, but these models decode {kind}: there, the stimulus may be what is "
            "decoded, and to average by it would use the answer"
        )
    averaging = by_stimulus(validator.batches, data)
    validator.batches = averaging.batches
    return averaging


def _batch(validator: Validator, number: int, device: torch.device, averaging: Averaging | None) -> Batch:
    """A batch of windows, or of their averages."""
    if averaging is None:
        return validator.batch(number, device)
    batch, first = validator.batch(number, torch.device("cpu")), averaging.firsts[number]
    signal = torch.from_numpy(averaging.mean(number, batch.signal.numpy()))
    others = (each[first].to(device) for each in (batch.target, batch.subject, batch.rng_key))
    return Batch(signal.to(device), *others)


def _rows(validator: Validator, averaging: Averaging | None) -> list[np.ndarray]:
    """Of each batch, the rows of its windows; of averages, that of the first of each."""
    return averaging.firsts if averaging else [np.arange(len(places.start)) for places in validator.batches]


def check(models: Sequence[Path], weigh: ensemble.Weigh) -> str:
    """Refuse models that cannot decode together; returns a sentence if they can."""
    several = [model_file.load(model) for model in models]
    refuse_unlike(several)
    ensemble.refuse_unsure(weigh, len(several), kind_of(several[0]) == "classes")
    return f"{len(several)} models decode together"


def _checksum(data: Store) -> str:
    """A checksum over all recordings, from those that were stored with each."""
    whole = hashlib.blake2b(digest_size=16)
    for stored in data.recordings:
        whole.update(f"{stored.name} {stored.checksum} {stored.key}\n".encode())
    return f"Checksum of the {len(data.recordings)} recordings of the data: blake2b:{whole.hexdigest()}."


def refuse_unlike(several: Sequence[Trained]) -> None:
    """Models that decode together must be different ones of the same task, split and windows."""
    trained, wanted = several[0], _asked(several[0])
    for number, other in enumerate(several[1:], 1):
        if any(other.run.path == each.run.path for each in several[:number]):
            raise ValueError(f"{other.run.name} is named twice: models that decode together are different runs")
        asked = _asked(other)
        differ = [word for word in {**wanted, **asked} if wanted.get(word) != asked.get(word)]
        if differ:
            theirs, ours = (" and ".join(f"{word}={of.get(word)}" for word in differ) for of in (asked, wanted))
            raise ValueError(
                f"models that decode together need one target, split, data and windows, but {other.run.name} has "
                f"{theirs}, where {trained.run.name} has {ours}"
            )


def _asked(trained: Trained) -> dict[str, object]:
    """The settings of a model's task and windows, as on the command line."""
    settings = {"target": trained.target, "data": f"[{','.join(trained.data)}]"}
    settings |= {f"split.{name}": value for name, value in trained.config["split"].items()}
    windows = trained.config["windows"].items()
    return settings | {f"windows.{name}": value for name, value in windows if name in WINDOWS}


def outputs_of(trained: Trained, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The outputs of a network for windows, in the target's units."""
    return objectives.decode(trained.objective, network, batch, trained.spec).float()


def kind_of(trained: Trained, retrieval_from: int = Scoring.retrieval_from) -> Kind:
    declared = scored_as(trained.objective)
    if declared is not None:
        return declared
    if trained.spec.is_sequence:
        return "sequence"
    return "retrieval" if trained.spec.n_outputs >= retrieval_from else "values"


def scored_by(trained: Trained, kind: Kind, retrieval_from: int) -> list[str]:
    """For the log and the report: whether outputs of a window are scored by retrieval, and why. None for others."""
    if kind not in ("retrieval", "values"):
        return []
    n, setting = trained.spec.n_outputs, f"evaluate.scoring.retrieval_from={retrieval_from}"
    if scored_as(trained.objective) == "retrieval":
        sentence = f"Scored by retrieval, as the objective is {trained.objective.name}."
    elif kind == "retrieval":
        sentence = f"Scored by retrieval, as the target has {n} numbers a window ({setting})."
    else:
        numbers = "1 number" if n == 1 else f"{n} numbers"
        sentence = f"Scored by correlation, not retrieval, as the target has {numbers} a window ({setting})."
    log.info("%s", sentence)
    return [sentence]


def _trials(
    validator: Validator,
    outputs: Sequence[np.ndarray],
    data: Store,
    trained: Trained,
    kind: Kind,
    averaging: Averaging | None,
) -> Sequence[DecodedTrial]:
    """The windows in order, with their targets. The target of a class is its index in the names."""
    trials: list[DecodedTrial] = []
    values = np.array(trained.spec.class_values)
    for number, (places, rows) in enumerate(zip(validator.batches, _rows(validator, averaging), strict=True)):
        truth = validator.batch(number, torch.device("cpu")).target.numpy()
        for row in rows:
            recording, trial, start, _ = (int(column[row]) for column in places)
            stored = data.recordings[recording]
            target, output = truth[row], outputs[len(trials)]
            if kind == "classes":
                target = np.searchsorted(values, target).astype(np.float32)
            if kind == "retrieval" and target.ndim == 2:
                target, output = target.ravel(), output.ravel()
            trials.append(
                DecodedTrial(
                    stored.subject,
                    stored.trials[trial].stimulus,
                    np.atleast_2d(target),
                    np.atleast_2d(output),
                    stored.name,
                    trial,
                    start / stored.sfreq,
                    stored.session,
                    str(stored.trials[trial].labels.get("block", "")),
                )
            )
    return trials


def stitched(windows: Sequence[DecodedTrial], sfreq: float) -> list[DecodedTrial]:
    """Consecutive windows of a trial joined to one; of windows that overlap the first is taken."""
    trials: list[DecodedTrial] = []
    for window in sorted(windows, key=lambda window: (window.recording, window.trial, window.start_s)):
        last = trials[-1] if trials else None
        if last is None or (last.recording, last.trial) != (window.recording, window.trial):
            trials.append(window)
            continue
        gap = (window.start_s - last.start_s) * sfreq - len(last.output)
        if abs(gap) < 1:
            target, output = (
                np.concatenate(both) for both in ((last.target, window.target), (last.output, window.output))
            )
            trials[-1] = replace(last, target=target, output=output)
        elif gap > 0:
            trials.append(window)
    return trials


def _all_ranks(mine: Sequence[np.ndarray], sizes: Sequence[int], ctx: Context, part: str) -> list[np.ndarray] | None:
    """The outputs of all ranks, in the order of the windows; None on ranks but the first. Through files: there is no
    process group."""
    if ctx.world.size == 1:
        return list(mine)
    folder = ctx.run.attempt(ctx.attempt).path
    path = folder / f"decoded{part}-{ctx.world.rank:04d}.npz"
    atomic_write(path, lambda file: np.savez(file, *mine))
    ctx.gather("decoded")
    if not ctx.world.is_first:
        return None
    of_rank = []
    for rank in range(ctx.world.size):
        of_rank.append(iter(_part(folder / f"decoded{part}-{rank:04d}.npz")))
    return [next(of_rank[number % ctx.world.size]) for number, size in enumerate(sizes) for _ in range(size)]


def _part(path: Path) -> list[np.ndarray]:
    """The outputs that a rank has written; numpy checks the checksum of each."""
    with guard.reading(path, "run evaluate again"):
        guard.archive(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[f"arr_{index}"] for index in range(len(archive.files))]
        if not all(isinstance(array, np.ndarray) for array in arrays):  # bytes, if it begins otherwise
            raise ValueError("a part is no array")
        return arrays


def open_data(trained: Trained, ctx: Context) -> tuple[Store, Splits]:
    """The data that a model was trained on, with the same split."""
    data = setup.controlled(trained.train(), store.open_store(*(ctx.input(name) for name in trained.data)))
    data_spec = data.spec(trained.target)
    spec = replace(trained.train().objective.asks(data_spec).knowing(trained.spec), n_times=trained.spec.n_times)
    if spec != trained.spec:
        raise ValueError(
            f"the model was trained on {trained.spec}, but {', '.join(trained.data)} now holds {spec}: train it again"
        )
    return data, splits.split(trained.split, data.recordings, trained.train().windows)


def preprocessed(data: Store) -> list[tuple[float, tuple[StepConfig, ...]]]:
    """The ways in which the recordings were made, each once: the rate of the raw one in Hz, and the steps."""
    ways = {(float(s.made["raw"]["sfreq"]), str(s.made["steps"])): s.made["steps"] for s in data.recordings}
    built = (
        (sfreq, config.build(Preprocess, {"study": "", "steps": list(plain)}, "preprocess").steps)
        for (sfreq, _), plain in ways.items()
    )
    return list(dict.fromkeys(built))  # a store may have a step under its former name, and the next under today's

"""The input of a training: the data, its training, validation and test sets, and the spec of the model.

`check` builds all of it but the parameters' values, so that a run that cannot work is refused before it is queued.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eegdecode import models
from eegdecode.data.config import Split, Windows
from eegdecode.data.loading.draw import Draw
from eegdecode.data.split import splits
from eegdecode.data.split.splits import Segment, Splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.data.store.shuffled import shuffled
from eegdecode.models.parts import trainable
from eegdecode.objectives import scored_as, takes_soft_labels
from eegdecode.preprocessing.steps.config import STEPS
from eegdecode.signals import SignalSpec, Trial
from eegdecode.training import optim, transfer
from eegdecode.training.augment import Augmentation
from eegdecode.training.config import Train
from eegdecode.training.validator import Validator
from hpc.rank.context import Input

log = logging.getLogger(__name__)

MOST_B = 1e12
"""A batch of so many bytes is a slip of the pen, even for many nodes."""


class TrainingData(NamedTuple):
    """`spec` describes the data; the model must fit `model_spec`."""

    data: Store
    spec: SignalSpec
    sets: Splits
    draw: Draw


def prepare(data: Store, target: str, split: Split, windows: Windows, seed: int, classes: bool) -> TrainingData:
    """Split a store. `classes`: whether the task is classification."""
    spec = replace(data.spec(target), unit=unit(data))
    sets = splits.split(split, data.recordings, windows)
    if classes and spec.class_values:
        _refuse_unseen(sets, data, target, spec)
    return TrainingData(data, spec, sets, Draw(windows, sets.train, data.recordings, seed))


def unit(data: Store) -> str:
    """The unit of the samples, by their channels and by the steps that made them; empty if it is not known."""
    units = {sensor.unit for stored in data.recordings for sensor in stored.sensors}
    names = {step["name"] for stored in data.recordings for step in stored.made.get("steps", ())}
    kinds = (STEPS[name] if name in STEPS else STEPS.by_former_name(name) for name in names)
    if any(getattr(kind, "unitless", False) for kind in kinds):
        return "1"
    is_known = all("steps" in stored.made for stored in data.recordings)
    return units.pop() if is_known and len(units) == 1 else ""


def _refuse_huge(cfg: Train, spec: SignalSpec, draw: Draw) -> None:
    """Refuse a batch that fits on no machine, which is a slip of the pen."""
    n_bytes = 4 * cfg.windows.batch * draw.longest * spec.n_channels
    if n_bytes > MOST_B:
        raise ValueError(
            f"windows.batch={cfg.windows.batch} are {n_bytes / 1e12:.3g} TB in each step, with {spec.n_channels} "
            f"channels x {draw.longest} samples: ask for fewer"
        )


def preprocessing(data: Store) -> list[dict[str, Any]]:
    """How the recordings were made, each way once, as plain values: the rate of the raw one in Hz, the steps, and the
    kinds of its channels by their names. Empty if that is not known of all."""
    if not all({"raw", "steps"} <= stored.made.keys() for stored in data.recordings):
        return []
    ways: dict[str, dict[str, Any]] = {}
    for stored in data.recordings:
        kinds = {str(channel["name"]): str(channel["kind"]) for channel in stored.made.get("channels", ())}
        way = {"sfreq": float(stored.made["raw"]["sfreq"]), "steps": list(stored.made["steps"]), "kinds": kinds}
        known = ways.setdefault(str((way["sfreq"], way["steps"])), way)
        known["kinds"] = kinds | known["kinds"]
    return list(ways.values())


def controlled(cfg: Train, data: Store) -> Store:
    """Return the data, with targets that changed places if the training is a control."""
    if cfg.control == "none":
        return data
    log.warning("control=%s: the targets of trials have changed places, so that nothing can be decoded", cfg.control)
    return shuffled(data, cfg.target, cfg.seed)


def has_classes(cfg: Train) -> bool:
    """Whether the outputs are classes, by what the objective declares."""
    return scored_as(cfg.objective) == "classes"


def model_spec(cfg: Train, spec: SignalSpec, draw: Draw) -> SignalSpec:
    """Return the spec of the model's input and output."""
    asked = cfg.objective.asks(spec)
    if has_classes(cfg) and asked.n_outputs != len(spec.class_values):
        raise ValueError(
            f"objective {cfg.objective.name} is scored as classes, but its model would have {asked.n_outputs} outputs "
            f"for the {len(spec.class_values)} classes of the target: name a label of the trials, and let `asks` give "
            "one output a class"
        )
    return replace(asked, n_times=draw.one_length)


def check(cfg: Train, folders: Sequence[Path], find: Callable[[Input], Path | None]) -> str:
    """Describe what would be trained. Raises ValueError if it cannot be.

    `find`: the path that an Input names; None if it does not exist yet.
    """
    data, data_spec, sets, draw = _prepared(tuple(folders), cfg.target, cfg.split, cfg.windows, has_classes(cfg))
    Augmentation(cfg.augment, data_spec, soft=takes_soft_labels(cfg.objective)).try_out(draw.one_length)
    spec = model_spec(cfg, data_spec, draw)
    with torch.device("meta"):  # with shapes, without values
        network = models.build(cfg.model, spec)
    if cfg.start is not None and (source := find(cfg.start.source)) is not None:
        transfer.load_pretrained(network, cfg.start, source, cfg.model, spec)
    trainable.choose(network, cfg.trainable)
    optim.lr_scales(network, cfg.optim.layer_decay)
    Validator(cfg, sets.val, data, spec, network)
    _refuse_huge(cfg, spec, draw)
    n = sum(parameter.numel() for parameter in network.parameters())
    length = "any number of" if spec.n_times is None else spec.n_times
    return f"{cfg.model.name} of {n:,} parameters fits {spec.n_channels} channels x {length} samples"


@functools.lru_cache(maxsize=4)
def _prepared(folders: tuple[Path, ...], target: str, split: Split, windows: Windows, classes: bool) -> TrainingData:
    """Prepare the data; cached for the runs of a sweep, which differ in other settings."""
    return prepare(store.open_store(*folders, verified=False), target, split, windows, 0, classes)


def _refuse_unseen(sets: Splits, data: Store, target: str, spec: SignalSpec) -> None:
    """Refuse a class that is not in the training set; warn of one that is only in the training set."""
    train, val, test = (_classes(part, data, target, spec) for part in (sets.train, sets.val, sets.test))
    how = (
        f"The split is by {sets.by}: split so that each set has every class, as by split.by=run or subject with "
        f"split.shared=[subject,stimulus], or deal into folds with split.deal=stratified split.stratify={target}"
    )
    for name, classes in (("the validation set", val), ("the test set", test)):
        if unseen := [kind for kind in classes if kind not in train]:
            raise ValueError(
                f"{name} has trials of {target} {', '.join(unseen)}, but the training set has only "
                f"{', '.join(train)}. {how}"
            )
        if missing := [kind for kind in train if kind not in classes]:
            log.warning("%s has no trial of %s %s, which the training set has", name, target, ", ".join(missing))
    if len(train) < 2:
        raise ValueError(f"all training trials are of {target} {train[0]}, so there is nothing to classify. {how}")


def _classes(part: Sequence[Segment], data: Store, target: str, spec: SignalSpec) -> list[str]:
    """Return the classes of a set's trials, in the order of the spec."""
    value_of: dict[int, dict[Trial, float]] = {}
    for recording in {segment.recording for segment in part}:
        stored = data.recordings[recording]
        value_of[recording] = dict(zip(stored.trials, stored.values(target)[:, 0].tolist(), strict=True))
    values = {value_of[segment.recording][segment.trial] for segment in part}
    return [name for value, name in zip(spec.class_values, spec.classes, strict=True) if value in values]

"""What a training needs: the data, its training, validation and test sets, and the signal that the model has to fit.

`check` builds all of it except the parameters' values, so that a run which cannot work is refused before it is queued.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from eegdecode import models
from eegdecode.data.config import Split, Windows
from eegdecode.data.loading.draw import Draw
from eegdecode.data.split import splits
from eegdecode.data.split.splits import Segment, Splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.models.parts import trainable
from eegdecode.objectives.classification import Classification
from eegdecode.signals import SignalSpec, Trial
from eegdecode.training import optim, transfer
from eegdecode.training.augment import Augmentation
from eegdecode.training.config import Train
from eegdecode.training.validator import Validator
from hpc.rank.context import Input

log = logging.getLogger(__name__)


class TrainingData(NamedTuple):
    """`spec` describes the data; what the model has to fit is `model_spec`."""

    data: Store
    spec: SignalSpec
    parts: Splits
    draw: Draw


def prepare(
    folders: Sequence[Path], target: str, split: Split, windows: Windows, seed: int, classes: bool
) -> TrainingData:
    """Open the store and split it. `classes`: whether the task is classification."""
    data = store.open_store(*folders)
    spec = data.spec(target)
    parts = splits.split(split, data.recordings, windows)
    if classes and spec.class_values:
        _refuse_unseen(parts, data, target, spec)
    return TrainingData(data, spec, parts, Draw(windows, parts.train, data.recordings, seed))


def model_spec(cfg: Train, spec: SignalSpec, draw: Draw) -> SignalSpec:
    """The input and output of the model."""
    return replace(cfg.objective.asks(spec), n_times=draw.one_length)


def check(cfg: Train, folders: Sequence[Path], find: Callable[[Input], Path | None]) -> str:
    """Describe what would be trained. Raises ValueError if it cannot be.

    `find`: the path that an Input names; None if it does not exist yet.
    """
    is_classification = isinstance(cfg.objective, Classification)
    data, data_spec, parts, draw = _prepared(tuple(folders), cfg.target, cfg.split, cfg.windows, is_classification)
    Augmentation(cfg.augment, data_spec, soft=is_classification)
    spec = model_spec(cfg, data_spec, draw)
    with torch.device("meta"):  # of the right shape, without numbers
        network = models.build(cfg.model, spec)
    if cfg.start is not None and (source := find(cfg.start.source)) is not None:
        transfer.load_pretrained(network, cfg.start, source)
    trainable.choose(network, cfg.trainable)
    optim.lr_scales(network, cfg.optim.layer_decay)
    Validator(cfg, parts.val, data, spec, network)
    n = sum(parameter.numel() for parameter in network.parameters())
    length = "any number of" if spec.n_times is None else spec.n_times
    return f"{cfg.model.name} of {n:,} parameters fits {spec.n_channels} channels x {length} samples"


@functools.lru_cache(maxsize=4)
def _prepared(folders: tuple[Path, ...], target: str, split: Split, windows: Windows, classes: bool) -> TrainingData:
    """Cached for the runs of a sweep, which differ in other settings."""
    return prepare(folders, target, split, windows, 0, classes)


def _refuse_unseen(parts: Splits, data: Store, target: str, spec: SignalSpec) -> None:
    """Refuse a class that is not in the training set; warn of one that is only in the training set."""
    train, val, test = (_classes(part, data, target, spec) for part in (parts.train, parts.val, parts.test))
    how = (
        f"The split is by {parts.by}: split so that each set has every class, as by split.by=run or subject with "
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
    """The classes that the trials of a set have, in the order of the spec."""
    value_of: dict[int, dict[Trial, float]] = {}
    for recording in {segment.recording for segment in part}:
        stored = data.recordings[recording]
        value_of[recording] = dict(zip(stored.trials, stored.values(target)[:, 0].tolist(), strict=True))
    values = {value_of[segment.recording][segment.trial] for segment in part}
    return [name for value, name in zip(spec.class_values, spec.classes, strict=True) if value in values]

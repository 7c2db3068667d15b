"""What a training works with: the data, who trains, chooses and tests, and the signal that a model has to fit.

`checked` builds all of it but the numbers, so that a line which cannot run is refused before its job waits in a queue.
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
from eegdecode.objectives import Classification
from eegdecode.signals import SignalSpec, Trial
from eegdecode.training import optim, transfer
from eegdecode.training.augment import Augmentation
from eegdecode.training.config import Train
from eegdecode.training.validator import Judge
from hpc.rank.context import Input

log = logging.getLogger(__name__)


class Material(NamedTuple):
    """`spec` is of the data; what a model fits is `fitted`."""

    data: Store
    spec: SignalSpec
    parts: Splits
    draw: Draw


def prepare(folders: Sequence[Path], target: str, split: Split, windows: Windows, seed: int, classes: bool) -> Material:
    """Open the store and deal it out. `classes`: whether they are what is to be told."""
    data = store.open_store(*folders)
    spec = data.spec(target)
    parts = splits.split(split, data.recordings, windows)
    if classes and spec.class_values:
        _refuse_unseen(parts, data, target, spec)
    return Material(data, spec, parts, Draw(windows, parts.train, data.recordings, seed))


def fitted(cfg: Train, spec: SignalSpec, draw: Draw) -> SignalSpec:
    """What the model gets and has to give."""
    return replace(cfg.objective.asks(spec), n_times=draw.one_length)


def checked(cfg: Train, folders: Sequence[Path], find: Callable[[Input], Path | None]) -> str:
    """What would be trained, in words. Raises ValueError where it cannot be.

    `find`: where what an Input names is; None where it is not there yet.
    """
    tells_classes = isinstance(cfg.objective, Classification)
    data, found_spec, parts, draw = _prepared(tuple(folders), cfg.target, cfg.split, cfg.windows, tells_classes)
    Augmentation(cfg.augment, found_spec, soft=tells_classes)
    spec = fitted(cfg, found_spec, draw)
    with torch.device("meta"):  # of the right shape, without numbers
        network = models.build(cfg.model, spec)
    if cfg.start is not None and (source := find(cfg.start.source)) is not None:
        transfer.begin(network, cfg.start, source)
    trainable.choose(network, cfg.trainable)
    optim.shares(network, cfg.optim.layer_decay)
    Judge(cfg, parts.val, data, spec, network)
    n = sum(parameter.numel() for parameter in network.parameters())
    length = "any number of" if spec.n_times is None else spec.n_times
    return f"{cfg.model.name} of {n:,} parameters fits {spec.n_channels} channels x {length} samples"


@functools.lru_cache(maxsize=4)
def _prepared(folders: tuple[Path, ...], target: str, split: Split, windows: Windows, classes: bool) -> Material:
    """Once for the runs of a sweep that differ in other things."""
    return prepare(folders, target, split, windows, 0, classes)


def _refuse_unseen(parts: Splits, data: Store, target: str, spec: SignalSpec) -> None:
    """A class that training never sees cannot be told; one that only training sees is not judged, and that is said."""
    train, val, test = (_classes(part, data, target, spec) for part in (parts.train, parts.val, parts.test))
    how = (
        f"The split is by {parts.by}: split by what has every class in every part, as split.by=run or subject with "
        f"split.shared=[subject,stimulus], or deal into folds with split.deal=stratified split.stratify={target}"
    )
    for name, found in (("what chooses", val), ("what tests", test)):
        if strange := [kind for kind in found if kind not in train]:
            raise ValueError(
                f"{name} has trials of {target} {', '.join(strange)}, of which training has none; it has "
                f"{', '.join(train)}. {how}"
            )
        if missing := [kind for kind in train if kind not in found]:
            log.warning("%s has no trial of %s %s, which training has", name, target, ", ".join(missing))
    if len(train) < 2:
        raise ValueError(f"all trials of training are of {target} {train[0]}, so there is nothing to tell. {how}")


def _classes(part: Sequence[Segment], data: Store, target: str, spec: SignalSpec) -> list[str]:
    """The classes of a part's trials, in their order."""
    value_of: dict[int, dict[Trial, float]] = {}
    for recording in {segment.recording for segment in part}:
        stored = data.recordings[recording]
        value_of[recording] = dict(zip(stored.trials, stored.values(target)[:, 0].tolist(), strict=True))
    found = {value_of[segment.recording][segment.trial] for segment in part}
    return [name for value, name in zip(spec.class_values, spec.classes, strict=True) if value in found]

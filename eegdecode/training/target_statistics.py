"""Statistics of the target over the training set, for objectives that need them: mean and spread, or class weights."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from eegdecode.data.loading.windows import Places
from eegdecode.data.store.dataset import Store
from eegdecode.objectives import AnyObjective
from eegdecode.signals import SignalSpec


def with_statistics(objective: AnyObjective, spec: SignalSpec, data: Store, target: str, places: Places) -> SignalSpec:
    """Return the spec with mean and spread of the target, or with a weight for each class. `places`: one epoch."""
    if getattr(objective, "standardize", False):
        mean, std = moments(data, target, places)
        return replace(spec, target_mean=tuple(mean.tolist()), target_std=tuple(std.tolist()))
    if getattr(objective, "balanced", False):
        return replace(spec, class_weights=weights(data, target, places, spec))
    return spec


def moments(data: Store, target: str, places: Places) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each feature; 1 for a constant feature."""
    n, first = 0, next(_stretches(data, target, places))[0].astype(np.float64)
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for values in _stretches(data, target, places):
        away = values - first  # squares of numbers far from 0 would lose all precision
        n += len(away)
        total += away.sum(axis=0)
        squares += np.square(away).sum(axis=0)
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return first + mean, np.where(std > 1e-7 * np.abs(first + mean), std, 1.0)


def weights(data: Store, target: str, places: Places, spec: SignalSpec) -> tuple[float, ...]:
    """Return weights as scikit-learn's `balanced`: n / (classes x n of the class)."""
    classes = np.array(spec.class_values)
    values = np.concatenate(list(_stretches(data, target, places)))
    counts = (values == classes).sum(axis=0)
    if not counts.all():
        missing = ", ".join(name for name, count in zip(spec.classes, counts, strict=True) if not count)
        raise ValueError(
            f"objective.balanced weighs classes by how often they occur, but the training set has none of {missing}"
        )
    class_weights: list[float] = (len(values) / (len(classes) * counts)).tolist()
    return tuple(class_weights)


def _stretches(data: Store, target: str, places: Places) -> Iterator[np.ndarray]:
    """Yield the target of each window or trial, [step, feature]."""
    for recording, trial, start, n_times in zip(*(column.tolist() for column in places), strict=True):
        stored = data.recordings[recording]
        if f"values/{target}" in stored.blocks:
            yield stored.values(target)[trial][None]
            continue
        ratio = stored.target_sfreq(target) / stored.sfreq
        first = round(start * ratio)
        yield stored.target(target)[first : first + round(n_times * ratio)]

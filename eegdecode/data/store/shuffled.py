"""A store whose targets belong to other trials: what a decoder makes of it, it has not from the brain.

    control = shuffled(data, "side", seed)

Values of trials change places within each recording; if a recording has one value, whole recordings of a subject do,
and if a subject has one, whole subjects. Streams are rotated in time, by a quarter to three quarters of a recording.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from eegdecode.data.store.dataset import Store, Stored

SHUFFLED = 12  # separates these draws from others of the same seed


@dataclass(frozen=True)
class OtherTargets(Stored):
    """A recording with other arrays in the place of some."""

    others: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        return super()._maps | dict(self.others)

    @classmethod
    def of(cls, stored: Stored, name: str, array: np.ndarray) -> "OtherTargets":
        array = np.ascontiguousarray(array)
        array.flags.writeable = False
        return cls(**{each.name: getattr(stored, each.name) for each in fields(Stored)}, others={name: array})


def shuffled(data: Store, target: str, seed: int) -> Store:
    rng = np.random.default_rng(np.random.SeedSequence([seed, SHUFFLED]))
    name = f"values/{target}"
    if name not in data.recordings[0].blocks:
        streams = [stored.target(target) for stored in data.recordings]
        shifts = [round(len(each) * rng.uniform(0.25, 0.75)) for each in streams]
        pairs = zip(data.recordings, streams, shifts, strict=True)
        turned = [OtherTargets.of(s, f"targets/{target}", np.roll(each, n, axis=0)) for s, each, n in pairs]
        return Store(tuple(turned))
    values = [np.array(stored.values(target)) for stored in data.recordings]
    if any(len(np.unique(each, axis=0)) > 1 for each in values):
        values = [rng.permutation(each) for each in values]
    else:
        values = _of_recordings(data, values, rng)
    return Store(tuple(OtherTargets.of(s, name, own) for s, own in zip(data.recordings, values, strict=True)))


def _of_recordings(data: Store, values: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Of recordings that have one value each."""
    rows: dict[str, list[int]] = {}
    for number, stored in enumerate(data.recordings):
        if stored.trials:
            rows.setdefault(stored.subject, []).append(number)
    if any(len({values[row][:1].tobytes() for row in own}) > 1 for own in rows.values()):
        return _exchanged(values, rows.values(), rng)
    subjects = list(rows.values())
    order = rng.permutation(len(subjects))
    other = list(values)
    for own, place in zip(subjects, order, strict=True):
        for row in own:
            other[row] = np.broadcast_to(values[subjects[place][0]][:1], values[row].shape)
    return other


def _exchanged(values: list[np.ndarray], groups: Iterable[list[int]], rng: np.random.Generator) -> list[np.ndarray]:
    other = list(values)
    for group in groups:
        for row, place in zip(group, rng.permutation(group), strict=True):
            other[row] = np.broadcast_to(values[place][:1], values[row].shape)
    return other

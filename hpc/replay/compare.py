"""Compares two runs of the same settings: lines of metrics.jsonl, checkpoints, metrics and products.

Equal bits count as equal whoever computed them. What differs is read: by how much, and where first.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpc import media
from hpc.config.stages import Leaves
from hpc.replay import values
from hpc.replay.values import TOLERANCE, Difference
from hpc.runs import products, records
from hpc.runs.rundir import RunDir, committed_steps, own_commit, read_json

FINGERPRINTS = "checkpoints.json"
"""The file of a capsule that has the fingerprint of each checkpoint, in place of the checkpoints."""


class Place(NamedTuple):
    """One thing that differs."""

    where: str
    """`step 12 of metrics.jsonl`, or a sentence of its own."""
    at: str
    """The first value in it that differs."""
    was: str
    now: str
    largest: float
    """See values.Difference; NaN: not known, as only hashes are here."""
    largest_at: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.where, self.at, f"{self.now}, was {self.was}" if self.was else "")))

    @property
    def size(self) -> str:
        """Say how far it differs at most."""
        at = ": ".join(filter(None, (self.where, self.largest_at)))
        return f"{at}, by {self.largest:.1e} of the largest number there" if np.isfinite(self.largest) else at


@dataclass
class Comparison:
    """What two runs have in common, and where they differ, in the order in which it was made."""

    n_lines: int = 0
    n_checkpoints: int = 0
    n_products: int = 0
    n_pages: int = 0
    """Products that are not compared, as they are for people to read."""
    steps: list[Place] = field(default_factory=list)
    metrics: list[Place] = field(default_factory=list)
    products: list[Place] = field(default_factory=list)

    @property
    def places(self) -> list[Place]:
        return [*self.steps, *self.metrics, *self.products]

    @property
    def read(self) -> list[Place]:
        """Those whose values are known; of the others, a capsule has hashes only."""
        return [place for place in self.places if not np.isnan(place.largest)]

    @property
    def largest(self) -> Place:
        return max(self.read, key=lambda place: place.largest)

    @property
    def is_close(self) -> bool:
        """Whether all numbers that are known are equal but for what the order of sums explains."""
        return bool(self.read) and all(place.largest <= TOLERANCE for place in self.read)

    def compared(self) -> str:
        """Say what was compared."""
        counts = {"line": self.n_lines, "checkpoint": self.n_checkpoints, "product": self.n_products}
        parts = [media.many(n, what) for what, n in counts.items() if n]
        pages = f"; {self.n_pages} of the products are pages, which are not compared" if self.n_pages else ""
        return f"compared: {', '.join(['the metrics', *parts])}{pages}"


def compare(was: RunDir, now: RunDir, leaves: Leaves) -> Comparison:
    """Compare a run with an earlier one. `leaves`: what their stage says of what it leaves."""
    comparison = Comparison()
    _compare_steps(was, now, leaves, comparison)
    metrics = [_without(records.result(run).get("metrics"), leaves) for run in (was, now)]
    if difference := values.difference(*metrics):
        comparison.metrics.append(_place("metrics", difference))
    _compare_products(was, now, leaves, comparison)
    return comparison


def _without(content: Any, leaves: Leaves) -> Iterator[tuple[str, values.Value]]:
    return values.without(values.flat(content), leaves.passing)


def _place(where: str, difference: Difference) -> Place:
    return Place(where, *difference)


def _lacks(sentence: str) -> Place:
    return Place(sentence, "", "", "", np.inf)


def _compare_steps(was: RunDir, now: RunDir, leaves: Leaves, comparison: Comparison) -> None:
    lines = _lines(was, now, leaves, comparison)
    checkpoints = _checkpoints(was, now, leaves, comparison)
    # At the same step, the line comes first: the checkpoint is written after it
    comparison.steps += [place for _, place in sorted([*lines, *checkpoints], key=lambda pair: pair[0])]


def _lines(was: RunDir, now: RunDir, leaves: Leaves, comparison: Comparison) -> Iterator[tuple[int, Place]]:
    before, after = ({int(line["step"]): line for line in records.metrics(run)} for run in (was, now))
    comparison.n_lines = len(before.keys() & after.keys())
    for step in sorted(before.keys() | after.keys()):
        where = f"step {step} of metrics.jsonl"
        if step not in before or step not in after:
            run = now if step in before else was
            yield step, _lacks(f"{run.path} has no line of {where}")
        elif difference := values.difference(_without(before[step], leaves), _without(after[step], leaves)):
            yield step, _place(where, difference)


def _checkpoints(was: RunDir, now: RunDir, leaves: Leaves, comparison: Comparison) -> Iterator[tuple[int, Place]]:
    """Compare the checkpoints that both have; if the last one is the same, those before it are too."""
    noted: dict[str, str] | None = read_json(was.path / FINGERPRINTS)
    steps_before = sorted(map(int, noted)) if noted is not None else committed_steps(was.checkpoints)
    common = sorted(set(steps_before) & set(committed_steps(now.checkpoints)))
    comparison.n_checkpoints = len(common)
    if steps_before and not common:
        yield steps_before[-1], _lacks(f"{now.path} has no checkpoint of step {steps_before[-1]}")
    if not common or _checkpoint(was, now, leaves, common[-1], noted) is None:
        return
    for step in common:
        if place := _checkpoint(was, now, leaves, step, noted):
            yield step, place


def _checkpoint(was: RunDir, now: RunDir, leaves: Leaves, step: int, noted: dict[str, str] | None) -> Place | None:
    where = f"checkpoint of step {step}"
    if noted is not None:  # how far apart they are is not known then
        mine = fingerprint(now, step, leaves)
        return (
            None if mine == noted[str(step)] else Place(where, "fingerprint", noted[str(step)][:12], mine[:12], np.nan)
        )
    difference = values.difference(*(_without(state(run, step), leaves) for run in (was, now)))
    return _place(where, difference) if difference else None


def state(run: RunDir, step: int) -> Any:
    """Read a checkpoint; of a stage that saves in its own way, its COMMIT."""
    commit = own_commit(run.checkpoints, step)
    if commit is not None:
        return commit
    from hpc.checkpoint import checkpoint  # torch, which a stage that counts does without

    return checkpoint.load(run.checkpoints, step)


def fingerprint(run: RunDir, step: int, leaves: Leaves) -> str:
    """Compute the SHA-256 of all that a checkpoint holds, but for what says how the run went."""
    digest = hashlib.sha256()
    for at, value in _without(state(run, step), leaves):
        if isinstance(value, str):
            digest.update(f"{at} {value}\n".encode(errors="backslashreplace"))
        else:
            digest.update(f"{at} {value.dtype} {value.shape} ".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


def _compare_products(was: RunDir, now: RunDir, leaves: Leaves, comparison: Comparison) -> None:
    before, after = products.listed(was.out) or {}, products.listed(now.out) or {}
    every = before.keys() | after.keys()
    pages = [name for name in every if any(fnmatchcase(name, pattern) for pattern in leaves.pages)]
    comparison.n_pages = len(pages)
    comparison.n_products = len(every) - len(pages)
    for name in sorted(every - set(pages)):
        if name not in before or name not in after:
            run = now if name in before else was
            comparison.products.append(_lacks(f"{run.name} in {run.path.parent} has no product {name}"))
        elif before[name].sha256 != after[name].sha256:
            place = _product(was.out / name, now.out / name, name, leaves)
            hashes = (before[name].sha256[:12], after[name].sha256[:12])
            comparison.products += (
                [place or Place(f"product {name}", "SHA-256", *hashes, np.nan)] if place is not SAME else []
            )


SAME = Place("", "", "", "", 0.0)
"""Two files of other bytes, with the same values in them."""


def _product(was: Path, now: Path, name: str, leaves: Leaves) -> Place | None:
    """Return where two products of other bytes differ; None if they cannot be read, or one of them is not here."""
    known = (products.listed(was.parent) or {}).get(was.name) if "/" not in name else None
    if not was.is_file() or (known is not None and not products.is_intact(was, known)):
        return None  # it is not here, or not what was written: hpc verify says so
    try:
        contents = [values.read(path, leaves.values) for path in (was, now)]
    except ValueError:  # it is no JSON, whatever its name says
        return None
    if contents[0] is None or contents[1] is None:
        return None
    difference = values.difference(*(values.without(content, leaves.passing) for content in contents if content))
    return _place(f"product {name}", difference) if difference else SAME

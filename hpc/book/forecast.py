"""How long a run will take, and how long it will wait, by the runs of its folder that were there before it.

In this order: what the run itself has shown; finished runs whose settings differ by a seed only; the product of a stage
that estimates its stage, with the same settings; finished runs of its stage, whatever their settings. All but the first
count only if they had the same shape: site, nodes, ranks, GPUs and cores.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hpc import config
from hpc.book import allocations
from hpc.config import stages
from hpc.errors import ConfigError
from hpc.media import many
from hpc.runs import records
from hpc.runs.rundir import Damaged, RunDir, committed_steps

MOST_PAST = 40
"""How many finished runs of a stage are looked at, the newest."""


class Shape(NamedTuple):
    """What a run computes on."""

    site: str
    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_rank: int


def shape_of(site: str, resources: Mapping[str, Any]) -> Shape:
    return Shape(site, *(int(resources.get(name, 1)) for name in Shape._fields[1:]))


@dataclass(frozen=True)
class Forecast:
    """How long a run will take from now on."""

    seconds: float
    most_s: float
    """The longest that a run like it has taken."""
    why: str


class Past(NamedTuple):
    """A finished run."""

    name: str
    text: str
    """Its settings without seeds."""
    shape: Shape
    seconds: float
    metrics: Mapping[str, Any]
    queued_s: Sequence[float]
    partition: str
    time_s: int | None
    """The walltime of its jobs."""


class Wait(NamedTuple):
    """How long a job of some walltime has waited in the queue."""

    time_s: int
    queued_s: float


class History:
    """The finished runs of a folder; each is read once."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._of_stage: dict[str, list[Past]] = {}

    def of_stage(self, stage: str) -> list[Past]:
        if stage not in self._of_stage:
            self._of_stage[stage] = list(self._read(stage))
        return self._of_stage[stage]

    def _read(self, stage: str) -> Iterator[Past]:
        for run in finished(self._runs, stage, MOST_PAST):
            try:
                plan, result = records.plan(run), records.result(run)
            except (Damaged, ConfigError):
                continue
            if plan.get("stage") != stage or not result.get("seconds"):
                continue
            yield Past(
                name=run.name,
                text=settings_of(run),
                shape=shape_of(plan["site"]["name"], plan["resources"]),
                seconds=result["seconds"],
                metrics=result.get("metrics") or {},
                queued_s=[one.queued_s for one in allocations.read(run) if one.queued_s is not None],
                partition=plan["resources"].get("partition", ""),
                time_s=plan["resources"].get("time_s"),
            )

    def waits(self, site: str, partition: str) -> list[Wait]:
        """Return how long jobs of the runs that were looked at have waited in a partition."""
        past = [one for each in self._of_stage.values() for one in each]
        same = [one for one in past if one.shape.site == site and one.partition == partition]
        return [Wait(one.time_s or 0, seconds) for one in same for seconds in one.queued_s]


def forecast(history: History, run: RunDir, stage: str, values: Mapping[str, Any], shape: Shape) -> Forecast | None:
    """Return how long a run will take from now on; None if nothing is known. `values`: its config."""
    if (own := _by_itself(run, shape)) is not None:
        return own
    past = [one for one in history.of_stage(stage) if one.shape == shape and one.name != run.name]
    estimates = [one for name in stages.estimators(stage) for one in history.of_stage(name)]
    if not past and not estimates:
        return None
    text = without_seeds(config.to_yaml(dict(values)))
    if same := [one.seconds for one in past if one.text == text]:
        return _of_lengths(same, "that differ by seeds" if len(same) > 1 else "that differs by a seed")
    for one in estimates:
        hours = one.metrics.get("hours")
        if one.shape[1:] == shape[1:] and isinstance(hours, int | float) and _agrees(text, one.text):
            return Forecast(3600 * hours, 3600 * hours, f"{one.name} has estimated it")
    lengths = [one.seconds for one in past]
    return _of_lengths(lengths, f"of {stage} with other settings") if lengths else None


def _by_itself(run: RunDir, shape: Shape) -> Forecast | None:
    """Return what is left of a run that has begun, at the speed of its last attempt with as many ranks."""
    if run.result.exists() or not (steps := committed_steps(run.checkpoints)):
        return None
    n_ranks = shape.nodes * shape.ranks_per_node
    for line in reversed(allocations.attempts(run)):
        per_s, total = line.get("per_s", 0.0), line.get("total", 0)
        if per_s > 0 and total > steps[-1] and line.get("ranks") == n_ranks:
            seconds = (total - steps[-1]) / per_s
            return Forecast(seconds, seconds, f"{total - steps[-1]} of {total} steps are left, at {per_s:.3g} a second")
    return None


def _of_lengths(seconds: Sequence[float], which: str) -> Forecast:
    low, high = min(seconds), max(seconds)
    lengths = length(low) if len(seconds) == 1 else f"{length(low)} to {length(high)}"
    return Forecast(statistics.median(seconds), high, f"{many(len(seconds), 'finished run')} {which} took {lengths}")


def without_seeds(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not re.match(r"\s*seed:", line))


def _agrees(text: str, other: str) -> bool:
    """Whether the settings of an estimate are those of the run, with single ones of its own between them."""
    rest = iter(text.splitlines())
    expected = next(rest, None)
    for line in other.splitlines():
        if line == expected:
            expected = next(rest, None)
        elif line.startswith((" ", "-")):
            return False
    return expected is None


def length(seconds: float) -> str:
    """Return `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def finished(runs: Path, stage: str, most: int) -> list[RunDir]:
    """Return the last runs of a stage that have finished, the newest first."""
    results = [(_time_of(path), path.parent) for path in runs.glob(f"{stage}-*/result.json")]
    return [RunDir(folder) for _, folder in sorted(results, reverse=True)[:most]]


def settings_of(run: RunDir) -> str:
    """Return the config.yaml of a run without its seeds."""
    try:
        return without_seeds(run.config.read_text())
    except OSError:  # it is being deleted
        return ""


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""A budget: the hours that a run may spend, in all of its jobs together. `--budget 50gpuh`, `--budget 2000cpuh`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hpc.book import allocations
from hpc.book.allocations import Allocation
from hpc.runs.rundir import RunDir

Unit = Literal["gpuh", "cpuh"]
WORDS: dict[Unit, str] = {"gpuh": "GPU-hours", "cpuh": "CPU-hours"}
FOR_SAVING = 0.05
"""The most of a budget that is reserved for the last save."""


@dataclass(frozen=True)
class Budget:
    hours: float
    unit: Unit

    def __str__(self) -> str:
        return hours_text(self.hours, self.unit)

    @property
    def word(self) -> str:
        """As it is given on the command line."""
        return f"{self.hours:.12g}{self.unit}"

    def spent_by(self, each: Allocation) -> float:
        """Return the hours of this unit that an allocation has cost."""
        return each.seconds / 3600 * self.per_hour(each.cpus, each.gpus)

    def per_hour(self, cpus: int, gpus: int) -> int:
        return gpus if self.unit == "gpuh" else cpus


def number(hours: float) -> str:
    """Return hours as a person would write them: 0.0123, 3.46, 50, 1260."""
    return f"{hours:.3g}" if abs(hours) < 100 else f"{hours:.0f}"


def hours_text(hours: float, unit: Unit) -> str:
    """Return `1 GPU-hour` or `1260 CPU-hours`."""
    words = WORDS[unit]
    return f"{number(hours)} {words.removesuffix('s') if number(hours) == '1' else words}"


def parse(text: str) -> Budget:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(gpuh|cpuh)", text.strip().lower())
    if match is None or not 0 < float(match[1]) < 1e9:
        raise ValueError("hours of GPUs or of cores, as 50gpuh or 2000cpuh")
    return Budget(float(match[1]), "gpuh" if match[2] == "gpuh" else "cpuh")


def of_record(record: Mapping[str, Any] | None) -> Budget | None:
    """Return the budget that plan.json has."""
    return Budget(float(record["hours"]), record["unit"]) if record else None


def spent(run: RunDir, budget: Budget, plan: Mapping[str, Any]) -> float:
    """Return what a run has spent of its budget, by its own records."""
    return sum(map(budget.spent_by, allocations.by_records(run, plan)))

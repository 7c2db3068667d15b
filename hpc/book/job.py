"""The account of one job, kept by its supervisor: what it has, what it uses, and what is left of its run's budget."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hpc.book import allocations, budget
from hpc.book.budget import FOR_SAVING, Budget, number
from hpc.book.energy import Meter
from hpc.runs.rundir import RunDir


class Account:
    """From the start of a job to its end.

    Parameters
    ----------
    run
        The run folder.
    plan
        The content of plan.json, with the budget of the run, if it has one.
    job, restarts
        The Slurm job; or the pid of the keeper on this machine.
    environ
        That of the batch step.
    """

    def __init__(
        self, run: RunDir, plan: Mapping[str, Any], job: str, restarts: int, environ: Mapping[str, str]
    ) -> None:
        self.run, resources = run, plan["resources"]
        self.allocation = allocations.begin(run, job, restarts, environ, plan)
        self._ended = False
        earlier = [one for one in allocations.by_records(run, plan) if one.began < self.allocation.began]
        self.budget: Budget | None = budget.of_record(plan.get("budget"))
        self._before = sum(map(self.budget.spent_by, earlier)) if self.budget else 0.0
        has, is_whole = self.allocation, self.allocation.nodes == 1 or plan["site"]["kind"] != "slurm"
        self._per_hour = self.budget.per_hour(has.cpus, has.gpus) if self.budget else 0
        self._meter = Meter(has.cpus, has.gpus, environ) if is_whole else None
        whole_s = 3600 * self.budget.hours / self._per_hour if self.budget and self._per_hour else 0.0
        self._reserve_s = min(float(resources["lead_s"]), FOR_SAVING * whole_s)

    def sample(self) -> None:
        """Measure the energy, if it is time; called often."""
        if self._meter is not None:
            self._meter.sample()

    def spent(self) -> float:
        """Return the hours that the run has spent, in the unit of its budget."""
        return self._before + (time.time() - self.allocation.began) / 3600 * self._per_hour

    def is_spent(self, margin: float = 1.0) -> bool:
        """Whether the run has to save now, as the save is paid for too. `margin`: how many saves are to be left."""
        if self.budget is None or not self._per_hour:
            return False
        return self.budget.hours - self.spent() <= margin * self._reserve_s / 3600 * self._per_hour

    def sentence(self) -> str:
        """Say that the budget is spent, and how the run goes on."""
        assert self.budget is not None
        more = f"{number(2 * self.budget.hours)}{self.budget.unit}"
        return (
            f"its budget of {self.budget} is spent ({number(self.spent())}): `resume {self.run.name} --budget {more}` "
            "goes on from there"
        )

    def end(self) -> None:
        """Note the end of the job, once. Raises OSError where there is no room: then it ended when last heard of."""
        if not self._ended:
            self._ended = True
            allocations.end(self.run, self.allocation, self._meter.joules() if self._meter else None)

"""A search: its trials in their order, each a function of the outcomes of a fixed set of trials before it.

Trial k is proposed from the trials 0 … k - at_once, whichever of them end first: so `at_once` of them can run at the
same time, and the order in which they end changes nothing. With rungs, what is numbered are jobs, a trial to a rung: a
job promotes a trial or begins a new one, by the outcomes of the jobs 0 … k - at_once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpc.errors import ConfigError
from hpc.media import many
from hpc.search import halving, samplers
from hpc.search.halving import Rungs
from hpc.search.samplers import Seen
from hpc.search.space import Combination, Space


@dataclass(frozen=True)
class Search:
    space: Space
    n_trials: int
    at_once: int
    """How many jobs can run at the same time."""
    sampler: str
    seed: int
    rungs: Rungs | None = None

    def __post_init__(self) -> None:
        samplers.check(self.sampler)
        if self.space.n_combinations < self.n_trials:
            raise ConfigError(
                f"there are only {self.space.n_combinations} combinations for {many(self.n_trials, 'trial')}: a sweep "
                "takes them all, or say fewer --trials"
            )
        if self.rungs is not None:
            halving.check(self.n_trials, self.rungs)


class Job(NamedTuple):
    """A trial that is trained to a rung; without rungs, to its end."""

    trial: int
    rung: int
    combination: Combination


LossOf = Callable[[Job], float | None]
"""Returns the loss of a job, infinite if it has failed; None if it has not come to its end yet."""


class Study:
    """The jobs of a search as far as they are determined."""

    def __init__(self, search: Search, loss_of: LossOf) -> None:
        self.search = search
        self._loss_of = loss_of
        self._slots: list[Job | None] = []
        """None: there was nothing to begin, and nothing to promote yet."""
        self._losses: dict[Job, float] = {}
        self.is_over = False

    @property
    def jobs(self) -> list[Job]:
        return [job for job in self._slots if job is not None]

    def loss(self, job: Job) -> float | None:
        """Return the loss of a job, which never changes once it is known."""
        if job not in self._losses and (loss := self._loss_of(job)) is not None:
            self._losses[job] = math.inf if math.isnan(loss) else loss
        return self._losses.get(job)

    def advance(self) -> None:
        """Determine all jobs that can be, from the outcomes that are known now."""
        while not self.is_over:
            visible = [job for job in self._slots[: max(0, len(self._slots) - self.search.at_once + 1)] if job]
            if any(self.loss(job) is None for job in visible):
                return
            job = self._next(visible)
            self.is_over = job is None and len(visible) == len(self.jobs)
            self._slots += [] if self.is_over else [job]

    def _next(self, visible: list[Job]) -> Job | None:
        jobs = self.jobs
        if self.search.rungs is not None:
            losses = [(job.trial, job.rung, self._losses[job]) for job in visible]
            promoted = halving.promotion(self.search.rungs, losses, {job[:2] for job in jobs})
            if promoted is not None:
                trial, rung = promoted
                return Job(trial, rung, self.combinations[trial])
        number = len(self.combinations)
        if number == self.search.n_trials:
            return None
        tried = self.combinations
        combination = samplers.propose(
            self.search.sampler, self.search.space, self._seen(visible), tried, self.search.seed, number
        )
        return Job(number, 0, combination)

    @property
    def combinations(self) -> list[Combination]:
        """The combination of each trial."""
        return [job.combination for job in self.jobs if job.rung == 0]

    def _seen(self, visible: list[Job]) -> list[Seen]:
        last = {job.trial: job for job in visible}  # a later job of a trial is at a later rung
        return [Seen(job.combination, self._losses[job], job.rung) for _, job in sorted(last.items())]

    @property
    def best(self) -> Job | None:
        """The best job at the last rung that any has come to, of those whose losses are known."""
        known = [(-job.rung, loss, job.trial, job) for job in self.jobs if (loss := self.loss(job)) is not None]
        known = [row for row in known if math.isfinite(row[1])]
        return min(known)[-1] if known else None

    def due(self) -> list[Job]:
        """Return the jobs that are determined and have not come to their ends."""
        return [job for job in self.jobs if self.loss(job) is None]

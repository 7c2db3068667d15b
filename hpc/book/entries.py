"""The entries of the book: what each job of each run had in each month, and their sums by run, sweep, person, grant or
month.

Hours are counted as PLGrid counts them: wall hours times the cores, or the GPUs, that were allocated, used or not. A
job with GPUs is charged GPU-hours, one without CPU-hours (docs/book.md names the source).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hpc.book import allocations, sacct, spans
from hpc.book.allocations import SLURM, Allocation
from hpc.book.sacct import NOT_NOTED, Wanted
from hpc.book.spans import KINDS, Kind
from hpc.errors import ConfigError
from hpc.runs import records
from hpc.runs.rundir import Damaged, RunDir

UNKNOWN = "-"


@dataclass(frozen=True)
class Entry:
    """What one job had in one month."""

    run: str
    sweep: str
    person: str
    grant: str
    month: str
    job: str
    nodes: int
    cpus: int
    gpus: int
    seconds: dict[Kind, float]
    """Wall time, by kind."""
    queued_s: float | None
    energy_j: float | None
    source: str

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "seconds": {kind: round(seconds, 3) for kind, seconds in self.seconds.items()}}

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> Entry:
        """Read an entry of another version: what that does not know is empty, what this does not know is left out."""
        seconds = {kind: float(record["seconds"].get(kind, 0.0)) for kind in KINDS}
        values: dict[str, Any] = {each.name: record.get(each.name) for each in fields(cls)}
        return cls(**values | {"seconds": seconds})


@dataclass
class Sum:
    """A row of the book: entries added up, in hours."""

    name: str
    runs: set[str] = field(default_factory=set)
    jobs: set[tuple[str, str]] = field(default_factory=set)
    hours: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    cpu_hours: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    gpu_hours: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    charged_cpu_hours: float = 0.0
    """Those of jobs without GPUs."""
    beside_gpus_cpu_hours: float = 0.0
    """Those of jobs with GPUs."""
    queued_hours: float = 0.0
    energy_kwh: float | None = None
    """None: nothing has measured it."""
    measured_hours: float = 0.0
    """The wall hours whose energy was measured."""

    def add(self, entry: Entry) -> None:
        self.runs.add(entry.run)
        self.jobs.add((entry.run, entry.job))
        for kind, seconds in entry.seconds.items():
            hours = seconds / 3600
            self.hours[kind] += hours
            self.cpu_hours[kind] += hours * entry.cpus
            self.gpu_hours[kind] += hours * entry.gpus
            self.charged_cpu_hours += 0.0 if entry.gpus else hours * entry.cpus
            self.beside_gpus_cpu_hours += hours * entry.cpus if entry.gpus else 0.0
        self.queued_hours += (entry.queued_s or 0.0) / 3600
        if entry.energy_j is not None:
            self.energy_kwh = (self.energy_kwh or 0.0) + entry.energy_j / 3.6e6
            self.measured_hours += sum(entry.seconds.values()) / 3600

    def share(self, kind: Kind) -> float:
        """Return which part of the row is of that kind: of its GPU-hours if it has any, else of its CPU-hours."""
        hours = self.gpu_hours if any(self.gpu_hours.values()) else self.cpu_hours
        total = sum(hours.values())
        return hours[kind] / total if total else 0.0


BY: dict[str, Callable[[Entry], str]] = {
    "run": lambda entry: entry.run,
    "sweep": lambda entry: entry.sweep,
    "person": lambda entry: entry.person,
    "grant": lambda entry: entry.grant,
    "month": lambda entry: entry.month,
    "job": lambda entry: f"{entry.run} {entry.job}",
}


class Book:
    """The entries of these runs, and what could not be asked."""

    def __init__(self, runs: Sequence[RunDir], ask: Callable[[Iterable[Wanted]], sacct.Books] = sacct.ask) -> None:
        self.entries: list[Entry] = []
        self.notes: list[str] = []
        plans = {run: plan for run in runs if (plan := self._plan(run))}
        submitted = {run: _submitted(run, plan) for run, plan in plans.items()}
        books = ask(job for jobs in submitted.values() for job in jobs) if any(submitted.values()) else sacct.Books({})
        if books.silence:
            self.notes.append(f"by the records of the runs: sacct says: {books.silence}")
        for run, plan in plans.items():
            self.entries += _entries(run, plan, submitted[run], books)
        if n := len(plans) - len({entry.run for entry in self.entries}):
            self.notes.append(f"{n} of these runs had no job yet")

    def _plan(self, run: RunDir) -> records.PlanRecord:
        try:
            return records.plan(run)
        except (Damaged, ConfigError) as error:
            self.notes.append(f"{run.name} is left out: {error}")
            return {}

    def sums(self, by: str) -> list[Sum]:
        """Return the rows of the book, in the order of their names; of runs and jobs, in that of time."""
        rows: dict[str, Sum] = {}
        for entry in self.entries:
            name = BY[by](entry)
            rows.setdefault(name, Sum(name)).add(entry)
        return list(rows.values()) if by in ("run", "job") else sorted(rows.values(), key=lambda row: row.name)

    def total(self) -> Sum:
        total = Sum("total")
        for entry in self.entries:
            total.add(entry)
        return total

    @property
    def sources(self) -> dict[str, int]:
        """Return how many of the jobs are there by whose word."""
        jobs = {(entry.run, entry.job): entry.source for entry in self.entries}
        return {source: list(jobs.values()).count(source) for source in sorted(set(jobs.values()))}


def _submitted(run: RunDir, plan: records.PlanRecord) -> list[Wanted]:
    """Return the Slurm jobs of a run."""
    lines = [line for line in records.submissions(run) if line.get("kind") == "slurm" and line.get("job")]
    jobs = {
        (str(line["job"]), line.get("cluster", "")): Wanted(
            str(line["job"]), line.get("cluster", ""), line.get("name", ""), line["time"]
        )
        for line in reversed(lines)  # of several lines about one job, the first counts
    }
    if not jobs and plan.get("site", {}).get("kind") == "slurm":  # a job of the user's own (--prepare)
        of_attempts = {str(line["job"]): line["started"] for line in records.attempts(run) if line.get("job")}
        return [Wanted(job, "", "", began - ANY_WAIT_S) for job, began in of_attempts.items()]
    return list(jobs.values())


ANY_WAIT_S = 60 * 86400.0
"""How long a job may have waited whose submission nobody has noted."""


def _entries(run: RunDir, plan: records.PlanRecord, submitted: Sequence[Wanted], books: sacct.Books) -> list[Entry]:
    by_records = allocations.by_records(run, plan)
    of_slurm = [one for each in submitted for one in books.of_job.get((each.job, each.cluster), [])]
    in_books = {one.job for one in of_slurm}
    chosen = [_completed(one, by_records, plan) for one in of_slurm]
    chosen += [one for one in by_records if one.job not in in_books]
    attempts, labels = allocations.attempts(run), (records.submissions(run) or [{}])[-1]
    sweep = plan.get("label") or labels.get("label") or _array(labels.get("job", "")) or run.name
    entries = []
    for one in sorted(chosen, key=lambda one: one.began):
        months = spans.by_month(spans.split(one, attempts)) or {spans.month_of(one.began): []}
        for number, (month, pieces) in enumerate(sorted(months.items())):
            seconds: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
            for piece in pieces:
                seconds[piece.kind] += piece.seconds
            share = sum(seconds.values()) / one.seconds if one.seconds else 1.0
            entries.append(
                Entry(
                    run=run.name,
                    sweep=sweep,
                    person=one.user or allocations.owner(run) or UNKNOWN,
                    grant=one.account or UNKNOWN,
                    month=month,
                    job=f"{one.job}/{one.restarts}",
                    nodes=one.nodes,
                    cpus=one.cpus,
                    gpus=one.gpus,
                    seconds=seconds,
                    queued_s=one.queued_s if number == 0 else None,
                    energy_j=None if one.energy_j is None else one.energy_j * share,
                    source=one.source,
                )
            )
    return entries


def _array(job: str) -> str:
    array, _, element = str(job).partition("_")
    return f"array {array}" if element else ""


def _completed(one: Allocation, by_records: Sequence[Allocation], plan: records.PlanRecord) -> Allocation:
    """Return a job of Slurm's books with what those lack and the records of the run have: the GPUs, where the site does
    not note them, and the energy, where Slurm does not measure it."""
    assert one.source == SLURM
    same = sorted((other for other in by_records if other.job == one.job), key=lambda it: abs(it.began - one.began))
    if one.gpus == NOT_NOTED:
        one = replace(one, gpus=same[0].gpus if same else allocations.of_plan(plan["resources"])["gpus"])
    if one.energy_j is None and same and abs(same[0].began - one.began) < SAME_S:
        one = replace(one, energy_j=same[0].energy_j)
    return one


SAME_S = 120.0
"""How long after its job a supervisor may begin."""

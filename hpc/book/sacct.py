"""What Slurm's own books say of jobs: sacct, asked once for all of them. Their hours are those that a site charges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hpc.book.allocations import SLURM, Allocation
from hpc.slurm import commands, words

COLUMNS = (
    "JobID", "JobName", "User", "Account", "Submit", "Eligible", "Start", "ElapsedRaw", "AllocCPUS", "AllocTRES",
    "ConsumedEnergyRaw", "NNodes",
)  # fmt: skip
MOST_JOBS = 400
"""How many jobs one call asks for."""
SLACK_S = 60.0
"""By how much the clocks of Slurm and of who submits may differ."""
PATIENCE_S = 60.0


class Wanted(NamedTuple):
    """A job as its submission has noted it: a controller that was started anew gives its number to another one."""

    job: str
    cluster: str
    name: str
    submitted: float


class Books(NamedTuple):
    """The allocations of each job, and why there are none."""

    of_job: Mapping[tuple[str, str], list[Allocation]]
    silence: str = ""


def ask(jobs: Iterable[Wanted]) -> Books:
    """Return what sacct says of these jobs, by (job, cluster); each start of a requeued job is an allocation."""
    wanted = {(each.job, each.cluster): each for each in jobs}
    of_job: dict[tuple[str, str], list[Allocation]] = {}
    for cluster in sorted({cluster for _, cluster in wanted}):
        ids = sorted(job for job, of in wanted if of == cluster)
        since = min(wanted[job, cluster].submitted for job in ids) - SLACK_S
        for at in range(0, len(ids), MOST_JOBS):
            answer = commands.run(
                *("sacct", *commands.of_cluster(cluster), "-n", "-P", "-D", "-X", "-a", "-S", words.at(since)),
                *("-j", ",".join(ids[at : at + MOST_JOBS]), "-o", ",".join(COLUMNS)),
                patience_s=PATIENCE_S,
            )
            if not answer.ok:
                return Books({}, answer.error or "it does not answer")
            for row in _rows(answer.out):
                key = row["JobID"], cluster
                if key in wanted and (one := _allocation(row, wanted[key], len(of_job.get(key, [])))):
                    of_job.setdefault(key, []).append(one)
    return Books(of_job)


def _rows(text: str) -> list[dict[str, str]]:
    lines = [line.split("|") for line in text.splitlines()]
    return [dict(zip(COLUMNS, line)) for line in lines if len(line) == len(COLUMNS)]


def _allocation(row: Mapping[str, str], wanted: Wanted, restarts: int) -> Allocation | None:
    """Return what a row says; None if it is another job of that number, or one that has not started."""
    began, submitted = words.time_of(row["Start"]), words.time_of(row["Submit"])
    if began is None or submitted is None or submitted < wanted.submitted - SLACK_S:
        return None
    if wanted.name and row["JobName"] != wanted.name:
        return None
    eligible = words.time_of(row["Eligible"])
    tres = dict(part.split("=", 1) for part in row["AllocTRES"].split(",") if "=" in part)
    energy = row["ConsumedEnergyRaw"]
    return Allocation(
        job=wanted.job,
        restarts=restarts,
        began=began,
        ended=began + float(row["ElapsedRaw"] or 0),
        nodes=int(row["NNodes"] or 0),
        cpus=int(tres.get("cpu") or row["AllocCPUS"] or 0),
        gpus=_gpus(tres),
        account=row["Account"],
        user=row["User"],
        queued_s=max(0.0, began - (submitted if eligible is None else eligible)),
        energy_j=float(energy) if energy.isdecimal() and 0 < int(energy) < NO_ENERGY else None,
        source=SLURM,
    )


NO_ENERGY = 2**62
"""What some versions say where nothing measures energy is a number near the largest there is."""
NOT_NOTED = -1
"""The GPUs of a job where the site does not note them (AccountingStorageTRES without gres/gpu)."""


def _gpus(tres: Mapping[str, str]) -> int:
    """Return the GPUs of a job: their sum, or that of their types, as `gres/gpu:a100=4`."""
    if "gres/gpu" in tres:
        return int(tres["gres/gpu"])
    typed = [int(number) for name, number in tres.items() if re.match(r"gres/gpu:", name)]
    return sum(typed) if typed else NOT_NOTED

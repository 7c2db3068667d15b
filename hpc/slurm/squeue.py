"""The states of jobs: one squeue for all of them, sacct as a last resort, and neither again too soon."""

from __future__ import annotations

import os
import time

from hpc.slurm import commands, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIRST_S, LONGEST_S = 2.0, 60.0
"""How long an answer is valid; doubled each time that Slurm did not answer, or that nothing has changed."""


class Job:
    """A line of squeue."""

    def __init__(self, state: str, reason: str, start: str, name: str) -> None:
        self.state = state
        self.reason = reason
        self.start = start
        """When Slurm estimates that it starts; N/A if it has no estimate."""
        self.name = name


class Queue:
    """Asks Slurm sparingly: to look at many runs, or repeatedly, keep one Queue."""

    def __init__(self) -> None:
        self._silences: dict[str, str] = {}
        """Why squeue does not answer, by cluster."""
        self._known: dict[str, Job] = {}
        self._asked: set[str] = set()
        self._next = 0.0
        self._hold_s = FIRST_S
        self._ended: dict[str, str] = {}

    @property
    def silence(self) -> str:
        """Why squeue did not answer, or an empty text."""
        return next(iter(self._silences.values()), "")

    def silence_of(self, job: str) -> str:
        """Why squeue did not answer about this job, or an empty text."""
        return self._silences.get(cluster_of(job), "")

    def look(self, ids: Iterable[str], owners: Mapping[str, int] | None = None) -> dict[str, Job]:
        """Return the jobs that wait or run, by id; 12_3 is an element of an array, 12@b a job of the cluster b. If one
        is missing, see `silence_of`. `owners`: whose jobs they are, by id, of those that are not this user's."""
        wanted = set(ids)
        if not wanted or (wanted <= self._asked and time.monotonic() < self._next):
            return self._known
        before = {job: (line.state, line.reason) for job, line in self._known.items()}
        groups: dict[tuple[str, int], set[str]] = {}
        for job in wanted:
            of = (cluster_of(job), (owners or {}).get(job, os.getuid()))
            groups.setdefault(of, set()).add(number_of(job).partition("_")[0])
        for cluster in {cluster for cluster, _ in groups}:
            self._known = {job: line for job, line in self._known.items() if cluster_of(job) != cluster}
            self._silences.pop(cluster, None)
        for (cluster, owner), numbers in sorted(groups.items()):
            self._ask(cluster, owner, sorted(numbers))
        after = {job: (line.state, line.reason) for job, line in self._known.items()}
        unchanged = wanted <= self._asked and after == before
        self._hold_s = min(2 * self._hold_s, LONGEST_S) if self.silence or unchanged else FIRST_S
        self._asked, self._next = wanted, time.monotonic() + self._hold_s
        return self._known

    def last_state(self, id: str) -> str:
        """Return how a job ended, if squeue has said so; empty otherwise."""
        return self._ended.get(id, "")

    def _ask(self, cluster: str, owner: int, numbers: list[str]) -> None:
        """Ask for one job, or for all of one user: for a list of jobs, squeue would fetch the whole queue."""
        of_cluster, at = commands.of_cluster(cluster), f"@{cluster}" if cluster else ""
        # Slurm knows for some minutes how a job has ended; asked for all, it says so in the same answer
        asked = ("squeue", *of_cluster, "-h", "-r", "-t", "all", "-o", "%i|%T|%r|%S|%j")
        whose = ["-j", *numbers] if len(numbers) == 1 else ["--me"] if owner == os.getuid() else ["-u", str(owner)]
        answer = commands.run(*asked, *whose)
        if "--me" in whose and "--me" in answer.error:  # before 20.02
            answer = commands.run(*asked, "-u", str(owner))
        if not answer.ok and "Invalid job id" not in answer.error:
            self._silences[cluster] = f"squeue does not answer: {answer.error}"
            return
        lines = [line.split("|", 4) for line in answer.out.splitlines()]
        jobs = {f"{line[0]}{at}": Job(*line[1:]) for line in lines if len(line) == 5}
        jobs = {job: line for job, line in jobs.items() if number_of(job).partition("_")[0] in numbers}
        self._known |= {job: line for job, line in jobs.items() if line.state not in words.ENDED}
        self._ended |= {job: line.state for job, line in jobs.items() if line.state in words.ENDED}

    def ended(self, ids: Iterable[str]) -> dict[str, str]:
        """Return how jobs ended, `OUT_OF_MEMORY`, those that squeue no longer knows from sacct; without accounting it
        is not known."""
        new = sorted(set(ids) - self._ended.keys())
        for cluster in sorted({cluster_of(job) for job in new}):
            numbers = {number_of(job): job for job in new if cluster_of(job) == cluster}
            asked = ("-n", "-X", "-P", "-j", ",".join(numbers), "-o", "JobID,State")
            books = commands.run("sacct", *commands.of_cluster(cluster), *asked).out
            states = dict(line.split("|", 1) for line in books.splitlines() if "|" in line)
            self._ended |= {job: states[number] for number, job in numbers.items() if number in states}
        return {job: word for job in ids if (word := self._ended.get(job))}


def job_at(job: str, cluster: str) -> str:
    """Return the id by which Queue knows a job of a cluster; without one, its number."""
    return f"{job}@{cluster}" if cluster else job


def number_of(job: str) -> str:
    return job.partition("@")[0]


def cluster_of(job: str) -> str:
    return job.partition("@")[2]

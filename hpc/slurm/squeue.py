"""The states of jobs: one squeue for all of them, sacct as a last resort, and neither again too soon."""

from __future__ import annotations

import time

from hpc.slurm import commands, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

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
        self.silence = ""
        """Why squeue did not answer, or an empty text."""
        self._known: dict[str, Job] = {}
        self._asked: set[str] = set()
        self._next = 0.0
        self._hold_s = FIRST_S
        self._ended: dict[str, str] = {}

    def look(self, ids: Iterable[str]) -> dict[str, Job]:
        """Return the jobs that wait or run, by id; 12_3 is an element of an array. If one is missing, see `silence`."""
        wanted = set(ids)
        if not wanted or (wanted <= self._asked and time.monotonic() < self._next):
            return self._known
        before = {job: (line.state, line.reason) for job, line in self._known.items()}
        arrays = sorted({job.partition("_")[0] for job in wanted})
        # Slurm knows for some minutes how a job has ended; asked for all, it says so in the same answer
        answer = commands.run("squeue", "-h", "-r", "-t", "all", "-j", ",".join(arrays), "-o", "%i|%T|%r|%S|%j")
        unknown = "Invalid job id" in answer.error
        self.silence = "" if answer.ok or unknown else f"squeue does not answer: {answer.error}"
        if not self.silence:
            lines = [line.split("|", 4) for line in answer.out.splitlines()]
            jobs = {line[0]: Job(*line[1:]) for line in lines if len(line) == 5}
            self._known = {job: line for job, line in jobs.items() if line.state not in words.ENDED}
            self._ended |= {job: line.state for job, line in jobs.items() if line.state in words.ENDED}
        after = {job: (line.state, line.reason) for job, line in self._known.items()}
        unchanged = wanted <= self._asked and after == before
        self._hold_s = min(2 * self._hold_s, LONGEST_S) if self.silence or unchanged else FIRST_S
        self._asked, self._next = wanted, time.monotonic() + self._hold_s
        return self._known

    def last_state(self, id: str) -> str:
        """Return how a job ended, if squeue has said so; empty otherwise."""
        return self._ended.get(id, "")

    def ended(self, ids: Iterable[str]) -> dict[str, str]:
        """Return how jobs ended, `OUT_OF_MEMORY`, those that squeue no longer knows from sacct; without accounting it
        is not known."""
        new = sorted(set(ids) - self._ended.keys())
        if new:
            books = commands.run("sacct", "-n", "-X", "-P", "-j", ",".join(new), "-o", "JobID,State").out
            states = dict(line.split("|", 1) for line in books.splitlines() if "|" in line)
            self._ended |= {job: states[job] for job in new if job in states}
        return {job: word for job in ids if (word := self._ended.get(job))}

"""When Slurm would start a job, by what `sbatch --test-only` prints; the same on 22.05 and on 24.11."""

from __future__ import annotations

import re
import time

from hpc.slurm import words

SOON_S = 60
_FINAL = re.compile(
    r"invalid (partition|account|qos|wckey|reservation|feature|generic resource)|not permitted|must specify", re.I
)
"""Words of a refusal that stands, whatever the nodes do. Of `Requested node configuration is not available` nobody can
tell: Slurm says it of more nodes than there are, which it refuses, and of nodes that are drained, which a job may wait
for."""


class Answer:
    """What Slurm says of a script: when and where it would start, or why it cannot now, or why it is silent."""

    def __init__(
        self, start_s: float | None = None, nodes: str = "", refusal: str = "", silence: str = ""
    ) -> None:  # fmt: skip
        self.start_s = start_s
        """In seconds since the epoch."""
        self.nodes = nodes
        self.refusal = refusal
        self.silence = silence

    @property
    def is_final(self) -> bool:
        """Whether sbatch would refuse the job as well."""
        return bool(_FINAL.search(self.refusal))

    def __str__(self) -> str:
        if self.start_s is not None:
            return f"{at(self.start_s)} on {self.nodes}, Slurm estimates"
        says = "Slurm would not take it" if self.is_final else "not known, as Slurm says"
        return f"{says}: {self.refusal}" if self.refusal else self.silence


def at(start_s: float) -> str:
    """Return `at once`, or the time, in words."""
    soon = start_s - time.time() < SOON_S
    return "at once" if soon else time.strftime("%a %d %b %H:%M", time.localtime(start_s))


def read(code: int | None, message: str) -> Answer:
    """Parse how the command ended, and its stderr."""
    if code is None:
        return Answer(silence=f"not known: {message}")
    if estimate := re.search(r"to start at (\S+) .*?on nodes (\S+)", message):
        start_s = words.time_of(estimate[1])
        return Answer(silence=f"not known: {message}") if start_s is None else Answer(start_s, estimate[2])
    return Answer(refusal=re.sub(r"sbatch: (error: )?|allocation failure: ", "", message))

"""A malleable run (--nodes 1-4) in its job: it goes on without nodes that died, and chooses anew how many it gets next.

The job has --no-kill, with which a node that dies leaves the job and does not end it. srun then starts the ranks on the
nodes that are left.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hpc.media import many
from hpc.runs.rundir import RunDir
from hpc.slurm import commands, start_estimate
from hpc.slurm.start_estimate import Answer
from hpc.supervise import shapes
from hpc.supervise.requeue import Job
from hpc.supervise.shapes import Choice

GONE = ("down", "fail", "error", "unknown", "power", "not_resp")
"""The states of nodes, as sinfo has them, on which nothing can be started."""

ASKING_S = 60.0
"""For how long Slurm is asked at most about the next number of nodes."""


class Malleable:
    """The numbers of nodes that a run may have, and the nodes of its job.

    Parameters
    ----------
    run
        The run folder.
    job
        The job around the supervisor.
    resources
        Those of plan.json, with the current layout, which `shrink` changes.
    """

    def __init__(self, run: RunDir, job: Job, resources: dict[str, Any]) -> None:
        self.run = run
        self.job = job
        self.resources = resources
        self.node_counts: Sequence[int] = resources["node_counts"]
        self.n_of_job = job.nodes
        """How many nodes the job asks for, and would get again; None: it has lost some."""
        self.bad_nodes: set[str] = set()
        """Those of this job that the run has done without."""

    def shrink(self, bad_nodes: Sequence[str]) -> str:
        """Lay the ranks out on the nodes of the job that are left and are not bad; return what has changed, in a
        sentence, or an empty text if nothing has, or too few nodes are left."""
        self.bad_nodes |= set(bad_nodes)
        here = self.nodes([*self.bad_nodes])
        before: int = self.resources["nodes"]
        n = max((count for count in self.node_counts if count <= len(here)), default=0)
        if not n or n >= before:
            return ""
        self.resources |= {"nodes": n, "on_nodes": here[:n]}
        self.n_of_job = None
        return f"goes on with {many(n, 'node')} of {before}, {', '.join(here[:n])}, in the same job"

    def nodes(self, bad_nodes: Sequence[str] = ()) -> list[str]:
        """Return the nodes of the job that are left, without those that are bad, or on which nothing can be started."""
        left = commands.run("squeue", "-h", "-j", self.job.id, "-o", "%N")
        names = commands.run("scontrol", "show", "hostnames", left.out.strip()) if left.out.strip() else left
        states = commands.run("sinfo", "-h", "-N", "-n", ",".join(names.out.split()), "-o", "%N|%T")
        return usable(names.out.split(), states.out.splitlines(), bad_nodes)

    def next(self, bad_nodes: Sequence[str], until: float, preempted: bool) -> Choice:
        """Choose the number of nodes of the next job. The nodes of this one are free by then, unless they were taken
        away by a preemption: they are not asked for, and what is asked is when as many others are free as are needed
        besides.

        `until`: when the requeue must be done (monotonic).
        """
        own = self.nodes(bad_nodes)
        now = time.monotonic()
        until = now + min(ASKING_S, (until - now) / 3)  # what is left is for the requeue itself
        counts = shapes.asked_for(self.node_counts)
        at_once = {n: Answer(time.time(), "its own nodes") for n in counts if n <= len(own) and not preempted}
        others = {n: self._ask(n, own, bad_nodes, preempted, until) for n in counts if n not in at_once}
        pace = shapes.pace_of(self.run, self.resources, counts[0], self.run.config.read_text())
        return shapes.choose(at_once | others, pace, time.time())

    def _ask(self, n: int, own: Sequence[str], bad_nodes: Sequence[str], preempted: bool, until: float) -> Answer:
        """Ask Slurm when nodes could start that are no nodes of this job."""
        patience_s = min(commands.ASK_S, until - time.monotonic())
        if patience_s <= 0:
            return Answer(silence="not known: no time left to ask")
        n_more = n if preempted else n - len(own)
        avoided = [*filter(None, [self.resources["options"].get("exclude")]), *bad_nodes, *([] if preempted else own)]
        exclude = [f"--exclude={','.join(avoided)}"] if avoided else []
        words = ("sbatch", "--test-only", f"--nodes={n_more}", *exclude)
        answer = commands.run(*words, patience_s=patience_s, text=self.run.script.read_text())
        return start_estimate.read(answer.code, answer.error)


def usable(names: Sequence[str], states: Sequence[str], bad_nodes: Sequence[str]) -> list[str]:
    """Return the names of nodes that can be used. `states`: lines NODE|STATE; a star is for one that does not
    answer."""
    state_of: Mapping[str, str] = dict(line.split("|", 1) for line in states if "|" in line)
    gone = {name for name, state in state_of.items() if state.endswith("*") or state.lower().startswith(GONE)}
    return [name for name in names if name not in gone and name not in bad_nodes]

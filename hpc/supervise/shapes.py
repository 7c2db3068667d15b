"""The number of nodes of a malleable run (--nodes 1-4): the one with which it would be done first.

When it would start is Slurm's estimate. How long it would take follows from how fast it was: in earlier attempts, or in
finished runs whose settings differ by a seed only; without either, from an assumption, which is named.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hpc.book.forecast import finished, length, settings_of, without_seeds
from hpc.media import many
from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps
from hpc.slurm import start_estimate
from hpc.slurm.start_estimate import Answer

SCALING = 0.85
"""Where it is not measured, n times the nodes are n ** SCALING times as fast: twice the nodes 1.8 times."""
MOST_ASKED = 8
"""For how many numbers of nodes Slurm is asked at most."""
MOST_LIKE = 20
"""How many finished runs of the stage, the newest, are looked at for one with the same settings."""
UNKNOWN_S = 86400.0
"""How long it is taken to run if there is not even a walltime."""


class Pace(NamedTuple):
    """What is known of a run's speed."""

    per_s: Mapping[int, float]
    """Steps a second, by the number of nodes with which that was measured; may be empty."""
    n_left: int | None
    """The steps that are left, if it is known."""
    whole_s: float
    """How long it is taken to run on `fewest` nodes, if nothing is measured."""
    fewest: int
    of: str = ""
    """In which run it was measured, if it was another one."""

    @property
    def is_measured(self) -> bool:
        return bool(self.per_s) and self.n_left is not None

    def seconds(self, n_nodes: int) -> float:
        """Return how long the rest would take on so many nodes."""
        if not self.per_s or self.n_left is None:
            return self.whole_s * (self.fewest / n_nodes) ** SCALING
        nearest = min(self.per_s, key=lambda n: (abs(n - n_nodes), n))
        return self.n_left / (self.per_s[nearest] * (n_nodes / nearest) ** SCALING)

    def __str__(self) -> str:
        scaling = "twice the nodes are taken to be 1.8 times as fast"
        if not self.is_measured:
            on = many(self.fewest, "node")
            return f"its speed is not known: taken to need {length(self.whole_s)} on {on}, and {scaling}"
        speeds = ", ".join(f"{per_s:.3g} steps/s on {many(n, 'node')}" for n, per_s in sorted(self.per_s.items()))
        return f"measured{self.of and f' in {self.of}'}: {speeds}; elsewhere {scaling}"


class Choice(NamedTuple):
    """The number of nodes that is taken, and why."""

    nodes: int
    why: str


def choose(answers: Mapping[int, Answer], pace: Pace, now: float) -> Choice:
    """Return the number of nodes with which the run would be done first; of equals, the fewest. If Slurm says nothing
    of any, the fewest, which may be more at the next requeue."""
    done = {
        n: max(now, answer.start_s) + pace.seconds(n) for n, answer in answers.items() if answer.start_s is not None
    }
    if not done:
        fewest = min(answers)
        return Choice(fewest, f"{many(fewest, 'node')}, the fewest: {answers[fewest]}")
    best = min(done, key=lambda n: (done[n], n))
    rows = [_row(n, answer, pace) for n, answer in sorted(answers.items()) if n != best]
    others = f", sooner than {'; '.join(rows)}" if rows else ""
    return Choice(best, f"{_row(best, answers[best], pace)} is done first{others} ({pace})")


def _row(n: int, answer: Answer, pace: Pace) -> str:
    if answer.start_s is None:
        return f"{many(n, 'node')}: {answer}"
    return f"{many(n, 'node')} (starts {start_estimate.at(answer.start_s)}, then {length(pace.seconds(n))})"


def asked_for(counts: Sequence[int]) -> list[int]:
    """Return for which numbers of nodes Slurm is asked: all, or of many the fewest, the most, and some in between, each
    by the same factor more than the last."""
    if len(counts) <= MOST_ASKED:
        return list(counts)
    low, high = counts[0], counts[-1]
    wanted = [low * (high / low) ** (place / (MOST_ASKED - 1)) for place in range(MOST_ASKED)]
    return sorted({min(counts, key=lambda n: abs(n - each)) for each in wanted})


def pace_of(run: RunDir, resources: Mapping[str, Any], fewest: int, config: str) -> Pace:
    """Return what is known of the speed of a run. `config`: its config.yaml, as it is or will be."""
    own = _measured(run, resources)
    whole_s = float(resources["time_s"] or UNKNOWN_S)
    if own.per_s:
        return own._replace(whole_s=whole_s, fewest=fewest)
    for other in _like(run, config):
        measured = _measured(other, resources)
        if measured.per_s:
            n_left = measured.n_left if own.n_left is None else own.n_left
            return Pace(measured.per_s, n_left, whole_s, fewest, other.name)
    return own._replace(whole_s=whole_s, fewest=fewest)


def _measured(run: RunDir, resources: Mapping[str, Any]) -> Pace:
    """Return the speed of a run in its attempts with as many ranks a node, and what it has left; of a finished one, all
    its steps."""
    lines = records.attempts(run)
    per_s = {
        line["nodes"]: line["per_s"]
        for line in lines
        if line.get("per_s") and line["ranks"] == line["nodes"] * resources["ranks_per_node"]
    }
    total = next((line["total"] for line in reversed(lines) if line.get("total")), None)
    saved = committed_steps(run.checkpoints)
    n_done = 0 if run.result.exists() else saved[-1] if saved else 0
    return Pace(per_s, None if total is None else max(0, total - n_done), UNKNOWN_S, 1)


def _like(run: RunDir, config: str) -> list[RunDir]:
    """Return finished runs of the same stage whose settings differ by seeds only, the newest first."""
    stage = run.name.partition("-")[0]
    others = [other for other in finished(run.path.parent, stage, MOST_LIKE) if other.path != run.path]
    settings = without_seeds(config)
    return [other for other in others if settings_of(other) == settings]


def speed(heartbeat: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """Return what an attempt notes of its speed, by the last heartbeat of its first rank."""
    if heartbeat.get("attempt") != attempt or not heartbeat.get("total"):
        return {}
    n_done = heartbeat.get("done", 0) - heartbeat.get("from", 0)
    seconds = heartbeat.get("time", 0.0) - heartbeat.get("began", 0.0)
    per_s = n_done / seconds if n_done > 0 and seconds > 0 else 0.0
    return {"total": heartbeat["total"], "per_s": per_s, "done": heartbeat.get("done", 0)}

"""`why --slow`: what bounds the speed of a run, and which node or rank the others wait for.

Ranks that share their steps are equally fast, as each waits for the last one. So who is slow waits least: what counts
is the time that a rank needs for itself, next to the median of the others.
"""

from __future__ import annotations

from statistics import median

from hpc import media
from hpc.runs import records, status
from hpc.runs.speed import pace
from hpc.runs.speed.pace import KEPT_RANKS, PHASES, Pace
from hpc.slurm.squeue import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from hpc.runs.rundir import RunDir
    from hpc.runs.status import State

LAUNCH = "python -m hpc.launch"
LATE = 0.2
"""A rank is slow if it needs so much more for itself, as a share of a step."""
LATE_S = 1.0
"""And if that has cost so many seconds in all: below, it is chance."""
SHOWN = 12
"""Ranks in the table."""
WAIT = PHASES.index("wait")


class RankPace:
    """A rank, its node, and how its time went."""

    def __init__(self, rank: int, host: str, pace: Pace) -> None:
        self.rank, self.host, self.pace = rank, host, pace

    @property
    def own_s(self) -> float:
        """What a step takes without waiting for other ranks."""
        return sum(self.pace.step_s) - self.pace.step_s[WAIT]


class Late:
    """Who is slow, and in what. `where`: a node, or a rank of one; `more_s`: more seconds a step than the others."""

    def __init__(self, where: str, host: str, phase: str, here_s: float, others_s: float, more_s: float) -> None:
        self.where, self.host, self.phase = where, host, phase
        self.here_s, self.others_s, self.more_s = here_s, others_s, more_s


class Explanation:
    """The answer. Its fields are those of `why --slow --json`."""

    def __init__(self, run: str, word: str) -> None:
        self.run, self.word = run, word
        self.bound = ""
        """What bounds the run: data, compute, network or save; empty if nothing is known."""
        self.node = ""
        """The slow node, or that of the slow rank; empty if none is."""
        self.text = ""
        self.next: list[str] = []
        self.ranks: list[dict[str, Any]] = []
        """For each rank its node, its steps, and the seconds of a step in each phase."""


def paces_to_keep(heartbeats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what an attempt keeps of the last heartbeats of its ranks; nothing of very many."""
    if len(heartbeats) > KEPT_RANKS:
        return {}
    read = {heartbeat["rank"]: (heartbeat.get("host", ""), pace.of(heartbeat)) for heartbeat in heartbeats}
    return {
        str(rank): {"host": host, "pace": Pace(each.steps, each.seconds).to_json()}
        for rank, (host, each) in read.items()
        if each
    }


def explain(run: RunDir) -> Explanation:
    """Read the paces of a run, and say what bounds it."""
    state = status.look(run, Queue())
    return judge(state, ranks_of(run, lately=state.word == "running"))


def ranks_of(run: RunDir, lately: bool = False) -> list[RankPace]:
    """Return the ranks of the last attempt that has done steps. `lately`: how they were in the last minute."""
    heartbeats = records.all_heartbeats(run)
    newest = max((heartbeat.get("attempt", 0) for heartbeat in heartbeats.values()), default=0)
    now = {str(rank): record for rank, record in heartbeats.items() if record.get("attempt", 0) == newest}
    kept = [line["paces"] for line in reversed(records.attempts(run)) if line.get("paces")]
    for each in [now, *kept] if lately else [*kept, now]:
        ranks = list(_ranks(each, lately))
        if any(rank.pace.steps for rank in ranks):
            return ranks
    return []


def _ranks(paces: Mapping[str, Any], lately: bool) -> Iterable[RankPace]:
    for rank, record in sorted((int(rank), record) for rank, record in paces.items() if rank.isdecimal()):
        if whole := pace.of(record):
            recent = whole.lately if lately else whole
            yield RankPace(rank, str(record.get("host", "")), recent if recent.steps else whole)


def judge(state: State, ranks: Sequence[RankPace]) -> Explanation:
    """Say what bounds a run. Reads nothing, and asks nobody."""
    answer = Explanation(state.run, state.word)
    ranks = [rank for rank in ranks if rank.pace.steps]
    if not ranks:
        answer.text = "no rank has noted how long its steps take: it has done none yet, or is of an earlier version"
        answer.next = [f"{LAUNCH} why {state.run}"]
        return answer
    answer.ranks = [
        {"rank": each.rank, "node": each.host, "steps": each.pace.steps}
        | {name: round(seconds, 4) for name, seconds in zip(PHASES, each.pace.step_s, strict=True)}
        for each in ranks
    ]
    step_s = median(sum(each.pace.step_s) for each in ranks)
    if late := who_is_late(ranks):
        answer.bound, answer.node = late.phase, late.host
        answer.text = (
            f"{late.phase} bounds it, on {late.where}: a step spends {_s(late.here_s)} in {late.phase} there, and "
            f"{_s(late.others_s)} elsewhere; for the {_s(late.more_s)} more, the others wait in every step of "
            f"{_s(step_s)}"
        )
    else:
        shares = [median(each.pace.step_s[at] for each in ranks) for at in range(len(PHASES))]
        at = shares.index(max(shares))
        answer.bound = "network" if at == WAIT else PHASES[at]
        whom = " (waiting for each other, and no rank is late)" if at == WAIT else ""
        alike = "; all ranks are alike" if len(ranks) > 1 and at != WAIT else ""
        answer.text = (
            f"{answer.bound} bounds it: {_s(shares[at])} of a step of {_s(step_s)}, "
            f"{100 * shares[at] / max(step_s, 1e-9):.0f} %{whom}{alike}"
        )
    answer.next = _next(state, answer, late)
    return answer


def who_is_late(ranks: Sequence[RankPace]) -> Late | None:
    """Return the node, or the rank, for which the others wait; None if there is none."""
    slow = [each for each in ranks if _more_s(each, ranks) > 0]
    if not slow or len(ranks) < 2:
        return None
    last = max(slow, key=lambda each: _more_s(each, ranks))
    neighbours = [each for each in ranks if each.host == last.host]
    others = [each for each in ranks if each.host != last.host] or [each for each in ranks if each is not last]
    phase, more_s = max(
        (
            (at, last.pace.step_s[at] - median(each.pace.step_s[at] for each in others))
            for at in range(len(PHASES))
            if at != WAIT
        ),
        key=lambda one: one[1],
    )
    of_node = len(neighbours) < len(ranks) and all(each in slow for each in neighbours)
    where = last.host if of_node else f"rank {last.rank}{f' of {last.host}' if last.host else ''}"
    others_s = median(each.pace.step_s[phase] for each in others)
    return Late(where, last.host, PHASES[phase], last.pace.step_s[phase], others_s, more_s)


def _more_s(rank: RankPace, ranks: Sequence[RankPace]) -> float:
    """Return what a rank needs more for itself in a step than most; 0 if that is little."""
    others = [each.own_s for each in ranks if each.host != rank.host] or [
        each.own_s for each in ranks if each is not rank
    ]
    if not others:
        return 0.0
    more_s = rank.own_s - median(others)
    step_s = median(sum(each.pace.step_s) for each in ranks)
    return more_s if more_s > LATE * step_s and more_s * rank.pace.steps > LATE_S else 0.0


def _next(state: State, answer: Explanation, late: Late | None) -> list[str]:
    """Return commands that would help, the most likely first."""
    resume = f"{LAUNCH} resume {state.run}"
    stop = f"{LAUNCH} stop {state.run}"
    if state.word == "finished":
        return []
    many_nodes = state.on_slurm and len({each["node"] for each in answer.ranks}) > 1
    ways = {
        "data": [f"{resume} --stage auto", f"{resume} --cpus 8"],
        "compute": [f"{resume} --nodes {2 * max(state.nodes, 1)}"] if state.on_slurm else [],
        "network": [f"{resume} --nodes {max(state.nodes // 2, 1)}"] if state.nodes > 1 else [],
        "save": [f"{LAUNCH} logs {state.run}"],
    }[answer.bound]
    if late is not None:
        ways = [f"{resume} --exclude {late.host}"] if many_nodes and late.host else ways if late.phase == "data" else []
    ways = ways or [f"{LAUNCH} logs {state.run}"]
    is_stopped_first = not state.ended and ways[0].startswith(resume)
    return [f"{stop} && {ways[0]}", *ways[1:]] if is_stopped_first else ways


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1e3 * seconds:.1f} ms"


def text(answer: Explanation) -> str:
    """Format an explanation for a terminal."""
    rows = [f"{answer.run} is {answer.word}", "", media.one_line(answer.text)]
    rows += [""] if answer.next else []
    rows += [f"  {'next' if not number else '  or'}  {command}" for number, command in enumerate(answer.next)]
    if not answer.ranks:
        return "\n".join(rows)
    worst = sorted(answer.ranks, key=lambda each: (each["wait"], each["rank"]))[:SHOWN]
    width = max([4, *(len(str(each["node"])) for each in worst)])
    head = "".join(f"{name:>10}" for name in PHASES)
    rows += ["", "seconds a step; who waits least, the others wait for", f"  rank  {'node':<{width}}{head}     steps"]
    for each in worst:
        seconds = "".join(f"{each[name]:>10.4f}" for name in PHASES)
        rows.append(f"  {each['rank']:>4}  {media.one_line(each['node']):<{width}}{seconds}{each['steps']:>10}")
    left = len(answer.ranks) - len(worst)
    return "\n".join([*rows, *([f"  and {media.many(left, 'rank')} more (--json has them)"] if left else [])])

"""What the plan says of its cost: about how many hours, when it ends, and a walltime whose tail is not wasted."""

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.book import forecast
from hpc.book.budget import WORDS, Unit, hours_text
from hpc.book.forecast import Forecast, History, Wait, length
from hpc.config import stages
from hpc.media import many
from hpc.plan.plan import Plan
from hpc.site.profile import Partition, duration_s
from hpc.submit.budgets import job_of

MARGIN = 1.2
"""A walltime is proposed that is so many times as long as the longest run like it."""
START_UP_S = 300.0
"""What is added to it, for the start of the job."""
ROUND_S = 600.0
"""Proposed walltimes are multiples of ten minutes."""
WASTED = 2.0
"""A walltime is too long if it is so many times as long as what is needed."""


def noted(plans: Sequence[Plan]) -> list[Plan]:
    """Return the plans with what each of them will cost, as far as runs before it tell. What they read comes before
    them."""
    history = History(Path(plans[0].runs))
    known = [plan if plan.run.result.exists() else _with_forecast(plan, history) for plan in plans]
    ends_s: dict[str, float | None] = {}
    result = []
    for plan in known:
        waits = history.waits(plan.site.name, plan.resources.partition) if plan.site.kind == "slurm" else []
        ends_s[plan.science.name] = _end_s(plan, ends_s, _median(waits))
        result.append(dataclasses.replace(plan, cost=tuple(_rows(plan, waits, ends_s[plan.science.name]))))
    return result


def _with_forecast(plan: Plan, history: History) -> Plan:
    shape = forecast.shape_of(plan.site.name, dataclasses.asdict(plan.resources))
    science = plan.science
    known = forecast.forecast(history, plan.run, science.stage, science.config, shape)
    return dataclasses.replace(plan, forecast=known)


def _end_s(plan: Plan, ends_s: Mapping[str, float | None], wait_s: float) -> float | None:
    """Return in how many seconds a run ends: after those it reads, its time in the queue, and its own; None if one of
    them is not known."""
    if plan.run.result.exists():
        return 0.0
    inputs = [ends_s[name] for name in plan.science.inputs.values() if name in ends_s]
    if plan.forecast is None or None in inputs:
        return None
    return max([0.0, *filter(None, inputs)]) + wait_s + plan.forecast.seconds


def _rows(plan: Plan, waits: Sequence[Wait], end_s: float | None) -> list[tuple[str, str]]:
    """Return the rows of a plan that is not finished. `end_s`: in how many seconds it ends, if that is known."""
    known, time_s = plan.forecast, plan.resources.time_s
    if plan.run.result.exists() or (known is None and time_s is None):
        return []
    most = f"at most {_hours(plan, time_s)} in a job of its walltime" if time_s is not None else ""
    if known is None:
        ways = stages.estimators(plan.science.stage)
        how = f"; `hpc {ways[0]}` with the same settings finds out" if ways else ""
        return [("cost", f"{most}; nothing like it is finished here yet, so how long it takes is not known{how}")]
    if (limit := plan.budget) is not None:
        job = job_of(plan)
        if known.seconds / 3600 * limit.per_hour(int(job["cpus"]), int(job["gpus"])) > limit.hours:
            most = f"{most}{most and '; '}more than its budget, so it will stop before its end"
    rows = [("cost", f"about {_hours(plan, known.seconds)} ({known.why}){most and f'; {most}'}")]
    if end_s is not None:
        waited = f", as {many(len(waits), 'job')} before it did in the median" if len(waits) > 1 else ""
        waiting = f"waits {length(_median(waits))}{waited}" if waits else "if it starts at once"
        before = "after what it reads, " if end_s > _median(waits) + known.seconds else ""
        rows.append(("ends", f"{_at(end_s)}: {before}{waiting}, and takes {length(known.seconds)}"))
    return [*rows, *([("--time", text)] if (text := walltime(plan, known, waits)) else [])]


def _median(waits: Sequence[Wait]) -> float:
    return statistics.median(wait.queued_s for wait in waits) if waits else 0.0


def _hours(plan: Plan, seconds: float) -> str:
    unit, per_hour = _unit(plan)
    return hours_text(seconds / 3600 * per_hour, unit)


def _unit(plan: Plan) -> tuple[Unit, int]:
    """Return the unit in which a job is charged, and how many of it an hour costs."""
    job = job_of(plan)
    return ("gpuh", int(job["gpus"])) if job["gpus"] else ("cpuh", int(job["cpus"]))


def _at(seconds: float) -> str:
    return time.strftime("about %a %d %b %H:%M", time.localtime(time.time() + seconds))


def walltime(plan: Plan, known: Forecast, waits: Sequence[Wait] = ()) -> str:
    """Propose a walltime that is enough and not much more; or, if the run needs several jobs, one that fills all of
    them. Empty if the plan's own does. `waits`: of jobs before it, in its partition."""
    time_s, limit_s = plan.resources.time_s, _limit_s(plan)
    if time_s is None or plan.site.kind != "slurm":
        return ""
    need_s = _rounded(MARGIN * known.most_s + START_UP_S + plan.resources.lead_s)
    if need_s <= time_s:
        if time_s < WASTED * need_s:
            return ""
        return f"{_word(need_s)} is enough; {_of_the_queue(waits, math.sqrt(need_s * time_s))}"
    if limit_s is not None and need_s <= limit_s:
        return f"{_word(need_s)} does it in one job; with {length(time_s)} it has to wait in the queue again"
    usable_s = time_s - plan.resources.lead_s - START_UP_S
    if usable_s <= 0:
        return ""
    n_jobs = math.ceil(known.most_s / usable_s)
    even_s = _rounded(MARGIN * known.most_s / n_jobs + START_UP_S + plan.resources.lead_s)
    last_s = known.most_s - (n_jobs - 1) * usable_s
    if n_jobs > 1 and last_s < usable_s / 2 and even_s < time_s:
        return f"{_word(even_s)} fills all of {n_jobs} jobs; with {length(time_s)} the last needs {length(last_s)}"
    return ""


def _of_the_queue(waits: Sequence[Wait], between_s: float) -> str:
    """Say what the queue has made of jobs that are shorter than that, and of longer ones."""
    short, long = [one for one in waits if one.time_s <= between_s], [one for one in waits if one.time_s > between_s]
    if not short or not long:
        return "a shorter job often starts sooner"
    return f"such jobs have waited {length(_median(short))} here, longer ones {length(_median(long))}"


def _limit_s(plan: Plan) -> int | None:
    limits = plan.site.partitions.get(plan.resources.partition, Partition())
    return duration_s(limits.max_time) if limits.max_time else None


def _rounded(seconds: float) -> int:
    return int(math.ceil(seconds / ROUND_S) * ROUND_S)


def _word(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}m"


def in_all(plans: Sequence[Plan], at_once: int | None) -> str:
    """Return what several runs will cost together, and when the last of them ends; empty for one, or if nothing of it
    is known. `at_once`: how many run at the same time, of those that do not wait for each other; None: all."""
    missing = [plan for plan in plans if not plan.run.result.exists()]
    if len(missing) < 2:
        return ""
    hours: dict[Unit, float] = {"gpuh": 0.0, "cpuh": 0.0}
    most = dict(hours)
    for plan in missing:
        unit, per_hour = _unit(plan)
        hours[unit] += (plan.forecast.seconds if plan.forecast else 0.0) / 3600 * per_hour
        most[unit] += (plan.resources.time_s or 0) / 3600 * per_hour
    unknown = [plan for plan in missing if plan.forecast is None]
    parts = [many(len(missing), "run")]
    if len(unknown) < len(missing):
        rest = f" and {len(unknown)} of unknown length" if unknown else ""
        parts.append(f"about {_sum(hours)}{rest}")
    parts += [f"at most {_sum(most)} in one job each"] if any(most.values()) else []
    if not unknown:
        one_by_one = missing[0].site.kind != "slurm"
        seconds = _until_the_last(missing, 1 if one_by_one else at_once)
        parts.append(f"done {_at(seconds)} if they start now{_of(1 if one_by_one else at_once)}")
    return "; ".join(parts) if len(parts) > 1 else ""


def _of(at_once: int | None) -> str:
    return "" if at_once is None else ", one after the other" if at_once == 1 else f", {at_once} at a time"


def _sum(hours: Mapping[Unit, float]) -> str:
    known = [hours_text(hours[unit], unit) for unit in WORDS if hours[unit]]
    return " and ".join(known) or hours_text(0.0, "cpuh")


def _until_the_last(plans: Sequence[Plan], at_once: int | None) -> float:
    """Return after how many seconds the last run ends: sections come one after the other, and the runs of a section
    share the places that there are, the longest first."""
    seconds: dict[str, list[float]] = {}
    for plan in plans:
        seconds.setdefault(plan.science.section, []).append(plan.forecast.seconds if plan.forecast else 0.0)
    total = 0.0
    for lengths in seconds.values():
        places = [0.0] * min(at_once or len(lengths), len(lengths))
        for one in sorted(lengths, reverse=True):
            places[places.index(min(places))] += one
        total += max(places)
    return total

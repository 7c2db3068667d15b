"""Refuses runs that a budget cannot pay for, and gives each of the others its part of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hpc.book import allocations, budget
from hpc.book.budget import FOR_SAVING, Budget, hours_text, number
from hpc.errors import ConfigError
from hpc.media import many
from hpc.plan.plan import Plan
from hpc.runs import records


def shared(plans: Sequence[Plan], limit: Budget) -> list[Plan]:
    """Return the plans, each with its part of a budget for all of them together: in proportion to what it has spent and
    what one job of its walltime costs. What they have spent before counts. Refuse what cannot be paid."""
    missing = [plan for plan in plans if not plan.run.result.exists()]
    if not missing:
        return list(plans)
    if limit.unit == "gpuh" and not any(_per_hour(plan, limit) for plan in missing):
        raise ConfigError(f"--budget {limit.word}: these runs ask for no GPU: say the hours of cores, as 2000cpuh")
    spent = {plan.science.name: _spent(plan, limit) for plan in plans}
    costs = {plan.science.name: job_cost(plan, limit) for plan in missing}
    left = limit.hours - sum(spent[plan.science.name] for plan in plans if plan not in missing)
    begun = sum(spent[name] for name in costs)
    needed = begun + sum(costs.values())
    if needed > left or left - begun <= FOR_SAVING * limit.hours:
        raise _cannot_be_paid(missing, limit, sum(spent.values()), sum(costs.values()))
    weights = {name: spent[name] + cost for name, cost in costs.items()}
    if not all(weights.values()):  # without a walltime nothing says which of them costs more
        weights = {name: weight + 1e-9 for name, weight in weights.items()}
    whole = sum(weights.values())
    parts = {name: Budget(left * weight / whole, limit.unit) for name, weight in weights.items()}
    return [dataclasses.replace(plan, budget=parts.get(plan.science.name)) for plan in plans]


def job_cost(plan: Plan, limit: Budget) -> float:
    """Return the hours of one job of a plan that lasts its walltime; 0 without a walltime."""
    return _per_hour(plan, limit) * (plan.resources.time_s or 0) / 3600


def job_of(plan: Plan) -> dict[str, Any]:
    """Return the nodes, cores and GPUs of a job of the plan."""
    resources = dataclasses.asdict(plan.resources)
    return allocations.of_run({"site": {"kind": plan.site.kind}, "resources": resources, "asked": plan.asked})


def _per_hour(plan: Plan, limit: Budget) -> int:
    job = job_of(plan)
    return limit.per_hour(int(job["cpus"]), int(job["gpus"]))


def _spent(plan: Plan, limit: Budget) -> float:
    return budget.spent(plan.run, limit, records.plan(plan.run)) if plan.run.plan.exists() else 0.0


def _cannot_be_paid(missing: Sequence[Plan], limit: Budget, spent: float, cost: float) -> ConfigError:
    r = missing[0].resources
    n_cores = int(job_of(missing[0])["cpus"]) // r.nodes
    what = many(r.gpus_per_node, "GPU") if limit.unit == "gpuh" else many(n_cores, "core")
    runs = f"{len(missing)} runs x " if len(missing) > 1 else ""
    before = f"{number(spent)} are spent, and " if spent else ""
    hours = (limit.hours - spent) / sum(_per_hour(plan, limit) for plan in missing)
    more = Budget(_rounded_up(spent + cost or 2 * spent), limit.unit).word
    shorter = f"--time {int(hours * 60)}m" if hours * 3600 > 1.5 * r.lead_s and hours * 60 >= 1 and cost else ""
    ways = "".join(f"{way}, " for way in (shorter, _less(missing, limit)) if way)
    if not cost:
        return ConfigError(f"--budget {limit.word}: {before}no more than a last save is left: say --budget {more}")
    return ConfigError(
        f"--budget {limit.word}: {before}{runs}{many(r.nodes, 'node')} x {what} x {(r.time_s or 0) / 3600:.3g} h may "
        f"cost {hours_text(cost, limit.unit)}, more than is left: say {ways}{ways and 'or '}--budget {more}"
    )


def _less(missing: Sequence[Plan], limit: Budget) -> str:
    """Return what there could be less of."""
    r = missing[0].resources
    amounts = {"runs": len(missing), "nodes": r.nodes, "GPUs": r.gpus_per_node if limit.unit == "gpuh" else 1}
    several = next((name for name, amount in amounts.items() if amount > 1), "")
    return f"fewer {several}" if several else ""


def _rounded_up(hours: float) -> float:
    """Return the hours with three digits, never less."""
    digits = 3 - len(str(int(hours))) if hours >= 1 else 3
    return float(-(-hours * 10**digits // 1) / 10**digits)

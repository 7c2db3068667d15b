"""Chooses the number of nodes of a malleable run (--nodes 1-4) when it is planned: Slurm is asked about each."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

from hpc import config
from hpc.config import stages
from hpc.errors import ConfigError
from hpc.media import one_of
from hpc.plan.plan import Plan
from hpc.site import profile
from hpc.slurm.start_estimate import Answer
from hpc.submit import test_only
from hpc.supervise import shapes


def chosen(plans: Sequence[Plan], environ: Mapping[str, str]) -> list[Plan]:
    """Return the plans, each with the number of nodes with which it would be done first, of those that its stage can
    share its work among. Slurm is asked once about each number, not once for each plan."""
    if not plans[0].resources.node_counts:
        return list(plans)
    possible = [_possible(plan) for plan in plans]
    if not any(plan.resources.node_counts for plan in possible):
        return possible
    counts = sorted({n for plan in possible for n in shapes.asked_for(plan.resources.node_counts)})
    is_here = profile.is_here(plans[0].site, environ)
    elsewhere = Answer(silence=f"no Slurm of {plans[0].site.name} here that could be asked")
    answers = {n: test_only.ask(_on(plans[0], n), environ) if is_here else elsewhere for n in counts}
    return [_chosen(plan, answers) for plan in possible]


def _chosen(plan: Plan, answers: Mapping[int, Answer]) -> Plan:
    counts = plan.resources.node_counts
    if not counts:
        return plan
    resources = config.plain(plan.resources)
    pace = shapes.pace_of(plan.run, resources, counts[0], config.to_yaml(plan.science.config))
    own = {n: answers[n] for n in shapes.asked_for(counts)}
    choice = shapes.choose(own, pace, time.time())
    return _on(plan, choice.nodes, choice.why)


def _on(plan: Plan, n_nodes: int, *notes: str) -> Plan:
    resources = plan.resources
    resources = dataclasses.replace(resources, nodes=n_nodes, notes=(*resources.notes, *notes))
    return dataclasses.replace(plan, resources=resources)


def _possible(plan: Plan) -> Plan:
    """Leave out the numbers of nodes that the stage's own check refuses, and say which and why; note what the others
    mean for its parameters."""
    science, resources = plan.science, plan.resources
    stage = stages.load(science.entry)
    cfg = config.build(stages.schema(stage), science.config, science.stage)
    refused: dict[int, ValueError] = {}
    for n in resources.node_counts:
        try:
            stages.check(stage, cfg, n * resources.ranks_per_node, lambda ref: None)
        except ValueError as error:
            refused[n] = error
    counts = tuple(n for n in resources.node_counts if n not in refused)
    if not counts:
        raise ConfigError(f"{science.stage}: {refused[resources.node_counts[0]]}")
    note = f"not on {one_of(list(refused), 'node')}: {next(iter(refused.values()))}" if refused else ""
    notes = (*resources.notes, *filter(None, [note]))
    resources = dataclasses.replace(resources, nodes=counts[0], node_counts=counts if counts[1:] else (), notes=notes)
    exact = _exact(stage, cfg, [n * resources.ranks_per_node for n in counts]) if counts[1:] else ""
    return dataclasses.replace(plan, resources=resources, exact=exact)


def _exact(stage: object, cfg: object, n_ranks: Sequence[int]) -> str:
    """Return whether the run ends with the same parameters, whatever numbers of nodes it has had."""
    order = "batches and their order are the same on any of its numbers of nodes"
    differs = stages.why_not_exact(stage, cfg, n_ranks)
    if differs is None:
        return f"{order}; the stage does not say whether its results are, bit for bit"
    return f"{order}; {differs or 'its parameters are equal bit for bit'}"

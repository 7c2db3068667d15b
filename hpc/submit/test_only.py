"""What `sbatch --test-only` says of a plan: when it would start, where first, and whether its options are right.

Nothing is submitted: Slurm looks at the very script that would be.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from hpc.errors import ConfigError, RefusedBySlurm
from hpc.plan.plan import Plan
from hpc.site import profile
from hpc.slurm import commands, sbatch_words, start_estimate
from hpc.slurm.start_estimate import Answer
from hpc.submit import batch


def ask(plan: Plan, environ: Mapping[str, str]) -> Answer:
    """Ask Slurm about the batch script of a plan."""
    text = batch.sbatch_text(plan, environ)
    answer = commands.run("sbatch", "--test-only", patience_s=commands.HINT_S, text=text)
    return start_estimate.read(answer.code, answer.error)


def estimated_start(plan: Plan, environ: Mapping[str, str]) -> str:
    """Return when Slurm would start the plan. Refuse what Slurm refuses, and sbatch options without which Slurm would
    take it."""
    answer = ask(plan, environ)
    if plan.run.result.exists():  # and nothing will be submitted
        return str(answer)
    options = plan.resources.options
    if answer.refusal and options:
        bare = dataclasses.replace(plan, resources=dataclasses.replace(plan.resources, options={}))
        if ask(bare, environ).start_s is not None:
            raise ConfigError(
                f"Slurm would take this job without {sbatch_words.text_of(options)}, and not with it: {answer.refusal}"
            )
    if answer.is_final:
        raise RefusedBySlurm(
            f"{answer}. Nothing was submitted: see `sinfo -s` for partitions, and `sacctmgr show assoc user=$USER "
            "format=account,partition,qos` for accounts"
        )
    return str(answer)


def soonest(plans: Sequence[Plan], environ: Mapping[str, str]) -> Plan:
    """Return the plan, of several for the same run on different clusters, that would start first, with a note on the
    others. Where no Slurm answers, the first."""
    if len(plans) == 1:
        return plans[0]
    answers = [
        ask(plan, environ)
        if profile.is_here(plan.site, environ)
        else Answer(silence="not asked: its Slurm is not that of this machine")
        for plan in plans
    ]
    starts = [(answer.start_s, number) for number, answer in enumerate(answers) if answer.start_s is not None]
    best = min(starts)[1] if starts else 0
    others = [f"{_place(plan)} {answer}" for plan, answer in zip(plans, answers) if plan is not plans[best]]
    why = "starts first" if starts else f"is the first named; {answers[best]}"
    note = f"{_place(plans[best])} {why}; {'; '.join(others)}"
    resources = plans[best].resources
    resources = dataclasses.replace(resources, notes=(*resources.notes, note))
    return dataclasses.replace(plans[best], resources=resources)


def _place(plan: Plan) -> str:
    cluster = plan.resources.cluster
    return f"{plan.site.name}{f' (cluster {cluster})' if cluster and cluster != plan.site.name else ''}"

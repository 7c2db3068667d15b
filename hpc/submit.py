"""From plans to runs: what is there already is left alone, what waits for what is said, the rest is carried out."""

import itertools
import sys
from pathlib import Path

from hpc import DONE, FAILED, REFUSED, STOPPED, executors, follow, status
from hpc.errors import ConfigError
from hpc.plan import Plan
from hpc.queue import Queue
from hpc.rundir import RunDir, read_json
from hpc.status import State

NOT_DONE = ("failed", "stopped", "lost")


def here(plans: list[Plan]) -> int:
    """One run after the other on this machine, each watched to its end; those that need a failed one are left out."""
    worst = DONE
    missing: set[str] = set()
    for plan in plans:
        name = plan.science.name
        print(f"\n{plan.science.stage}: {name}", flush=True)
        if lacking := missing.intersection(plan.science.inputs.values()):
            print(f"left out, for want of {', '.join(sorted(lacking))}")
            missing.add(name)
            continue
        if plan.site.kind == "inline":
            code = executors.inline(plan)
        elif plan.run.result.exists():
            print("finished before (--again makes a new run)")
            code = DONE
        else:
            before = status.look(plan.run) if plan.run.path.exists() else None
            if before and not before.ended and before.on_slurm:
                print(
                    f"error: {name} is a Slurm job already, {before.job} ({before.word}: {before.text}). Stop it first "
                    f"(python -m hpc.launch stop {name} --now), or watch it with status",
                    file=sys.stderr,
                )
                return REFUSED
            if before and not before.ended:
                print(f"it is running already: watching it{_not_applied(plan)}")
            else:
                executors.local(plan)
            state = follow.follow(plan.run, mine=True)
            code = DONE if state.word == "finished" else _report_end(plan.run, state)
        if code == STOPPED:  # by the one who watches: he wants the rest to end as well
            return STOPPED
        if code == DONE:
            print(follow.result(plan.run), flush=True)
        else:
            missing.add(name)
            worst = code
    return worst


def chain(plans: list[Plan], watch: bool, after: str | None) -> int:
    """All runs as Slurm jobs, each to start when those it reads from have succeeded."""
    jobs: dict[str, str] = {}
    first: dict[str, str] = {}
    if after:
        state = status.look(status.find(after, Path(plans[0].runs)))
        if state.ended and state.word != "finished":
            raise ConfigError(f"--after {state.run}: it is {state.word}, so this would never start")
        first = {} if state.ended else {state.run: state.job}
    for plan in plans:
        name = plan.science.name
        if plan.run.result.exists():
            print(f"\n{name} finished before (--again makes a new run)\n{follow.result(plan.run)}")
            continue
        if plan.run.path.exists() and not (state := status.look(plan.run)).ended:
            if not state.on_slurm:
                print(f"error: {name} runs on a machine of its own already: wait for it, or stop it", file=sys.stderr)
                return REFUSED
            jobs[name] = state.job
            print(f"\n{name} is {state.word} already, job {state.job}{_not_applied(plan)}")
            continue
        try:
            jobs[name] = executors.slurm(
                plan, first | {ref: jobs[ref] for ref in plan.science.inputs.values() if ref in jobs}
            )
        except executors.SubmitError as error:
            print(f"error: {error}", file=sys.stderr)
            return REFUSED
        print(f"\nsubmitted {name} as job {jobs[name]}")
    last = plans[-1].label or plans[-1].science.name
    if not watch:
        if jobs:
            print("\n  watch   python -m hpc.launch status")
            print(f"  log     python -m hpc.launch logs {last}")
            print(f"  stop    python -m hpc.launch stop {last}")
        return DONE
    for plan in plans:
        if plan.science.name in jobs:
            try:
                state = follow.follow(plan.run, mine=False)
            except KeyboardInterrupt:
                print("\nit goes on without you: python -m hpc.launch status")
                return DONE
            if state.word != "finished":
                return _report_end(plan.run, state)
            print(follow.result(plan.run), flush=True)
    return DONE


def sweep(plans: list[Plan], max_parallel: int | None) -> int:
    """What is neither finished nor on its way, as one array for each stage; a stage waits for those before it."""
    queue = Queue()
    waiting: list[str] = []
    for stage, group in itertools.groupby(plans, key=lambda plan: plan.science.stage):
        every = list(group)
        looked = status.look_all([plan.run for plan in every if plan.run.path.exists()], queue)
        states = {state.run: state for state in looked}
        on_way = [state.job for state in states.values() if not state.ended]
        missing = [p for p in every if (state := states.get(p.science.name)) is None or state.word in NOT_DONE]
        finished = len(every) - len(on_way) - len(missing)
        print(f"\n{stage}: {finished} finished, {len(on_way)} on their way, {len(missing)} to submit")
        jobs: list[str] = []
        if missing:
            try:
                jobs = executors.slurm_array(missing, waiting, max_parallel)
            except executors.SubmitError as error:
                print(f"error: {error}", file=sys.stderr)
                return REFUSED
            print(f"submitted as array {jobs[0].partition('_')[0]}")
        waiting = [*on_way, *jobs]
    print("\n  watch   python -m hpc.launch status\n  the same line again submits what is missing then")
    return DONE


def _not_applied(plan: Plan) -> str:
    """What is asked for now and is not what the run goes on with, as a sentence, or nothing."""
    now = plan.to_json()["resources"]
    was = (read_json(plan.run.plan) or {}).get("resources", now)
    other = [f"{name} {now[name]} (it has {was.get(name)})" for name in now if now[name] != was.get(name)]
    other = [text for text in other if not text.startswith("notes ")]
    return f"; not applied: {', '.join(other)}. Stop it and give this line again for that" if other else ""


def _report_end(run: RunDir, state: State) -> int:
    """Say how a run ended that did not finish, and where to look; gives the exit code."""
    if state.word == "stopped":
        return STOPPED
    print(
        f"error: {run.name} {state.word}: {state.text}\n"
        f"  log: python -m hpc.launch logs {run.name} --runs {run.path.parent}",
        file=sys.stderr,
    )
    return state.code or FAILED

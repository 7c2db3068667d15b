"""From plans to runs: finished and running ones are left alone, dependent ones wait, the others are started."""

import itertools
import os
import shlex
import signal
from pathlib import Path
from typing import Literal

from hpc import media
from hpc.codes import DONE, FAILED, NEVER, REFUSED, STOPPED
from hpc.errors import ConfigError
from hpc.media import print_error
from hpc.plan.plan import Plan
from hpc.rank.context import input_run
from hpc.rank.signals import Stop, listening
from hpc.runs import cancel, products, records, status
from hpc.runs.outdated import outdated
from hpc.runs.rundir import RunDir
from hpc.runs.status import State
from hpc.slurm.squeue import Queue
from hpc.submit import executors, watch

NOT_DONE = ("failed", "stopped", "lost")


def here(plans: list[Plan]) -> int:
    """Run one after the other on this machine, each watched to its end; those that need a failed one are skipped."""
    if plans[0].site.kind == "inline":  # in this process, which TERM ends as usual
        return _one_by_one(plans, Stop())
    if elsewhere := why_not_here(plans):  # before the first of them begins
        print_error(elsewhere)
        return REFUSED
    with listening(signal.SIGTERM) as ended:
        return _one_by_one(plans, ended)


def why_not_here(plans: list[Plan]) -> str:
    """Return why the runs cannot run here: one is a Slurm job already. Otherwise an empty text."""
    begun = [plan.run for plan in plans if plan.run.path.exists() and not plan.run.result.exists()]
    queue = Queue()
    for state in status.look_all(begun, queue):
        if not state.ended and state.on_slurm:
            hint = " (also where that Slurm is gone for good)" if queue.silence else ""
            return (
                f"{state.run} is a Slurm job already, {state.job} ({state.word}: {state.text}). Stop it first "
                f"(python -m hpc.launch stop {state.run} --now){hint}, or watch it with status"
            )
    return ""


def _one_by_one(plans: list[Plan], ended: Stop) -> int:
    worst = DONE
    missing: set[str] = set()
    for plan in plans:
        name, what = plan.science.name, plan.science.section or plan.science.stage
        if ended():
            print(f"\nstopped before {what}: the same command goes on", flush=True)
            return STOPPED
        print(f"\n{what}: {name}", flush=True)
        if lacking := missing.intersection(plan.science.inputs.values()):
            print(f"skipped, for lack of {', '.join(sorted(lacking))}")
            missing.add(name)
            continue
        code = executors.inline(plan) if plan.site.kind == "inline" else _locally(plan, ended)
        if code in (STOPPED, REFUSED):  # stopped by the user who watches, who wants the rest to end as well
            return code
        if code == DONE:
            print(watch.result(plan.run), flush=True)
        else:
            missing.add(name)
            worst = code
    return worst


def _locally(plan: Plan, ended: Stop) -> int:
    """Start the run unless it is finished or runs already, and watch it to its end."""
    try:
        if begin(plan) == "finished":
            return DONE
    except executors.SubmitError as error:
        print_error(error)
        return REFUSED
    state = watch.follow(plan.run, mine=True, ended=ended)
    return DONE if state.word == "finished" else _report_end(plan.run, state)


def begin(plan: Plan) -> Literal["finished", "running", "started"]:
    """Start a run on this machine and return at once; one that is finished, or runs already, is left alone."""
    with executors.alone(plan):  # of several launchers of one run, the first starts it
        if plan.run.result.exists():
            print(f"{_finished_before(plan)}{_changed_since(plan)}")
            return "finished"
        before = status.look(plan.run) if plan.run.path.exists() else None
        if before and before.word == "silent":
            raise executors.SubmitError(f"another supervisor of {before.run} holds the lock, and {before.text}")
        if before and not before.ended:
            print(f"it is running already: watching it{_not_applied(plan)}", flush=True)
            return "running"
        executors.local(plan)
        return "started"


def chain(plans: list[Plan], to_the_end: bool, after: str | None) -> int:
    """Submit all runs as Slurm jobs, each to start when its inputs have succeeded."""
    try:
        jobs = submit(plans, after)
    except executors.SubmitError as error:
        print_error(error)
        return REFUSED
    if not to_the_end:
        if jobs:
            _next_commands(plans[-1])
        return DONE
    for plan in plans:
        if plan.science.name in jobs:
            try:
                state = watch.follow(plan.run, mine=False)
            except KeyboardInterrupt:
                print("\nit continues without you: python -m hpc.launch status")
                return DONE
            if state.word != "finished":
                return _report_end(plan.run, state)
            print(watch.result(plan.run), flush=True)
    return DONE


def run_before(after: str, plan: Plan) -> State:
    """Return the run that --after names. Refuse one after which this would never start."""
    if plan.site.kind != "slurm":
        raise ConfigError(f"--after is for jobs of a Slurm site; runs on {plan.site.name} come one after another")
    state = status.look(status.find(after, Path(plan.runs)))
    if state.ended and state.word != "finished":
        raise ConfigError(f"--after {state.run}: it is {state.word}, so this would never start")
    if not state.ended and not state.on_slurm:
        raise ConfigError(f"--after {state.run}: it runs outside of Slurm")
    _refuse_other_cluster(state, plan)
    return state


def _refuse_other_cluster(state: State, plan: Plan) -> None:
    """Jobs wait for jobs of their own cluster only: there, the number is that of some other job."""
    here = plan.resources.cluster
    if not state.ended and state.cluster != here:
        names = [f"the cluster {name}" if name else "this machine's own cluster" for name in (state.cluster, here)]
        raise ConfigError(
            f"{state.run} is a job of {names[0]}, and what follows it would be one of {names[1]}: wait for its end, or "
            "say --on, or SLURM_CLUSTERS, of the same"
        )


def submit(plans: list[Plan], after: str | None) -> dict[str, str]:
    """Submit the runs that are not finished, each to start when its inputs have succeeded; return their jobs by name.
    Raises SubmitError if one was refused."""
    with executors.alone(plans[0]):
        return _submit(plans, after)


def _submit(plans: list[Plan], after: str | None) -> dict[str, str]:
    jobs: dict[str, str] = {}
    first: dict[str, str] = {}
    if after:
        state = run_before(after, plans[0])
        first = {} if state.ended else {state.run: state.job}
    for plan in plans:
        name = plan.science.name
        if plan.run.result.exists():
            print(f"\n{name} {_finished_before(plan)}{_changed_since(plan)}\n{watch.result(plan.run)}")
            continue
        if plan.run.path.exists() and not (state := status.look(plan.run)).ended:
            if not state.on_slurm:
                raise executors.SubmitError(f"{name} runs outside of Slurm already: wait for it, or stop it")
            _refuse_other_cluster(state, plan)
            jobs[name] = state.job
            print(f"\n{name} is {state.word} already, job {state.job}{_not_applied(plan)}")
            continue
        if plan.run.path.exists():
            cancel.end_empty([state])
        before = first | {ref: jobs[ref] for ref in plan.science.inputs.values() if ref in jobs}
        jobs[name] = executors.slurm(plan, before)
        print(f"\nsubmitted {name} as job {jobs[name]}")
    return jobs


def sweep(plans: list[Plan], max_parallel: int | None) -> int:
    """Submit what is neither finished nor queued, as one array for each section; it waits for the sections before
    it."""
    with executors.alone(plans[0]):
        queue = Queue()
        jobs: dict[str, str] = {}
        for section, group in itertools.groupby(plans, key=lambda plan: plan.science.section):
            submitted = _submit_section(section, list(group), jobs, max_parallel, queue)
            if submitted is None:
                return REFUSED
            jobs |= submitted
    runs = _runs_option(plans[0])
    print(f"\n  watch   python -m hpc.launch status{runs}\n  the same line again submits what is missing then")
    return DONE


def _submit_section(
    section: str, every: list[Plan], before: dict[str, str], max_parallel: int | None, queue: Queue
) -> dict[str, str] | None:
    """Submit a section's runs that are not finished; return their jobs by name, or None if the array was refused.
    `before`: the jobs of earlier sections, of which it waits for its inputs."""
    looked = status.look_all([plan.run for plan in every if plan.run.path.exists()], queue)
    states = {state.run: state for state in looked}
    on_way = [state for state in states.values() if not state.ended]
    missing = [p for p in every if (state := states.get(p.science.name)) is None or state.word in NOT_DONE]
    finished = len(every) - len(on_way) - len(missing)
    print(f"\n{section}: {finished} finished, {len(on_way)} on their way, {len(missing)} to submit")
    done = [plan for plan in every if (state := states.get(plan.science.name)) and state.word == "finished"]
    for text, group in itertools.groupby(sorted(map(outdated, [plan.run for plan in done]))):
        if text:
            print(
                f"CAREFUL: {len(list(group))} of the finished were made {text}; delete their folders to make them anew"
            )
    for state in on_way if missing else []:
        _refuse_other_cluster(state, every[0])
    if elsewhere := [state.run for state in on_way if not state.on_slurm]:
        raise ConfigError(f"{', '.join(elsewhere)} runs outside of Slurm: wait, or stop it")
    jobs: list[str] = []
    cancel.end_empty(looked)
    if missing:
        read = dict.fromkeys(ref for plan in missing for ref in plan.science.inputs.values())
        try:
            jobs = executors.slurm_array(missing, [before[ref] for ref in read if ref in before], max_parallel)
        except executors.SubmitError as error:
            print_error(error)
            return None
        print(f"submitted as array {jobs[0].partition('_')[0]}")
    named = {plan.science.name: job for plan, job in zip(missing, jobs, strict=True)}
    return {state.run: state.job for state in on_way} | named


def _next_commands(plan: Plan) -> None:
    name, runs = plan.science.name, _runs_option(plan)
    print(f"\n  watch   python -m hpc.launch status{runs}")
    print(f"  log     python -m hpc.launch logs {name}{runs}")
    print(f"  stop    python -m hpc.launch stop {name}{runs}")


def _runs_option(plan: Plan) -> str:
    """Return ` --runs DIR` if a command needs it."""
    usual = plan.runs == os.path.abspath("runs")
    return "" if usual else f" --runs {shlex.quote(os.path.relpath(plan.runs))}"


def _finished_before(plan: Plan) -> str:
    """Say that a run is finished, and whether by code that would give the same today."""
    if text := products.gone(plan.run):
        return f"finished before, but {text}"
    text = outdated(plan.run)
    return f"finished before, {text}; --again makes it anew" if text else "finished before (--again makes a new run)"


def _changed_since(plan: Plan) -> str:
    """Warn if files in a folder that the run has read are newer than its result."""
    finished = plan.run.result.stat().st_mtime
    warnings = ""
    for ref in plan.science.inputs.values():
        newer = _newer(Path(ref), finished) if input_run(ref, Path(plan.runs)) is None else []
        if newer:
            warnings += f"\nCAREFUL: {len(newer)} files in {ref} are newer than this result, {newer[0]} for one"
    return media.lines(warnings)


def _newer(folder: Path, than: float) -> list[str]:
    """Return the files below a folder that were written after that time."""
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if os.lstat(os.path.join(parent, name)).st_mtime > than
    )


def _not_applied(plan: Plan) -> str:
    """Return a sentence on the requests that do not apply to the existing run, or an empty text."""
    now = plan.to_json()["resources"]
    was = now | records.plan(plan.run).get("resources", {})
    other = [f"{name} {now[name]} (it has {was[name]})" for name in now if now[name] != was[name]]
    chosen = ("notes ", "nodes ") if now["node_counts"] == was.get("node_counts") != [] else ("notes ",)
    other = [text for text in other if not text.startswith(chosen)]
    return f"; not applied: {', '.join(other)}. To apply it, stop the run and give this line again" if other else ""


def _report_end(run: RunDir, state: State) -> int:
    """Print how an unfinished run ended, and where to look; return the exit code."""
    if not run.plan.exists():
        print_error(f"{run.path} was moved or deleted while it ran: what worked in it ends itself")
        return NEVER
    if state.word == "stopped":
        return STOPPED
    print_error(
        f"{run.name} {state.word}: {state.text}\n"
        f"  log: python -m hpc.launch logs {run.name} --runs {shlex.quote(str(run.path.parent))}"
    )
    return state.code or FAILED

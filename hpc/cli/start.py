"""The verbs that make a plan: a stage, pipeline, sweep, bench, resume, export."""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from hpc.cli import options, planner
from hpc.cli.options import Arguments
from hpc.cli.preflight import MANY_RUNS, sure
from hpc.cli.runs import as_json, print_states
from hpc.cli.table import SWEEPS
from hpc.codes import DONE
from hpc.errors import ConfigError
from hpc.plan.plan import Plan
from hpc.remote import places, verbs
from hpc.remote.verbs import Line
from hpc.runs import status
from hpc.runs.outdated import outdated
from hpc.runs.rundir import write_output
from hpc.site import allocation
from hpc.submit import batch, costs, executors, start


def act(args: Arguments, environ: Mapping[str, str]) -> int:
    """Carry out a verb that makes a plan: arguments to plans to executor. With --json, only JSON goes to stdout."""
    if args.verb not in ("export", "drill") and not args.dry_run and (site := site_by_ssh(args, environ)):
        return _over_ssh(args, site, environ)
    with redirect_stdout(sys.stderr) if args.json or args.verb == "export" else nullcontext():
        plans = planner.make(args, environ)
        if args.after:
            start.run_before(args.after, plans[0])
        _show(args, plans)
        if args.dry_run and (site := site_by_ssh(args, environ)):
            print(f"note    ssh would take this line to {site}, where paths, Python and the queue are others")
        if args.verb != "export" and not args.dry_run and not args.prepare:
            allocation.check_usable(plans[0].site)
            code = _carry_out(args, plans)
    if args.dry_run:
        return _dry_run(args, plans, environ)
    if args.verb == "export":
        return export(plans[0], environ, args.output)
    if args.prepare:
        return _prepare(plans, args.json)
    if args.json:
        print_states([plan.run for plan in plans])
    return code


def site_by_ssh(args: Arguments, environ: Mapping[str, str]) -> str:
    """Return the site that the line goes to by ssh; empty if its runs start on this machine, or from it."""
    name = args.on
    is_here = args.verb == "resume" and len(args.words) == 1 and bool(status.meant(args.words[0], args.runs))
    if args.verb == "resume" and len(args.words) == 1 and not is_here and places.any_in(args.runs):
        name = name or places.of_run(args.words[0], args.runs).site
    site = "" if is_here and name is None else verbs.reached_by_ssh(name, environ)
    if site and is_here:
        raise ConfigError(
            f"{args.words[0]} is a run of this machine, and its files are not on {site}: give the line that made it "
            f"with --on {site}, which begins it anew there"
        )
    return site


def _over_ssh(args: Arguments, site: str, environ: Mapping[str, str]) -> int:
    """Give the line on the login node of the site, after what can be refused here was refused here."""
    line, n_runs = line_for(args, site, environ)
    if args.verb in SWEEPS and not _is_wanted(args, n_runs):
        return DONE
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        code, states = verbs.start(line, args.follow)
    if args.json:
        print(as_json(states))
    return code


def line_for(args: Arguments, site: str, environ: Mapping[str, str]) -> tuple[Line, int]:
    """Return the line as it is given on the login node of a site, and how many runs it asks for."""
    if args.verb == "resume":
        planner.refuse_secrets(args)
        inputs: list[str] = []
        files: list[Path] = []
        n_runs = 1
    else:
        sciences, files = planner.to_send(args, environ)
        inputs, n_runs = [ref for science in sciences for ref in science.inputs.values()], len(sciences)
    account = allocation.find_account(allocation.load(site), args.account, environ, Path.home())
    line = Line(
        site=site,
        words=[
            *planner.words_elsewhere(args),
            *options.written(args, "on", "json", "follow", "yes", "account"),
            *([f"--account={account}"] if account else []),
        ],
        files=files,
        inputs=inputs,
        runs=args.runs,
        repeats=not args.again,
    )
    return line, n_runs


def _show(args: Arguments, plans: list[Plan]) -> None:
    """Print the plans; of a sweep, the first; and of several what all of them cost."""
    if args.verb in SWEEPS:
        counts = Counter(plan.science.section for plan in plans)
        print(
            f"{args.verb:<8}{len(plans)} runs: {', '.join(f'{n} x {section}' for section, n in counts.items())}\n"
            "the first:\n"
        )
    print(text(plans, args.max_parallel, most=1 if args.verb in SWEEPS else len(plans)), flush=True)


def text(plans: Sequence[Plan], max_parallel: int | None, most: int) -> str:
    """Return the first plans as text, and what all of them cost."""
    in_all = costs.in_all(plans, max_parallel)
    return "\n\n".join([*(plan.render() for plan in plans[:most]), *([f"in all  {in_all}"] if in_all else [])])


def _carry_out(args: Arguments, plans: list[Plan]) -> int:
    if plans[0].site.kind != "slurm":
        return start.here(plans)
    if args.verb in SWEEPS:
        if not _is_wanted(args, len(plans)):
            return DONE
        return start.sweep(plans, args.max_parallel)
    return start.chain(plans, args.follow, args.after)


def _is_wanted(args: Arguments, n_runs: int) -> bool:
    """Ask before a sweep of many runs is submitted, if somebody is there to answer."""
    ask = n_runs > MANY_RUNS and not args.yes and sys.stdin.isatty()
    return not ask or sure(f"submit the missing ones of these {n_runs} runs?")


def _dry_run(args: Arguments, plans: list[Plan], environ: Mapping[str, str]) -> int:
    """Print the batch scripts as they would be submitted; of a sweep, one for each section."""
    on_slurm = plans[0].site.kind == "slurm"
    if args.json:
        print(
            json.dumps([p.to_json() | {"sbatch": batch.sbatch_text(p, environ) if on_slurm else None} for p in plans])
        )
    elif on_slurm and args.verb in SWEEPS:
        for section, group in itertools.groupby(plans, key=lambda plan: plan.science.section):
            every = list(group)
            text = batch.array_text(every, environ, args.max_parallel)
            print(f"\n# {section}: the unfinished ones of these {len(every)}, as one array\n{text}")
    elif on_slurm:
        for plan in plans:
            done = f"   finished before{_differs(plan)}: nothing would be submitted" if plan.run.result.exists() else ""
            print(f"\n# {plan.science.name}{done}\n{batch.sbatch_text(plan, environ)}")
    elif plans[0].site.kind != "inline":
        for plan in plans:
            if plan.run.result.exists():
                before = f"{plan.science.name} finished before{_differs(plan)}"
                print(f"\n{before}: it would not run again (--again makes a new run)")
    return DONE


def _differs(plan: Plan) -> str:
    text = outdated(plan.run)
    return f", {text}" if text else ""


def _prepare(plans: list[Plan], as_json: bool) -> int:
    """Write the run folders, and start nothing."""
    with executors.alone(plans[0]):
        for plan in plans:
            if plan.run.path.exists() and not (state := status.look(plan.run)).ended:
                raise ConfigError(f"{state.run} is {state.word}: its folder must not change while it runs")
        runs = [executors.write_run(plan, by_hand=True) for plan in plans]
    if as_json:
        print_states(runs)
    else:
        print("\n".join(f"\nprepared {run.path}" for run in runs))
    return DONE


def export(plan: Plan, environ: Mapping[str, str], output: str | None) -> int:
    """Write the batch script of a run, for sbatch alone."""
    if plan.site.kind != "slurm":
        raise ConfigError(f"export writes for a Slurm site, but {plan.site.name} is none: use --on SITE")
    text = batch.standalone_text(plan, environ)
    if output is None:
        print(text, end="")
    else:
        write_output(Path(output), text)
        print(f"\nwrote {output}: sbatch {output}")
    return DONE

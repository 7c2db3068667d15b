"""One line from laptop to supercomputer: `python -m hpc.launch VERB [FILE.yaml …] [key=value …] [options]`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the scheduler did not take it, 75 stopped and can go on.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from hpc import DONE, FAILED, USAGE

TYPE_CHECKING = False  # as typing has it, without importing it: --help and status answer at once
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from hpc.plan import Plan
    from hpc.rundir import RunDir

DEFAULT = "configs/default.yaml"

VERBS = """\
verbs:
  STAGE         run one stage; with this project: synthesize, preprocess, train, evaluate
  pipeline      run every stage of a config file, each when those it reads from are finished
  sweep STAGE   run it for every combination: lr=1e-3,1e-4 seed=0..4; again: what is missing
  status [RUN]  what has become of the runs (--watch, --json)
  logs RUN      what rank 0 of a run has printed (--rank N, --attempt N, --follow)
  stop RUN      ask a run to save and end (--now: end it at once)
  export RUN    write a batch script that runs it without submitit (-o FILE)
  site refresh NAME   write a profile of the cluster you are on, from what its Slurm says
  resume RUN    go on with a run that has stopped, also with other --nodes, --time, --on

examples:
  python -m hpc.launch pipeline configs/demo.yaml
  python -m hpc.launch train configs/demo.yaml optim.lr=1e-3 --nodes 2
  python -m hpc.launch train --nodes 2 --on slurm --dry-run

Without a file, configs/default.yaml is read. The same science twice is the same run: finished, it says so;
stopped, it goes on. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not taken by the scheduler, 75 stopped.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown, _, rest = message.partition("unrecognized arguments: ")
        if rest and not unknown:
            from hpc.config import did_you_mean

            options = [option for action in self._actions for option in action.option_strings if len(option) > 2]
            message = f"there is no option {rest.split()[0]}.{did_you_mean(rest.split()[0], options)}"
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(USAGE)


def parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="python -m hpc.launch",
        usage="python -m hpc.launch VERB [FILE.yaml ...] [key=value ...] [options]",
        description="Run a stage of an experiment on this machine or as a Slurm job.",
        epilog=VERBS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("verb", metavar="VERB", help="what to do, see below")
    top.add_argument("words", metavar="WORD", nargs="*", help="config files, key=value settings, or the name of a run")
    where = top.add_argument_group("where and with what")
    where.add_argument(
        "--on", metavar="SITE", help="local, debug, slurm, or a profile of configs/site; found out if left out"
    )
    where.add_argument("--nodes", type=int, metavar="N", help="how many nodes")
    where.add_argument("--gpus", type=int, metavar="N", help="GPUs a node, one rank each")
    where.add_argument("--ranks", type=int, metavar="N", help="processes a node, when not one a GPU")
    where.add_argument("--cpus", type=int, metavar="N", help="CPU cores a rank")
    where.add_argument("--mem", type=float, metavar="GB", help="memory a node")
    where.add_argument("--time", metavar="4h", help="walltime; at its end the run is saved and goes on in a new job")
    where.add_argument("--partition", metavar="NAME")
    where.add_argument("--account", metavar="NAME", help="the grant; docs/sites.md says where else it is looked for")
    where.add_argument(
        "--scratch", type=int, metavar="GB", help="disk of the node's own, where a site has it to ask for"
    )
    where.add_argument("--runs", default="runs", metavar="DIR", help="the folder of run folders (runs)")
    where.add_argument("--exclude", metavar="NODES", help="nodes to keep off")
    where.add_argument("--constraint", metavar="WORD", help="a feature the nodes must have")
    where.add_argument("--comment", metavar="TEXT")
    where.add_argument("--mail", metavar="ADDRESS", help="Slurm writes there when the job ends, fails or is requeued")
    where.add_argument("--after", metavar="RUN", help="start when that run has succeeded")
    how = top.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="print the plan and the batch script, do nothing")
    how.add_argument("--max-parallel", type=int, metavar="N", help="how many runs of a sweep at a time")
    how.add_argument("--prepare", action="store_true", help="write the run folder, start nothing: for slurm/run.sbatch")
    how.add_argument("-o", dest="output", metavar="FILE", help="where export writes; else to the terminal")
    how.add_argument("--follow", action="store_true", help="watch a Slurm run (a local one is watched anyway)")
    how.add_argument("--replace", action="store_true", help="site refresh may write over a profile of yours")
    how.add_argument("--now", action="store_true", help="stop without saving")
    how.add_argument("--rank", type=int, default=0, metavar="N", help="whose log")
    how.add_argument("--attempt", type=int, metavar="N", help="the log of that start of the ranks; else the newest")
    how.add_argument("--watch", action="store_true", help="status again every two seconds")
    how.add_argument("--json", action="store_true", help="status as JSON, for scripts")
    return top


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    args = parser().parse_intermixed_args(argv)
    from hpc.config import ConfigError

    try:
        if args.verb in OTHER_VERBS:
            return OTHER_VERBS[args.verb](args)
        return act(args, environ)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:  # a disk that is full or read-only, a folder that is a file
        print(f"error: {error.filename or 'the disk'}: {error.strerror or error}", file=sys.stderr)
        return FAILED


def act(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Words -> plans -> executor."""
    from collections import Counter

    from hpc import executors, site, submit
    from hpc.config import ConfigError

    plans = make_plans(args, environ)
    if args.verb == "sweep":
        counts = Counter(plan.science.stage for plan in plans)
        print(f"sweep   {len(plans)} runs: {', '.join(f'{n} x {stage}' for stage, n in counts.items())}\nthe first:\n")
    for number, plan in enumerate(plans[:1] if args.verb == "sweep" else plans):
        print(plan.render(), end="\n\n" if number + 1 < len(plans) else "\n")
    if args.dry_run:
        for plan in plans:
            if plan.site.kind == "slurm":
                print(f"\n# {plan.science.name}\n{executors.sbatch_text(plan)}")
        return DONE
    if args.verb == "export":
        return export(plans[0], args.output)
    if args.prepare:
        for plan in plans:
            print(f"\nprepared {executors.write_run(plan).path}")
        return DONE
    site.check_usable(plans[0].site)
    if plans[0].site.kind != "slurm":
        if args.after:
            raise ConfigError(
                f"--after is for jobs of a Slurm site; runs on {plans[0].site.name} come one after another"
            )
        return submit.here(plans)
    if args.verb == "sweep":
        return submit.sweep(plans, args.max_parallel)
    return submit.chain(plans, args.follow, args.after)


def make_plans(args: argparse.Namespace, environ: Mapping[str, str]) -> list[Plan]:
    import dataclasses
    from pathlib import Path

    from hpc import config, plan, site, snapshot, status

    runs = Path(args.runs).absolute()
    files = [Path(word) for word in args.words if word.endswith((".yaml", ".yml")) and "=" not in word]
    words = [word for word in args.words if Path(word) not in files]
    if args.verb in ("resume", "export"):
        if len(args.words) != 1:
            raise config.ConfigError(f"{args.verb} which run? One name; other settings would be another run")
        run = status.find(args.words[0], runs)
        sciences, sources = [plan.of_run(run)], (str(run.config),)
    else:
        if not files and os.path.isfile(DEFAULT):
            files = [Path(DEFAULT)]
        sources = (*map(str, files), *words)
        if args.verb == "sweep":
            if not words or "=" in words[0]:
                raise config.ConfigError("sweep what? Say a stage or `pipeline` first: sweep train seed=0..4")
            sciences, sources = plan.sweep(words[0], config.load(files), words[1:]), (*map(str, files), *words[1:])
        else:
            sciences = plan.sciences(args.verb, config.load(files), words)
    where = site.load(args.on or site.detect(environ))
    account = site.find_account(where, args.account, environ, Path.home())
    asked = site.Request(
        args.nodes, args.gpus, args.ranks, args.cpus, args.mem, args.time, args.partition, account, args.scratch,
        {name: value for name in ("exclude", "constraint", "comment") if (value := getattr(args, name))}
        | ({"mail-user": args.mail, "mail-type": "END,FAIL,REQUEUE"} if args.mail else {}),
    )  # fmt: skip
    resources = site.fit(where, asked, site.gpus_here(environ))
    notes = site.look_at_folder(where, resources, runs, environ)
    resources = dataclasses.replace(resources, notes=(*resources.notes, *notes))
    code = snapshot.look(["hpc", *dict.fromkeys(science.entry.split(".")[0] for science in sciences)])
    for number, science in enumerate(sciences):
        plan.check_inputs(science, runs, [before.name for before in sciences[:number]])
    return [
        plan.Plan(science, sources, where, resources, tuple(code), str(runs), os.getcwd(), sys.executable)
        for science in sciences
    ]


def export(plan: Plan, output: str | None) -> int:
    """The batch script of a run, for sbatch alone."""
    from pathlib import Path

    from hpc import executors
    from hpc.config import ConfigError
    from hpc.rundir import atomic_write

    if plan.site.kind != "slurm":
        raise ConfigError(f"export writes for a Slurm site, but {plan.site.name} is none: say --on SITE")
    executors.write_run(plan)
    text = executors.standalone_text(plan)
    if output is None:
        print(text, end="")
    else:
        atomic_write(Path(output), lambda file: file.write(text.encode()))
        print(f"\nwrote {output}: sbatch {output}")
    return DONE


def show_status(args: argparse.Namespace) -> int:
    import time

    while True:
        text = _status(args)
        if not args.watch:
            print(text)
            return DONE
        print(f"\033[2J\033[H{text}", flush=True)  # a clean screen
        time.sleep(2)


def _status(args: argparse.Namespace) -> str:
    from pathlib import Path

    from hpc import status

    runs = Path(args.runs)
    chosen = [status.find(word, runs) for word in args.words] or status.all_runs(runs)
    states = [status.look(run) for run in chosen]
    if args.json:
        import json

        return json.dumps([vars(state) for state in states], indent=1)
    return status.table(states)


def _one_run(args: argparse.Namespace, question: str) -> RunDir:
    """The run that a verb is about, or the question which one."""
    from pathlib import Path

    from hpc import status
    from hpc.config import ConfigError

    if len(args.words) != 1:
        raise ConfigError(f"{question} See `python -m hpc.launch status`")
    return status.find(args.words[0], Path(args.runs))


def stop_run(args: argparse.Namespace) -> int:
    from hpc import control, follow

    run = _one_run(args, "stop which run?")
    print(f"{run.name}: {control.stop(run, args.now)}", flush=True)
    follow.follow(run, mine=False)
    return DONE


def show_log(args: argparse.Namespace) -> int:
    from hpc import follow
    from hpc.config import ConfigError

    run = _one_run(args, "logs of which run?")
    log = run.attempt(args.attempt or run.last_attempt()).log(args.rank)
    if not log.exists():
        raise ConfigError(f"{run.name} has no {log.relative_to(run.path)} yet; what is there: {run.jobs}")
    follow.print_log(run, log, wait=args.follow)
    return DONE


def write_site(args: argparse.Namespace) -> int:
    from pathlib import Path

    from hpc import refresh
    from hpc.config import ConfigError

    if len(args.words) != 2 or args.words[0] != "refresh":
        raise ConfigError("say `site refresh NAME`: it writes a profile of that name from what Slurm here says")
    print(refresh.write(args.words[1], Path.home() / ".config/hpc/site", replace=args.replace))
    return DONE


OTHER_VERBS = {"status": show_status, "logs": show_log, "stop": stop_run, "site": write_site}


if __name__ == "__main__":
    # `status | head` ends us quietly; a run goes on in its own session
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sys.exit(main(sys.argv[1:], os.environ))
    except KeyboardInterrupt:
        sys.exit(130)

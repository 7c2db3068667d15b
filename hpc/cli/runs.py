"""The verbs for existing runs: status, why, logs, stop."""

from __future__ import annotations

import sys

from hpc.codes import DONE
from hpc.errors import ConfigError
from hpc.runs import status
from hpc.slurm.squeue import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpc.cli.options import Arguments
    from hpc.runs.rundir import RunDir
    from hpc.runs.status import State


def show_status(args: Arguments, environ: Mapping[str, str]) -> int:
    runs, queue = args.runs, Queue()
    while True:
        # Looked up each time, as a sweep adds runs
        chosen = [run for word in args.words for run in status.find_all(word, runs)] or status.all_runs(runs)
        states = status.look_all(chosen, queue)
        text = _as_json(states) if args.json else status.table(states)
        if not args.watch:
            print(text)
            return DONE
        print(text if args.json else f"\033[2J\033[H{text}", flush=True)  # a clean screen
        import time

        time.sleep(2)


def print_states(runs: list[RunDir]) -> None:
    print(_as_json(status.look_all(runs, Queue())))


def _as_json(states: list[State]) -> str:
    import json

    return json.dumps([vars(state) for state in states], indent=1)


def _one_run(args: Arguments, question: str) -> RunDir:
    """Return the run that a verb is about, or ask which one."""
    if len(args.words) != 1:
        raise ConfigError(f"{question} See `python -m hpc.launch status`")
    return status.find(args.words[0], args.runs)


def explain_run(args: Arguments, environ: Mapping[str, str]) -> int:
    from hpc.runs import why

    explanation = why.explain(_one_run(args, "why which run?"))
    if args.json:
        import json

        print(json.dumps(vars(explanation), indent=1))
    else:
        print(why.text(explanation))
    return DONE


def stop_run(args: Arguments, environ: Mapping[str, str]) -> int:
    """Stop one run, or all that the words mean: a whole sweep by its --name or its job."""
    from contextlib import nullcontext, redirect_stdout

    from hpc.cli.ask import MANY_RUNS, sure
    from hpc.runs import cancel
    from hpc.submit import watch

    if args.save and args.now:
        raise ConfigError("stop --save or --now: not both")
    if not args.words:
        raise ConfigError("stop which run? See `python -m hpc.launch status`")
    runs = list({run.name: run for word in args.words for run in status.find_all(word, args.runs)}.values())
    many = len(runs) > MANY_RUNS and not args.yes and sys.stdin.isatty()
    if many and not sure(f"stop those of these {len(runs)} runs that run or wait?"):
        return DONE
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        print("\n".join(cancel.stop(runs, args.now)), flush=True)
        for run in runs:
            if status.look(run).word != "silent":  # a supervisor that hangs may never end
                watch.follow(run, mine=False)
    if args.json:
        print_states(runs)
    return DONE


def show_log(args: Arguments, environ: Mapping[str, str]) -> int:
    from hpc.submit import watch

    run = _one_run(args, "logs of which run?")
    log = run.attempt(args.attempt or run.last_attempt()).log(args.rank)
    if not log.exists():
        raise ConfigError(f"{run.name} has no {log.relative_to(run.path)} yet; what is there: {run.jobs}")
    watch.print_log(run, log, wait=args.follow)
    return DONE

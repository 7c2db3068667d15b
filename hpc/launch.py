"""One line from laptop to supercomputer: `python -m hpc.launch VERB [FILE.yaml …] [key=value …] [options]`.

Each verb imports what it needs when it runs, so that --help, status and completion answer at once.
"""

from __future__ import annotations

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  before anything that an older Python cannot read
    sys.exit(f"error: hpc needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}")

from hpc import DONE, FAILED, REFUSED, USAGE
from hpc.cli import options
from hpc.errors import ConfigError
from hpc.runs.rundir import Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hpc.cli.options import Words
    from hpc.plan.plan import Plan
    from hpc.runs.rundir import RunDir
    from hpc.runs.status import State

MANY_RUNS = 20
"""A sweep of more is asked about at a terminal."""


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    try:
        said = options.read(argv)
        if said.help:
            print(options.help_text(), end="")
            return DONE
        if said.version:
            print(version())
            return DONE
        return OTHER_VERBS.get(said.verb, act)(said, environ)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        raise
    except ModuleNotFoundError as error:
        if (error.name or "hpc").partition(".")[0] in ("hpc", "eegdecode"):
            raise  # a mistake of ours
        print(f"error: {_not_installed(str(error.name))}", file=sys.stderr)
        return USAGE
    except Damaged as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:  # a disk that is full or read-only, a folder that is a file
        if _is_gone():
            print("error: the folder that you are in was removed: cd to one that is there", file=sys.stderr)
            return FAILED
        print(f"error: {error.filename or 'the disk'}: {error.strerror or error}", file=sys.stderr)
        return FAILED


def _is_gone() -> bool:
    """Whether the folder we are in was removed; a path like `.` is still there then."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def version() -> str:
    import platform

    from hpc import __version__

    return f"hpc {__version__} in {os.path.dirname(__file__)}, Python {platform.python_version()}"


def _not_installed(module: str) -> str:
    """What to do where a package that we need is missing: most often the environment is not active."""
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.exists(f"{checkout}/env/setup.sh"):
        return f"{module} is not installed for {sys.executable}: pip install hpc-eegdecode"
    there = os.path.exists(f"{checkout}/.venv/bin/python")
    how = f". {os.path.relpath(checkout)}/env/activate.sh"
    first = "" if there else f"make one with `{os.path.relpath(checkout)}/env/setup.sh cpu`, then "
    return f"{module} is not installed for {sys.executable}: {first}activate the environment with `{how}`"


def act(said: Words, environ: Mapping[str, str]) -> int:
    """Words -> plans -> executor. With --json, stdout is kept for it."""
    from contextlib import nullcontext, redirect_stdout

    from hpc.cli import planner
    from hpc.site import allocation

    with redirect_stdout(sys.stderr) if said.json or said.verb == "export" else nullcontext():
        plans = planner.make(said, environ)
        _show(said, plans)
        if said.verb != "export" and not said.dry_run and not said.prepare:
            allocation.check_usable(plans[0].site)
            code = _carry_out(said, plans)
    if said.dry_run:
        return _dry_run(said, plans)
    if said.verb == "export":
        return export(plans[0], said.output)
    if said.prepare:
        return _prepare(plans, said.json)
    if said.json:
        _print_states([plan.run for plan in plans])
    return code


def _show(said: Words, plans: list[Plan]) -> None:
    """The plans, as far as one wants to read them."""
    from collections import Counter

    if said.verb == "sweep":
        counts = Counter(plan.science.section for plan in plans)
        print(
            f"sweep   {len(plans)} runs: {', '.join(f'{n} x {section}' for section, n in counts.items())}\nthe first:\n"
        )
        plans = plans[:1]
    print("\n\n".join(plan.render() for plan in plans), flush=True)


def _carry_out(said: Words, plans: list[Plan]) -> int:
    from hpc.submit import start

    if plans[0].site.kind != "slurm":
        if said.after:
            raise ConfigError(
                f"--after is for jobs of a Slurm site; runs on {plans[0].site.name} come one after another"
            )
        return start.here(plans)
    if said.verb == "sweep":
        if (
            len(plans) > MANY_RUNS
            and not said.yes
            and sys.stdin.isatty()
            and not _sure(f"submit what is missing of these {len(plans)} runs?")
        ):
            return DONE
        return start.sweep(plans, said.max_parallel)
    return start.chain(plans, said.follow, said.after)


def _sure(question: str) -> bool:
    return input(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")


def _dry_run(said: Words, plans: list[Plan]) -> int:
    """The batch scripts, as they would be submitted; of a sweep, one a section."""
    import itertools
    import json

    from hpc.submit import executors

    on_slurm = plans[0].site.kind == "slurm"
    if said.json:
        print(json.dumps([p.to_json() | {"sbatch": executors.sbatch_text(p) if on_slurm else None} for p in plans]))
    elif on_slurm and said.verb == "sweep":
        for section, group in itertools.groupby(plans, key=lambda plan: plan.science.section):
            every = list(group)
            text = executors.array_text(every, said.max_parallel)
            print(f"\n# {section}: what of these {len(every)} is not finished, as one array\n{text}")
    elif on_slurm:
        for plan in plans:
            done = "   finished before: nothing would be submitted" if plan.run.result.exists() else ""
            print(f"\n# {plan.science.name}{done}\n{executors.sbatch_text(plan)}")
    return DONE


def _prepare(plans: list[Plan], as_json: bool) -> int:
    """Run folders, and nothing started."""
    from hpc.runs import status
    from hpc.submit import executors

    for plan in plans:
        if plan.run.path.exists() and not (state := status.look(plan.run)).ended:
            raise ConfigError(f"{state.run} is {state.word}: what it goes on with must not change under it")
    runs = [executors.write_run(plan) for plan in plans]
    if as_json:
        _print_states(runs)
    else:
        print("\n".join(f"\nprepared {run.path}" for run in runs))
    return DONE


def export(plan: Plan, output: str | None) -> int:
    """The batch script of a run, for sbatch alone."""
    from pathlib import Path

    from hpc.runs.rundir import atomic_write
    from hpc.submit import executors

    if plan.site.kind != "slurm":
        raise ConfigError(f"export writes for a Slurm site, but {plan.site.name} is none: say --on SITE")
    text = executors.standalone_text(plan)
    if output is None:
        print(text, end="")
    else:
        atomic_write(Path(output), lambda file: file.write(text.encode()))
        print(f"\nwrote {output}: sbatch {output}")
    return DONE


def show_status(said: Words, environ: Mapping[str, str]) -> int:
    from hpc.runs import status
    from hpc.slurm.squeue import Queue

    runs, queue = said.runs, Queue()
    while True:
        # Looked up each time: a sweep goes on to make runs
        chosen = [run for word in said.words for run in status.find_all(word, runs)] or status.all_runs(runs)
        states = status.look_all(chosen, queue)
        text = _as_json(states) if said.json else status.table(states)
        if not said.watch:
            print(text)
            return DONE
        print(text if said.json else f"\033[2J\033[H{text}", flush=True)  # a clean screen
        import time

        time.sleep(2)


def _print_states(runs: list[RunDir]) -> None:
    from hpc.runs import status
    from hpc.slurm.squeue import Queue

    print(_as_json(status.look_all(runs, Queue())))


def _as_json(states: list[State]) -> str:
    import json

    return json.dumps([vars(state) for state in states], indent=1)


def _one_run(said: Words, question: str) -> RunDir:
    """The run that a verb is about, or the question which one."""
    from hpc.runs import status

    if len(said.words) != 1:
        raise ConfigError(f"{question} See `python -m hpc.launch status`")
    return status.find(said.words[0], said.runs)


def stop_run(said: Words, environ: Mapping[str, str]) -> int:
    """One run, or all that the words mean: a whole sweep by its --name or its job."""
    from contextlib import nullcontext, redirect_stdout

    from hpc.runs import cancel, status
    from hpc.submit import watch

    if said.save and said.now:
        raise ConfigError("stop --save or --now: not both")
    if not said.words:
        raise ConfigError("stop which run? See `python -m hpc.launch status`")
    runs = list({run.name: run for word in said.words for run in status.find_all(word, said.runs)}.values())
    many = len(runs) > MANY_RUNS and not said.yes and sys.stdin.isatty()
    if many and not _sure(f"stop what runs or waits of these {len(runs)} runs?"):
        return DONE
    with redirect_stdout(sys.stderr) if said.json else nullcontext():
        print("\n".join(cancel.stop(runs, said.now)), flush=True)
        for run in runs:
            if status.look(run).word != "silent":  # one that stands still may never end
                watch.follow(run, mine=False)
    if said.json:
        _print_states(runs)
    return DONE


def show_log(said: Words, environ: Mapping[str, str]) -> int:
    from hpc.submit import watch

    run = _one_run(said, "logs of which run?")
    log = run.attempt(said.attempt or run.last_attempt()).log(said.rank)
    if not log.exists():
        raise ConfigError(f"{run.name} has no {log.relative_to(run.path)} yet; what is there: {run.jobs}")
    watch.print_log(run, log, wait=said.follow)
    return DONE


def list_recipes(said: Words, environ: Mapping[str, str]) -> int:
    from hpc.config import recipes

    _no_words(said)
    titles = {name: (str(path), recipes.title(path)) for name, path in recipes.every().items()}
    if said.json:
        import json

        print(json.dumps([{"name": name, "file": path, "title": title} for name, (path, title) in titles.items()]))
        return DONE
    if not titles:
        print("there is no recipe: no package that is installed here brings one, and there is no configs/ here")
        return DONE
    from shutil import get_terminal_size
    from textwrap import shorten

    width = max(map(len, titles))
    room = max(40, get_terminal_size((120, 24)).columns - width - 2)
    for name, (_, title) in titles.items():
        print(f"{name:<{width}}  {shorten(title, room, placeholder=' …')}")
    print("\n  run one   python -m hpc.launch pipeline NAME   (many have --set size=tiny; the file says more)")
    return DONE


def list_sites(said: Words, environ: Mapping[str, str]) -> int:
    from hpc.site import profile

    _no_words(said)
    here = profile.detect(environ)
    rows: list[tuple[str, str, str, str]] = []
    for name in profile.names():
        try:
            site = profile.load(name)
            rows.append((name, site.kind, site.status, site.description))
        except ConfigError as error:  # of a file that somebody is just writing
            rows.append((name, "", "broken", str(error)))
    if said.json:
        import json

        fields = ("name", "kind", "status", "description")
        every = [dict(zip(fields, row)) | {"file": str(profile.find(row[0])), "here": row[0] == here} for row in rows]
        print(json.dumps(every))
        return DONE
    width = max(len(row[0]) for row in rows)
    for name, kind, status, description in rows:
        mark = "*" if name == here else " "
        print(f"{mark} {name:<{width}}  {kind:<7}{status:<15}{description}")
    print(f"\n  * is this machine   another   --on NAME   a profile of your own   {profile.folders()[0]}/NAME.yaml")
    return DONE


def _no_words(said: Words) -> None:
    if said.words:
        raise ConfigError(f"{said.verb} lists all and takes no word, but got {' '.join(said.words)!r}")


def write_site(said: Words, environ: Mapping[str, str]) -> int:
    from pathlib import Path

    from hpc.site import refresh

    if len(said.words) != 2 or said.words[0] != "refresh":
        raise ConfigError("say `site refresh NAME`: it writes a profile of that name from what Slurm here says")
    print(refresh.write(said.words[1], Path.home() / ".config/hpc/site", replace=said.replace))
    return DONE


def run_drill(said: Words, environ: Mapping[str, str]) -> int:
    from hpc.cli import planner
    from hpc.drill import drill
    from hpc.drill.faults import FAULTS
    from hpc.site import allocation
    from hpc.submit import executors

    if not said.words or "=" in said.words[0]:
        raise ConfigError("drill what? Say a stage first: drill train my-study.yaml --nodes 2")
    said.verb, *said.words = said.words
    plans = planner.make(said, environ)
    if len(plans) != 1:
        raise ConfigError("drill one stage: the others run undisturbed before it, with `pipeline`")
    print(plans[0].render(), flush=True)
    allocation.check_usable(plans[0].site)
    faults = said.faults.split(",") if said.faults else list(FAULTS)
    try:
        return FAILED if drill.drill(plans[0], faults, said.repeat) else DONE
    except executors.SubmitError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED


def inspect_files(said: Words, environ: Mapping[str, str]) -> int:
    from hpc.cli import verbs

    if not said.words or all("=" in word and not os.path.exists(word) for word in said.words):
        raise ConfigError("inspect which file? Name one, or two to compare them")
    print(verbs.run(said))
    return DONE


def show_completion(said: Words, environ: Mapping[str, str]) -> int:
    """`completion bash` is for the shell's start file; `completion -- WORDS` is what that asks at each tab."""
    from hpc.cli import completion

    if said.words in (["bash"], ["zsh"]):
        print(completion.SCRIPTS[said.words[0]])
    elif said.words[:1] == ["words"]:
        print("\n".join(completion.candidates(said.words[1:])))
    else:
        raise ConfigError("completion for which shell? bash or zsh: source <(python -m hpc.launch completion bash)")
    return DONE


OTHER_VERBS: dict[str, Callable[[Words, Mapping[str, str]], int]] = {
    "status": show_status,
    "logs": show_log,
    "stop": stop_run,
    "drill": run_drill,
    "recipes": list_recipes,
    "sites": list_sites,
    "site": write_site,
    "inspect": inspect_files,
    "completion": show_completion,
}


def run() -> None:
    """The command `hpc`, and `python -m hpc.launch`."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal of ASCII shows a ? for what it does not have
    try:
        code = main(sys.argv[1:], os.environ)
        if sys.stdout is not None:  # as it is where somebody has closed it
            sys.stdout.flush()
    except BrokenPipeError:  # `status | head`: what is left to print has no reader. A run goes on in its own session
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()

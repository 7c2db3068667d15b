"""The verbs for existing runs: status, why, logs, stop."""

from __future__ import annotations

import os
import sys

from hpc.codes import DONE
from hpc.config import plugins
from hpc.errors import ConfigError
from hpc.overview import table
from hpc.runs import records, status
from hpc.slurm.squeue import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpc.cli.options import Arguments
    from hpc.runs.rundir import RunDir
    from hpc.runs.status import State


def refuse_no_folder(args: Arguments) -> None:
    """Refuse a folder of runs that was named, and is none. To a program it has no runs: those of a cluster may have
    been cleared away since."""
    if os.path.isdir(args.runs) or args.runs == "runs" or args.json:
        return
    fault = f"{args.runs} is a file, and no folder" if os.path.exists(args.runs) else f"there is no folder {args.runs}"
    raise ConfigError(f"{fault}: name the one that holds the runs, with --runs")


def show_status(args: Arguments, environ: Mapping[str, str]) -> int:
    refuse_no_folder(args)
    queue = Queue()
    if args.watch and not args.json:
        from hpc.overview import screen

        return screen.watch(lambda: _states(args, queue), lambda: _searches(args), environ)
    while True:
        states = _states(args, queue)
        text = "" if args.json else "\n".join([table.text(states, table.width_of(environ)), *_searches(args)])
        print(as_json(states) if args.json else text, flush=True)
        if not args.watch:
            return DONE
        import time

        time.sleep(ELSEWHERE_S if any(state.site for state in states) else WATCH_S)


WATCH_S, ELSEWHERE_S = 2.0, 10.0
"""How often `status --watch` looks; less often at a cluster that it must ask by ssh."""


def _states(args: Arguments, queue: Queue) -> list[State]:
    """Return the states of the runs of these words, or of all; looked up each time, as a sweep adds runs."""
    words, elsewhere = _by_place(args.words, args.runs)
    chosen = [run for word in words for run in status.find_all(word, args.runs)]
    states = status.look_all(chosen if args.words else status.all_runs(args.runs), queue)
    return states + (_states_elsewhere(args.runs, elsewhere) if elsewhere or not args.words else [])


REMOTE = ".remote"
"""The folder of hpc.remote.places, which is imported only if it is there."""


def _lives_elsewhere(runs: str) -> bool:
    return os.path.isdir(f"{runs}/{REMOTE}")


def _by_place(words: list[str], runs: str) -> tuple[list[str], list[str]]:
    """Return the words that mean runs here, and those that can only mean runs on a cluster."""
    if not words or not _lives_elsewhere(runs):
        return words, []
    here = [word for word in words if status.meant(word, runs)]
    return here, [word for word in words if word not in here]


def _states_elsewhere(runs: str, words: list[str]) -> list[State]:
    if not _lives_elsewhere(runs):
        return []
    from hpc.remote import verbs

    return verbs.states(runs, words)


def _searches(args: Arguments) -> list[str]:
    """Return a line for each search among the runs, if all are shown."""
    if args.words or not os.path.isdir(f"{args.runs}/.searches"):
        return []
    from hpc.runs import searches

    return ["", *searches.lines(args.runs)]


def write_page(args: Arguments, environ: Mapping[str, str]) -> int:
    """Write the page of all runs, or send it to a browser here."""
    from hpc import media
    from hpc.overview import page

    if args.words:
        raise ConfigError(f"page shows all runs, and takes no {args.words[0]!r}: search on the page, or see `status`")
    if args.port and not args.serve:
        raise ConfigError("--port is for page --serve")
    refuse_no_folder(args)
    if not os.path.isdir(args.runs):
        print("no runs here yet")
        return DONE
    elsewhere = _states_elsewhere(args.runs, [])
    if args.serve:
        return _serve_page(args, elsewhere)
    had_one = os.path.exists(page.path(args.runs))
    written = page.write(args.runs, elsewhere)
    damaged = f", {written.n_damaged} of them damaged" if written.n_damaged else ""
    fresh = "" if had_one else "; from now on supervisors keep it fresh, until you delete it"
    print(media.one_line(f"{page.path(args.runs)}   {media.many(written.n_runs, 'run')}{damaged}{fresh}"))
    return DONE


def _serve_page(args: Arguments, elsewhere: list[State]) -> int:
    from hpc.overview.server import Server

    with Server(args.runs, args.port or 0, elsewhere) as server:
        number, host = server.server_address[1], os.uname().nodename
        print(f"{server.url}\nOpen it in a browser on this machine; Ctrl-C ends it.", flush=True)
        print(f"From another one, first: ssh -N -L {number}:127.0.0.1:{number} {host}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")
    return DONE


def print_states(runs: list[RunDir]) -> None:
    print(as_json(status.look_all(runs, Queue())))


def as_json(states: list[State]) -> str:
    import json

    return json.dumps([vars(state) for state in states], indent=1)


def show_book(args: Arguments, environ: Mapping[str, str]) -> int:
    """Print what runs have cost, and write it as CSV and LaTeX."""
    from pathlib import Path

    from hpc.book import tables
    from hpc.book.entries import BY, Book, Entry
    from hpc.errors import did_you_mean
    from hpc.runs.rundir import write_output

    by = args.by or "run"
    if by not in BY:
        raise ConfigError(f"a row of the book is no {by!r}.{did_you_mean(by, BY)}")
    for option, file, is_ours in (("--csv", args.csv, tables.is_csv), ("--latex", args.latex, tables.is_latex)):
        if file and os.path.isfile(file) and not is_ours(Path(file).read_bytes()):
            raise ConfigError(f"{option} {file}: hpc book has not written that file, so it is kept: say another name")
    refuse_no_folder(args)
    words, elsewhere = _by_place(args.words, args.runs)
    chosen = {run.name: run for word in words for run in status.find_all(word, args.runs)}
    book = Book(list(chosen.values()) if args.words else status.all_runs(args.runs))
    if not args.words:
        lacking = status.without_plan(args.runs)
        book.notes += [f"{name} is left out: it has the records of jobs, but no plan.json" for name in lacking]
    if elsewhere or (not args.words and _lives_elsewhere(args.runs)):
        from hpc.remote import verbs

        entries, notes = verbs.entries_of_book(args.runs, elsewhere)
        book.entries += map(Entry.of_json, entries)
        book.notes += notes
    rows = book.sums(by)
    for file, content in ((args.csv, tables.csv(rows, by)), (args.latex, tables.latex(rows, book.total(), by))):
        if file:
            write_output(Path(file), content)
    if args.json:
        records_of_rows = [entry.to_json() for entry in book.entries] if by == "job" else tables.as_records(rows, by)
        print(_as_json(records_of_rows))
    else:
        print(tables.text(book, by))
    return DONE


def _one_run(args: Arguments, question: str) -> RunDir:
    """Return the run that a verb is about, or ask which one."""
    if len(args.words) != 1:
        raise ConfigError(f"{question} See `python -m hpc.launch status`")
    return status.find(args.words[0], args.runs)


def explain_run(args: Arguments, environ: Mapping[str, str]) -> int:
    _, elsewhere = _by_place(args.words, args.runs)
    if elsewhere and len(args.words) == 1:
        from hpc.remote import verbs

        return verbs.explain(args.runs, elsewhere[0], args.json, args.slow)
    run = _one_run(args, "why which run?")
    if args.slow:
        from hpc.runs.speed import slow

        answer = slow.explain(run)
        print(_json(answer) if args.json else slow.text(answer))
        return DONE
    from hpc.runs import why

    explanation = why.explain(run)
    print(_json(explanation) if args.json else why.text(explanation))
    return DONE


def _json(answer: object) -> str:
    return _as_json(vars(answer))


def _as_json(value: object) -> str:
    import json

    return json.dumps(value, indent=1)


def stop_run(args: Arguments, environ: Mapping[str, str]) -> int:
    """Stop one run, or all that the words mean: a whole sweep by its --name or its job."""
    from contextlib import nullcontext, redirect_stdout

    from hpc.cli.preflight import MANY_RUNS, sure
    from hpc.runs import cancel
    from hpc.submit import watch

    if args.save and args.now:
        raise ConfigError("stop --save or --now: not both")
    if not args.words:
        raise ConfigError("stop which run? See `python -m hpc.launch status`")
    words, elsewhere = _by_place(args.words, args.runs)
    runs = list({run.name: run for word in words for run in status.find_all(word, args.runs)}.values())
    n_runs = len(runs) + len(_states_elsewhere(args.runs, elsewhere) if elsewhere else [])
    many = n_runs > MANY_RUNS and not args.yes and sys.stdin.isatty()
    if many and not sure(f"stop those of these {n_runs} runs that run or wait?"):
        return DONE
    states: list[State] = []
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        if runs:
            print("\n".join(cancel.stop(runs, args.now)), flush=True)
        for run in runs:
            if status.look(run).word != "silent":  # a supervisor that hangs may never end
                watch.follow(run, mine=False)
        if elsewhere:
            from hpc.remote import verbs

            states = verbs.stop(args.runs, elsewhere, args.now)
    if args.json:
        print(as_json([*status.look_all(runs, Queue()), *states]))
    return DONE


def show_log(args: Arguments, environ: Mapping[str, str]) -> int:
    from hpc.submit import watch

    _, elsewhere = _by_place(args.words, args.runs)
    if elsewhere and len(args.words) == 1:
        from hpc.cli.options import written
        from hpc.remote import verbs

        return verbs.show_log(args.runs, elsewhere[0], written(args, "runs", "follow"), args.follow)
    run = _one_run(args, "logs of which run?")
    log = run.attempt(args.attempt or run.last_attempt()).log(args.rank)
    if not log.exists() and args.rank in _silent_ranks(run, args.attempt or run.last_attempt()):
        print(f"rank {args.rank} has printed nothing")
        return DONE
    if not log.exists():
        there = sorted(int(path.stem.partition("-")[2]) for path in log.parent.glob("rank-*.log"))
        ranks = f"its logs are of rank {', '.join(map(str, there))}" if there else f"what is there: {run.jobs}"
        raise ConfigError(f"{run.name} has no {log.relative_to(run.path)}; {ranks}")
    watch.print_log(run, log, wait=args.follow)
    return DONE


def _silent_ranks(run: RunDir, attempt: int) -> range:
    """Return the ranks of an attempt whose logs, if they were empty, are deleted: those of a run that has finished."""
    lines = [line for line in records.attempts(run) if line.get("attempt") == attempt] if run.result.exists() else []
    return range(lines[-1].get("ranks", 0) if lines else 0)


def fetch_runs(args: Arguments, environ: Mapping[str, str]) -> int:
    """Bring the files of runs from the cluster where they live, or a data set through the package that knows it."""
    if not args.words:
        raise ConfigError("fetch which run? See `python -m hpc.launch status`")
    sources = plugins.points("hpc.sources")
    scheme, colon, _ = args.words[0].partition(":")
    if colon and scheme in sources:
        return _fetch_data(args, sources[scheme], environ)
    if colon and sources and not _is_known(args.words[0], args.runs):
        raise ConfigError(f"{args.words[0]}: a data set is {' or '.join(f'{each}:NAME' for each in sources)}")
    if args.output:
        raise ConfigError("--output is for a data set, as moabb:NAME: a run's files are brought to where runs are")
    here, elsewhere = _by_place(args.words, args.runs)
    if not elsewhere:
        status.find_all(args.words[0], args.runs)
        raise ConfigError(f"{args.words[0]} is a run of this machine: its files are in {args.runs}")
    if here:
        raise ConfigError(f"{here[0]} is a run of this machine: its files are in {args.runs}; fetch the others alone")
    from hpc.remote import verbs

    return verbs.fetch(args.runs, elsewhere, args.all)


def _is_known(word: str, runs: str) -> bool:
    return bool(status.meant(word, runs)) or _lives_elsewhere(runs)


def _fetch_data(args: Arguments, where: str, environ: Mapping[str, str]) -> int:
    """Fetch a data set; not in a job, whose nodes may have no way to the net, and whose time it would take."""
    from hpc.cli import verbs

    if environ.get("SLURM_JOB_ID"):
        raise ConfigError(
            f"{args.words[0]} is downloaded, which is for a login node, and this is job {environ['SLURM_JOB_ID']}: "
            "give the line there, before the job"
        )
    print(verbs.call(plugins.load(where), args))
    return DONE

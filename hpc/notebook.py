"""Runs from Python: in a notebook or a script, by the functions of the verbs.

print(hpc.dry_run("train", "motor-eegnet", {"optim.lr": 1e-3}, nodes=2, on="slurm"))
run = hpc.submit("train", "motor-eegnet", {"optim.lr": 1e-3}, nodes=2, on="slurm")
run.status().word, run.logs(), run.wait(), run.result()
pandas.DataFrame(hpc.runs())
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from hpc.cli import options, planner
from hpc.cli import start as verbs
from hpc.cli.options import Arguments
from hpc.codes import DONE
from hpc.errors import ConfigError, did_you_mean
from hpc.plan.plan import Plan
from hpc.remote import places
from hpc.remote import verbs as remote
from hpc.runs import cancel, records, status
from hpc.runs.rundir import RunDir
from hpc.runs.status import State
from hpc.site import allocation
from hpc.slurm.squeue import Queue
from hpc.submit import executors, start, watch

OPTIONS = {row.field: row for row in options.OPTIONS.values() if row.fits("STAGE")}
"""What `submit` takes besides nodes, on and runs: the options of a stage on the command line."""
NOT_HERE = ("help", "version", "dry_run", "prepare", "follow", "json")
"""Those that only a command line needs."""
SITE_S = 5.0
"""How often to look at a run that ssh took to a cluster."""


class RunFailed(RuntimeError):
    """A run has ended without a result; the message says how, and where to look."""


def submit(
    stage: str,
    config: str | Path | Sequence[str | Path] | Mapping[str, Any] = (),
    settings: Mapping[str, Any] | None = None,
    *,
    nodes: int | str | None = None,
    on: str | None = None,
    runs: str | Path = "runs",
    **options: Any,
) -> Run:
    """Start a run and return at once: what `hpc STAGE CONFIG key=value --nodes 2` does, with all of its checks.

    A run with the same settings is the same run: one that has finished, or is on its way, is not started again. Inputs
    that are missing are made first. On a Slurm these are jobs that follow one another; on this machine a thread of this
    process starts the later ones, and the same call continues what it had not begun.

    Parameters
    ----------
    stage
        The name of a stage, or `pipeline` for all stages of a config file; the run is then that of the last.
    config
        A config file or recipe, or several; or the settings themselves, as {"optim.lr": 1e-3}.
    settings
        Settings that differ from those of the files, as {"optim.lr": 1e-3, "model": "eegnet"}.
    nodes
        The number of nodes; "1-4": the number with which it is done first.
    on
        The site, as on the command line: "local", "debug", "slurm" or a profile. By default it is detected.
    runs
        The folder that holds the run folders.
    options
        Other options of the command line: gpus=4, time="12h", name="pilot", again=True.

    Raises
    ------
    hpc.ConfigError
        What is wrong with the request, in a sentence.
    """
    args = _arguments(stage, config, settings, {"nodes": nodes, "on": on, "runs": runs, **options})
    if site := verbs.site_by_ssh(args, os.environ):
        return _over_ssh(args, site)
    plans = planner.make(args, os.environ)
    allocation.check_usable(plans[0].site)
    if args.after:
        start.run_before(args.after, plans[0])
    chain = _Chain(plans)
    try:
        chain.begin(args.after)
    except executors.SubmitError as error:
        raise ConfigError(str(error)) from None
    return Run._of(plans[-1].run, chain)


def dry_run(
    stage: str,
    config: str | Path | Sequence[str | Path] | Mapping[str, Any] = (),
    settings: Mapping[str, Any] | None = None,
    *,
    nodes: int | str | None = None,
    on: str | None = None,
    runs: str | Path = "runs",
    **options: Any,
) -> str:
    """Return the plan that `submit` would carry out, as `hpc STAGE … --dry-run` prints it: what would run where, for
    how long, with which code and inputs, and what it costs. Nothing is written and nothing is started.

    Parameters
    ----------
    stage, config, settings, nodes, on, runs, options
        As those of `submit`.

    Raises
    ------
    hpc.ConfigError
        What is wrong with the request, in a sentence.
    """
    args = _arguments(stage, config, settings, {"nodes": nodes, "on": on, "runs": runs, **options}, dry_run=True)
    plans = planner.make(args, os.environ)
    return verbs.text(plans, args.max_parallel, most=len(plans))


def _arguments(
    stage: str,
    config: str | Path | Sequence[str | Path] | Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    dry_run: bool = False,
) -> Arguments:
    """The request as a parsed line of the command line."""
    if stage in ("sweep", "search", "bench"):
        raise ConfigError(f"submit starts one run, but {stage} makes many: call it for each, or give the line to hpc")
    files: Sequence[str | Path] = ()
    words: dict[str, Any] = {}
    if isinstance(config, Mapping):
        words |= config
    else:
        files = [config] if isinstance(config, str | Path) else config
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"settings come in a mapping, {{'optim.lr': 1e-3}}, and not as {settings!r}")
    words |= settings or {}
    line = [stage, *map(str, files), *(f"{key}={_text(value)}" for key, value in words.items())]
    known = [name for name in OPTIONS if name not in NOT_HERE]
    for name, value in given.items():
        if name not in known:
            near = did_you_mean(name, known)
            raise ConfigError(f"submit has no option {name!r}.{near} Settings come in a mapping: {{'optim.lr': 1e-3}}")
        if value is None or value is False:
            continue
        line.append(OPTIONS[name].name if value is True else f"{OPTIONS[name].name}={value}")
    return options.read([*line, "--dry-run"] if dry_run else line)


def _text(value: Any) -> str:
    """A value as a word of the command line has it, which is YAML."""
    if isinstance(value, str | Path):
        return str(value)
    try:
        return json.dumps(value, default=lambda other: list(other) if isinstance(other, set) else str(other))
    except TypeError as error:
        raise ConfigError(f"a setting is a number, a text, a list or a mapping, but got {value!r} ({error})") from None


def _over_ssh(args: Arguments, site: str) -> Run:
    """The run on a cluster that ssh leads to."""
    line, _ = verbs.line_for(args, site, os.environ)
    code, states = remote.start(line, follow=False)
    if code != DONE or not states:
        raise ConfigError(f"{site} did not take it, as said above (exit code {code})")
    return Run(states[-1].run, args.runs)


class _Chain:
    """The plans of one request, in order: the last is what was asked for, the others are its missing inputs."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = list(plans)
        self.failed = ""
        """Why the rest was not started."""
        self.thread: threading.Thread | None = None

    def begin(self, after: str | None) -> None:
        """Submit all of them to Slurm; on this machine start the first one, and have a thread start the others."""
        kind = self.plans[0].site.kind
        if kind == "slurm":
            start.submit(self.plans, after)
            return
        if kind == "inline":
            start.here(self.plans)
            return
        if elsewhere := start.why_not_here(self.plans):
            raise ConfigError(elsewhere)
        left = self.plans
        while left and start.begin(left[0]) == "finished":
            left = left[1:]
        if left[1:]:
            self.thread = threading.Thread(target=self._go_on, args=(left,), name="hpc.submit", daemon=True)
            self.thread.start()

    def _go_on(self, left: Sequence[Plan]) -> None:
        """Start each run once the one before it has finished."""
        for before, plan in pairwise(left):
            while not (state := status.look(before.run)).ended:
                time.sleep(watch.HERE_S)
            if state.word != "finished":
                self.failed = f"it was to follow {state.run}, which is {state.word}: {state.text}"
                return
            try:
                start.begin(plan)
            except (executors.SubmitError, ConfigError, OSError) as error:
                self.failed = str(error)
                return

    @property
    def waits(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Run:
    """A run, started or finished, by its name as on the command line: `hpc.Run("train-k3f9")`.

    Parameters
    ----------
    name
        Its name, the beginning of the name, its own name or its job.
    runs
        The folder that holds the run folders.
    """

    def __init__(self, name: str, runs: str | Path = "runs") -> None:
        self._chain: _Chain | None = None
        self._runs = str(runs)
        self.site = ""
        """The cluster that ssh leads to, if the run is there."""
        if not status.meant(name, runs) and places.any_in(str(runs)):
            known = places.of_run(name, str(runs))
            self.site = known.site
            self._dir = RunDir(Path(runs, known.site, remote.states(str(runs), [name])[0].run))
        else:
            self._dir = status.find(name, runs)

    @classmethod
    def _of(cls, folder: RunDir, chain: _Chain | None = None) -> Run:
        run = cls.__new__(cls)
        run._dir, run._runs, run._chain, run.site = folder, str(folder.path.parent), chain, ""
        return run

    def __repr__(self) -> str:
        state = self.status()
        progress = f", {state.done}/{state.total}" if state.total else ""
        return f"<{self.name}: {state.word}{progress}{state.text and f', {state.text}'}>"

    @property
    def name(self) -> str:
        return self._dir.name

    @property
    def path(self) -> Path:
        """The run folder; what the stage has written is in its `out`."""
        return self._dir.path

    def status(self) -> State:
        """Look at the run: its `word` is queued, running, requeued, finished, failed, stopped or lost."""
        if self.site:
            return remote.states(self._runs, [self.name])[0]
        if self._chain and not self._dir.plan.exists():
            state = State(self.name)
            waits = self._chain.waits
            state.word = "queued" if waits else "failed"
            state.text = "waits for its inputs" if waits else self._chain.failed
            return state
        return status.look(self._dir)

    def wait(self, timeout_s: float | None = None, *, progress: bool = True) -> State:
        """Wait until the run has ended, and return its last state; Ctrl-C ends the waiting and not the run.

        Parameters
        ----------
        timeout_s
            Raise TimeoutError if it takes longer.
        progress
            Show how far it is: a bar on a terminal, a line now and then in a notebook.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with watch.bars(self.name) as show:
            while True:
                state = self.status()
                if progress and state.word == "running":
                    show(None, state)
                if state.ended and not (self._chain and self._chain.waits):
                    return state
                if until is not None and time.monotonic() > until:
                    raise TimeoutError(f"{self.name} is {state.word} after {timeout_s:g} s: it goes on")
                time.sleep(SITE_S if self.site else watch.QUEUE_S if state.on_slurm else watch.HERE_S)

    def result(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until the run has finished, and return its metrics; those with a chance level have `value` and `chance`.

        Raises
        ------
        RunFailed
            If it has ended without a result.
        """
        state = self.wait(timeout_s, progress=False)
        if state.word != "finished":
            raise RunFailed(f"{self.name} is {state.word}: {state.text or 'see its logs'} (`hpc why {self.name}`)")
        if self.site and not self._dir.result.is_file():
            with redirect_stdout(io.StringIO()):
                remote.fetch(self._runs, [self.name], everything=False)
        return dict(records.result(self._dir).get("metrics") or {})

    def logs(self, rank: int = 0, attempt: int | None = None) -> str:
        """What a rank has printed so far, in the newest attempt or that one; empty if nothing."""
        if self.site:
            words = [f"--rank={rank}", *([f"--attempt={attempt}"] if attempt else [])]
            printed = io.StringIO()
            with redirect_stdout(printed):
                remote.show_log(self._runs, self.name, words, follow=False)
            return printed.getvalue()
        log = self._dir.attempt(attempt or self._dir.last_attempt()).log(rank)
        return log.read_text(errors="replace") if log.is_file() else ""

    def stop(self, *, now: bool = False) -> str:
        """Ask the run to save and end, or end it at once; the same call of `submit` continues it. Returns what was
        done; `wait` waits for the end."""
        if self.site:
            (state,) = remote.stop(self._runs, [self.name], now)
            return f"{self.name} is {state.word}"
        if self._chain and not self._dir.plan.exists():
            begun = [plan.run for plan in self._chain.plans if plan.run.plan.exists()]
            alive = [run for run in begun if not status.look(run).ended]
            return "; ".join(cancel.stop(alive, now)) if alive else f"{self.name} was not started"
        return "; ".join(cancel.stop([self._dir], now))


@dataclass(frozen=True)
class RunRecord:
    """A row of `hpc.runs()`."""

    run: str
    stage: str
    state: str
    """queued, running, requeued, finished, failed, stopped or lost."""
    label: str
    """The user's own name for it."""
    settings: str
    """The settings of its line; in a sweep, its own combination."""
    site: str
    job: str
    nodes: int
    attempt: int
    done: int
    total: int
    submitted: datetime | None
    ended: datetime | None
    metrics: dict[str, Any]
    """Of a finished run its numbers, of a running one those of its last step."""
    text: str
    """Why it waits, or how it ended."""


class RunTable(list[RunRecord]):
    """The runs of a folder, the last touched one last: a list that `pandas.DataFrame` takes as it is."""

    def __repr__(self) -> str:
        head = [field.name for field in fields(RunRecord) if field.name not in ("metrics", "settings", "ended")]
        rows = [head, *([_cell(getattr(record, name)) for name in head] for record in self)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return "-" if value in (None, "") else str(value)


def runs(folder: str | Path = "runs", *, names: Sequence[str] = ()) -> RunTable:
    """List the runs of a folder, those on clusters that ssh leads to included.

    Parameters
    ----------
    folder
        The folder that holds the run folders.
    names
        Only these runs, by any word that the command line takes for RUN; empty: all.
    """
    here = [run for word in names for run in status.find_all(word, folder)] if names else status.all_runs(folder)
    rows = [_record(run, state) for run, state in zip(here, status.look_all(here, Queue()), strict=True)]
    if not names and places.any_in(str(folder)):
        rows += [_record(None, state) for state in remote.states(str(folder), [])]
    return RunTable(rows)


def _record(run: RunDir | None, state: State) -> RunRecord:
    """The record of a run; None for one that is elsewhere, of which the state is all that is here."""
    submitted = records.submissions(run) if run else []
    plan, result, _ = records.whole(run) if run else ({}, {}, [])  # a damaged file is named in the text of the state
    metrics = result.get("metrics") or state.figures
    return RunRecord(
        run=state.run,
        stage=plan.get("stage") or state.run.rpartition("-")[0],
        state=state.word,
        label=state.name,
        settings=state.settings,
        site=state.site or str(plan.get("site", {}).get("name", "")),
        job=state.job,
        nodes=state.nodes,
        attempt=state.attempt,
        done=state.done,
        total=state.total,
        submitted=_date(submitted[0].get("time") if submitted else None),
        ended=_date(result.get("ended")),
        metrics=_numbers(metrics),
        text=state.text,
    )


def _date(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics without their chance levels, each a number or a text."""
    return {name: value["value"] if isinstance(value, dict) else value for name, value in metrics.items()}

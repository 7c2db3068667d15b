"""The verb `search`: proposes trials from the runs of those before, runs them, and then what reads the best of them.

It keeps nothing between two calls: given again, it proposes the same trials and sees in their run folders which of
them have ended. On this machine it runs them one after the other. On Slurm it submits those that can be proposed and
returns; the job of each trial gives the line again when it ends.
"""

import copy
import dataclasses
import hashlib
import json
import sys
from base64 import b32encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from hpc.cli import options, planner
from hpc.cli.options import Arguments
from hpc.codes import DONE, FAILED
from hpc.errors import ConfigError
from hpc.media import many
from hpc.plan import sweep
from hpc.plan.plan import Plan, Science
from hpc.remote import verbs
from hpc.runs import records, searches, status
from hpc.runs.rundir import RunDir, make_folder, read_lines
from hpc.search import report, searched, space, together
from hpc.search.score import Score, note_failure
from hpc.search.study import Job, Search, Study
from hpc.slurm.squeue import Queue
from hpc.submit import executors, start
from hpc.supervise.follow_ups import FOLLOW_UP

AT_ONCE = 4


def act(args: Arguments, environ: Mapping[str, str]) -> int:
    """Carry out the verb. With --json, only JSON goes to stdout."""
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        line = Line(args, environ)
        if site := verbs.reached_by_ssh(args.on, environ):
            raise ConfigError(
                f"a search goes on from where its runs are, and {site} is reached by ssh: give this line on its login "
                "node"
            )
        code = line.run()
    if args.json:
        print(json.dumps(line.record(), indent=1))
    return code


class Line:
    """The line of a search, taken apart.

    Parameters
    ----------
    args
        As it was parsed.
    environ
        Of the process.
    """

    def __init__(self, args: Arguments, environ: Mapping[str, str]) -> None:
        self.args, self.environ = args, environ
        self.runs = Path(args.runs).absolute()
        self.is_by_hand = FOLLOW_UP not in environ
        """Whether a person gives the line, and so wants to go on with what was stopped."""
        if not args.words or "=" in args.words[0]:
            raise ConfigError("search what? Say a stage first: search train optim.lr=log:1e-4..1e-2")
        self.stage = args.words[0]
        _refuse_choices(args)
        words = [word for word in args.words[1:] if "=" in word]
        self.files = [word for word in args.words[1:] if "=" not in word]
        several, self.single = space.apart(words)
        if not several:
            raise ConfigError(
                f"search over what? Give ranges or values: search {self.stage} key=0.1..0.5, key=log:1e-4..1e-2 or "
                "key=a,b"
            )
        self.space = space.Space(tuple(several))
        if args.each and not (args.each.partition("=")[2] and space.apart([args.each])[0]):
            raise ConfigError(
                f"--each needs a setting with several values, as train.split.fold=0..4, got {args.each!r}"
            )
        folds = sweep.grid([args.each]) if args.each else [[]]
        self.folds = [Fold(self, own) for own in folds]
        first = self.folds[0].first
        declared = searched.of(first)
        searched.check(first, self.space, declared)
        self.score = Score.of(args.by or declared.score_of(first.config))
        rungs = None if args.halving is None else searched.rungs(first, self.space, declared, args.halving)
        self._together: list[Plan] | None = None
        self.search = Search(self.space, args.trials, args.max_parallel or AT_ONCE, args.sampler, args.seed, rungs)

    @property
    def queue(self) -> Queue:
        return Queue()

    @cached_property
    def name(self) -> str:
        """The same search has the same name, whatever the number of its trials, and wherever its runs are."""
        args = self.args
        science = [self.stage, self.files, sorted(self.single), self.space.words, args.preset, args.each, args.sampler]
        text = json.dumps([*science, args.seed, args.by, args.halving, args.max_parallel])
        return f"search-{b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:8]}"

    # ------------------------------------------------------------------------------------------------------- running

    def run(self) -> int:
        """Run what is missing, as far as it can be proposed; on Slurm, submit it."""
        if self.args.dry_run:
            waiting = self._look()
            print(report.text(self.record()))
            print(f"\nnext: {many(len(waiting), 'run')}" + "".join(f"\n  {what}" for what, _ in waiting))
            return DONE
        place = self.runs / searches.FOLDER
        make_folder(place)
        while True:
            with executors.lock_of(place):  # the jobs of two trials that end at once give the line both
                waiting = self._look()
                report.write(self.runs, self.record())
                if self._joins():
                    continue
                if not waiting:
                    return self._end()
                what, plans = waiting[0][0], waiting[0][1]()
                if plans[0].site.kind == "slurm":
                    return self._submit([plan for _, make in waiting for plan in make()])
            print(f"\n{what}", flush=True)
            before = self._progress()
            code = start.here(plans)
            for fold in self.folds:
                fold.advance()
            if self._progress() == before:  # stopped by who watches, or failed for want of something
                return code or FAILED

    def _look(self) -> list[tuple[str, Callable[[], list[Plan]]]]:
        """Look at the run folders; return what can be started: a sentence, and the function that makes its plans."""
        for fold in self.folds:
            fold.advance()
        missing = [pair for fold in self.folds for pair in fold.missing()]
        left = [plan for plan in self.together() if not plan.run.result.exists()]
        if free := self.folds[0].can_start(left):
            missing.append(("what reads the trials of all folds together", lambda: free))
        return missing

    def together(self) -> list[Plan]:
        """Return the plans of what reads the trials of all folds as one, once these are over."""
        if len(self.folds) < 2 or not all(fold.study.is_over and fold.study.best for fold in self.folds):
            return []
        if self._together is None:
            first = self.folds[0]
            assert first.study.best is not None
            args = first.arguments(first.study.best.combination)
            args.words = [word for word in args.words if word not in (*first.own, *first.study.best.combination)]
            args.name, words = None, planner.words_of_pipeline(args)
            trials = [name for fold in self.folds for name in fold.ended()]
            self._together = []
            for section, word in together.settings(first.readers(), first.run_of(first.study.best).name, trials):
                args.verb, args.words = section, [*words, word]
                plan = planner.make(args, self.environ)[-1]
                self._together.append(dataclasses.replace(plan, follow_up=self.follow_up(plan)))
        return self._together

    def _joins(self) -> bool:
        """Have the jobs of trials that are on their way for another line give this one too. Whether one of them has
        ended meanwhile, maybe before it knew of it."""
        joined = [fold.join(job) for fold in self.folds for job in fold.of_others()]
        return any(state.ended for state in status.look_all(joined, self.queue)) if joined else False

    def is_noted(self, run: RunDir) -> bool:
        """Whether the job of a run gives this line at its end."""
        own = ["search", *self.args.words]
        return any(line["words"][: len(own)] == own for line in read_lines(run.follow_ups))

    def _progress(self) -> int:
        of_all = sum(plan.run.result.exists() for plan in self._together or [])
        return sum(fold.n_known for fold in self.folds) + of_all

    def _submit(self, plans: list[Plan]) -> int:
        by_name = {plan.science.name: plan for plan in reversed(plans)}
        order = list(dict.fromkeys(plan.science.section for plan in plans))
        every = sorted(by_name.values(), key=lambda plan: order.index(plan.science.section))
        code = start.sweep(every, None)
        print("  each of these jobs gives the line at its end, so that the search goes on without you\n")
        print(report.text(self.record()))
        return code

    def _end(self) -> int:
        """Nothing is left to start: all is done, or the rest is on its way, or in somebody's hands."""
        print(f"\n{report.text(self.record())}")
        states = [state for fold in self.folds for state in fold.waits_for()]
        states += self.folds[0].looked([plan for plan in self.together() if not plan.run.result.exists()])
        for state in states:
            print(f"  {state.run} is {state.word}{state.text and f': {state.text}'}")
        if any(not state.ended for state in states):
            print("  on Slurm, their jobs give this line again at their ends; elsewhere, give it again yourself")
        print(f"  page    {report.page_path(self.runs, self.name)}")
        return FAILED if any(state.ended for state in states) else DONE

    def record(self) -> dict[str, Any]:
        """Return the state of the search, as JSON."""
        search = self.search
        return {
            "name": self.name,
            "line": "hpc search " + " ".join([*self.args.words, *self._options()]),
            "stage": self.stage,
            "metric": self.score.metric,
            "lower_is_better": self.score.is_loss,
            "sampler": search.sampler,
            "at_once": search.at_once,
            "rungs": list(search.rungs.steps) if search.rungs else [],
            "trials": search.n_trials,
            "folds": [fold.record() for fold in self.folds],
            "together": [together.record(plan) for plan in self.together()],
            "reported": report.reported([fold.metrics() for fold in self.folds]),
        }

    def _options(self) -> list[str]:
        return options.written(self.args, "json", "dry_run", "yes")

    def follow_up(self, plan: Plan) -> tuple[str, ...]:
        """Return this line as the job of a run gives it: what was detected here may not be known there."""
        account = plan.resources.account
        given = options.written(self.args, "json", "dry_run", "on", "account")
        place = [f"--on={plan.site.name}", *([f"--account={account}"] if account else [])]
        return ("search", *self.args.words, *given, *place)


class Fold:
    """One search of the line: with `--each`, that for one of its values.

    Parameters
    ----------
    line
        The line.
    own
        The word that only this one has; none without --each.
    """

    def __init__(self, line: Line, own: list[str]) -> None:
        self.line, self.own = line, own
        self._sciences: dict[tuple[str, ...], Science] = {}
        self._readers: list[Plan] | None = None

    @cached_property
    def study(self) -> Study:
        return Study(self.line.search, lambda job: self.line.score.loss_of(self.run_of(job), self._compared_at(job)))

    @property
    def first(self) -> Science:
        """A trial of this search, whichever."""
        return self.science(self.line.space.drawn(0, ()))

    def science(self, combination: space.Combination) -> Science:
        if combination not in self._sciences:
            self._sciences[combination] = planner.science_of(self.arguments(combination), self.line.runs)
        return self._sciences[combination]

    def run_of(self, job: Job) -> RunDir:
        return RunDir(self.line.runs / self.science(job.combination).name)

    def arguments(self, combination: space.Combination) -> Arguments:
        """Return the line of a trial, as a person would give it."""
        args, line = copy.copy(self.line.args), self.line
        args.verb = line.stage
        args.words = [*line.files, *line.single, *self.own, *combination]
        return args

    def _compared_at(self, job: Job) -> int | None:
        """Return the steps at whose end a job is compared; None: at the end of the run."""
        rungs = self.line.search.rungs
        return None if rungs is None or job.rung == len(rungs.steps) - 1 else rungs.steps[job.rung]

    # -------------------------------------------------------------------------------------------------------- trials

    def advance(self) -> None:
        """Determine what can be, and note which trials have failed for good."""
        while True:
            self.study.advance()
            failed = [
                note_failure(RunDir(self.line.runs / state.run), state) for state in self._states(self.study.due())
            ]
            if not any(failed):
                return

    def _states(self, jobs: list[Job]) -> list[status.State]:
        runs = [run for job in jobs if (run := self.run_of(job)).plan.exists()]
        return status.look_all(runs, self.line.queue) if runs else []

    def of_others(self) -> list[Job]:
        """Return the trials whose jobs are on their way, but do not give this line at their ends."""
        states = {state.run for state in self._states(self.study.due()) if state.on_slurm and not state.ended}
        runs = [(job, self.run_of(job)) for job in self.study.due()]
        return [job for job, run in runs if run.name in states and not self.line.is_noted(run)]

    def join(self, job: Job) -> RunDir:
        """Note this line in the folder of a trial that is on its way."""
        (*_, plan) = self._plans_of(job)
        executors.note_follow_up(plan)
        return plan.run

    @property
    def n_known(self) -> int:
        return sum(self.study.loss(job) is not None for job in self.study.jobs) + sum(
            plan.run.result.exists() for plan in self._readers or []
        )

    def missing(self) -> Iterator[tuple[str, Callable[[], list[Plan]]]]:
        """Yield what can be started now: a sentence, and the function that makes its plans."""
        resting = {state.run: state for state in self._states(self.study.due())}
        for job in self.study.due():
            state = resting.get(self.run_of(job).name)
            if state is None or _can_start(self.run_of(job), state, self.line.is_by_hand):
                yield self._sentence(job), partial(self._plans_of, job)
        if self.study.is_over and self.study.best is not None:
            left = [plan for plan in self.readers() if not plan.run.result.exists()]
            if free := self.can_start(left):
                yield f"{self._where}what reads the best trial, {self.run_of(self.study.best).name}", lambda: free

    def can_start(self, plans: list[Plan]) -> list[Plan]:
        """Return those of them that can be started now."""
        states = {state.run: state for state in self.looked(plans)}
        by_hand = self.line.is_by_hand
        return [p for p in plans if not (state := states.get(p.science.name)) or _can_start(p.run, state, by_hand)]

    def ended(self) -> list[str]:
        """Return the names of the trials that have come to their ends, each once."""
        jobs = [job for job in self.study.jobs if self._compared_at(job) is None]
        runs = [self.run_of(job) for job in jobs]
        return [run.name for run in {run.name: run for run in runs}.values() if run.result.exists()]

    def looked(self, plans: list[Plan]) -> list[status.State]:
        runs = [plan.run for plan in plans if plan.run.plan.exists()]
        return status.look_all(runs, self.line.queue) if runs else []

    def waits_for(self) -> list[status.State]:
        """Return the states of the trials that others wait for, and of what reads the best."""
        return [
            *self._states(self.study.due()),
            *self.looked([p for p in self._readers or [] if not p.run.result.exists()]),
        ]

    @property
    def _where(self) -> str:
        return f"{' '.join(self.own)}: " if self.own else ""

    def _sentence(self, job: Job) -> str:
        rungs = self.line.search.rungs
        to = f" to step {rungs.steps[job.rung]}" if rungs else ""
        of = f"trial {job.trial + 1} of {self.line.search.n_trials}{to}"
        return f"{self._where}{of}: {' '.join(job.combination)}"

    def _plans_of(self, job: Job) -> list[Plan]:
        args = self.arguments(job.combination)
        if self.run_of(job).plan.exists():
            args.name = None  # it has its name already, maybe that of another search
        plans = planner.make(args, self.line.environ)
        own = " ".join([*self.own, *job.combination])
        last = dataclasses.replace(plans[-1], settings=own, pause_at=self._compared_at(job))
        return [self._with_follow_up(plan) for plan in [*plans[:-1], last]]

    def _with_follow_up(self, plan: Plan) -> Plan:
        return dataclasses.replace(plan, follow_up=self.line.follow_up(plan))

    # ------------------------------------------------------------------------------------------- what reads the best

    def readers(self) -> list[Plan]:
        """Return the plans of the sections that read the best trial, directly or not: they alone see the test set."""
        if self._readers is None:
            best = self.study.best
            self._readers = [] if best is None else self._plans_of_readers(best)
        return self._readers

    def _plans_of_readers(self, best: Job) -> list[Plan]:
        args = self.arguments(best.combination)
        args.name, words = None, planner.words_of_pipeline(args)
        args.verb, args.words = "pipeline", words
        names, own = {self.run_of(best).name}, " ".join(self.own)
        plans = []
        for plan in planner.make(args, self.line.environ) if words else []:
            if plan.science.name in names or names.intersection(plan.science.inputs.values()):
                names.add(plan.science.name)
                label = plan.label or self.line.args.name or ""
                plans.append(dataclasses.replace(plan, settings=own or plan.settings, label=label))
        return [self._with_follow_up(plan) for plan in plans]

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of what reads the best trial, of runs that have finished."""
        if not self.study.is_over:
            return {}
        plans = [plan for plan in self.readers() if plan.science.section != self.line.stage]
        return {
            f"{plan.science.section}.{name}": value
            for plan in plans
            for name, value in (records.result(plan.run).get("metrics") or {}).items()
        }

    def record(self) -> dict[str, Any]:
        study, score = self.study, self.line.score
        best = study.best
        rungs = self.line.search.rungs
        return {
            "each": " ".join(self.own),
            "is_over": study.is_over,
            "jobs": [
                {
                    "trial": job.trial + 1,
                    "steps": rungs.steps[job.rung] if rungs else None,
                    "run": self.run_of(job).name,
                    "settings": " ".join(job.combination),
                    "score": report.number(score, study.loss(job)),
                    "has_failed": study.loss(job) == float("inf"),
                }
                for job in study.jobs
            ],
            "best": best and {
                "run": self.run_of(best).name, "trial": best.trial + 1, "settings": " ".join(best.combination),
                "score": report.number(score, study.loss(best)),
            },
            "metrics": self.metrics(),
        }  # fmt: skip


def _refuse_choices(args: Arguments) -> None:
    """Refuse what would be chosen anew for each trial."""
    if isinstance(args.nodes, str):
        raise ConfigError(
            f"--nodes {args.nodes}: all trials of a search have one number of nodes: say one, as --nodes "
            f"{args.nodes.partition('-')[2]}"
        )
    if "," in (args.on or ""):
        raise ConfigError(f"--on {args.on}: all trials of a search are runs of one site: name one")


def _can_start(run: RunDir, state: status.State, by_hand: bool) -> bool:
    """Whether a run that is due can be started, or watched if it is on this machine. A person who gives the line wants
    what was stopped to go on, too; a job that gives it goes on only with what rests where it was to pause."""
    if not state.ended:
        return by_hand and not state.on_slurm
    pause_at = records.plan(run).get("pause_at")
    rests = state.word == "stopped" and pause_at is not None and state.done >= pause_at
    return by_hand or rests

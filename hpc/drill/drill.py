"""Break a run with each fault in turn, and compare its results with those of an undisturbed control run.

    python -m hpc.launch drill train my-study.yaml --nodes 2 --faults signal,kill9,hang

runs the science once undisturbed and once under each fault, in folders of their own, and writes a certificate: what
happened, how many steps were done twice, what it cost, and whether the last checkpoint is the same to the last bit.
"""

import dataclasses
import errno
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hpc import media
from hpc.checkpoint import checkpoint
from hpc.drill.faults import FAULTS, NO_FAULT, Case, Fault, NotPossible, TooLate, mount, unmount
from hpc.errors import ConfigError, did_you_mean
from hpc.plan.plan import Plan
from hpc.rank.context import input_run
from hpc.runs import records, status
from hpc.runs.heartbeats import QUICK_S
from hpc.runs.rundir import RunDir, atomic_write, committed_steps, own_commit, read_lines, write_json
from hpc.slurm.squeue import Queue
from hpc.submit import executors

HANG_S = 30
"""In a drill a hang is found after so long, unless --hang says otherwise: nobody wants to wait a quarter of an hour."""
TRIES = 3
"""How often a fault is made that comes too late, as it does where a training is short and the machine busy."""
PATIENCE_S = 1200.0
"""A run of which nothing is heard for so long is given up."""


@dataclass(frozen=True)
class Report:
    """What came of one case."""

    fault: str
    what: str
    word: str
    attempts: int = 0
    resumed: bool = False
    """Whether the line had to be given again, as is meant after TERM or scancel."""
    redone: int = 0
    unsavable: int = 0
    """Of those, the ones that were done while the disk was full, so that no checkpoint could be written."""
    seconds: float = 0.0
    same: bool | None = None
    """The last checkpoint to the last bit, and each step in metrics.jsonl once."""
    text: str = ""
    too_late: bool = False
    """The run was over before its fault was made, or has not noticed it."""


@dataclass(frozen=True)
class Learnt:
    """What a run leaves that no fault may change."""

    fingerprint: str
    steps: tuple[int, ...]
    """Those that metrics.jsonl has a line of."""

    @classmethod
    def of(cls, run: RunDir) -> "Learnt":
        return cls(fingerprint(run), tuple(line["step"] for line in read_lines(run.metrics)))


NOTHING = Learnt("", ())


def drill(plan: Plan, faults: Sequence[str], repeat: int | None, seed: int = 0) -> int:
    """Run all cases one after the other; gives the number of those that did not end as they should."""
    unknown = [name for name in faults if name not in FAULTS]
    if unknown:
        raise ConfigError(f"there is no fault {unknown[0]!r}.{did_you_mean(unknown[0], FAULTS)}")
    rng = random.Random(seed)
    names = [rng.choice(list(faults)) for _ in range(repeat)] if repeat else list(faults)
    place = Path(plan.runs) / ".drill" / f"{plan.science.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    resources = dataclasses.replace(plan.resources, heartbeat_s=QUICK_S)  # what is done twice is counted by heartbeats
    if "hang" not in plan.asked:
        resources = dataclasses.replace(resources, hang_s=HANG_S)
    plan = dataclasses.replace(plan, resources=resources)
    print(f"\ndrill of {plan.science.name} in {place}\n\nundisturbed", flush=True)
    calm, expected = _case(plan, place / "undisturbed", "", rng, None)
    reports = [calm]
    if calm.word != "finished":
        print(f"error: undisturbed it is {calm.word} already: {calm.text}", flush=True)
        return 1
    for number, name in enumerate(names, start=1):
        print(f"\n{number} of {len(names)}  {name}: {FAULTS[name].what}", flush=True)
        report = _in_time(plan, place / f"{number:02d}-{name}", name, rng, expected)
        reports.append(report)
        print(f"  {_say(report, calm.seconds)}", flush=True)
    _certificate(place, plan, reports)
    return sum(not (report.same or report.word == "not tried") for report in reports[1:])


def _in_time(plan: Plan, place: Path, fault: str, rng: random.Random, expected: Learnt) -> Report:
    """What came of a fault; one that came too late is made again, earlier in a new run."""
    report, _ = _case(plan, place, fault, rng, expected)
    for turn in range(2, TRIES + 1):
        if not report.too_late:
            break
        print(f"  too late ({report.text}): once more, earlier", flush=True)
        report, _ = _case(plan, place.with_name(f"{place.name}-{turn}"), fault, rng, expected, latest=0.7 / turn)
    return report


def _case(
    plan: Plan, place: Path, name: str, rng: random.Random, expected: Learnt | None, latest: float = 0.7
) -> tuple[Report, Learnt]:
    """One run in a folder of its own, broken before the share `latest` of its work is done; gives what came of it, and
    what it has learnt."""
    place.mkdir(parents=True)
    case = Case(dataclasses.replace(plan, runs=str(place)), RunDir(place / plan.science.name), rng)
    fault, watch = FAULTS.get(name, NO_FAULT), _Watch(case)
    with ExitStack() as afterwards:
        try:
            if fault.fills_disk:
                mount(place)
                afterwards.callback(unmount, place)
            afterwards.callback(case.restore)
            _link_inputs(plan, place)
            ended = _run(case, watch, fault, latest)
        except NotPossible as why:
            if watch.seen:
                case.end()
            report = Report(name, fault.what, "not tried", text=str(why), too_late=isinstance(why, TooLate))
            return report, NOTHING
        return _reported(name, fault, case, watch, ended, expected)


def _link_inputs(plan: Plan, place: Path) -> None:
    """Runs that this one reads are found next to it."""
    for ref in plan.science.inputs.values():
        if (run := input_run(ref, Path(plan.runs))) is not None:
            (place / ref).symlink_to(os.path.relpath(run.path, place))


@dataclass(frozen=True)
class _Ended:
    state: status.State
    resumed: bool
    seconds: float


def _run(case: Case, watch: "_Watch", fault: Fault, latest: float) -> _Ended:
    """Start the run, break it before the share `latest` of its work is done, and wait until it has ended."""
    began = time.monotonic()
    _start(case.plan)
    if fault.inject is not None:
        watch.until_under_way(case.rng.uniform(0.2, latest))
        _make(fault.inject, case)
    state = watch.until_ended()
    resumed = state.word in ("stopped", "lost") and fault.inject is not None
    if resumed:
        print(f"  it is {state.word}; giving the line again", flush=True)
        _start(case.plan)
        state = watch.until_ended()
    return _Ended(state, resumed, time.monotonic() - began)


def _reported(
    name: str, fault: Fault, case: Case, watch: "_Watch", ended: _Ended, expected: Learnt | None
) -> tuple[Report, Learnt]:
    """What came of a run that has ended, next to what it should have learnt."""
    word, text = ended.state.word, ended.state.text
    learnt = Learnt.of(case.run) if word == "finished" else NOTHING
    same = learnt == expected if expected is not None else None
    attempts = case.run.last_attempt()
    too_late = fault.inject is not None and attempts == 1 and not _felt(case.run)
    if too_late:
        word, text, same = "no effect", "the run did not notice the fault", False
    elif expected is not None and learnt.steps != expected.steps and word == "finished":
        text = f"metrics.jsonl has {len(learnt.steps)} lines, of the steps of {len(expected.steps)}"
    report = Report(
        fault=name,
        what=fault.what,
        word=word,
        attempts=attempts,
        resumed=ended.resumed,
        redone=watch.redone,
        unsavable=watch.unsavable,
        seconds=ended.seconds,
        same=same,
        text=text,
        too_late=too_late,
    )
    return report, learnt


def _make(inject: Callable[[Case], None], case: Case) -> None:
    try:
        inject(case)
    except ProcessLookupError:
        raise TooLate("the process that it was for had ended: give it more steps") from None


def _start(plan: Plan) -> None:
    with executors.alone(plan):
        if plan.site.kind == "slurm":
            executors.slurm(plan, {})
        else:
            executors.local(plan)


class _Watch:
    """Follows a run by its folder, and counts what is done twice."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.run = case.run
        self.queue = Queue()
        self.redone = self.unsavable = 0
        self.seen: dict[int, int] = {}
        """The furthest step of each attempt."""
        self._heard = time.monotonic()

    def until_under_way(self, share: float) -> None:
        """Until that share of the work is done, and something is saved."""
        while True:
            state = self._look()
            if state.ended:
                why = f"it is {state.word} before the fault could be made: give it more steps"
                raise TooLate(why) if state.word == "finished" else NotPossible(why)
            if state.word == "running" and 0 < state.total <= state.done:
                raise TooLate("its work was done before it had saved anything: give it more steps, or save more often")
            far = state.word == "running" and state.total > 0 and state.done >= share * state.total
            if far and committed_steps(self.run.checkpoints):
                return

    def until_ended(self) -> status.State:
        while not (state := self._look()).ended:
            if time.monotonic() - self._heard > PATIENCE_S:
                state.word, state.text = "given up", f"nothing heard for {PATIENCE_S:.0f} s"
                return state
        return state

    def _look(self) -> status.State:
        time.sleep(0.1)
        heartbeat = records.heartbeat(self.run, 0)
        if heartbeat and heartbeat["done"] > self.seen.get(heartbeat["attempt"], 0):
            self._heard = time.monotonic()
            attempt, done = heartbeat["attempt"], heartbeat["done"]
            if attempt not in self.seen and self.seen:
                self._count(max(self.seen), heartbeat["from"] - 1)
            self.seen[attempt] = done
        return status.look(self.run, self.queue)

    def _count(self, before: int, saved: int) -> None:
        """What an attempt did that the next one does again, as it goes on from the step that was saved."""
        done, full = self.seen[before], self.case.full
        self.redone += max(0, done - saved)
        if full.get("attempt") == before:
            self.unsavable += max(0, done - max(saved, full["done"]))


def _felt(run: RunDir) -> bool:
    """Whether a run that was started once has noticed a disk that was full."""
    logs = [*run.jobs.glob("*.out"), *run.jobs.rglob("*.log")]
    return any(os.strerror(errno.ENOSPC) in log.read_text(errors="replace") for log in logs)


def fingerprint(run: RunDir) -> str:
    """Of all tensors and values in the last checkpoint, to the last bit; not of how they are written."""
    steps = committed_steps(run.checkpoints)
    if not steps:
        raise ConfigError(f"{run.name} leaves no checkpoint: there is nothing to compare")
    commit = own_commit(run.checkpoints, steps[-1])
    if commit is not None:
        return json.dumps({name: value for name, value in commit.items() if name != "seconds"}, sort_keys=True)
    return checkpoint.fingerprint(checkpoint.load(run.checkpoints, steps[-1]))


def _say(report: Report, calm_s: float) -> str:
    if report.word == "not tried":
        return f"not tried: {report.text}"
    again = ", the line given again" if report.resumed else ""
    same = {True: "the same to the last bit", False: "NOT THE SAME", None: ""}[report.same]
    return (
        f"{report.word} after {report.attempts} attempts{again}, {_redone(report)} steps done twice, "
        f"{report.seconds - calm_s:+.0f} s: {same} {'' if report.same else report.text}".rstrip()
    )


def _redone(report: Report) -> str:
    return f"{report.redone}{f' ({report.unsavable} of a full disk)' if report.unsavable else ''}"


def _certificate(place: Path, plan: Plan, reports: Sequence[Report]) -> None:
    calm, *cases = reports
    r = plan.resources
    tried = [case for case in cases if case.word != "not tried"]
    good = [case for case in tried if case.same]
    commit = plan.code[0].commit[:10] or plan.code[0].version
    when = time.strftime("%Y-%m-%d %H:%M")
    lines = [
        f"# Drill of {plan.science.name}",
        "",
        f"{plan.site.name}, {r.ranks} ranks ({r.nodes} x {r.ranks_per_node}), --hang {r.hang_s:.0f}s, code {commit}, "
        f"{when}. Undisturbed: {calm.seconds:.0f} s.",
        "",
        f"**{len(good)} of {len(tried)} faults ended in a finished run whose last checkpoint is the same to the last "
        "bit, with each step in metrics.jsonl once.**",
        "",
        "| fault | ended as | attempts | steps done twice | seconds more | the same |",
        "|---|---|---|---|---|---|",
    ]
    for case in cases:
        if case.word == "not tried":
            lines.append(f"| {case.what} | not tried: {media.markdown(case.text)} | - | - | - | - |")
            continue
        again = " (line given again)" if case.resumed else ""
        more, same = case.seconds - calm.seconds, "yes" if case.same else "NO"
        lines.append(
            f"| {case.what} | {case.word}{again} | {case.attempts} | {_redone(case)} | {more:.0f} | {same} |",
        )
    text = "\n".join(lines) + "\n"
    atomic_write(place / "certificate.md", lambda file: file.write(text.encode()))
    write_json(place / "certificate.json", [dataclasses.asdict(report) for report in reports])
    print(f"\n{text}\n{place / 'certificate.md'}", flush=True)

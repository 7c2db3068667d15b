"""The state of runs, read from their folders; squeue is called once, and only about runs that wait.

Fast enough for a hundred runs: two small files each, and nothing imported that they do not need.
"""

from __future__ import annotations

import os
import time

from hpc.codes import FAILED, REFUSED, STOPPED
from hpc.config import plugins
from hpc.errors import ConfigError, did_you_mean, first_of
from hpc.runs import records
from hpc.runs.outdated import outdated
from hpc.runs.rundir import GONE, RESULT, SUBMISSIONS, SUPERVISOR, Damaged, RunDir, all_lines
from hpc.slurm import words
from hpc.slurm.squeue import Job, Queue, job_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from hpc.runs.records import PlanRecord, Result

SILENT_S = 45
"""A supervisor that has not written for longer is gone; on a cluster it writes every 15 s."""
FORGOTTEN_S, COMPLETING_S = 60, 180
"""How long a job may be called running, or completing, after its supervisor has left it: an epilog may take long."""
LOG_B = 16384
"""How much of the end of a job's log is read."""
ENDED = ("finished", "failed", "stopped", "lost")


class State:
    """The state of a run. Its fields are those of `status --json`."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.name = ""
        """The user's own name for it."""
        self.stage = ""
        self.settings = ""
        """The settings of its command line; in a sweep, its own combination."""
        self.word = "stopped"
        """queued, running, requeued; silent (its supervisor is on this machine, but hangs); or how it ended: finished,
        failed, stopped, lost."""
        self.code: int | None = None
        """The exit code, once it has ended."""
        self.job = ""
        """The Slurm job, or the pid of the supervisor on this machine."""
        self.cluster = ""
        """The cluster of that job, if it is not that of the machine where it was submitted."""
        self.on_slurm = False
        self.nodes = 0
        self.node_counts: list[int] = []
        """Of a malleable run (--nodes 1-4), the numbers of nodes that it may have."""
        self.exact = ""
        """Of a malleable run, what the changes of its number of nodes mean for its parameters."""
        self.attempt = 0
        self.what = ""
        self.done = 0
        self.total = 0
        self.time: float | None = None
        """Since when it is in this state: when it was submitted, has begun, or has ended; in seconds since 1970."""
        self.headline = ""
        """The figure that its stage shows first: of its result, or of its training so far."""
        self.value: float | None = None
        self.chance: float | None = None
        """What chance gives in its place."""
        self.figures: dict[str, float] = {}
        self.per_s: float | None = None
        """Steps per second in this attempt."""
        self.left_s: float | None = None
        """The remaining time at that pace."""
        self.text = ""
        """Why it waits, or how it ended."""
        self.is_empty_job = False
        """Whether Slurm still runs its job, with nothing in it."""
        self.why = ""
        """What Slurm has done to it, in a word or two: see hpc.slurm.words.SHORT. `why RUN` says more."""
        self.site = ""
        """The cluster it is on, if that is reached by ssh from here."""

    def __repr__(self) -> str:
        done = f" {self.done}/{self.total}" if self.total else ""
        return f"<State of {self.run}: {self.word}{done}{f'; {self.text}' if self.text else ''}>"

    @property
    def ended(self) -> bool:
        return self.word in ENDED

    @property
    def job_at(self) -> str:
        """Its job, as a Queue knows it."""
        return job_at(self.job, self.cluster)


def look(run: RunDir, queue: Queue | None = None) -> State:
    return look_all([run], queue or Queue())[0]


def look_all(runs: list[RunDir], queue: Queue) -> list[State]:
    """Read the state of runs from their folders, and of those that wait, from Slurm."""
    looked = [_folder(run) for run in runs]
    in_doubt = [(one, line, run) for (one, line), run in zip(looked, runs) if one.on_slurm and one.word in _DOUBT]
    jobs = queue.look((state.job_at for state, _, _ in in_doubt), _owners((state, run) for state, _, run in in_doubt))
    for state, submitted, run in in_doubt:
        job = jobs.get(state.job_at)
        if job and submitted.get("name", job.name) != job.name:
            job = None  # a controller that has restarted its count gives our number to another job
        _settle(state, job, queue, submitted, run)
    lost = [state for state, _ in looked if state.word == "lost" and state.on_slurm and not state.is_empty_job]
    if lost:
        books = queue.ended([state.job_at for state in lost])
        for state in lost:
            _as_in_books(state, books.get(state.job_at, ""))
    for state, _ in looked:
        state.why = next(filter(None, map(words.short, state.text.split("; "))), "")
    return [state for state, _ in looked]


def _owners(waiting: Iterable[tuple[State, RunDir]]) -> dict[str, int]:
    """Return whose jobs those are: of a shared folder, the runs of others too."""
    owners = ((state.job_at, os.stat(run.folder).st_uid) for state, run in waiting if os.path.exists(run.folder))
    return {job: owner for job, owner in owners if owner != os.getuid()}


def _as_in_books(state: State, last: str) -> None:
    """Fill in how Slurm has ended the job of a run that was lost. One that somebody has cancelled was not."""
    if words.of_state(last) == words.CANCELLED:
        state.word, state.code = "stopped", STOPPED
    if sentence := words.ended(state.job, last):
        state.text = f"{sentence}; {state.text.removeprefix(f'{words.FORGOTTEN}: ')}"
    elif last:
        state.text += f"; Slurm's books say {last}"


_DOUBT = ("waits", "silent", "left")
"""States that only Slurm can resolve: a job whose supervisor has not written yet, one whose supervisor has become
silent, and one that Slurm has ended, which may come back (preempted, a lost node) or not (cancelled)."""


def _folder(run: RunDir) -> tuple[State, dict[str, Any]]:
    """Read the state from the folder, and the last submission. The word may be one of _DOUBT."""
    try:
        return _read(run)
    except OSError as error:
        state = State(run.name)
        state.word, state.text = "lost", f"{error.filename or run.folder}: {error.strerror or error}"
        return state, {}


def _read(run: RunDir) -> tuple[State, dict[str, Any]]:
    supervisor: dict[str, Any] = dict(records.supervisor(run))
    finished = os.path.exists(f"{run.folder}/{RESULT}")
    lines = None if finished else all_lines(f"{run.folder}/{SUBMISSIONS}")
    submitted: dict[str, Any] = {} if lines is None else dict((records.submissions(run, lines) or [{}])[-1])
    state = _described(run, submitted, supervisor)
    plan, result, damage = records.whole(run, is_heard=bool(supervisor), submitted=lines)
    state.stage, entry = plan.get("stage", ""), plan.get("entry", "")
    state.name, state.settings = state.name or plan.get("label", ""), state.settings or plan.get("settings", "")
    if finished:
        state.word, state.code = "finished", 0
        state.text = _mend(run, damage) if damage else _gone(run) or _outdated(run, plan, result) or state.exact
        _headline(state, result.get("metrics") or {}, plugins.shown(entry, "headline"))
    elif not supervisor and any(sentence.startswith(SUPERVISOR) for sentence in damage):
        state.word = "silent" if state.on_slurm else "lost"
    elif not supervisor and not submitted:
        state.text = "never started"
    elif supervisor.get("time", 0) < submitted.get("time", 0):  # its supervisor has not written yet
        _as_submitted(state, submitted, run)
    else:
        _as_supervised(state, supervisor)
    # Ranks go on without their supervisor: what they say themselves is later
    is_later = bool(supervisor) and state.word in ("running", "silent", "left", "lost", "stopped")
    heartbeat: Mapping[str, Any] = dict(records.heartbeat(run, 0)) if is_later else {}
    heartbeat = heartbeat or supervisor.get("pulse") or {}
    _pace(state, heartbeat)
    if not finished:
        _headline(state, state.figures, plugins.shown(entry, "curves"))
    state.time = _since(state, submitted, supervisor, heartbeat, result)
    state.text = "; ".join([*damage, state.text] if state.text else damage)
    return state, submitted


def _since(
    state: State,
    submitted: Mapping[str, Any],
    supervisor: Mapping[str, Any],
    heartbeat: Mapping[str, Any],
    result: Mapping[str, Any],
) -> float | None:
    """Return when it was submitted, if it waits; when its attempt began, if it runs; or when it has ended."""
    if state.word == "running":
        return heartbeat.get("began") or submitted.get("time")
    if state.word == "finished":
        return result.get("ended") or supervisor.get("time")
    return submitted.get("time") if state.word in ("waits", "queued") else supervisor.get("time", submitted.get("time"))


def first_match(names: Iterable[str], patterns: Iterable[str]) -> str:
    """Return the first of the names that the first pattern with any means, as `val_*`; empty if there is none."""
    known = list(names)
    for pattern in patterns:
        if pattern in known:
            return pattern
        head, star, tail = pattern.partition("*")
        for name in known if star else ():
            if name.startswith(head) and name.endswith(tail):
                return name
    return ""


def figure(metric: Any) -> tuple[float | None, float | None]:
    """Return the value of a metric and what chance gives; none if it is no number."""
    value, chance = (metric.get("value"), metric.get("chance")) if isinstance(metric, dict) else (metric, None)
    return _number(value), _number(chance)


def _number(value: Any) -> float | None:
    return float(value) if records.is_number(value) else None


def _headline(state: State, metrics: Mapping[str, Any], declared: tuple[str, ...]) -> None:
    """Fill in the figure that its stage declares as its headline; else the first that has a chance level, or the
    first."""
    numbers = {name: read for name, metric in metrics.items() if (read := figure(metric))[0] is not None}
    name = first_match(numbers, declared)
    name = name or next((each for each in numbers if numbers[each][1] is not None), next(iter(numbers), ""))
    if name:
        state.headline, (state.value, state.chance) = name, numbers[name]


def _mend(run: RunDir, damage: Iterable[str]) -> str:
    """Say of a finished run whose result is damaged what makes it again."""
    if not any(sentence.startswith(RESULT) for sentence in damage):
        return ""
    from hpc.runs import products  # where nothing is damaged it is not needed

    return f"{products.repair(run)}, make it again"


def _gone(run: RunDir) -> str:
    """Say of a finished run that its products were removed."""
    if os.path.isdir(f"{run.folder}/out"):
        return ""
    from hpc.runs import products  # where nothing is gone it is not needed

    return products.gone(run)


def _outdated(run: RunDir, plan: PlanRecord, result: Result) -> str:
    """Say of a finished run that today's code would give other results."""
    try:
        text = outdated(run, with_reasons=False, known=(plan, result))
    except (Damaged, ConfigError):  # a file of what it reads, which that run's own line names
        return ""
    return f"made {text}" if text.startswith("by") else text


def _described(run: RunDir, submitted: Mapping[str, Any], supervisor: Mapping[str, Any]) -> State:
    """Return a state with everything except how the run is doing."""
    state = State(run.name)
    state.name = submitted.get("label") or supervisor.get("label", "")
    state.settings = records.masked(submitted.get("settings") or supervisor.get("settings", ""))
    state.job = str(supervisor.get("job") or supervisor.get("pid") or submitted.get("job", ""))
    state.cluster = submitted.get("cluster", "")
    state.on_slurm = supervisor.get("job") is not None or submitted.get("kind") == "slurm"
    state.nodes = supervisor.get("nodes") or submitted.get("nodes", 0)
    state.attempt = supervisor.get("attempt", 0)
    state.node_counts, state.exact = supervisor.get("node_counts", []), supervisor.get("exact", "")
    return state


def _as_submitted(state: State, submitted: Mapping[str, Any], run: RunDir) -> None:
    if submitted.get("kind") in ("refused", "cancelled"):
        state.code, state.text = STOPPED, submitted.get("text", "")
        return
    state.word, state.job = "waits", submitted.get("job", "")
    state.on_slurm = submitted.get("kind") == "slurm"
    if not state.on_slurm:
        _starting(state, run)


def _as_supervised(state: State, supervisor: Mapping[str, Any]) -> None:
    if supervisor["state"] in ("requeued", "left"):
        state.word, state.text = ("waits" if supervisor["state"] == "requeued" else "left"), supervisor["text"]
    elif supervisor["state"] != "running" or _alive(supervisor):
        state.word, state.code, state.text = supervisor["state"], supervisor.get("code"), supervisor["text"]
    elif not state.on_slurm and (pid := living_pid(supervisor)):
        since = time.strftime("%H:%M:%S", time.localtime(supervisor["time"]))
        state.word = "silent"
        state.text = f"pid {pid} stands still, or finds no room to write, since {since}: `stop --now` ends it"
    else:
        state.word = "silent" if state.on_slurm else "lost"
        state.text = f"its supervisor (pid {supervisor['pid']} on {supervisor['host']}) ended without a word"


def _pace(state: State, heartbeat: Mapping[str, Any]) -> None:
    """Fill in its progress and speed, from when this attempt began, and at which step."""
    if not heartbeat:
        return
    state.what, state.done, state.total = heartbeat.get("what", ""), heartbeat.get("done", 0), heartbeat.get("total", 0)
    state.figures = heartbeat.get("figures", {})
    done, seconds = state.done - heartbeat.get("from", 0), heartbeat.get("time", 0) - heartbeat.get("began", 0)
    if state.word == "running" and heartbeat.get("attempt") == state.attempt and done > 0 and seconds > 0:
        state.per_s = done / seconds
        state.left_s = (state.total - state.done) / state.per_s


def _starting(state: State, run: RunDir) -> None:
    """Fill in the state of a run on this machine whose supervisor has not written yet."""
    state.word, state.text = "queued", "starting"
    if state.job.isdecimal() and not process_ended(int(state.job)):
        return
    holder = records.owner(run)
    if not (holder and holder["host"] == os.uname().nodename and not process_ended(holder["pid"])):
        state.word, state.text = "lost", f"its supervisor did not start, see {run.jobs / 'supervisor.log'}"
    elif time.time() - holder["since"] > SILENT_S:  # otherwise it was started at the same time, and will write soon
        state.word, state.code = "lost", REFUSED
        state.text = f"another supervisor holds the lock, pid {holder['pid']} on {holder['host']}: end that first"


def _settle(state: State, job: Job | None, queue: Queue, submitted: dict[str, Any], run: RunDir) -> None:
    """Resolve a state of _DOUBT by what Slurm says about the job, or by its silence."""
    silence = queue.silence_of(state.job_at)
    if silence and state.word == "silent":
        state.word, state.text = "lost", f"{state.text}; {silence}"
    elif silence:
        state.word, state.text = "queued", silence
    elif job and state.word in ("waits", "left") and (left_s := _forgotten_s(job, run)):
        state.word, state.is_empty_job = "lost", True
        state.text = (
            f"{words.FORGOTTEN}: Slurm calls job {state.job} {job.state.lower()}, but its supervisor left it "
            f"{clock(left_s)} ago: `resume {state.run}` cancels it and submits another"
        )
    elif job:
        _as_queued(state, job, submitted, run)
    else:
        _as_forgotten(state, submitted, run, queue.last_state(state.job_at))


def _as_queued(state: State, job: Job, submitted: Mapping[str, Any], run: RunDir) -> None:
    """Fill in the state of a job that Slurm knows."""
    if job.state == "PENDING":
        waits, again = _why_it_waits(state.job, job, submitted, run), state.word != "waits"
        if not again and words.short(state.text) and not words.short(waits):
            waits = f"{state.text}; {waits}"  # what its supervisor has said of its end
        state.word, state.text = ("requeued", f"by Slurm: {waits}") if again else ("queued", waits)
        if again and (line := words.of_job(job_log(state.job, submitted, run))) and line.kind in words.SHORT:
            state.text = f"{line.kind}: put back by Slurm, {waits}"
    elif job.state == "COMPLETING":
        _as_ending(state, submitted, run)
    elif state.word == "silent":
        since_s = time.time() - records.supervisor(run).get("time", 0)
        silence = f"no sign of its supervisor for {clock(since_s)}" if since_s > SILENT_S else state.text
        state.word, state.text = "running", f"{silence}, but Slurm runs it"
    elif state.word == "left" and job.state == "RUNNING":
        state.word, state.text = "running", "Slurm ends its job"
    else:
        state.word, state.text = "queued", "starting" if job.state == "RUNNING" else job.state.lower()


def _as_ending(state: State, submitted: Mapping[str, Any], run: RunDir) -> None:
    """Fill in the state of a job that Slurm has ended, while it waits for a node that does not answer, or for an
    epilog. Whether it comes back is not known before."""
    line = words.of_job(job_log(state.job, submitted, run))
    ending = "Slurm is ending its job"
    if line and line.kind in words.SHORT:
        ending = f"{line.kind}: {ending}{line.node and f', and waits for {line.node}'}"
    state.word = "queued" if state.word == "waits" else "running"
    state.text = f"{ending}; {state.text}" if state.text else ending


def _forgotten_s(job: Job, run: RunDir) -> float:
    """Return for how long nothing has been in a job that Slurm calls running or completing; 0 if something may be. A
    controller that dies as soon as it has taken a requeue comes back without it."""
    supervisor = records.supervisor(run)
    since_s = time.time() - supervisor.get("time", 0)
    if supervisor.get("state") not in ("requeued", "left"):
        return 0.0
    began = words.time_of(job.start)
    if job.state == "RUNNING" and since_s > FORGOTTEN_S and began is not None and began < supervisor["time"]:
        return since_s
    return since_s if job.state == "COMPLETING" and since_s > COMPLETING_S else 0.0


def job_log(job: str, submitted: Mapping[str, Any], run: RunDir) -> list[str]:
    """Return the end of what a job has printed, where slurmstepd says why Slurm ended it."""
    for folder in dict.fromkeys((submitted.get("log", ""), str(run.jobs))):  # of a run that was moved, it is there
        try:
            with open(f"{folder}/{job}_0_log.out", "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_B))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            continue
    return []


def _as_forgotten(state: State, submitted: dict[str, Any], run: RunDir, last: str) -> None:
    """Fill in the state of a job that Slurm no longer knows. `last`: how it ended, if Slurm still knows that."""
    if state.word == "left":
        state.word, state.code = "stopped", STOPPED
        if (sentence := words.ended(state.job, last)) and not words.short(state.text):
            state.text = f"{sentence}; {state.text}"
    elif state.word == "silent":
        state.word = "lost"
        if said := next((line for line in reversed(job_log(state.job, submitted, run)) if GONE in line), ""):
            state.text = said
    else:
        state.word = "lost"
        state.text = (
            f"{words.FORGOTTEN}: Slurm knows job {state.job} no more: cancelled while it waited, ended at its start, "
            "or lost by a controller that was started anew"
        )
        state.text += f" (see {submitted['log']})" if "log" in submitted else ""
        if records.supervisor(run).get("state") == "requeued":
            state.text += f": `resume {run.name}` goes on"
        for name, word in _ended_badly(submitted.get("after", []), run):
            state.word, state.code = "failed", FAILED
            state.text = (
                f"{words.NEVER_STARTS}: it was to follow {name}, which is {word}: mend that, give this line again"
            )


def _why_it_waits(id: str, job: Job, submitted: Mapping[str, Any], run: RunDir) -> str:
    after = submitted.get("after", [])
    if job.reason.startswith("Dependency"):
        for name, word in _ended_badly(after, run):
            return f"{words.NEVER_STARTS}: it was to follow {name}, which is {word}"
        before = "its job before this one to end" if submitted.get("successor") else ""
        if (before := ", ".join(after) or before) and not words.of_reason(job.reason):
            return f"waits for {before}"
    if sentence := words.waiting(id, job.reason):
        return sentence
    if job.reason == "None":  # Slurm has not looked at it yet
        return "pending"
    estimate = f", Slurm estimates until {job.start.replace('T', ' ')}" if job.start not in ("", "N/A") else ""
    return f"pending: {job.reason}{estimate}"


def _ended_badly(names: Iterable[str], run: RunDir) -> list[tuple[str, str]]:
    """Return those of the runs that this one waits for that ended without a result, by their folders."""
    states = [(name, _folder(RunDir(f"{os.path.dirname(run.folder)}/{name}"))[0]) for name in names]
    return [(name, state.word) for name, state in states if state.ended and state.word != "finished"]


def _alive(supervisor: Mapping[str, Any]) -> bool:
    here = supervisor["host"] == os.uname().nodename
    return time.time() - supervisor["time"] < SILENT_S and not (here and not living_pid(supervisor))


def living_pid(supervisor: Mapping[str, Any]) -> int:
    """Return the pid of the supervisor on this machine, or of its keeper, which will restart it; 0 if both are gone."""
    here = supervisor["host"] == os.uname().nodename
    pids = [supervisor["pid"], supervisor.get("keeper", 0)] if here else []
    return next((pid for pid in pids if pid > 1 and not process_ended(pid)), 0)


def process_ended(pid: int) -> bool:
    """Whether a process of this machine is gone, or dead and not reaped yet (state Z)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def find(word: str, runs: Path | str) -> RunDir:
    """Return the run with that name, a name that begins or ends so, that --name, or that job."""
    near = find_all(word, runs)
    if len(near) == 1:
        return near[0]
    names = first_of(sorted(run.name for run in near))
    raise ConfigError(f"{word!r} could be {names}: say which, by its whole name")


def find_all(word: str, runs: Path | str) -> list[RunDir]:
    """Return all runs that a word can mean, at least one."""
    if not word:
        raise ConfigError("which run? The name is empty")
    if near := meant(word, runs):
        return near
    names = sorted(run.name for run in all_runs(runs))
    known = f".{did_you_mean(word, names)}" if names else ", nor any other"
    raise ConfigError(f"there is no run {word!r} in {runs}{known}")


def meant(word: str, runs: Path | str) -> list[RunDir]:
    """Return all runs that a word can mean, if any."""
    known = all_runs(runs)
    last = {run: (records.submissions(run) or [{}])[-1] for run in known}
    for means in (
        lambda run: run.name == word,
        lambda run: last[run].get("label") == word,
        lambda run: word in [str(line["job"]) for line in records.submissions(run) if "job" in line],
        lambda run: word == str(last[run].get("job", "")).partition("_")[0],  # a whole array
        lambda run: run.name.startswith(word) or run.name.endswith(f"-{word}"),
    ):
        if near := [run for run in known if means(run)]:
            return near
    return []


def all_runs(runs: Path | str) -> list[RunDir]:
    """Return the runs of a folder, the last touched one last."""
    if not os.path.isdir(runs):
        return []
    with os.scandir(runs) as entries:
        folders = [entry for entry in entries if entry.name[0] != "." and os.path.exists(f"{entry.path}/plan.json")]
    return [RunDir(entry.path) for entry in sorted(folders, key=lambda entry: entry.stat().st_mtime)]


def without_plan(runs: Path | str) -> list[str]:
    """Return the names of the folders that were runs: somebody has removed their plan.json."""
    if not os.path.isdir(runs):
        return []
    with os.scandir(runs) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and os.path.exists(f"{entry.path}/jobs")]
    return [name for name in sorted(names) if not os.path.exists(f"{runs}/{name}/plan.json")]


def clock(seconds: float) -> str:
    """Return `0:07`, or `5h03`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"

"""The supervisor: it starts, watches, stops and restarts the ranks of one job. hpc.supervisor runs it in a keeper.

Under Slurm it runs in the batch step; its main thread only waits, so it is never stuck in a collective.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from hpc.book.job import Account
from hpc.codes import DONE, FAILED, HUNG, NEVER, REFUSED, STOPPED
from hpc.media import many
from hpc.overview.page_writer import PageWriter
from hpc.rank import threads
from hpc.rank.context import input_run
from hpc.rank.signals import ignore_signals
from hpc.runs import folding, heartbeats, records, seal, sharing
from hpc.runs.rundir import (
    BLOCK_B,
    FULL,
    Gone,
    RunDir,
    append_line,
    atomic_write,
    committed_steps,
    make_folder,
    overwrite_json,
    read_json,
    write_json,
)
from hpc.runs.speed import slow
from hpc.slurm import words
from hpc.supervise import diagnosis, health, requeue, shapes
from hpc.supervise.malleable import Malleable
from hpc.supervise.ranks import NEIGHBOURS_END_S, Ranks
from hpc.supervise.requeue import EndOfWalltime, Job, Preemption

POLL_S = 0.1
HEARTBEAT_S = 2.0
"""How often the supervisor looks and writes; on a shared disk it becomes as seldom as the heartbeats of the ranks."""
LATE_S = 30.0
"""How long a finished run's result may stay invisible on another node of a shared disk."""
GRACE_S = 60.0
"""How long ranks may take to agree and save if no deadline is known."""
AGAIN_S = 5.0
"""How often to repeat the signal to stop: a rank that is still starting does not listen yet."""
RESERVE_S = 12.0
"""Reserved at the end of the walltime, to kill ranks that do not stop and to requeue."""
TOO_SHORT_SAYS = "the walltime is shorter than the start-up, ask for more --time"
FULL_S = 10.0
"""How often a write to a full disk is retried."""

HELD_LONG = "this site's epilogs would have Slurm hold it for two minutes"
AT_WALLTIME = (signal.SIGUSR2, "clock")
"""The causes of a stop after which a Slurm job continues later."""

Outcome = Literal["finished", "stopped", "crashed", "hung"]
StopCause = signal.Signals | Literal["clock", "request", "budget"]


class Supervisor:
    """Runs one job, from its start to its end.

    Parameters
    ----------
    run
        The run folder.
    environ
        Has Slurm's variables, if this is a batch step. The actual layout of the job counts, because the folder may have
        been submitted with another layout than the plan's.
    early_signals
        Signals that arrived before this began.
    identity
        The id of the run folder. If another folder is there, or none, every method raises Gone and writes nothing.
    """

    def __init__(self, run: RunDir, environ: Mapping[str, str], early_signals: list[int], identity: str = "") -> None:
        self.dir = run
        self.identity = identity or seal.identity_of(run)
        self.environ = environ
        plan = records.whole_plan(run)
        if not plan:
            raise FileNotFoundError(f"{run.path} is not a run folder: it has no plan.json")
        self.plan = plan
        sharing.set_umask(plan["resources"].get("share", "umask"))  # also if it was started by hand
        self.resources: dict[str, Any] = plan["resources"]
        # On a site without Slurm we may still be inside of an interactive job, which is not ours
        self.job = Job.of(environ) if plan["site"]["kind"] == "slurm" else None
        self.end = EndOfWalltime(self.job.id, environ) if self.job else None
        self.preemption = Preemption(self.job.id) if self.job else None
        if self.job:
            self.resources["nodes"] = self.job.nodes or self.resources["nodes"]
            self.resources["ranks_per_node"] = self.job.ranks_per_node or self.resources["ranks_per_node"]
        counts = self.resources.get("node_counts")
        self.malleable = Malleable(run, self.job, self.resources) if self.job and counts else None
        self._next_nodes: int | None = None
        """How many the job gets that follows this one, if it is another number."""
        self.stop_cause: StopCause | None = None
        self._early_signals = early_signals
        self._looked_at = -HEARTBEAT_S
        self._attempt_began = time.monotonic()
        self._from_step = 0
        self.attempt = run.last_attempt()
        self.code: int | None = None
        """The exit code, once it is known."""
        self.ranks: Ranks | None = None
        """Those of the last attempt; they may have left fork servers."""
        self._forks = True
        """Whether ranks may be forked. Not after a failure that a fork could be the reason of."""
        self.page = PageWriter(run, environ)
        self.began = time.time()
        self.me = {
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "job": self.job and self.job.id,
            "since": self.began,
        }
        self.account: Account | None = None
        time_s = None if self.job else self.resources["time_s"]
        self.deadline = time.monotonic() + time_s - self.resources["lead_s"] if time_s else None

    def run(self, first: bool) -> int:
        """Run the job, attempt after attempt, as long as they make progress.

        `first`: the keeper has started no supervisor before this one. A stop request from before the submission is
        ignored. After a restart of the supervisor, or a requeue, an earlier one still counts.
        """
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        for early in self._early_signals:  # only now, as it has those that came until our handlers were set
            self._ask(early, None)
        self._until_there_is_room(lambda: make_folder(self.dir.owner.parent))
        with open(self.dir.lock, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self._takes_over():
                    holder = records.owner(self.dir)
                    who = f"pid {holder['pid']} on {holder['host']}" if holder else "of which no more is known"
                    print_safely(f"{self.dir.name}: another supervisor holds the lock, {who}: this one ends")
                    return REFUSED
            except OSError as error:  # a shared disk mounted without locks
                print_safely(f"going on unlocked: {self.dir.lock} cannot be locked here ({error.strerror})")
            if first and not self._comes_back():
                self.dir.stop_request.unlink(missing_ok=True)
            owner = self.me | {"restarts": self.job.restarts if self.job else 0}
            self._until_there_is_room(lambda: write_json(self.dir.owner, owner))
            if self.dir.result.exists():  # submitted twice at once, and the other job was first
                print_safely(f"{self.dir.name} is finished already")
                return DONE
            self._until_there_is_room(self._open_account)
            if damaged := records.damaged_attempts(self.dir):
                lines = ", ".join(line.replace(":", " is damaged and does not count:", 1) for line in damaged)
                self._note(f"{self.dir.attempts}: {lines}")
            self._until_there_is_room(lambda: diagnosis.account_for_lost(self.dir))
            if self.malleable and not first:  # the supervisor before this one may have done without some of its nodes
                self.malleable.shrink(diagnosis.bad_nodes(diagnosis.since_submission(self.dir)))
            if lacking := self._lacking():
                return self.give_up(FAILED, f"it reads what is not there: {lacking}")
            if self.job and (sick := self._sick_nodes(self.job)):
                return self._leave(self.job, f"{sick}; back into the queue, away from it")
            return self._stop() if self._budget_is_spent() else self._attempts()

    def _open_account(self) -> None:
        """Note what this job has, for the book and for the budget of the run."""
        job, restarts = (self.job.id, self.job.restarts) if self.job else (str(os.getppid()), 0)
        self.account = Account(self.dir, self.plan, job, restarts, self.environ)

    def _close_account(self) -> None:
        try:
            if self.account is not None:
                self.account.end()
        except OSError as error:
            print_safely(f"{self.dir.allocations}: {error.strerror}")

    def _budget_is_spent(self, margin: float = 1.0) -> bool:
        if self.account is None or not self.account.is_spent(margin):
            return False
        if self.stop_cause is None or self.stop_cause in AT_WALLTIME:
            self.stop_cause = "budget"
        return self.stop_cause == "budget"

    def _sick_nodes(self, job: Job) -> str:
        """Look at the nodes of the job before its first attempt; return why it has to leave them, or an empty text."""
        if self.plan["site"].get("node_check", "on") == "off" or self._look_around(now=True):
            return ""
        began = time.monotonic()
        looked = health.look(self.dir.path, self.plan, self.resources, self._time_is_over)
        took = f"{time.monotonic() - began:.1f} s"
        self._log(f"the looks at {many(self.resources['nodes'], 'node')} took {took}")
        for note in looked.notes:
            self._note(note)
        if not looked.sick or self.stop_cause is not None:
            return ""
        why = health.sentence(looked.sick)
        if self.malleable and (shrunk := self.malleable.shrink(list(looked.sick))):
            self._note(f"{why}; {shrunk}")
            return ""
        lines = diagnosis.since_submission(self.dir)
        n_before = sum(line["outcome"] == "sick" for line in lines)
        wanted = "" if n_before < health.HANDED_BACK else f"handed back {n_before} times before"
        if not requeue.to_keep_off(list(looked.sick), self.resources["options"].get("nodelist", "")):
            wanted = "--nodelist wants it"
        elif not requeue.has_others(self.resources, [*diagnosis.ever_bad_nodes(lines), *looked.sick]):
            wanted = "there are not enough other nodes"
        if wanted:
            self._note(f"{why}; {wanted}, so the run goes on there all the same")
            return ""
        self.attempt = self.dir.last_attempt() + 1
        folder, now = self.dir.attempt(self.attempt), time.time()
        steps = committed_steps(self.dir.checkpoints)
        start = {"attempt": self.attempt, "started": now, "job": job.id, "from_step": steps[-1] if steps else 0}
        end = {
            "ended": now, "outcome": "sick", "codes": [], "why": why, "node": ",".join(looked.sick), "fault": "node",
            "got_on": False,
        }  # fmt: skip
        self._until_there_is_room(lambda: _make_new(folder.path))
        self._until_there_is_room(lambda: write_json(folder.start, start))
        self._until_there_is_room(lambda: append_line(self.dir.attempts, start | end))
        return why

    def _comes_back(self) -> bool:
        """Whether the job was requeued, or follows another if a site does not requeue: no user has submitted it
        again."""
        submitted = (records.submissions(self.dir) or [{}])[-1]
        return self.job is not None and bool(self.job.restarts or submitted.get("successor"))

    def _takes_over(self) -> bool:
        """Whether Slurm has given up the holder of the lock: our own job, before Slurm restarted it here. A node that
        Slurm declares dead may only have lost its network."""
        holder = records.owner(self.dir)
        return (
            self.job is not None and holder.get("job") == self.job.id and holder.get("restarts", 0) < self.job.restarts
        )

    def _lacking(self) -> str:
        """Return the inputs without a result: an array starts when those before it have ended, even if they failed.

        A shared disk may show another node's file half a minute late.
        """
        inputs = [input_run(ref, self.dir.path.parent) for ref in self.plan["inputs"].values()]
        missing = [run for run in inputs if run and not run.result.exists()]
        deadline = time.monotonic() + LATE_S
        while missing and time.monotonic() < deadline and self.stop_cause is None:
            states = [records.supervisor(run).get("state") for run in missing]
            if any(state in ("failed", "stopped") for state in states):
                break
            time.sleep(1)
            missing = [run for run in missing if not run.result.exists()]
        words = [records.supervisor(run).get("state", "not started") for run in missing]
        return ", ".join(f"{run.name} ({word})" for run, word in zip(missing, words))

    def _attempts(self) -> int:
        try:
            while (end := self._next_attempt()) is None:
                pass
        finally:
            if self.ranks is not None:
                self.ranks.close()
        try:
            return end()
        finally:
            if self.ranks is not None:
                self.ranks.forget()

    def _next_attempt(self) -> Callable[[], int] | None:
        """Make an attempt; return how the run ends then, or None if another one follows."""
        try:
            seal.verify(self.dir, records.plan(self.dir))
        except seal.Unsealed as error:
            return partial(self.give_up, NEVER, str(error))
        outcome = self._attempt()
        if outcome == "finished":
            return self._finish
        if outcome == "stopped" or self.stop_cause is not None:
            return self._stop
        lines = diagnosis.since_submission(self.dir)
        why = lines[-1]["why"]
        if diagnosis.hopeless(lines):
            never = NEVER in lines[-1]["codes"] or lines[-1].get("fault") == "user"
            return partial(self.give_up, NEVER if never else HUNG if outcome == "hung" else FAILED, why)
        if self._look_around(now=True):
            return self._stop
        nodes = diagnosis.bad_nodes(lines)
        if self.malleable and (shrunk := self.malleable.shrink(nodes)):
            self._release_ranks()
            self._say("running", f"{why}; {shrunk}")
            return None
        if self.job and lines[-1]["node"] in nodes:
            return partial(self._leave, self.job, f"{why}; {', '.join(nodes)} failed before: back into the queue")
        # If a library cannot live with a fork, the next attempt is one without
        self._forks = self._forks and (lines[-1]["got_on"] or (self.ranks is not None and self.ranks.was_killed))
        got_on = "got on since the last start" if lines[-1]["got_on"] else "nothing saved since the last start"
        self._say("running", f"{why}; {got_on}: starting again from what is saved")
        return None

    def _release_ranks(self) -> None:
        """End what the last attempt has left: the next one has other nodes."""
        if self.ranks is not None:
            self.ranks.close()
            self.ranks.forget()
            self.ranks = None

    def _attempt(self) -> Outcome:
        """Start the ranks, and wait until all have ended."""
        seal.check_identity(self.dir, self.identity)
        self.attempt = self.dir.last_attempt() + 1
        folder = self.dir.attempt(self.attempt)
        if not self._until_there_is_room(lambda: _make_new(folder.path)):
            return "stopped"
        steps, before = committed_steps(self.dir.checkpoints), diagnosis.products(self.dir)
        n_ranks = self.resources["nodes"] * self.resources["ranks_per_node"]
        given = threads.of_a_rank(self.plan, n_ranks, self.job is not None)
        n_threads = int(threads.capped(given, os.environ)[threads.OF_ALL])
        self._from_step = steps[-1] if steps else 0
        start = {
            "attempt": self.attempt,
            "started": time.time(),
            "job": self.job and self.job.id,
            "from_step": self._from_step,
            "ranks": n_ranks,
            "nodes": self.resources["nodes"],
            "threads": n_threads,
        }
        if not self._until_there_is_room(lambda: write_json(folder.start, start)):  # nor is there room for the logs
            return "stopped"
        going_on = f", goes on from step {steps[-1]}" if steps else ""  # unless a rank finds that it is damaged
        last = (records.attempts(self.dir) or [{}])[-1]
        before_ranks, before_threads = last.get("ranks", n_ranks), last.get("threads", n_threads)
        if steps and before_ranks != n_ranks:
            exact = self.plan.get("exact") or "with dropout it is not the same run to the bit now"
            self._note(f"{n_ranks} ranks instead of {before_ranks}: {exact}")
        elif steps and before_threads != n_threads and not self.resources["gpus_per_node"]:
            self._note(
                f"{n_threads} threads a rank instead of {before_threads}: CPUs add in another order, so it is not the "
                "same run to the bit now"
            )
        self._say("running", f"attempt {self.attempt} starts: {n_ranks} rank{'s' if n_ranks > 1 else ''}{going_on}")
        started = self.ranks = Ranks(
            self.dir, self.attempt, self.plan, self.job is not None, self.identity, self.ranks, self._forks
        )
        try:
            outcome, late = self._watch(started)
        except Gone:
            started.end()
            raise
        self._note_damage(records.heartbeat(self.dir, 0))
        cause = diagnosis.Cause("")
        if late:
            cause = diagnosis.hung(late, folder)
        elif outcome == "crashed":
            hosts = {heartbeat["rank"]: heartbeat["host"] for heartbeat in started.heartbeats()}
            cause = diagnosis.crashed(folder, started.first_codes or started.codes, hosts)
        end = {
            "from_step": self._from_step,
            "ended": time.time(),
            "outcome": outcome,
            "codes": started.codes,
            "why": cause.why,
            "node": cause.node,
            "fault": cause.fault if cause.why else "",
            "at": diagnosis.at(folder),
            "got_on": diagnosis.products(self.dir) != before,
            "walltime": self._walltime_is_over(),
            "paces": slow.paces_to_keep(started.heartbeats()),
            **shapes.speed(records.heartbeat(self.dir, 0), self.attempt),
        }
        self._until_there_is_room(lambda: append_line(self.dir.attempts, start | end))
        return outcome

    def _note_damage(self, first: "records.Heartbeat") -> None:
        """Say, once, that the first rank has found the last checkpoint damaged, and goes on from another one."""
        step = first.get("went_back", self._from_step) if first.get("attempt") == self.attempt else self._from_step
        if step != self._from_step:
            whence = f"goes on from step {step}" if step else "begins anew"
            self._note(f"the checkpoint of step {self._from_step} is damaged: attempt {self.attempt} {whence}")
            self._from_step = step

    def _watch(self, started: Ranks) -> tuple[Outcome, dict[str, Any] | None]:
        """Wait for the ranks; pass a request to stop on to them; if one dies or all are silent, end the others. Return
        the outcome, and after a hang the heartbeat of the rank that is late."""
        asked_at: float | None = None
        pulse_at = signal_at = 0.0
        self._attempt_began = time.monotonic()
        while started.running:
            started.wait(POLL_S)
            now = time.monotonic()
            self._time_is_over()
            if now - pulse_at > self._interval_s():
                pulse_at = now
                if self.account is not None:
                    self.account.sample()
                first = records.heartbeat(self.dir, 0)
                self._note_damage(first)
                if not self._heartbeat("running", pulse=first):
                    started.heard_since = time.time()
                self._look_around()
                self.page.look()
                started.cut_logs()
                if (silent_s := started.hang_s(first)) and not self._has_room():
                    started.heard_since = time.time()
                elif silent_s:
                    late = started.late() | {"silent_s": silent_s}
                    started.end()
                    return ("hung" if asked_at is None else "stopped"), late
            if self.stop_cause is not None and asked_at is None:
                asked_at = now
                if self.preemption is not None:
                    self.preemption.ask()
                self._say("running", f"asked to stop ({self._why()}): the ranks save at the next step")
            if asked_at is not None and now - signal_at > AGAIN_S:
                signal_at = now
                started.signal(signal.SIGUSR2)
            if asked_at is not None and now - asked_at > self._grace_s():
                self._say("running", f"not stopped after {now - asked_at:.0f} s: ended, the last checkpoint counts")
                started.end()
            if started.broken:
                started.end(NEIGHBOURS_END_S)
        if any(started.codes):  # the neighbours of a crashed rank get TERM and stop as well
            return ("crashed" if asked_at is None else "stopped"), None
        if any(self.dir.attempt(self.attempt).path.glob("rank-*.stopped")):
            return "stopped", None
        return ("finished" if self._found() else "crashed"), None

    def _found(self) -> bool:
        """Whether rank 0 has written its metrics; an exit code of 0 alone does not prove that it finished."""
        metrics = self.dir.attempt(self.attempt).metrics
        deadline = time.monotonic() + LATE_S
        while not metrics.exists() and self.job and self.resources["nodes"] > 1 and time.monotonic() < deadline:
            time.sleep(1)
        return metrics.exists()

    def _look_around(self, now: bool = False) -> bool:
        """Whether a stop was requested: the time is over, or the user wants it. End all if another has taken over.
        `now`: look into the folder, even if that was done a moment ago."""
        if now or time.monotonic() - self._looked_at >= HEARTBEAT_S / 2:
            self._looked_at = time.monotonic()
            if records.owner(self.dir).get("since", self.began) > self.began:
                print_safely(f"{self.dir.name} has another supervisor since: this one and its ranks end")
                os.killpg(0, signal.SIGKILL)  # the batch step's group: the keeper, srun and us
            if self.stop_cause is None and self.dir.stop_request.exists():
                self.stop_cause = "request"
        return self._time_is_over()

    def _time_is_over(self) -> bool:
        """Whether a stop was requested, or its time is over. It asks no disk."""
        left_s = self.end.left_s() if self.end else None
        if self.stop_cause is not None:
            return True
        if self._budget_is_spent():
            return True
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.stop_cause = "clock"
        elif left_s is not None and left_s < 0.9 * self.resources["lead_s"]:
            self.stop_cause = "clock"  # if Slurm sends a signal, it comes earlier
        return self.stop_cause is not None

    def _interval_s(self) -> float:
        """Return how often to look into the run folder and to write into it."""
        of_ranks_s = heartbeats.interval_s(self.resources, time.monotonic() - self._attempt_began)
        return max(HEARTBEAT_S, heartbeats.OF_SUPERVISOR * of_ranks_s)

    def _walltime_is_over(self) -> bool:
        """Whether the stop was caused by the end of the walltime; USR2 also comes when a site preempts."""
        left_s = self.end.left_s() if self.end else None
        is_far = left_s is not None and left_s >= 2 * self.resources["lead_s"]
        return self.stop_cause in AT_WALLTIME and not is_far and not self._is_preempted()

    def _why(self) -> str:
        assert self.stop_cause is not None
        return why_stopped(self.stop_cause, self.end.left_s() if self.end else None, self.resources["lead_s"])

    def _is_preempted(self) -> bool:
        return self.preemption is not None and self.preemption.is_known()

    def _grace_s(self) -> float:
        """Return how long the ranks may take to stop: most of the time that Slurm promised, if Slurm made the
        request."""
        lead_s = self.resources["lead_s"]
        return max(lead_s - RESERVE_S, 0.5 * lead_s, 5.0) if self.stop_cause in AT_WALLTIME else GRACE_S

    def _finish(self) -> int:
        attempts = records.attempts(self.dir)
        metrics = read_json(self.dir.attempt(self.attempt).metrics)
        spent = sum(line["ended"] - line["started"] for line in attempts if "ended" in line)
        result = {"metrics": metrics, "attempts": len(attempts), "seconds": spent, "ended": time.time()}
        result |= records.meanings(self.dir) | ({"exact": self.plan["exact"]} if self.plan.get("exact") else {})
        if not self._until_there_is_room(lambda: write_json(self.dir.result, result)):
            return self._stop()  # it is done again from the last checkpoint, where there is room
        self.code = DONE
        text = f"finished after {spent:.0f} s, {len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
        self._heartbeat("finished", text)
        try:
            folding.fold(self.dir)
        except OSError as error:  # then it has more files than it needs
            print_safely(f"{self.dir.path}: not in few files: {error}")
        self._note(text)  # who follows the run waits for it
        return DONE

    def finish_page(self) -> None:
        """Have the page of all runs say how it has ended; not if the job goes back into the queue, nor in the seconds
        that Slurm's TERM leaves."""
        if self.code is not None and self.stop_cause != signal.SIGTERM:
            self.page.finish()

    @property
    def has_ended(self) -> bool:
        """Whether the run has come to its end, has failed, or rests as its search wants: not if it was stopped, nor if
        it is to go on in the queue."""
        return self.code in (DONE, FAILED, HUNG, NEVER) or self._rests

    @property
    def _rests(self) -> bool:
        return self.code == STOPPED and self.stop_cause is None and bool(self.plan.get("pause_at"))

    def give_up(self, code: int, why: str) -> int:
        self.code = code
        self._say("failed", why)
        return code

    def _stop(self) -> int:
        """Finish after a stop was requested. At the end of the walltime a Slurm job is requeued."""
        steps = committed_steps(self.dir.checkpoints)
        text = f"stopped at step {steps[-1]}" if steps else "stopped with nothing to save yet"
        if self.stop_cause in (signal.SIGUSR2, signal.SIGTERM) and self._is_preempted():
            text = f"{words.PREEMPTED}: {text}"
        if self.stop_cause in AT_WALLTIME and self.dir.stop_request.exists():
            self.stop_cause = "request"  # requested while the ranks saved, by a user who does not want it back
        if self.stop_cause in AT_WALLTIME:
            self._budget_is_spent(margin=2.0)  # what is left would not be worth another job
        if self.job and self.stop_cause in AT_WALLTIME:
            if n := diagnosis.too_short(diagnosis.since_submission(self.dir)):
                text += f", nothing saved since its start: {TOO_SHORT_SAYS} ({n} of {diagnosis.TOO_SHORT})"
            if n >= diagnosis.TOO_SHORT:
                return self.give_up(FAILED, text)
            return self._leave(self.job, f"{text}; back into the queue")
        self.code = STOPPED
        if self.job and self.stop_cause == signal.SIGTERM and not self.dir.stop_request.exists():
            # Preempted, cancelled, or a node was lost: only Slurm knows whether the job comes back. status asks it
            self._say("left", f"{text}, at Slurm's TERM; the same command goes on from there")
        else:
            rests = ", where its search lets it rest" if self._rests else ""
            on = "the same command goes on from there"
            if self.stop_cause == "budget" and self.account is not None:
                on = self.account.sentence()
            self._say("stopped", f"{text}{rests}; {on}")
        return STOPPED

    def _leave(self, job: Job, text: str) -> int:
        """Requeue the job, off the nodes that were bad; if that is refused, submit a new job that follows this one. The
        other way round where Slurm would hold the job for long."""
        self._say("requeued", text)
        ignore_signals()
        left_s = self.end.left_s() if self.end else None
        until = time.monotonic() + (300.0 if left_s is None else max(0.0, left_s - RESERVE_S / 2))
        options = self.resources["options"]
        excluded = options.get("exclude")
        bad_nodes = diagnosis.ever_bad_nodes(self._failures_to_mind())
        bad_nodes = requeue.to_keep_off(bad_nodes, options.get("nodelist", ""))
        keep_off = [*([excluded] if excluded else []), *bad_nodes] if bad_nodes else []
        why, ways = "", (self._requeue, self._submit_next)
        if self.malleable and (other := self._choose_nodes(self.malleable, bad_nodes, until)):
            why, ways = other, (self._submit_next, self._requeue)
        elif requeue.is_held_long(self.dir, job):
            why, ways = HELD_LONG, (self._submit_next, self._requeue)
        for way in ways:
            if not (refused := way(job, keep_off, until, why)):
                return STOPPED
            why = f"{why}; {refused}" if why else refused
        self.code = STOPPED
        self._say("stopped", f"{text}, but Slurm does not take it ({why}): give the line again")
        return STOPPED

    def _failures_to_mind(self) -> "list[records.Attempt]":
        """Return the attempts by whose nodes the next job is kept off bad ones. A malleable run is to grow again: Slurm
        itself gives it no node that is lost, and knows when it is back."""
        lines = diagnosis.since_submission(self.dir)
        if self.malleable is None:
            return lines
        return [line for line in lines if words.short(line["why"]) != words.NODE_FAILURE]

    def _choose_nodes(self, malleable: Malleable, bad_nodes: list[str], until: float) -> str:
        """Choose how many nodes the next job gets; return why, or an empty text if it is as many as this one."""
        choice = malleable.next(bad_nodes, until, self._is_preempted())
        self._note(f"next on {choice.why}")
        if choice.nodes == malleable.n_of_job:
            return ""
        self._next_nodes = choice.nodes
        return f"{choice.nodes} instead of {self.resources['nodes']} nodes"

    def _requeue(self, job: Job, keep_off: list[str], until: float, why: str) -> str:
        """Return why Slurm refuses it, or an empty text."""
        refused = requeue.requeue(job.id, keep_off, until, requeue.epilog_s(self.dir, job))
        if refused is None and why:
            self._note(f"{why}: back into the queue")
        return refused or ""

    def _submit_next(self, job: Job, keep_off: list[str], until: float, why: str) -> str:
        """Return why Slurm refuses it, or an empty text."""
        try:
            next_job = requeue.successor(self.dir, job.id, keep_off, until, self._next_nodes)
        except RuntimeError as error:
            return str(error)
        self._note(f"{why}: goes on as job {next_job}")
        if not self._walltime_is_over():  # preempted: Slurm would put this job back as well, and both would wait
            requeue.give_up(job.id)
        return ""

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        """Note a signal. A request to end for good outranks the end of the walltime, whichever came first."""
        received = signal.Signals(signum)
        if self.stop_cause is None or (self.stop_cause in AT_WALLTIME and received not in AT_WALLTIME):
            self.stop_cause = received

    def requeue_after_crash(self) -> int:
        """Finish after an error of our own, which must not cost the job its place: at the end of the walltime it is
        still requeued."""
        if self.job and self.stop_cause in AT_WALLTIME:
            return self._leave(self.job, "its supervisor failed, see the log of the job; back into the queue")
        return self.give_up(FAILED, f"its supervisor failed, see the log: {self.dir.jobs}")

    def _of_malleable(self) -> dict[str, Any]:
        if self.malleable is None:
            return {}
        return {"node_counts": self.malleable.node_counts, "exact": self.plan.get("exact", "")}

    def _until_there_is_room(self, write: Callable[[], object]) -> bool:
        """Retry a write until there is room: a full disk is no reason to lose a run. False if a stop is requested
        first: then it is only logged, as a full disk is no reason to be late either."""
        tried_at: float | None = None
        while True:
            seal.check_identity(self.dir, self.identity)
            if tried_at is None or time.monotonic() - tried_at > FULL_S:
                try:
                    write()
                    return True
                except OSError as error:
                    if error.errno not in FULL and self.stop_cause is None:
                        raise
                    if tried_at is None or self.stop_cause is not None:
                        what = "waiting for room" if self.stop_cause is None else "going on without"
                        print_safely(f"{self.dir.path}: {error.strerror}; {what}")
                tried_at = time.monotonic()
                self._heartbeat("running", "the disk is full: waiting for room")
            if self._look_around():
                return False
            time.sleep(POLL_S)

    def _has_room(self) -> bool:
        """Whether a new file finds room: on a full disk the file of a supervisor is written in place all the same, but
        that of a node that has just started is not."""
        trial = self.dir.supervisor.with_name("room")
        try:
            atomic_write(trial, lambda file: file.write(bytes(BLOCK_B)), durable=False)
            trial.unlink()
        except OSError as error:
            return error.errno not in FULL
        return True

    def _say(self, state: str, text: str) -> None:
        self._note(text)
        self._heartbeat(state, text)

    def _log(self, text: str) -> None:
        """Print a line that nobody needs once the run has finished: see hpc.runs.folding.OURS."""
        print_safely(f"{time.strftime('%H:%M:%S')} {self.dir.name} {text}")

    def _note(self, text: str) -> None:
        self._log(text)
        seal.check_identity(self.dir, self.identity)
        try:
            append_line(self.dir.events, {"time": time.time(), "text": text})
        except OSError as error:
            print_safely(f"{self.dir.events}: {error.strerror}")

    def _heartbeat(self, state: str, text: str = "", pulse: "records.Heartbeat | None" = None) -> bool:
        """Write the state; False if there is no room for it, nor for the ranks' heartbeats. The next may succeed.
        `pulse`: the last heartbeat of the first rank, if it was just read."""
        now = {
            "time": time.time(),
            "state": state,
            "code": self.code,
            "attempt": self.attempt,
            "job": self.job and self.job.id,
            "label": self.plan["label"],
            "settings": self.plan["settings"],
            "nodes": self.resources["nodes"],
            "text": text,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "keeper": os.getppid(),
            **self._of_malleable(),
            "pulse": pulse or records.heartbeat(self.dir, 0),  # so that status reads one file of a run that has ended
        }
        seal.check_identity(self.dir, self.identity)
        if state != "running":
            self._close_account()
        try:
            overwrite_json(self.dir.supervisor, now)
        except OSError as error:
            print_safely(f"{self.dir.supervisor}: {error.strerror}")
            return error.errno not in FULL
        return True


def _make_new(folder: Path) -> None:
    make_folder(folder.parent)
    folder.mkdir()


def print_safely(text: str) -> None:
    """Print to the log of the job, which may be on the disk that is full."""
    with suppress(OSError):
        print(text, flush=True)


def why_stopped(cause: StopCause, left_s: float | None, lead_s: float) -> str:
    """Say why the ranks are asked to stop. `left_s`: what is left of the walltime, if it is known."""
    if cause == signal.SIGUSR2 and left_s is not None and left_s >= 2 * lead_s:
        return f"Slurm wants it to end, {left_s / 60:.0f} min before its walltime does"
    words_of = {
        "clock": "its time is over",
        "request": "on request",
        "budget": "its budget is spent",
        signal.SIGUSR2: "the walltime is near, or Slurm wants it to end" if left_s is None else "the walltime is near",
        signal.SIGINT: "Ctrl-C",
    }
    return words_of.get(cause) or "TERM"

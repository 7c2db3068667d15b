"""Stops runs, from any machine that sees their folders and can reach their processes or jobs."""

import os
import signal
import time
from collections.abc import Sequence

from hpc.errors import ConfigError
from hpc.runs import records, status
from hpc.runs.rundir import RunDir, append_line
from hpc.runs.status import State
from hpc.slurm import commands
from hpc.slurm.squeue import Queue, cluster_of, number_of


def stop(runs: list[RunDir], now: bool) -> list[str]:
    """Ask the runs to save and end, or end them at once; return what was done. The same line continues them later."""
    states = dict(zip(runs, status.look_all(runs, Queue()), strict=True))
    alive = {run: state for run, state in states.items() if not state.ended}
    if not alive:
        states_text = ", ".join(f"{s.run} is {s.word}{s.text and f' ({s.text})'}" for s in list(states.values())[:6])
        raise ConfigError(f"nothing to stop: {states_text}")
    waiting = [state for state in alive.values() if state.on_slurm and (now or state.word != "running")]
    cancelled, silence = _cancel(waiting, now) if waiting else ("", "")
    done = [cancelled] if waiting else []
    for run, state in alive.items():
        if state not in waiting:
            done.append(f"{run.name}: {_ask(run, state, now)}")
        elif state.word != "running":
            how = f"given up, as {silence}" if silence else "cancelled while it waited"
            _note(run, f"{how}; the same command submits it again")
    return done


def _note(run: RunDir, text: str) -> None:
    """Note that somebody has ended the run, which cannot say so itself."""
    line = (records.submissions(run) or [{}])[-1] | {"kind": "cancelled", "text": text, "time": time.time()}
    append_line(run.submissions, line)


def _cancel(states: list[State], now: bool) -> tuple[str, str]:
    """End jobs, all in one call; return what was done, and why Slurm did not answer.

    With `now`, jobs that wait in a Slurm that does not answer are given up: it may be gone for good, as that of a test
    bed. If such a job starts after all, it finds its run finished, or taken.
    """
    jobs = [state.job for state in states]
    refused = _scancel(*(state.job_at for state in states))
    running = any(state.word == "running" for state in states)
    if refused and now and not running and (silence := _silence([state.job_at for state in states])):
        return f"gave up job {', '.join(jobs)}, as {silence}", silence
    if refused:
        raise ConfigError(f"scancel did not take {', '.join(jobs)}: {refused}")
    return f"cancelled job {', '.join(jobs)}{'; the last checkpoint counts' if running else ', which was waiting'}", ""


def end_empty(states: list[State]) -> None:
    """End the jobs that Slurm runs with nothing in them, before others take their place.

    Requeued, they would keep their place, but Slurm may have lost what they were given: then srun starts nothing there
    (`Invalid generic resource (gres) specification`, 22.05).
    """
    if jobs := [state.job_at for state in states if state.is_empty_job]:
        refused = _scancel(*jobs)
        if refused and "invalid job id" not in refused.lower():
            raise ConfigError(f"nothing is in job {', '.join(jobs)}, but scancel does not take it: {refused}")
        print(f"job {', '.join(jobs)} had nothing in it: cancelled")


def _silence(jobs: list[str]) -> str:
    """Return why Slurm gives no information on the jobs, or an empty text."""
    queue = Queue()
    queue.look(jobs)
    return queue.silence


def _ask(run: RunDir, state: State, now: bool) -> str:
    """Ask a run that is running to save and end; return what was done."""
    if not now and state.word in ("running", "silent"):
        run.stop_request.touch(mode=0o600)  # the supervisor checks for it, even if no signal can reach it
    if state.on_slurm:
        # A signal to the batch step alone reaches the supervisor, which lets the ranks save and does not requeue
        refused = _scancel(state.job_at, options=("--signal=TERM", "--batch"))
        return f"asked to save and end, job {state.job}{refused and f' (by its folder; scancel says: {refused})'}"
    supervisor = records.supervisor(run)
    if state.word == "queued" or not supervisor:
        raise ConfigError(f"{run.name} is only just starting: stop it in a second")
    if supervisor["host"] != os.uname().nodename:
        if now:
            raise ConfigError(f"{run.name} runs on {supervisor['host']}: end it there, or leave out --now")
        return f"asked to save and end, on {supervisor['host']}"
    pid = status.living_pid(supervisor)
    if not pid:
        raise ConfigError(f"{run.name} has just ended: see status")
    if now:
        # It is in a session of its own, together with its keeper and its ranks
        os.killpg(os.getpgid(pid), signal.SIGKILL)
        _note(run, "ended at once; the same command goes on from its last checkpoint")
        return "ended at once; the last checkpoint counts"
    os.kill(pid, signal.SIGTERM)
    if state.word == "silent":
        return f"asked to save and end, but {state.text}"
    return "asked to save and end"


def _scancel(*jobs: str, options: Sequence[str] = ()) -> str:
    """Run scancel, once for each cluster; return its error, or an empty text."""
    errors = []
    for cluster in sorted(set(map(cluster_of, jobs))):
        numbers = [number_of(job) for job in jobs if cluster_of(job) == cluster]
        words = (*commands.of_cluster(cluster), *options, *numbers)
        answer = commands.run("scancel", *words, patience_s=commands.ACT_S)
        errors += [] if answer.ok else [answer.error]
    return "; ".join(errors)

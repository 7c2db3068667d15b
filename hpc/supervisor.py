"""One per job: starts the ranks, watches them, stops them, starts them again. `python -m hpc.supervisor RUN`.

Under Slurm it is the batch step, the process that Slurm signals; its main thread only waits, so it is never stuck in
a collective. On a laptop it is a process of its own. Exit codes: 0 finished, 75 stopped and resumable, 1 failed.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from hpc import DONE, FAILED, NEVER, REFUSED, STOPPED
from hpc.context import input_run
from hpc.rundir import RunDir, append_line, committed_steps, read_json, read_lines, write_json
from hpc.stop import deaf

POLL_S = 0.1
PULSE_S = 2.0
AGAIN_S = 5
"""When a requeued job may start again: later than its last process has ended."""
LATE_S = 30.0
"""How long a finished run's result may stay unseen on another node of a shared disk."""
GRACE_S = 60.0
"""How long ranks may take to agree and save when nobody says how long there is."""

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork

Outcome = Literal["finished", "stopped", "crashed"]


class Supervisor:
    """The thing that submitit pickles: a path."""

    def __init__(self, run: str) -> None:
        self.path = run

    def checkpoint(self) -> None:
        """submitit looks whether this is here before it requeues; its handler is never the one at work."""
        raise AssertionError("submitit's signal handler ran: the supervisor's should have replaced it")

    def __call__(self) -> None:
        code = Supervision(RunDir(Path(self.path)), os.environ).run()
        if code != DONE:
            sys.stdout.flush()
            raise SystemExit(code)


class Supervision:
    """The life of one job.

    Parameters
    ----------
    run
        The run folder.
    environ
        What Slurm says of the job this is the batch step of. The job's own layout counts, should somebody have
        submitted the folder with another than the plan's.
    """

    def __init__(self, run: RunDir, environ: Mapping[str, str]) -> None:
        self.dir = run
        plan = read_json(run.plan)
        if plan is None:
            raise FileNotFoundError(f"{run.path} is not a run folder: it has no plan.json")
        self.plan: dict[str, Any] = plan
        self.resources: dict[str, Any] = plan["resources"]
        # On a laptop's site we may still be inside of somebody's interactive job, which is not ours
        self.job = _job(environ) if plan["site"]["kind"] == "slurm" else None
        if self.job:
            for name, variable in (("nodes", "SLURM_JOB_NUM_NODES"), ("ranks_per_node", "SLURM_NTASKS_PER_NODE")):
                self.resources[name] = int(environ.get(variable, self.resources[name]))
        self.asked: signal.Signals | Literal["clock"] | None = None
        self.attempt = 0
        self.code: int | None = None
        """The exit code, once it is known."""
        time_s = None if self.job else self.resources["time_s"]
        self.deadline = time.monotonic() + time_s - self.resources["lead_s"] if time_s else None

    def run(self) -> int:
        """From the first start of the ranks to the end of the job: attempt after attempt, as long as they get on."""
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        self.dir.owner.parent.mkdir(exist_ok=True)
        with open(self.dir.owner, "w") as owner:
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{self.dir.name} has a supervisor already: this one ends", flush=True)
                return REFUSED
            except OSError as error:  # a shared disk mounted without locks
                print(f"going on unlocked: {self.dir.owner} cannot be locked here ({error.strerror})", flush=True)
            if lacking := self._lacking():
                return self._give_up(FAILED, f"it reads what is not there: {lacking}")
            return self._attempts()

    def _lacking(self) -> str:
        """The runs among the inputs that have no result: an array starts when those before it have ended, even badly.

        A shared disk may show another node's file half a minute late.
        """
        inputs = [input_run(ref, self.dir.path.parent) for ref in self.plan["inputs"].values()]
        missing = [run for run in inputs if run and not run.result.exists()]
        deadline = time.monotonic() + LATE_S
        while missing and time.monotonic() < deadline and self.asked is None:
            states = [(read_json(run.supervisor) or {}).get("state") for run in missing]
            if any(state in ("failed", "stopped") for state in states):
                break
            time.sleep(1)
            missing = [run for run in missing if not run.result.exists()]
        words = [(read_json(run.supervisor) or {}).get("state", "not started") for run in missing]
        return ", ".join(f"{run.name} ({word})" for run, word in zip(missing, words))

    def _attempts(self) -> int:
        while True:
            before = self._progress()
            outcome, codes = self._attempt()
            if outcome == "finished":
                return self._finish()
            if outcome == "stopped":
                return self._stop()
            why = self._why_failed(codes)
            if NEVER in codes or self._progress() == before:
                return self._give_up(NEVER if NEVER in codes else FAILED, why)
            self._say("running", f"{why}; got on since the last start, so starting again from what is saved")

    def _attempt(self) -> tuple[Outcome, list[int]]:
        """One start of the ranks, until all have ended."""
        self.attempt = self.dir.last_attempt() + 1
        folder = self.dir.attempt(self.attempt).path
        folder.mkdir(parents=True)
        steps = committed_steps(self.dir.checkpoints)
        start = {
            "attempt": self.attempt,
            "started": time.time(),
            "job": self.job,
            "from_step": steps[-1] if steps else 0,
        }
        n_ranks = self.resources["nodes"] * self.resources["ranks_per_node"]
        going_on = f", goes on from step {steps[-1]}" if steps else ""
        self._say("running", f"attempt {self.attempt} starts: {n_ranks} rank{'s' if n_ranks > 1 else ''}{going_on}")
        outcome, codes = self._watch(self._start_srun() if self.job else self._start_here())
        append_line(self.dir.attempts, start | {"ended": time.time(), "outcome": outcome, "codes": codes})
        return outcome, codes

    def _start_here(self) -> list[subprocess.Popen[bytes]]:
        r = self.resources
        per_node, size = r["ranks_per_node"], r["nodes"] * r["ranks_per_node"]
        # One core for all else that runs: the threads of a rank wait for the slowest at each step, so that one of them
        # on a busy core makes small models several times slower
        threads = str(max(1, (len(os.sched_getaffinity(0)) - 1) // size))
        ranks = []
        for rank in range(size):
            place = {"HPC_RANK": rank, "HPC_SIZE": size, "HPC_LOCAL_RANK": rank % per_node, "HPC_LOCAL_SIZE": per_node}
            environ = {"OMP_NUM_THREADS": threads} | self._environ() | {name: str(at) for name, at in place.items()}
            with open(self.dir.attempt(self.attempt).log(rank), "w") as log:
                rank_process = subprocess.Popen(
                    self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, preexec_fn=_not_yet
                )
            ranks.append(rank_process)
        return ranks

    def _start_srun(self) -> list[subprocess.Popen[bytes]]:
        r = self.resources
        log = str(self.dir.attempt(self.attempt).path).replace("%", "%%") + "/rank-%4t.log"
        layout = [
            f"--nodes={r['nodes']}",
            f"--ntasks={r['nodes'] * r['ranks_per_node']}",
            f"--ntasks-per-node={r['ranks_per_node']}",
            f"--cpus-per-task={r['cpus_per_rank']}",  # srun since 22.05 does not take it from the job
        ]
        return [
            subprocess.Popen(
                ["srun", *layout, "--kill-on-bad-exit=1", "--unbuffered", f"--output={log}", *self._command()],
                stdin=subprocess.DEVNULL,
                env={"OMP_NUM_THREADS": str(r["cpus_per_rank"])} | self._environ(),
            )
        ]

    def _environ(self) -> dict[str, str]:
        """What ranks get: our own, and the code of this run, also where an array shares one batch script."""
        own = self.plan["python_path"]
        inherited = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place not in ("", *own)]
        return os.environ | {"PYTHONPATH": os.pathsep.join([*own, *inherited])}

    def _command(self) -> list[str]:
        # -P: not from the working directory but from the run's own copy of the code
        return [
            self.plan["python"], "-P", "-u", "-m", "hpc.worker", str(self.dir.path), "--attempt", str(self.attempt)
        ]  # fmt: skip

    def _watch(self, ranks: list[subprocess.Popen[bytes]]) -> tuple[Outcome, list[int]]:
        """Wait for the ranks; pass a wish to stop on to them; when one dies, end the others."""
        told_at: float | None = None
        pulse_at = 0.0
        while any(rank.poll() is None for rank in ranks):
            time.sleep(POLL_S)
            now = time.monotonic()
            if now - pulse_at > PULSE_S:
                pulse_at = now
                self._pulse("running")
            if self.asked is None and self.deadline is not None and now > self.deadline:
                self.asked = "clock"
            if self.asked is not None and told_at is None:
                told_at = now
                self._say("running", f"asked to stop ({_say(self.asked)}): the ranks save at the next step")
                _signal(ranks, signal.SIGUSR2)
            late = told_at is not None and now - told_at > self._grace_s()
            if late or any(rank.poll() not in (None, 0) for rank in ranks):
                if late:
                    self._say(
                        "running", f"not stopped after {self._grace_s():.0f} s: ended, the last checkpoint counts"
                    )
                _end(ranks)
        codes = [rank.returncode for rank in ranks]
        if any(codes):  # the neighbours of a crashed rank hear TERM and stop as well
            return ("crashed" if told_at is None else "stopped"), codes
        stopped = any(self.dir.attempt(self.attempt).path.glob("rank-*.stopped"))
        return ("stopped" if stopped else "finished"), codes

    def _grace_s(self) -> float:
        return max(0.5 * self.resources["lead_s"], 5.0) if self.asked in (signal.SIGUSR2, "clock") else GRACE_S

    def _give_up(self, code: int, why: str) -> int:
        self.code = code
        self._say("failed", why)
        return code

    def _finish(self) -> int:
        attempts = read_lines(self.dir.attempts)
        metrics = read_json(self.dir.attempt(self.attempt).metrics)
        spent = sum(line["ended"] - line["started"] for line in attempts)
        write_json(
            self.dir.result, {"metrics": metrics, "attempts": len(attempts), "seconds": spent, "ended": time.time()}
        )
        self._say(
            "finished", f"finished after {spent:.0f} s, {len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
        )
        return DONE

    def _stop(self) -> int:
        """Asked to stop, and stopped. At the end of the walltime a Slurm job goes back into the queue."""
        steps = committed_steps(self.dir.checkpoints)
        where = f"at step {steps[-1]}" if steps else "with nothing to save yet"
        if self.job is None or self.asked != signal.SIGUSR2:
            self.code = STOPPED
            self._say("stopped", f"stopped {where}; the same command goes on from there")
            return STOPPED
        self._say("requeued", f"stopped {where}; back into the queue")
        deaf()
        if (refused := requeue(self.job)) is not None:
            self.code = STOPPED
            self._say("stopped", f"stopped {where}, but Slurm did not requeue: {refused}")
        return STOPPED

    def _why_failed(self, codes: list[int]) -> str:
        """The first error that a rank has written, or what the exit codes say."""
        folder = self.dir.attempt(self.attempt).path
        errors = [error for path in sorted(folder.glob("rank-*.error.json")) if (error := read_json(path))]
        # A rank that lost its neighbour complains of the connection; the cause is the other's error
        errors.sort(key=_lost_neighbour)
        bad = [code for code in codes if code != 0]
        # srun tells a rank's signal as 128 + its number
        killed = [
            signal.Signals(number).name for code in bad if (number := -code if code < 0 else code - 128) in (9, 11)
        ]
        if killed and all(_lost_neighbour(error) for error in errors):
            return f"a rank was ended by {killed[0]}"
        if errors:
            return f"rank {errors[0]['rank']} on {errors[0]['host']}: {errors[0]['error']}"
        return f"exit codes {bad}, logs in {folder}"

    def _progress(self) -> object:
        """Something that differs when work has been saved."""
        out = sorted(path.name for path in self.dir.out.rglob("*")) if self.dir.out.exists() else []
        return committed_steps(self.dir.checkpoints), out

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.asked = self.asked or signal.Signals(signum)

    def _say(self, state: str, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.dir.name} {text}", flush=True)
        append_line(self.dir.events, {"time": time.time(), "text": text})
        self._pulse(state, text)

    def _pulse(self, state: str, text: str = "") -> None:
        now = {
            "time": time.time(),
            "state": state,
            "code": self.code,
            "attempt": self.attempt,
            "job": self.job,
            "label": self.plan["label"],
            "nodes": self.resources["nodes"],
            "text": text,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "pulse": read_json(self.dir.pulse(0)),  # so that status reads one file of a run that has ended
        }
        write_json(self.dir.supervisor, now, durable=False)


def _job(environ: Mapping[str, str]) -> str | None:
    """This job, in a way that means it alone: the last element of an array has the plain number of the whole."""
    if "SLURM_ARRAY_TASK_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def requeue(job: str) -> str | None:
    """Put this job back into the queue, to start again in a few seconds; gives why not, or None.

    Slurm holds a requeued job for two minutes, unless its start time lies in the future when its last process has
    ended. So we set that time at once, and leave: StartTime=now would be forgotten, and so would be a time that is
    over before we are gone (measured, docs/decisions/0006-requeue-without-the-hold.md).
    """
    for number in (signal.SIGTERM, signal.SIGCONT):  # Slurm sends both to us and to scontrol as soon as it has requeued
        signal.signal(number, signal.SIG_IGN)
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return " ".join(done.stderr.split())
    subprocess.run(["scontrol", "update", f"JobId={job}", f"StartTime=now+{AGAIN_S}"], capture_output=True, check=False)
    return None


def _lost_neighbour(error: dict[str, Any]) -> bool:
    return "onnection" in error["error"] or "gloo" in error["error"]


def _not_yet() -> None:
    """In a rank before its program starts: a signal that comes before it listens must not kill it, but it must not
    outlive the supervisor either: it would go on writing beside the ranks of the next one."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal(ranks: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(number)


def _end(ranks: list[subprocess.Popen[bytes]]) -> None:
    """A rank without its neighbours hangs in a collective and hears no TERM, so it is killed. srun is asked first:
    its TERM and KILL reach the ranks on the other nodes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(ranks, number)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
            time.sleep(0.05)


def _say(asked: signal.Signals | Literal["clock"]) -> str:
    words = {"clock": "its time is over", signal.SIGUSR2: "the walltime is near", signal.SIGINT: "Ctrl-C"}
    return words.get(asked) or "TERM"


if __name__ == "__main__":
    sys.exit(Supervision(RunDir(Path(sys.argv[1])), os.environ).run())

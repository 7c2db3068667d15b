"""The keeper of a job: it is the batch step's process, and restarts the supervisor, its child, if that is killed.

Under Slurm it is the process that Slurm signals; on a laptop a process of its own.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from hpc.codes import DONE, FAILED, NEVER
from hpc.rank.parent_death import die_with_parent
from hpc.runs import seal
from hpc.runs.rundir import Gone, RunDir, committed_steps
from hpc.supervise import follow_ups
from hpc.supervise.requeue import Job
from hpc.supervise.supervisor import Supervisor, print_safely

QUICK_S, QUICK_DEATHS, BETWEEN_S = 5.0, 3, 1.0
"""A supervisor that was killed within QUICK_S of its start, QUICK_DEATHS times in a row, is not restarted; otherwise it
is, after BETWEEN_S."""


class Keeper:
    """The object that submitit pickles: only a path, and the id of the folder there."""

    def __init__(self, run: str, identity: str) -> None:
        self.path = run
        self.identity = identity

    def checkpoint(self) -> None:
        """submitit checks that this exists before it requeues; its own handler must never run."""
        raise AssertionError("submitit's signal handler ran: the keeper's should have replaced it")

    def __call__(self) -> None:
        code = keep(RunDir(Path(self.path)), os.environ, self.identity)
        sys.stdout.flush()
        if code != DONE:
            raise SystemExit(code)
        os._exit(DONE)  # submitit would write a file with the result, None


def keep(run: RunDir, environ: Mapping[str, str], identity: str = "") -> int:
    """Run a supervisor in a child process, and restart it if it is killed; return its exit code.

    `identity`: the id of the run folder for which it was submitted; empty for the one that is there now.

    If the batch step is killed, the job ends, and nobody restarts it. So this process does nothing that could fail.
    """
    identity = identity or seal.identity_of(run)
    signals: list[int] = []
    job = Job.of(environ)
    first = True

    def pass_on(signum: int, frame: FrameType | None) -> None:
        signals.append(signum)
        if child:
            os.kill(child, signum)

    child, n_quick, ended_by = 0, 0, ""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while True:
        began = time.monotonic()
        steps = committed_steps(run.checkpoints)
        keeper = os.getpid()
        child = os.fork()
        if child == 0:
            code = FAILED
            try:
                if job:  # without its batch step the job is over, and Slurm may not find us to end us
                    die_with_parent(keeper)
                seal.work_in(run, identity)
                supervision = Supervisor(run, environ, signals, identity)
                code = (
                    _supervise(supervision, first) if n_quick < QUICK_DEATHS else supervision.give_up(FAILED, ended_by)
                )
                supervision.finish_page()
                if job and supervision.has_ended and run.follow_ups.exists():  # the lock is free: it may go on at once
                    follow_ups.give(run, environ)
            except Gone as error:
                print_safely(str(error))
                code = NEVER
            except Exception:  # noqa: BLE001  the edge: for supervisor.log, or the log of the job
                print_safely(traceback.format_exc())
            finally:
                os._exit(code)
        first = False
        for signum in signals:  # between the last end and this start
            os.kill(child, signum)
        _, status = os.waitpid(child, 0)
        child = 0
        if not os.WIFSIGNALED(status):
            return os.WEXITSTATUS(status)
        if n_quick == QUICK_DEATHS:
            return FAILED
        ended_by = f"its supervisor was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        print_safely(f"{time.strftime('%H:%M:%S')} {run.name} {ended_by}")
        quick = time.monotonic() - began < QUICK_S and committed_steps(run.checkpoints) == steps
        n_quick = n_quick + 1 if quick else 0
        ended_by += f", {n_quick} times in a row within {QUICK_S:.0f} s of its start"
        time.sleep(BETWEEN_S)


def _supervise(supervision: Supervisor, first: bool) -> int:
    try:
        return supervision.run(first)
    except Gone:
        raise
    except Exception:  # noqa: BLE001  whatever it is, the job has a place in the queue to lose
        print_safely(traceback.format_exc())
        return supervision.requeue_after_crash()

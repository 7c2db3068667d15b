"""Executors start the processes of a run folder: in this process, on this machine, or through Slurm.

Only the path of the run folder is submitted; nothing else is pickled.
"""

import fcntl
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hpc import config
from hpc.codes import STOPPED
from hpc.plan import snapshot
from hpc.plan.plan import Plan
from hpc.plan.snapshot import Snapshot
from hpc.rank import stage_run, threads
from hpc.rank.context import Context, Preempted, World
from hpc.runs import folding, records, seal, sharing, submissions
from hpc.runs.rundir import RunDir, append_line, atomic_write, read_json, write_json
from hpc.slurm import commands, words
from hpc.submit import batch
from hpc.supervise import follow_ups
from hpc.supervise.keeper import Keeper


class SubmitError(RuntimeError):
    """The scheduler did not take the job."""


@contextmanager
def alone(plan: Plan) -> Iterator[None]:
    """Allow one launcher at a time to look and to start or submit: the same line may be given twice. What it writes,
    and what it starts, has the umask of the plan."""
    runs = Path(plan.runs)
    before = sharing.set_umask(plan.resources.share)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        sharing.let_through(runs, plan.resources.share)
        with lock_of(runs):
            yield
    finally:
        os.umask(before)


@contextmanager
def lock_of(runs: Path) -> Iterator[bool]:
    """Wait for the lock of a folder of runs, and hold it. False if it cannot be locked."""
    with open(runs / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            locked = True
        except OSError as error:  # a shared disk mounted without locks
            print(f"going on unlocked: {runs / '.lock'} cannot be locked here ({error.strerror})", file=sys.stderr)
            locked = False
        yield locked


def write_run(plan: Plan, code: Snapshot | None = None, *, by_hand: bool = False) -> RunDir:
    """Write the run folder, with all that the supervisor and the ranks will read. Repeated at each submission.

    Parameters
    ----------
    plan
        What to run.
    code
        The copy of its code, if it has been made already.
    by_hand
        Write what slurm/run.sbatch sources, for a job that the user submits.
    """
    run = plan.run
    run.jobs.mkdir(parents=True, exist_ok=True)
    if not run.result.exists():
        folding.unfold(run)
    sharing.apply(run.path, plan.resources.share)
    copy = code or snapshot.take(plan.code, Path(plan.runs))
    if plan.resources.share == "group":  # of all runs of this code, whoever may read the others
        sharing.apply(copy.folder, "group")
        sharing.let_through(copy.folder.parent, "group")
    snapshot.link(copy.folder, run.code)
    note_follow_up(plan, copy)
    # Not flushed to the disk one by one: if the machine loses power now, nothing was submitted yet
    for path, text in (
        (run.config, config.to_yaml(plan.science.config)),
        *([(run.env, batch.env_text(plan, os.environ))] if by_hand else []),
        (run.plan, plan.to_text(seal.identity(run), copy.sha256)),
        # For the job that follows this one, if the site does not requeue
        *([(run.script, batch.successor_text(plan, os.environ))] if plan.site.kind == "slurm" else []),
    ):
        atomic_write(path, partial(_put, text.encode()), durable=False)
    return run


def note_follow_up(plan: Plan, code: Snapshot | None = None) -> None:
    """Note the line that the job of a run gives when it has ended, if it is to give one."""
    if plan.follow_up and plan.site.kind == "slurm":
        copy = code or snapshot.take(plan.code, Path(plan.runs))
        follow_ups.note(
            plan.run, plan.follow_up, cwd=plan.cwd, python=plan.python, snapshot=copy.folder,
            origin=snapshot.origin(plan.code, copy),
        )  # fmt: skip


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def inline(plan: Plan) -> int:
    """Run the stage in this process, as one rank; on an error, start the debugger where it happened."""
    with alone(plan):
        run = write_run(plan)
    sharing.set_umask(plan.resources.share)
    threads.cap(threads.of_a_rank(plan.to_json(), 1, on_slurm=False))  # as a separate rank would get
    ctx = Context(World(), run, attempt=0, echo=print)
    try:
        stage_run.work(ctx)
    except Preempted:
        return STOPPED
    except Exception:  # noqa: BLE001  whatever it is, it is for the person at the debugger
        traceback.print_exc()
        if sys.stdin.isatty():
            import pdb  # noqa: T100

            pdb.post_mortem()
        return 1
    result = {"metrics": read_json(run.attempt(0).metrics), "attempts": 1, "ended": time.time()}
    write_json(run.result, result | records.meanings(run))
    return 0


def local(plan: Plan) -> str:
    """Start a supervisor on this machine that outlives this process; return its pid."""
    run = write_run(plan)
    environ = os.environ | plan.site.env
    began = time.time()
    with open(run.jobs / "supervisor.log", "a") as log:
        process = subprocess.Popen(
            [
                *(plan.python, "-PB", "-u", batch.archive(plan), "-m", "hpc.supervisor", str(run.path)),
                *("--identity", seal.identity(run)),
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True,
        )  # fmt: skip
    return submissions.note(plan.run, plan.to_json(), str(process.pid), began)


def slurm(plan: Plan, after: Mapping[str, str]) -> str:
    """Submit the supervisor as a Slurm job; return the job's id.

    Parameters
    ----------
    plan
        What to run.
    after
        The runs that must succeed before it starts, and their jobs. If one fails, Slurm removes the job.
    """
    run = write_run(plan)
    began = time.time()
    try:
        with _scrubbed_environment():
            dependency = f"afterok:{':'.join(after.values())}" if after else None
            job = batch.executor(plan, os.environ, dependency).submit(Keeper(str(run.path), seal.identity(run)))
    except batch.refusals() as error:
        raise _refused([plan], error) from None
    return submissions.note(run, plan.to_json(), job.job_id, began, after=list(after))


def slurm_array(plans: Sequence[Plan], after: Sequence[str], max_parallel: int | None) -> list[str]:
    """Submit many runs as one array; return the id of each element.

    It starts when the jobs `after` have ended, even if one failed: a failed job must not remove all elements with it.
    The supervisor of an element ends at once if its own inputs are missing.
    """
    code = snapshot.take(plans[0].code, Path(plans[0].runs))
    runs = [write_run(plan, code) for plan in plans]
    began = time.time()
    dependency = f"afterany:{':'.join(after)}" if after else None
    folder_name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    executor, folder, name = batch.array(plans, os.environ, dependency, max_parallel, folder_name)
    try:
        with _scrubbed_environment():
            jobs = executor.submit_array([Keeper(str(run.path), seal.identity(run)) for run in runs])
    except batch.refusals() as error:
        raise _refused(plans, error) from None
    for plan, job in zip(plans, jobs, strict=True):
        follows = list(plan.science.inputs.values()) if after else []
        submissions.note(plan.run, plan.to_json(), job.job_id, began, name=name, after=follows, log=folder)
    return [job.job_id for job in jobs]


@contextmanager
def _scrubbed_environment() -> Iterator[None]:
    """Remove the variables of a surrounding job, for the sbatch that submitit calls."""
    inherited = dict(os.environ)
    for name in inherited.keys() - commands.without_job(inherited).keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inherited)


def _refused(plans: Sequence[Plan], error: Exception) -> SubmitError:
    """Note the reason in the folders of the runs, and return the error."""
    what = "job" if len(plans) == 1 else "array"
    message = f"sbatch did not take the {what}: {words.essence(str(error))}"
    for plan in plans:
        about = {"label": plan.label, "settings": plan.settings, "nodes": plan.resources.nodes}
        append_line(plan.run.submissions, about | {"kind": "refused", "text": message, "time": time.time()})
    return SubmitError(message)

"""Give a run folder its processes: in this one, on this machine, or through Slurm. The only submitit import.

What is submitted is the path of the run folder; nothing else is pickled.
"""

import os
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hpc import config
from hpc.plan import snapshot
from hpc.plan.plan import Plan
from hpc.rank import threads
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir, append_line, atomic_write, read_json, write_json
from hpc.site.allocation import job_env, sbatch_options
from hpc.supervise.keeper import Supervisor

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor


class SubmitError(RuntimeError):
    """The scheduler did not take the job."""


def write_run(plan: Plan, code: Path | None = None) -> RunDir:
    """The run folder, with all that the supervisor and the ranks will read. Written again at each submission.

    Parameters
    ----------
    plan
        What to run.
    code
        Where the copy of its code is, if it has been made already.
    """
    run = plan.run
    run.jobs.mkdir(parents=True, exist_ok=True)
    snapshot.link(code or snapshot.keep(plan.code, Path(plan.runs)), run.code)
    # Not flushed to the disk one by one: a machine that loses power now has not submitted yet
    for path, text in (
        (run.config, config.to_yaml(plan.science.config)),
        (run.env, _env_text(plan)),
        (run.plan, plan.to_text()),
    ):
        atomic_write(path, partial(_put, text.encode()), durable=False)
    return run


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _env_text(plan: Plan) -> str:
    return "\n".join([*_setup(plan), f"HPC_PYTHON={shlex.quote(plan.python)}", ""])


def _setup(plan: Plan) -> list[str]:
    """The lines of a batch script before its command."""
    environ = job_env(plan.site, plan.resources) | {"PYTHONPATH": _python_path(plan)}
    return [
        *plan.site.prologue,
        "set -eu",  # not before: the scripts of modules use variables that are not set
        # Until Python listens, the signal would kill; ignored here, it is ignored in what we exec
        "trap '' USR2",
        *(f"export {name}={shlex.quote(value)}" for name, value in environ.items()),
    ]


def inline(plan: Plan) -> int:
    """Run the stage in this process, as one rank; on an error, start the debugger where it happened."""
    from hpc import worker

    run = write_run(plan)
    threads.cap(threads.of_a_rank(plan.to_json(), 1, on_slurm=False))  # as a rank of its own would get
    ctx = Context(World(), run, attempt=0, echo=print)
    try:
        worker.work(ctx)
    except Exception:  # noqa: BLE001  whatever it is, it is for the person at the debugger
        traceback.print_exc()
        if sys.stdin.isatty():
            import pdb  # noqa: T100

            pdb.post_mortem()
        return 1
    write_json(run.result, {"metrics": read_json(run.attempt(0).metrics), "attempts": 1, "ended": time.time()})
    return 0


def local(plan: Plan) -> str:
    """Start a supervisor on this machine that outlives this process; gives its pid."""
    run = write_run(plan)
    environ = os.environ | plan.site.env | {"PYTHONPATH": _python_path(plan)}
    began = time.time()
    with open(run.jobs / "supervisor.log", "a") as log:
        process = subprocess.Popen(
            [plan.python, "-P", "-u", "-m", "hpc.supervisor", str(run.path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True,
        )  # fmt: skip
    return _submitted(plan, str(process.pid), began)


def slurm(plan: Plan, after: Mapping[str, str]) -> str:
    """Submit the supervisor as a Slurm job; gives the job's id.

    Parameters
    ----------
    plan
        What to run.
    after
        The runs that must have succeeded before it starts, and their jobs. When one fails, Slurm takes the job out.
    """
    from submitit.core.utils import FailedJobError

    run = write_run(plan)
    began = time.time()
    try:
        with _scrubbed_environment():
            dependency = f"afterok:{':'.join(after.values())}" if after else None
            job = _executor(plan, dependency).submit(Supervisor(str(run.path)))
    except (FailedJobError, OSError, subprocess.SubprocessError) as error:
        raise _refused([plan], error) from None
    return _submitted(plan, job.job_id, began, after=list(after))


def slurm_plain(plan: Plan, dependency: str) -> str:
    """Submit a run that has its folder by a script that stands alone; gives the job's id."""
    began = time.time()
    words = ["sbatch", "--parsable", f"--dependency={dependency}"]
    text = standalone_text(plan)
    with _scrubbed_environment():
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SubmitError(f"sbatch did not take the job: {' '.join(done.stderr.split())}")
    return _submitted(plan, done.stdout.strip().partition(";")[0], began, successor=True)


def slurm_array(plans: Sequence[Plan], after: Sequence[str], max_parallel: int | None) -> list[str]:
    """Submit many runs as one array; gives the id of each element.

    It starts when the jobs `after` have ended, well or badly: one that failed must not take all elements with it. The
    supervisor of an element ends at once when its own inputs are not there.
    """
    from submitit.core.utils import FailedJobError

    code = snapshot.keep(plans[0].code, Path(plans[0].runs))
    runs = [write_run(plan, code) for plan in plans]
    began = time.time()
    dependency = f"afterany:{':'.join(after)}" if after else None
    executor, folder, name = _array(plans, dependency, max_parallel, f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    try:
        with _scrubbed_environment():
            jobs = executor.submit_array([Supervisor(str(run.path)) for run in runs])
    except (FailedJobError, OSError, subprocess.SubprocessError) as error:
        raise _refused(plans, error) from None
    for plan, job in zip(plans, jobs, strict=True):
        follows = list(plan.science.inputs.values()) if after else []
        _submitted(plan, job.job_id, began, name, follows, folder)
    return [job.job_id for job in jobs]


def array_text(plans: Sequence[Plan], max_parallel: int | None) -> str:
    """The batch script of an array, but for the time in its folder's name and the jobs it waits for."""
    executor, _, _ = _array(plans, None, max_parallel, "TIME")
    executor.parameters["map_count"] = len(plans)
    return executor._make_submission_file_text(executor._submitit_command_str, uid="")


def _array(
    plans: Sequence[Plan], dependency: str | None, max_parallel: int | None, folder_name: str
) -> "tuple[SlurmExecutor, Path, str]":
    """The executor, its folder and the name of the job."""
    folder = Path(plans[0].runs) / ".arrays" / folder_name  # not in a run: somebody may delete that while others wait
    executor = _executor(plans[0], dependency, folder)
    name = plans[0].label or f"{plans[0].science.stage}-x{len(plans)}"
    executor.update_parameters(array_parallelism=max_parallel or len(plans), job_name=name)
    return executor, folder, name


@contextmanager
def _scrubbed_environment() -> Iterator[None]:
    """Without what a surrounding job has left: sbatch takes SBATCH_* before the script's own lines, and a SLURM_* that
    gets into the new job misleads its srun (a leaked SLURM_CPU_BIND made jobs three times slower)."""
    names = [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF"]
    leaked = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(leaked)


def sbatch_text(plan: Plan) -> str:
    """The batch script, byte for byte as it would be submitted."""
    executor = _executor(plan, None)
    return executor._make_submission_file_text(executor._submitit_command_str, uid="")


def standalone_text(plan: Plan) -> str:
    """A batch script that needs no submitit: `sbatch job.sbatch` runs the run folder."""
    command = shlex.join([plan.python, "-P", "-u", "-m", "hpc.supervisor", str(plan.run.path)])
    return _executor(plan, None)._make_submission_file_text(f"exec {command}", uid="")


def _refused(plans: Sequence[Plan], error: Exception) -> SubmitError:
    """Note why in the folders of the runs, and say it."""
    what = "job" if len(plans) == 1 else "array"
    said = f"sbatch did not take the {what}: {' '.join(str(error).split())}"
    for plan in plans:
        about = {"label": plan.label, "settings": plan.settings, "nodes": plan.resources.nodes}
        append_line(plan.run.submissions, about | {"kind": "refused", "text": said, "time": time.time()})
    return SubmitError(said)


def _executor(plan: Plan, dependency: str | None, folder: Path | None = None) -> "SlurmExecutor":
    from submitit.slurm.slurm import SlurmExecutor

    class Sbatch(SlurmExecutor):  # type: ignore[misc]
        @classmethod
        def affinity(cls) -> int:
            return 2  # a dry run needs no srun here; a real one is told by sbatch itself

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            text: str = super()._make_submission_file_text(command, uid)
            not_taken = tuple(f"#SBATCH --{option}{end}" for option in site.skip for end in ("=", "\n"))
            return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(not_taken))

    r, site = plan.resources, plan.site
    # exec: the Python process takes the batch script's place, so that it is what Slurm signals
    executor = Sbatch(folder=folder or plan.run.jobs, python=f"exec {shlex.quote(plan.python)} -P")
    assert r.time_s is not None
    extra: dict[str, object] = {
        "signal": f"B:USR2@{r.lead_s}",
        "requeue": True,
        "ntasks_per_node": r.ranks_per_node,
        "nodes": r.nodes,
        "chdir": plan.cwd,
        **sbatch_options(site, r),
        # Else Slurm leaves a job whose parent has failed in the queue for ever
        **({"kill-on-invalid-dep": "yes"} if dependency else {}),
    }
    executor.update_parameters(
        job_name=plan.label or plan.science.name,
        # A time of whole minutes, as Slurm counts; submitit would do arithmetic on it
        time=max(1, round(r.time_s / 60)),
        cpus_per_task=r.cpus_per_rank,
        partition=r.partition or None,
        account=r.account or None,
        mem=f"{round(r.mem_gb * 1024)}M" if r.mem_gb else None,  # sbatch takes whole numbers only
        dependency=dependency,
        wckey=None,
        stderr_to_stdout=True,
        use_srun=False,
        setup=_setup(plan),
        additional_parameters=extra,
    )
    return executor


def _submitted(
    plan: Plan,
    job: str,
    began: float,
    name: str = "",
    after: Sequence[str] = (),
    log: Path | None = None,
    successor: bool = False,
) -> str:
    """Note it in the run folder. `began`: before the job could start, so that all it writes is later."""
    line = {
        "job": job,
        "name": name or plan.label or plan.science.name,  # in Slurm
        "label": plan.label,
        "settings": plan.settings,
        "site": plan.site.name,
        "kind": plan.site.kind,
        "nodes": plan.resources.nodes,
        "after": list(after),
        "log": str(log or plan.run.jobs),
        "time": began,
        "successor": successor,
    }
    append_line(plan.run.submissions, line)
    return job


def _python_path(plan: Plan) -> str:
    """The run's own copy of the code first, then what the user has set."""
    return os.pathsep.join([*plan.python_path, *filter(None, [os.environ.get("PYTHONPATH")])])

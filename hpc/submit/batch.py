"""The text of a batch script, from the plan alone. The only file that imports submitit or relies on its internals.

`environ` is the environment at submission: its PYTHONPATH is passed on to the job.
"""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.config import secrets
from hpc.errors import ConfigError
from hpc.plan.plan import Plan
from hpc.runs.sharing import UMASKS
from hpc.runs.unpack import ARCHIVE
from hpc.site.allocation import job_env, sbatch_options
from hpc.slurm.sbatch_words import FOR_THE_FIRST

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

Environ = Mapping[str, str]


def sbatch_text(plan: Plan, environ: Environ) -> str:
    """Return the batch script, byte for byte as it would be submitted."""
    sbatch = executor(plan, environ)
    return sbatch._make_submission_file_text(sbatch._submitit_command_str, uid="")


def standalone_text(plan: Plan, environ: Environ) -> str:
    """Return a batch script that needs no submitit: `sbatch job.sbatch` runs the run folder."""
    command = shlex.join([plan.python, "-PB", "-u", archive(plan), "-m", "hpc.supervisor", str(plan.run.path)])
    return executor(plan, environ)._make_submission_file_text(f"exec {command}", uid="")


def successor_text(plan: Plan, environ: Environ) -> str:
    """Return the batch script of the job that follows another one of the run: it need not wait until a certain time, as
    the first one had to."""
    options = {name: value for name, value in plan.resources.options.items() if name not in FOR_THE_FIRST}
    return standalone_text(replace(plan, resources=replace(plan.resources, options=options)), environ)


def array_text(plans: Sequence[Plan], environ: Environ, max_parallel: int | None) -> str:
    """Return the batch script of an array, without the time in its folder's name and the jobs it waits for."""
    sbatch, _, _ = array(plans, environ, None, max_parallel, "TIME")
    sbatch.parameters["map_count"] = len(plans)
    return sbatch._make_submission_file_text(sbatch._submitit_command_str, uid="")


def array(
    plans: Sequence[Plan], environ: Environ, dependency: str | None, max_parallel: int | None, folder_name: str
) -> "tuple[SlurmExecutor, Path, str]":
    """Return the executor of an array, its folder and the name of the job."""
    folder = Path(plans[0].runs) / ".arrays" / folder_name  # not in a run, which may be deleted while others wait
    sbatch = executor(plans[0], environ, dependency, folder)
    name = plans[0].label or f"{plans[0].science.stage}-x{len(plans)}"
    sbatch.update_parameters(array_parallelism=max_parallel or len(plans), job_name=name)
    return sbatch, folder, name


def env_text(plan: Plan, environ: Environ) -> str:
    """Return the lines that a batch script of the user's sources before it starts the supervisor: see
    slurm/run.sbatch."""
    return "\n".join([*_setup(plan, environ), f"HPC_PYTHON={shlex.quote(plan.python)}", ""])


def archive(plan: Plan) -> str:
    """Return the run's own copy of the code, which Python unpacks and runs: see hpc/runs/unpack.py."""
    return str(plan.run.code / ARCHIVE)


def _setup(plan: Plan, environ: Environ) -> list[str]:
    """Return the lines of a batch script before its command."""
    umask = UMASKS.get(plan.resources.share)
    exported = job_env(plan.site, plan.resources) | {"PYTHONPATH": environ.get("PYTHONPATH", "")}
    exported |= {name: environ[name] for name in (secrets.FILE,) if environ.get(name)}  # the path of a file
    return [
        *plan.site.prologue,
        "set -eu",  # not earlier: the scripts of modules use unset variables
        *([f"umask {umask:03o}"] if umask is not None else []),
        # Until Python listens, the signal would kill it. If it is ignored here, the exec'd process ignores it too
        "trap '' USR2",
        *(f"export {name}={shlex.quote(value)}" for name, value in exported.items()),
    ]


def executor(
    plan: Plan, environ: Environ, dependency: str | None = None, folder: Path | None = None
) -> "SlurmExecutor":
    """Return the executor that submits the plan, and makes the text of its script."""
    from submitit.slurm.slurm import SlurmExecutor

    class Sbatch(SlurmExecutor):  # type: ignore[misc]
        @classmethod
        def affinity(cls) -> int:
            return 2  # a dry run needs no srun here; otherwise sbatch itself reports it

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            text: str = super()._make_submission_file_text(command, uid)
            not_taken = tuple(f"#SBATCH --{option}{end}" for option in site.skip for end in ("=", "\n"))
            return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(not_taken))

    r, site = plan.resources, plan.site
    for folder_name in (plan.cwd, str(plan.run.path)):
        if len(folder_name.splitlines()) > 1:  # what follows it would be a line of the script, run by bash
            raise ConfigError(
                f"{folder_name!r} has a line break in its name, which no batch script can have: rename it"
            )
    # exec: the Python process replaces the batch script, so that Slurm signals it
    sbatch = Sbatch(folder=folder or plan.run.jobs, python=f"exec {shlex.join([plan.python, '-PBu', archive(plan)])}")
    assert r.time_s is not None
    extra: dict[str, object] = {
        "signal": f"B:USR2@{r.lead_s}",
        "requeue": True,
        "ntasks_per_node": r.ranks_per_node,
        "nodes": r.nodes,
        "chdir": plan.cwd,
        **sbatch_options(site, r),
        # Otherwise Slurm leaves a job whose parent has failed in the queue for ever
        **({"kill-on-invalid-dep": "yes"} if dependency else {}),
    }
    sbatch.update_parameters(
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
        setup=_setup(plan, environ),
        additional_parameters=extra,
    )
    return sbatch


def refusals() -> tuple[type[Exception], ...]:
    """Return the exceptions that submitting raises if the job is refused."""
    from submitit.core.utils import FailedJobError

    return (FailedJobError, OSError, subprocess.SubprocessError)

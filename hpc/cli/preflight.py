"""Checks before a job is submitted, for mistakes that would otherwise show after hours in the queue.

Each check returns a phrase for the plan if all is well, or raises a ConfigError that says what to do.
"""

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc import config
from hpc.config import secrets, stages
from hpc.errors import ConfigError
from hpc.plan.plan import Plan, Science
from hpc.rank.context import Input, input_run, input_there
from hpc.runs import products
from hpc.runs.rundir import RunDir, committed_steps, read_json
from hpc.site import allocation, profile
from hpc.slurm import commands, sbatch_words
from hpc.submit import batch, test_only
from hpc.supervise import ranks

FREE_GB, FREE_FILES = 1.0, 1000
"""Below this nothing is started: a full disk would end the run in its first minutes."""
PATIENCE_S = 5.0
MOUNTS = Path("/proc/mounts")
"""The mount table of Linux; on other systems quotas are not checked."""


def checked(plans: Sequence[Plan], environ: Mapping[str, str]) -> list[Plan]:
    """Check the plans, and note the checks in them. Checks that are the same for all runs of a stage are done once."""
    tried = [_asked(plan) for plan in plans]
    firsts = {plan.science.stage: plan for plan in reversed(plans)}
    result = [
        dataclasses.replace(plan, checks=_look(plan, phrase), warnings=_missing_secrets(plan, environ))
        if plan is firsts[plan.science.stage]
        else plan
        for plan, phrase in zip(plans, tried, strict=True)
    ]
    if profile.is_here(plans[0].site, environ):
        _array_limits(plans)
        result[0] = dataclasses.replace(result[0], start=test_only.estimated_start(plans[0], environ))
    elif options := plans[0].resources.options:
        unchecked = f"{sbatch_words.text_of(options)} not checked: no Slurm of {plans[0].site.name} here"
        result[0] = dataclasses.replace(result[0], checks=(*result[0].checks, unchecked))
    return result


def check_inputs(science: Science, runs: Path, coming: Sequence[str] = ()) -> None:
    """Refuse a plan whose inputs do not exist and are not `coming`, the runs planned before this one."""
    for field, ref in science.inputs.items():
        run = input_run(ref, runs)
        if run and (gone := products.gone(run)):
            raise ConfigError(f"{science.stage}.{field} is the run {ref}, which is finished, but {gone}")
        if ref in coming or (run.result if run else Path(ref)).exists():
            continue
        if run is None:
            raise ConfigError(f"{science.stage}.{field} is {ref}, but there is no such file or folder")
        if run.path.exists():
            raise ConfigError(
                f"{science.stage}.{field} is the run {ref}, which is not finished: "
                f"see `python -m hpc.launch status {ref}`"
            )
        if "," in ref:
            raise ConfigError(f"{science.stage}.{field} is one run, {ref}, which is not there: several are [{ref}]")
        stage = next((name for name in stages.names() if f"{ref}-".startswith(f"{name}-")), None)
        if stage is None:
            raise ConfigError(
                f"{science.stage}.{field} is {ref}, but no run in {runs} is called so: see `python -m hpc.launch "
                f"status`, or give a folder, {field}=path/to/folder"
            )
        raise ConfigError(
            f"{science.stage}.{field} is the run {ref}, which is not in {runs} yet: make it first with "
            f"`python -m hpc.launch {stage} …`, or all in one with `python -m hpc.launch pipeline …`, "
            f"or give a folder, {field}=path/to/folder"
        )


def _look(plan: Plan, tried: str) -> tuple[str, ...]:
    """Check one plan. Its config is valid, or there would be no plan."""
    checks = [f"{plan.science.stage} imports", "config valid"]
    folders = [input_there(Input(ref), Path(plan.runs)) for ref in plan.science.inputs.values()]
    checks += ["inputs there" if all(folders) else "inputs are made first"] if folders else []
    checks += [tried] if tried else []
    checks += [_room(Path(plan.runs))]
    if plan.site.kind == "slurm":
        checks += [_tasks(plan)]
    checks += [_container(plan, os.environ)] if plan.resources.container else []
    checks += [_mpi(plan)] if plan.resources.mpi else []
    checks += [_lead(plan)] if plan.resources.time_s is not None else []
    return tuple(checks)


def _missing_secrets(plan: Plan, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Warn of secrets that the run will not find: it goes on without them. Refuse a file of secrets that others can
    read. Warn of a secret itself in the run folder of an earlier version."""
    at = plan.science.section or plan.science.stage
    cfg = config.build(stages.schema(stages.load(plan.science.entry)), plan.science.config, at)
    warnings = [
        f"{at}.{setting} is no name of a secret but the secret itself, as earlier versions stored it in "
        f"{plan.run.config}: it works, but let nobody read that file (chmod 600), and name it in new runs"
        for setting, secret in config.secrets_of(cfg).items()
        if secret.is_literal
    ]
    for setting, name in plan.science.secrets.items():
        if secrets.find(name, environ) is None:
            warnings.append(f"{at}.{setting}: there is no secret {name}: {secrets.how(name, environ)}")
        elif name not in secrets.in_file(environ) and plan.site.kind == "slurm" and _exports_little(plan, environ):
            warnings.append(
                f"{at}.{setting}: {name} is in the environment, but the job does not get all of it (--export): write "
                f"the line {name}=… to {secrets.path(environ)}"
            )
    return tuple(warnings)


def _exports_little(plan: Plan, environ: Mapping[str, str]) -> bool:
    """Whether a job gets less than the environment of its submission."""
    own = allocation.sbatch_options(plan.site, plan.resources).get("export")
    chosen = str(own) if own else environ.get("SBATCH_EXPORT") or environ.get("SLURM_EXPORT_ENV")
    return chosen is not None and "ALL" not in chosen.split(",")


def _asked(plan: Plan) -> str:
    """Run the stage's own check: whether the ranks can share the work evenly, and whether the config fits the existing
    inputs. A finished run is not checked. A ValueError refuses the plan."""
    science, finished = plan.science, plan.run.result.exists()
    stage = stages.load(science.entry)
    cfg = config.build(stages.schema(stage), science.config, science.stage)

    def find(ref: Input) -> Path | None:
        return None if finished else input_there(ref, Path(plan.runs))

    if getattr(stage, "on_gpus", False) and not finished:
        allocation.check_gpus(plan.site, plan.resources)
    try:
        return stages.check(stage, cfg, plan.resources.ranks, find)
    except ValueError as error:
        raise ConfigError(f"{science.stage}: {error}") from None


def _mpi(plan: Plan) -> str:
    """Check that MPI is installed; which MPI a cluster or an image has is known only there."""
    if not plan.resources.container and importlib.util.find_spec("mpi4py") is None:
        raise ConfigError(
            "--mpi needs mpi4py, which is not installed: `pip install hpc-eegdecode[mpi]` installs it with an MPI for "
            "one machine; on a cluster load the site's MPI module and `pip install mpi4py`"
        )
    if plan.site.kind == "slurm":
        return f"MPI through srun{' --mpi=' + plan.site.mpi if plan.site.mpi else ''}"
    if (program := ranks.mpiexec(plan.python)) is None:
        raise ConfigError(
            "--mpi needs mpiexec, which is not found: `pip install hpc-eegdecode[mpi]` installs one for one machine; "
            "on a cluster load the site's MPI module"
        )
    if plan.resources.nodes > 1:
        raise ConfigError(f"--mpi starts {plan.resources.nodes} nodes under Slurm only: drop --nodes, use --ranks")
    return f"MPI through {program}"


def _container(plan: Plan, environ: Mapping[str, str]) -> str:
    """Check that the image is there, and its runtime; on a cluster that is often on the nodes alone."""
    own, image, site = plan.site.container, plan.resources.container, plan.site
    if site.kind == "inline":
        raise ConfigError(f"{site.name} runs in this process, in no container: say --container none, or --on local")
    if own.runtime == "pyxis" and site.kind != "slurm":
        raise ConfigError(f"pyxis is a part of Slurm's srun, and {site.name} is no Slurm site: set another `runtime`")
    here = site.kind != "slurm" or profile.is_here(site, environ)
    if here and own.is_file(image) and not os.path.exists(image):
        raise ConfigError(f"--container: there is no image {image}")
    if site.kind != "slurm" and shutil.which(own.runtime) is None:
        raise ConfigError(
            f"{own.runtime}, which {site.name} starts containers with, is not found here: install it, or set "
            "`container: {runtime: …}` in the profile"
        )
    for place in (plan.cwd, plan.runs):
        if re.search("[:,]", place):
            raise ConfigError(f"{place} cannot be mounted in a container: its name has : or , in it")
    unseen = "" if here else ", not looked for here"
    return f"ranks in {image}{unseen}, by {own.runtime}"


def _array_limits(plans: Sequence[Plan]) -> None:
    """Check that Slurm takes the arrays of a sweep, one for each section. Finished runs need no job."""
    counts = Counter(plan.science.section for plan in plans if not plan.run.result.exists())
    section, n = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if n < 2:
        return
    where = commands.of_cluster(plans[0].resources.cluster)
    limits = slurm_limits(commands.run("scontrol", *where, "show", "config", patience_s=commands.HINT_S).out)
    in_all = sum(counts.values())
    for limit, count, what in (
        (limits.get("MaxArraySize"), n, f"runs of {section} would be one array"),
        (limits.get("MaxJobCount"), in_all, "runs would be in the queue"),
    ):
        if limit is not None and count > limit:
            raise ConfigError(
                f"{count} {what}, and {plans[0].site.name} takes {limit}: sweep a part of the values, and the rest "
                "when those are finished"
            )


def slurm_limits(text: str) -> dict[str, int]:
    """Return the whole numbers in the output of `scontrol show config`, by name. MaxArraySize limits an array."""
    return {name: int(number) for name, number in re.findall(r"^(\w+) *= ([0-9]+)$", text, re.MULTILINE)}


def _tasks(plan: Plan) -> str:
    """Check that Slurm will start one task for each rank, whatever the profile adds."""
    text = batch.sbatch_text(plan, os.environ)
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, re.MULTILINE))
    tasks = int(directives["nodes"]) * int(directives["ntasks-per-node"])
    if tasks != plan.resources.ranks or int(directives.get("ntasks", tasks)) != tasks:
        raise ConfigError(
            f"Slurm would start {directives.get('ntasks', tasks)} tasks for {plan.resources.ranks} ranks: leave nodes "
            f"and tasks out of the directives of the profile {plan.site.name}"
        )
    return f"{tasks} task{'s' if tasks > 1 else ''} = {plan.resources.ranks} rank{'s' if tasks > 1 else ''}"


def _lead(plan: Plan) -> str:
    """Check that a save fits between the signal and the end of the walltime, if this run has saved before."""
    took = save_seconds(plan.run)
    if took is None:
        return "time to save not known yet"
    if took > plan.resources.lead_s:
        raise ConfigError(
            f"the last save of {plan.run.name} took {took:.0f} s, but it would be asked to save only "
            f"{plan.resources.lead_s} s before its end: set `lead: {round(2 * took)}s` in the profile {plan.site.name}"
        )
    return f"saves in {took:.1f} s of {plan.resources.lead_s} s"


def save_seconds(run: RunDir) -> float | None:
    """Return how long the newest checkpoint took to be safe on disk, from its COMMIT."""
    steps = committed_steps(run.checkpoints)
    commit = read_json(run.checkpoints / f"step-{steps[-1]:08d}" / "COMMIT") if steps else None
    seconds = commit.get("seconds") if isinstance(commit, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _room(runs: Path) -> str:
    """Check the free space and number of files for the run folders: of the disk, and of your quota on Lustre."""
    folder = next(place for place in (runs, *runs.parents) if place.is_dir())
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"you may not write in {folder}: use --runs with a folder of yours")
    disk = os.statvfs(folder)
    free_gb = disk.f_bavail * disk.f_frsize / 1e9
    free_files = disk.f_favail if disk.f_files else None  # some file systems do not count them
    of_what = "free"
    for quota_gb, quota_files in _lustre_quotas(folder):
        if quota_gb is not None and quota_gb < free_gb:
            free_gb, of_what = quota_gb, "left of your quota"
        if quota_files is not None and (free_files is None or quota_files < free_files):
            free_files, of_what = quota_files, "left of your quota"
    if free_gb < FREE_GB or (free_files is not None and free_files < FREE_FILES):
        files = "" if free_files is None else f" and {free_files} files"
        raise ConfigError(
            f"{folder} has {max(0.0, free_gb):.2f} GB{files} {of_what}: make room, or use --runs with another folder"
        )
    files = "" if free_files is None else f", {_short(free_files)} files"
    return f"{_short(free_gb * 1e9)}B{files} {of_what}"


def _short(n: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if n < 1000 or unit == "T":
            return f"{n:.3g} {unit}".rstrip() if unit else f"{n:g}"
        n /= 1000
    raise AssertionError


def _lustre_quotas(folder: Path) -> list[tuple[float | None, int | None]]:
    """Return (GB, files) that are left to the user and to the folder's group, if they are limited."""
    if not MOUNTS.exists() or _file_system(folder, MOUNTS.read_text(errors="replace")) != "lustre":
        return []
    quotas: list[tuple[float | None, int | None]] = []
    for who in (["-u", str(os.getuid())], ["-g", str(folder.stat().st_gid)]):
        try:
            command = ["lfs", "quota", "-q", *who, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired):
            return quotas
        quotas.append(parse_quota(done.stdout))
    return quotas


def parse_quota(text: str) -> tuple[float | None, int | None]:
    """Parse `lfs quota -q`: after the folder, kbytes quota limit grace files quota limit grace; 0 is no limit."""
    numbers = [int(word) for word in re.findall(r"(?<![\w/.])(\d+)\*?(?=\s)", text)]
    if len(numbers) < 6:
        return None, None
    used_kb, soft_kb, hard_kb, used, soft, hard = numbers[:6]
    kb, files = hard_kb or soft_kb, hard or soft
    return (kb - used_kb) * 1024 / 1e9 if kb else None, files - used if files else None


def _file_system(folder: Path, mounts: str) -> str:
    """Return the type of the file system that a folder is on."""
    kinds = {words[1]: words[2] for line in mounts.splitlines() if len(words := line.split()) > 2}
    return next((kinds[str(place)] for place in (folder, *folder.parents) if str(place) in kinds), "")


MANY_RUNS = 20
"""Ask before a sweep with more runs than this is submitted at a terminal."""


def sure(question: str) -> bool:
    return input(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")

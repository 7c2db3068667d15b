"""What an administrator has set on a real cluster, for `env/bed start --like NAME`. Part of env/bed.

A bed without --like is kind: nothing is limited, nothing is late. Each site here is a set of unkind settings; an option
of the command line outranks its site's. What this machine cannot enforce is said when the bed starts.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bed_packages import Slurm, system_path

IDLE_S = 10
"""How long a node is idle before it is powered down, where nodes are."""
CONTROLLERS = ("memory", "freezer", "cpuset")
HIERARCHIES = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Site:
    """The fields before `about` are options of `env/bed start` too, and None there means the site's."""

    cpus: int = 4
    cred_expire: int = 5
    kill_wait: int = 5
    grace: int = 10
    preempt: str = "requeue"
    no_requeue: bool = False
    prolog: int = 0
    epilog: int = 0
    boot: int = 0
    """Seconds that a node needs to come, after it was powered down; 0: none is powered down."""
    about: str = ""
    memory_mb: int = 0
    """Of a node; jobs are kept within their --mem. 0: nothing is enforced."""
    memory_per_cpu_mb: int = 1000
    wait_time: int = 0
    max_array: int = 1001
    exports_nothing: bool = False
    needs_account: bool = False
    limits: str = ""
    """Of the QOS that all jobs have, as sacctmgr takes them; no accounting without it."""
    requests_per_s: int = 0
    """That a user may make of the controller before it says no, where the version can."""

    def with_options(self, options: dict[str, Any]) -> Site:
        """The site with what the command line says otherwise."""
        names = [field.name for field in fields(self)]
        return replace(self, **{name: options[name] for name in names if options.get(name) is not None})

    @property
    def is_hard(self) -> bool:
        return self.memory_mb > 0


KIND = Site(about="a bed without --like")
REAL = Site(cred_expire=0, kill_wait=30, memory_mb=16000)
"""Slurm's own waits, and jobs within their memory."""
SITES = {
    "strict": replace(
        REAL, about="all that administrators do at once, but an account is given", prolog=1, epilog=8, wait_time=5,
        max_array=101, exports_nothing=True, limits="MaxSubmitJobsPerUser=50 MaxWall=2-00:00:00", requests_per_s=20,
    ),
    "plgrid": replace(
        REAL, about="an account is needed, the QOS denies, nodes are powered down, no grace", grace=0, preempt="cancel",
        epilog=2, boot=5, needs_account=True, limits="MaxSubmitJobsPerUser=10 MaxWall=08:00:00",
    ),
    "lumi": replace(
        REAL, about="an account is needed, slow prologs and epilogs, few requests", prolog=5, epilog=40,
        needs_account=True, exports_nothing=True, max_array=201, requests_per_s=5, limits="MaxSubmitJobsPerUser=200",
    ),
    "bare": Site(about="no accounting, no requeue, no limits, Slurm's own waits", cred_expire=0, kill_wait=30,
                 no_requeue=True, wait_time=30),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- slurm.conf


def lines(site: Site, directory: Path, has_cgroups: bool) -> str:
    """What comes to slurm.conf for a site; the settings that a bed has anyway are in env/bed."""
    words = [
        f"WaitTime={site.wait_time}",
        f"MaxArraySize={site.max_array}",
        *([f"Prolog={directory}/prolog.sh", "PrologFlags=Alloc"] if site.prolog else []),
        *([f"Epilog={directory}/epilog.sh"] if site.epilog else []),
        *(
            [
                f"SuspendProgram={directory}/power_down.sh",
                f"ResumeProgram={directory}/power_up.sh",
                f"SuspendTime={IDLE_S}",
                "SuspendTimeout=5",
                "ResumeTimeout=300",
                "SuspendRate=0",
                "ResumeRate=0",
            ]
            if site.boot
            else []
        ),
        *(["CliFilterPlugins=lua"] if site.exports_nothing else []),
        *(["JobSubmitPlugins=lua"] if site.needs_account else []),
    ]
    if site.is_hard:
        words += [f"DefMemPerCPU={site.memory_per_cpu_mb}", "JobAcctGatherType=jobacct_gather/linux",
                  "JobAcctGatherFrequency=task=2"]  # fmt: skip
        if not has_cgroups:
            words.append("JobAcctGatherParams=OverMemoryKill")
    return "".join(f"{word}\n" for word in words)


def task_plugins(site: Site, has_cgroups: bool) -> str:
    if not has_cgroups:
        return "task/none"
    return "task/cgroup,task/affinity" if pins(site) else "task/cgroup"


def pins(site: Site) -> bool:
    """Whether ranks can be bound to the cores that Slurm gives them: a node may pretend to have more."""
    return site.cpus <= (os.cpu_count() or 1)


def lacking(site: Site, release: Slurm, why_no_cgroups: str) -> list[str]:
    """What of the site cannot be had here, in words."""
    words = []
    if site.is_hard and why_no_cgroups:
        words.append(
            f"task/cgroup ({why_no_cgroups}). Memory is only looked at every 2 s, and a job above its --mem is ended"
        )
    if site.is_hard and not pins(site):
        words.append(f"binding to cores (nodes pretend {site.cpus} cores, and here are {os.cpu_count()}: see --cpus)")
    if site.requests_per_s and not can_limit_requests(release):
        words.append(f"a limit of requests (Slurm {release.version} has none)")
    return words


def can_limit_requests(release: Slurm) -> bool:
    return [int(part) for part in release.version.split(".")[:2]] >= [23, 2]


def controller_parameters(site: Site, release: Slurm) -> str:
    """SlurmctldParameters, after those of each bed."""
    power = ",power_save_interval=1" if site.boot else ""
    if not site.requests_per_s or not can_limit_requests(release):
        return power
    rate = site.requests_per_s
    return f"{power},rl_enable,rl_bucket_size={2 * rate},rl_refill_rate={rate},rl_refill_period=1"


def write_scripts(site: Site, directory: Path, bed: list[str]) -> None:
    """Prolog, epilog and boot take their seconds from a file, so that a bed can change them as it runs; as long as a
    file `epilog.held` is there, epilogs do not end. `bed`: the command env/bed."""
    words = shlex.join([*bed, "power", "--dir", str(directory)])
    last = {"prolog": "", "epilog": "", "boot": f'exec {words} up "$1" >> {directory}/log/power.out 2>&1\n'}
    for name, seconds in (("prolog", site.prolog), ("epilog", site.epilog), ("boot", site.boot)):
        (directory / f"{name}.seconds").write_text(f"{seconds}\n")
        write_script(
            directory / {"boot": "power_up.sh"}.get(name, f"{name}.sh"),
            f'sleep "$(cat {directory}/{name}.seconds)"\n'
            f"while [ -e {directory}/{name}.held ]; do sleep 0.1; done\n{last[name]}",
        )
    write_script(directory / "power_down.sh", f'exec {words} down "$1" >> {directory}/log/power.out 2>&1\n')
    if site.exports_nothing:
        (directory / "cli_filter.lua").write_text(EXPORT_NONE)
    if site.needs_account:
        (directory / "job_submit.lua").write_text(NEEDS_ACCOUNT)


def write_script(path: Path, text: str) -> None:
    # Slurm 22.05 gives its programs no PATH
    path.write_text(f"#!/bin/sh\nexport PATH={shlex.quote(system_path())}\n{text}")
    path.chmod(0o755)


EXPORT_NONE = """\
function slurm_cli_setup_defaults(options, early_pass)
    if options["type"] == "sbatch" then
        options["export"] = "NONE"
    end
    return slurm.SUCCESS
end
function slurm_cli_pre_submit(options, pack_offset)
    return slurm.SUCCESS
end
function slurm_cli_post_submit(offset, job_id, step_id)
    return slurm.SUCCESS
end
"""
NEEDS_ACCOUNT = """\
function slurm_job_submit(job_desc, part_list, submit_uid)
    if job_desc.account == nil then
        slurm.log_user("no account is given: sbatch --account=GRANT")
        return slurm.ESLURM_INVALID_ACCOUNT
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
    return slurm.SUCCESS
end
"""


# ---------------------------------------------------------------------------------------------------------- cgroups


def cgroup_folders(directory: Path) -> list[Path]:
    """The bed's own cgroup in each hierarchy. The node daemons are in it, and see it as the root: beds side by side
    have nodes of the same names, and jobs of the same numbers."""
    return [HIERARCHIES / controller / f"bed-{directory.name}" for controller in CONTROLLERS]


def why_no_cgroups(directory: Path) -> str:
    """Make the bed's cgroups; return why that cannot be, or an empty text."""
    if os.geteuid() != 0:
        return "only root can make cgroups"
    if missing := [name for name in ("unshare", "mount") if not shutil.which(name)]:
        return f"there is no {' and no '.join(missing)}"
    if lacking := [name for name in CONTROLLERS if not (HIERARCHIES / name / "cgroup.procs").exists()]:
        return f"no cgroup v1 hierarchy is mounted for {', '.join(lacking)}"
    try:
        for folder in cgroup_folders(directory):
            folder.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):  # a new cpuset is empty, and takes no process
                if (folder / name).exists():
                    (folder / name).write_text((folder.parent / name).read_text())
        # As systemd has it: a disk that is mounted later, as a drill does, is there for the node daemons too
        subprocess.run(["mount", "--make-shared", "/"], capture_output=True, check=False)
        (directory / "cgroup").mkdir(exist_ok=True)
        (directory / "contained.sh").write_text(contained_sh(directory))
        (directory / "contained.sh").chmod(0o755)
        command = [str(directory / "contained.sh"), "test", "-e", str(directory / "cgroup/memory/tasks")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        problem = "" if done.returncode == 0 else f"they cannot be mounted: {done.stderr.strip()}"
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
    if problem:
        remove_cgroups(directory)
    return problem


def contained_sh(directory: Path) -> str:
    """A program in the cgroups of the bed, in place of this script."""
    mounts = "; ".join(
        f"mkdir {directory}/cgroup/{name}; mount -t cgroup -o {name} bed {directory}/cgroup/{name}"
        for name in CONTROLLERS
    )
    script = f'set -e; mount -t tmpfs bed {directory}/cgroup; {mounts}; exec "$@"'
    moves = "\n".join(f"echo $$ > {folder}/cgroup.procs" for folder in cgroup_folders(directory))
    return f"""\
#!/bin/sh
set -e
{moves}
exec unshare --cgroup --mount --propagation slave sh -c {shlex.quote(script)} contained "$@"
"""


def remove_cgroups(directory: Path) -> None:
    """Those that are empty, from the innermost on; a process that is just ending keeps its own for a moment."""
    for folder in cgroup_folders(directory):
        for inner, _, _ in os.walk(folder, topdown=False):
            try:
                os.rmdir(inner)
            except OSError:
                continue


def has_cgroups(directory: Path) -> bool:
    return any(folder.exists() for folder in cgroup_folders(directory))


def cgroup_conf(directory: Path, pins: bool) -> str:
    return f"""\
CgroupPlugin=cgroup/v1
CgroupMountpoint={directory}/cgroup
ConstrainRAMSpace=yes
ConstrainCores={"yes" if pins else "no"}
"""

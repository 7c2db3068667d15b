"""Fits the resources a job asks for into the limits of a site, and turns them into sbatch options.

`fit` fills in what was left open, and refuses what the site cannot give, with the name of the limit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpc import config
from hpc.errors import ConfigError, did_you_mean
from hpc.media import many
from hpc.runs import heartbeats
from hpc.site import profile
from hpc.site.disks import disk_path
from hpc.site.profile import Partition
from hpc.site.profile import Site as Site
from hpc.site.profile import detect as detect
from hpc.site.profile import duration_s as duration_s
from hpc.site.profile import is_known as is_known
from hpc.site.profile import load as load
from hpc.site.profile import names as names

MOST_DAYS = 365
"""A longer walltime is a typing error, even if no limit is known."""
NO_ACCOUNT = "ACCOUNT"
"""The placeholder in a dry run if an account is needed and none is known."""


@dataclass(frozen=True)
class Resources:
    """The resources of one job, all decided. They change how fast a run is, never its results."""

    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_rank: int
    time_s: int | None
    """None: no limit."""
    lead_s: int
    hang_s: int = 900
    """A run in which no rank makes progress for longer is taken to hang."""
    heartbeat_s: float = heartbeats.QUICK_S
    """How often a node writes in the long run how far its ranks are: hpc/runs/heartbeats.py."""
    mem_gb: float | None = None
    partition: str = ""
    account: str = ""
    qos: str = ""
    scratch_gb: int = 0
    """Node-local disk, per node."""
    stage: str = "auto"
    """Where inputs that are read often are copied to: auto (the site's scratch_local), off, or a path on each node."""
    mpi: bool = False
    """The ranks are MPI processes."""
    share: str = "umask"
    """Who may read the run folder: private, group or umask (hpc/runs/sharing.py)."""
    options: dict[str, str] = field(default_factory=dict)
    """sbatch options that are passed on unchanged: exclude, qos, mail, and those of --sbatch. Empty: one without a
    value."""
    cluster: str = ""
    """The cluster for sbatch's --clusters; empty: that of the machine where it is submitted."""
    container: str = ""
    """The image that ranks run in; empty: none."""
    node_counts: tuple[int, ...] = ()
    """The numbers of nodes that a malleable run may have, of which `nodes` is the one that it has now; empty: it is not
    malleable."""
    notes: tuple[str, ...] = ()
    """Decisions made for the user, and facts about the site; printed with the plan."""

    @property
    def ranks(self) -> int:
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Request:
    """The resources that the user asked for; None leaves the choice to the site."""

    nodes: int | None = None
    gpus: int | None = None
    ranks: int | None = None
    cpus: int | None = None
    mem_gb: float | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    scratch_gb: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    hang: str | None = None
    stage: str | None = None
    mpi: bool = False
    share: str | None = None
    cluster: str = ""
    container: str = ""


def fit(site: Site, asked: Request, n_gpus_here: int = 0, *, dry: bool = False) -> Resources:
    """Fill in what was left open, refuse what the site cannot give. What the user left open is reduced if needed.

    With `dry`, an account that is needed and not known is replaced by a placeholder.
    """
    notes = list(site.remember)
    partition = asked.partition or site.partition
    limits = site.partitions.get(partition, Partition())
    at = f"{site.name}, partition {partition}" if partition in site.partitions else site.name
    if site.partitions and partition not in site.partitions:
        known = did_you_mean(partition, site.partitions)
        notes.append(f"{site.name} has no facts on partition {partition!r}: its limits are not checked.{known}")
    nodes = 1 if asked.nodes is None else asked.nodes
    max_nodes = site.max_nodes if limits.max_nodes is None else limits.max_nodes
    if not 1 <= nodes <= max_nodes:
        other = _other_partition(site, asked)
        raise ConfigError(f"--nodes must be {_range(1, max_nodes)} on {at}, but got {nodes}{other}")
    gpus = _gpus(site, limits, asked, n_gpus_here, at)
    if limits.max_gpus is not None and nodes * gpus > limits.max_gpus:
        raise ConfigError(
            f"{nodes} x {gpus} GPUs are more than the {limits.max_gpus} that one user gets on {at}"
            f"{_other_partition(site, asked)}"
        )
    if limits.whole_nodes and gpus < (limits.gpus_per_node or 0):
        notes.append(f"{at} gives whole nodes: you pay for {limits.gpus_per_node} GPUs on each, and use {gpus}")
    ranks = asked.ranks if asked.ranks is not None else gpus or site.ranks_per_node
    for option, value in (("--ranks", ranks), ("--cpus", asked.cpus), ("--mem", asked.mem_gb)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} must be at least 1, but got {value:g}")
    time_s, lead_s = _time(site, limits, asked, at, notes)
    account = _account(site, limits, asked.account, at, notes, dry)
    scratch_gb = asked.scratch_gb or 0
    if scratch_gb and not site.gres_extra:
        raise ConfigError(f"--scratch: the profile {site.name} has no gres_extra that asks for node-local disk")
    if scratch_gb < 0 or (limits.max_scratch_gb is not None and scratch_gb > limits.max_scratch_gb):
        raise ConfigError(f"--scratch must be 0 to {limits.max_scratch_gb} GB a node on {at}, but got {scratch_gb}")
    stage = site.stage if asked.stage is None else asked.stage
    if stage not in ("auto", "off") and not stage.startswith(("/", "$")):
        raise ConfigError(f"--stage must be auto, off, or a place on each node, /… or $…, but got {stage!r}")
    return Resources(
        nodes=nodes,
        ranks_per_node=ranks,
        gpus_per_node=gpus,
        cpus_per_rank=_cpus(site, limits, asked, ranks, gpus, at, notes),
        time_s=time_s,
        lead_s=lead_s,
        hang_s=duration_s(asked.hang or site.hang),
        heartbeat_s=_heartbeat_s(site),
        mem_gb=_mem_gb(site, limits, asked, gpus, at, notes),
        partition=partition,
        account=account,
        qos=account if limits.qos_as_account else "",
        scratch_gb=scratch_gb,
        stage=stage,
        mpi=asked.mpi,
        share=asked.share or site.share,
        options=asked.options,
        cluster=asked.cluster or site.cluster,
        container=asked.container,
        notes=tuple(notes),
    )


def fit_range(site: Site, asked: Request, low: int, high: int, n_gpus_here: int = 0, *, dry: bool = False) -> Resources:
    """Return what `fit` grants for the fewest of `low` to `high` nodes, with all the numbers that it would grant."""
    if site.kind != "slurm":
        raise ConfigError(
            f"--nodes {low}-{high} has Slurm choose the number of nodes, and {site.name} is no Slurm site: say one "
            f"number, as --nodes {low}"
        )
    counts: list[int] = []
    refused: dict[int, ConfigError] = {}
    for n in range(low, high + 1):
        try:
            fit(site, replace(asked, nodes=n), n_gpus_here, dry=dry)
            counts.append(n)
        except ConfigError as error:
            refused[n] = error
            if counts:
                break
    if not counts:
        raise refused[low]
    resources = fit(site, replace(asked, nodes=counts[0]), n_gpus_here, dry=dry)
    notes = tuple(
        f"not more than {many(counts[-1], 'node')}: {error}" for n, error in refused.items() if n > counts[-1]
    )
    return replace(resources, node_counts=tuple(counts), notes=(*resources.notes, *notes))


def _heartbeat_s(site: Site) -> float:
    """Many runs share the disk of a cluster; that of one machine is its own."""
    if site.heartbeat:
        return float(duration_s(site.heartbeat))
    return heartbeats.SHARED_S if site.kind == "slurm" else heartbeats.QUICK_S


def _gpus(site: Site, limits: Partition, asked: Request, n_gpus_here: int, at: str) -> int:
    """GPUs a node."""
    if site.gpus_per_node == -1:
        default = most = n_gpus_here
    else:
        default, most = site.gpus_per_node, max(site.gpus_per_node, site.max_gpus_per_node)
    if limits.gpus_per_node is not None:
        most = limits.gpus_per_node
        default = most if limits.whole_nodes else min(default, most)
    gpus = max(default, int(limits.gpu_only)) if asked.gpus is None else asked.gpus
    if limits.gpu_only and limits.gpus_per_node is None and gpus >= 1:
        return gpus  # the number of GPUs is not known
    if not limits.gpu_only <= gpus <= most:
        only = ", which is for work on GPUs only" if limits.gpu_only and gpus == 0 else ""
        if not most and site.kind != "slurm":
            raise ConfigError(
                f"--gpus {gpus}: no GPU is seen on this machine, neither /dev/nvidia0 nor one of AMD's driver; a "
                "variable, as CUDA_VISIBLE_DEVICES, may hide it. Leave --gpus out to compute on CPUs"
            )
        raise ConfigError(
            f"--gpus must be {_range(int(limits.gpu_only), most)} a node on {at}{only}, but got {gpus}"
            f"{_other_partition(site, asked)}"
        )
    return gpus


def _time(site: Site, limits: Partition, asked: Request, at: str, notes: list[str]) -> tuple[int | None, int]:
    """Return walltime and lead, in seconds."""
    walltime = asked.time if asked.time is not None else (site.time if site.kind == "slurm" else None)
    time_s = duration_s(walltime) if walltime is not None else None
    lead_s = duration_s(site.lead)
    if limits.max_time and time_s is not None and time_s > duration_s(limits.max_time):
        if asked.time:
            other = _other_partition(site, asked) or "; ask for less, the run goes on in a new job at its end"
            raise ConfigError(f"--time {asked.time} is more than the {limits.max_time} of {at}{other}")
        time_s = duration_s(limits.max_time)
        notes.append(f"time is {limits.max_time} instead of {site.time}, the limit of {at}")
    if asked.time and time_s is not None and time_s > MOST_DAYS * 86400:
        raise ConfigError(f"--time {asked.time} is more than {MOST_DAYS}d: ask for less, the run goes on in a new job")
    if asked.time and time_s is not None and time_s <= lead_s:
        if site.kind == "slurm":
            raise ConfigError(
                f"--time {asked.time} is not more than the {site.lead} that {site.name} keeps for saving: ask for more"
            )
        lead_s = 0
    return time_s, lead_s


def _cpus(site: Site, limits: Partition, asked: Request, ranks: int, gpus: int, at: str, notes: list[str]) -> int:
    """Return the CPU cores per rank; if the user left it open, it is made to fit."""
    cpus = site.cpus_per_rank if asked.cpus is None else asked.cpus
    most, per = _node_limit(limits.max_cpus_per_gpu, limits.max_cpus_per_node, gpus)
    if most is None or ranks * cpus <= most:
        return cpus
    if asked.cpus is not None or ranks > most:
        raise ConfigError(
            f"{ranks} ranks with {cpus} CPUs each are {ranks * cpus} a node, but {at} gives {most:g} ({per}): "
            f"ask for {'fewer --ranks' if ranks > most else f'--cpus {int(most // ranks)}'}"
        )
    notes.append(f"{int(most // ranks)} CPUs a rank instead of {cpus}: {at} gives {most:g} a node ({per})")
    return int(most // ranks)


def _mem_gb(site: Site, limits: Partition, asked: Request, gpus: int, at: str, notes: list[str]) -> float | None:
    """Return the memory per node; if the user left it open, it is made to fit."""
    default = site.mem_gb_per_gpu * gpus if gpus and site.mem_gb_per_gpu else site.mem_gb
    mem_gb = default if asked.mem_gb is None else asked.mem_gb
    most, per = _node_limit(limits.max_mem_gb_per_gpu, limits.max_mem_gb_per_node, gpus)
    if mem_gb is None or most is None or mem_gb <= most:
        return mem_gb
    if asked.mem_gb is not None:
        raise ConfigError(f"--mem must be 1 to {most:g} GB a node on {at} ({per}), but got {mem_gb:g}")
    notes.append(f"{most:g} GB a node instead of {mem_gb:g}, the limit of {at} ({per})")
    return most


def _node_limit(per_gpu: float | None, per_node: float | None, gpus: int) -> tuple[float | None, str]:
    """Return the smaller of the two limits of a node, and its name."""
    limits = [(per_node, "a whole node")] if per_node is not None else []
    if per_gpu is not None and gpus:
        limits.append((per_gpu * gpus, f"{per_gpu:g} a GPU"))
    return min(limits) if limits else (None, "")


def _account(site: Site, limits: Partition, name: str | None, at: str, notes: list[str], dry: bool) -> str:
    if not name:
        if not site.account.required:
            return ""
        how = f"--account NAME, or set HPC_ACCOUNT, or write `{site.name}: NAME` to ~/.config/hpc/accounts.yaml"
        if not dry:
            raise ConfigError(f"{site.name} needs an account: say {how}")
        notes.append(f"{NO_ACCOUNT} stands where {site.name} needs an account; to submit, say {how}")
        return NO_ACCOUNT
    if site.account.pattern and not re.search(site.account.pattern, name):
        notes.append(f"accounts of {site.name} look like {site.account.pattern}; {name!r} does not")
    if not limits.account_suffix:
        return name
    suffixes = sorted({part.account_suffix for part in site.partitions.values()} - {""}, key=len)
    for suffix in suffixes:
        if name.endswith(suffix) and not limits.account_suffix.endswith(suffix):
            name = name.removesuffix(suffix)  # of another partition
    account = name.removesuffix(limits.account_suffix) + limits.account_suffix
    notes.append(f"account {account}: the suffix of {at}")
    return account


def _other_partition(site: Site, asked: Request) -> str:
    """Return `; --partition NAME takes it`, for the tightest partition that grants the request, or an empty text."""
    here = site.partitions.get(asked.partition or site.partition, Partition())
    with_gpus = asked.gpus > 0 if asked.gpus is not None else here.gpus_per_node != 0
    time_s = duration_s(asked.time) if asked.time else 0
    fitting = []
    for name, part in site.partitions.items():
        nodes = site.max_nodes if part.max_nodes is None else part.max_nodes
        gpus = max(asked.gpus or 0, int(with_gpus))
        if (
            part is not here
            and part.max_time
            and time_s <= duration_s(part.max_time)
            and (asked.nodes or 1) <= nodes
            and (part.gpus_per_node is None or gpus <= part.gpus_per_node)
            and (part.max_gpus is None or (asked.nodes or 1) * gpus <= part.max_gpus)
            and (with_gpus or not part.gpu_only)
        ):
            fitting.append((duration_s(part.max_time), name))
    return f"; --partition {min(fitting)[1]} takes it" if fitting else ""


def _range(low: int, high: int) -> str:
    return f"{low} to {high}" if high > low else f"{high}"


def check_gpus(site: Site, r: Resources) -> None:
    """Refuse more ranks than GPUs, for a stage whose ranks compute on GPUs."""
    if site.gpu == "imitated" or not r.gpus_per_node:
        return
    if site.kind != "slurm" and r.nodes > 1:
        raise ConfigError(
            f"{r.nodes} nodes on {site.name} are groups of processes of one machine, and would share "
            f"{many(r.gpus_per_node, 'GPU')}: one GPU takes one rank. Say --ranks {r.gpus_per_node} without --nodes, "
            "or --gpus 0 to compute on CPUs"
        )
    if r.ranks_per_node > r.gpus_per_node:
        raise ConfigError(
            f"{r.ranks_per_node} ranks a node cannot share {many(r.gpus_per_node, 'GPU')}: one GPU takes one rank. Say "
            f"--ranks {r.gpus_per_node}, or --gpus {r.ranks_per_node} if a node has as many, or --gpus 0 to compute on "
            "CPUs"
        )


def sbatch_options(site: Site, r: Resources) -> dict[str, str | bool]:
    """Return the sbatch options of the site. All GRES in one option: a second --gres replaces the first."""
    options: dict[str, str | bool] = {name: value or True for name, value in site.directives.items()}
    gres = []
    if r.gpus_per_node:
        option, _, value = site.gpu_request.format(gpus=r.gpus_per_node).removeprefix("--").partition("=")
        if option == "gres":
            gres.append(value)
        else:
            options[option] = value
    if r.scratch_gb:
        gres.append(site.gres_extra.format(scratch_gb=r.scratch_gb))
    gres += [str(more["gres"]) for more in (options, r.options) if "gres" in more]
    if r.qos:
        options["qos"] = r.qos
    if r.node_counts:
        options["no-kill"] = True  # a node that dies does not end the job: it goes on with the others
    options |= {"clusters": r.cluster} if r.cluster else {}
    options |= {name: value or True for name, value in r.options.items()}
    return options | ({"gres": ",".join(gres)} if gres else {})


def job_env(site: Site, r: Resources) -> dict[str, str]:
    """Return the variables of the site for a job. SLURM_CPU_BIND is srun's --cpu-bind."""
    limits = site.partitions.get(r.partition, Partition())
    whole = r.gpus_per_node > 0 and r.gpus_per_node == limits.gpus_per_node == r.ranks_per_node
    return site.env | ({"SLURM_CPU_BIND": site.cpu_bind} if site.cpu_bind and whole else {})


def check_usable(site: Site) -> None:
    """Refuse to submit to a site whose profile is a stub."""
    if site.status == "stub":
        raise ConfigError(
            f"the profile {site.name} is a stub, so nothing is submitted. Fill in {'; '.join(site.missing)} in "
            f"{profile.find(site.name)}, or in a copy in ~/.config/hpc/site, and set `status: user-observed`; on the "
            f"cluster `python -m hpc.launch site refresh {site.name}` writes what Slurm knows. --dry-run works without"
        )


def find_account(site: Site, account: str | None, environ: Mapping[str, str], home: Path) -> str | None:
    """Return the grant: the option, the environment, or this site's line in ~/.config/hpc/accounts.yaml."""
    for name in site.account.env:
        account = account or environ.get(name)
    path = home / ".config/hpc/accounts.yaml"
    if not account and path.is_file():
        line = config.load([path]).get(site.name)
        if not isinstance(line, str | int | None) or isinstance(line, bool):
            raise ConfigError(f"{path}: {site.name} needs the name of an account, as text, but got {line!r}")
        account = str(line or "")
    return account or None


OF_ONE_MACHINE = ("/tmp", "/var/tmp", "/dev/shm", "$TMPDIR", "$SLURM_TMPDIR")


def look_at_folder(site: Site, r: Resources, runs: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return notes on the disk of the run folders; refuse a disk that other nodes would not see.

    A path with a variable that is not set here (many are set only in jobs) is skipped.
    """
    disks = site.storage

    def on(disk: str) -> bool:
        path = disk_path(disk, environ, r.account)
        return path is not None and runs.is_relative_to(path)

    if any(map(on, disks.scratch_local)):
        raise ConfigError(
            f"{runs} is on a disk that one node of {site.name} sees, and only during a job: say --runs with a folder "
            f"in {disks.project or disks.scratch_shared or 'shared storage'}"
        )
    if site.kind == "slurm" and any(map(on, OF_ONE_MACHINE)):
        return (
            f"{runs} is where most clusters have a disk of each machine's own: do all nodes see it, and after a job?",
        )
    if disks.retention_days and on(disks.scratch_shared):
        keep = f" to {disks.project}" if disks.project else ""
        return (f"{site.name} deletes files here after {disks.retention_days} days: copy what is to stay{keep}",)
    if disks.home_gb and on(disks.home):
        better = disks.project or disks.scratch_shared
        return (f"the home of {site.name} holds {disks.home_gb:g} GB{better and f': better --runs in {better}'}",)
    return ()

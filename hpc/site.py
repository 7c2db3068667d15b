"""What a cluster looks like (Site, from configs/site/NAME.yaml), and what a job asks of it (Resources).

`fit` is where the two meet: what was left open is filled, what cannot be is refused with the limit's name.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpc import config
from hpc.config import ConfigError, did_you_mean


@dataclass(frozen=True)
class Partition:
    """The limits of one partition. None: not known, so not checked here; sbatch will say."""

    max_time: str | None = None
    max_nodes: int | None = None
    gpus_per_node: int | None = None
    max_gpus: int | None = None
    """Of all nodes together: what one user may hold."""
    max_cpus_per_gpu: int | None = None
    max_cpus_per_node: int | None = None
    max_mem_gb_per_gpu: float | None = None
    max_mem_gb_per_node: float | None = None
    max_scratch_gb: int | None = None
    """Node-local disk, where it is asked for (Site.gres_extra)."""
    gpu_only: bool = False
    whole_nodes: bool = False
    account_suffix: str = ""
    """What the grant's name ends with here; appended unless it is there."""
    qos_as_account: bool = False
    """Here --qos must be said too, and is named as the account."""

    def __post_init__(self) -> None:
        if self.max_time:
            duration_s(self.max_time)


@dataclass(frozen=True)
class Account:
    """Where the grant comes from when no --account is said. Never from a profile: those are shared."""

    required: bool = False
    env: tuple[str, ...] = ("HPC_ACCOUNT", "SBATCH_ACCOUNT", "SLURM_ACCOUNT")
    pattern: str = ""
    """What names look like here (regular expression); another name is remarked on, not refused."""


@dataclass(frozen=True)
class Storage:
    """What each disk is for; paths may hold $VARIABLES and {account}. Empty: not known."""

    home: str = "$HOME"
    home_gb: float | None = None
    project: str = ""
    scratch_shared: str = ""
    """Seen by all nodes, cleaned after retention_days."""
    retention_days: int | None = None
    scratch_local: str = ""
    """Seen by one node, gone with the job."""


@dataclass(frozen=True)
class Detect:
    """Signs that this machine belongs to the site: regular expressions, each optional, one is enough."""

    env: dict[str, str] = field(default_factory=dict)
    hostnames: tuple[str, ...] = ()
    cluster_names: tuple[str, ...] = ()
    """ClusterName in slurm.conf."""

    def __post_init__(self) -> None:
        for pattern in (*self.env.values(), *self.hostnames, *self.cluster_names):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None

    def fits(self, environ: Mapping[str, str], hostname: str, cluster_name: str) -> bool:
        return (
            any(name in environ and re.search(pattern, environ[name]) for name, pattern in self.env.items())
            or any(re.search(pattern, hostname) for pattern in self.hostnames)
            or any(re.fullmatch(pattern, cluster_name) for pattern in self.cluster_names)
        )


@dataclass(frozen=True)
class Site:
    """One place where runs can go. Facts about the place only; what a run computes never depends on it."""

    name: str
    kind: Literal["slurm", "local", "inline"]
    description: str = ""
    status: Literal["official", "user-observed", "stub"] = "user-observed"
    """Who says so: the site's own documentation, people's scripts, or nobody yet (then nothing is submitted)."""
    verified_on: str = ""
    """When it was so, as the sources say."""
    sources: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """What has to be filled in before this is more than a stub."""
    remember: tuple[str, ...] = ()
    """Sentences printed with every plan."""
    detect: Detect = field(default_factory=Detect)
    partition: str = ""
    partitions: dict[str, Partition] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    max_nodes: int = 1
    """Where the partition does not say."""
    gpus_per_node: int = 0
    """What a job gets unless it asks otherwise; -1: as many as this machine has."""
    max_gpus_per_node: int = 0
    """Where the partition does not say."""
    gpu_request: str = "--gres=gpu:{gpus}"
    """The sbatch option that asks for GPUs, with {gpus} for the number a node."""
    gres_extra: str = ""
    """The GRES that asks for node-local disk, with {scratch_gb}; joined to that of the GPUs."""
    ranks_per_node: int = 1
    """When there are no GPUs; with GPUs there is one rank a GPU."""
    cpus_per_rank: int = 1
    mem_gb: float | None = None
    """For a node; None leaves it to the partition's default."""
    mem_gb_per_gpu: float | None = None
    """For a job with GPUs, instead of mem_gb."""
    time: str = "1h"
    lead: str = "2m"
    """How long before the end of the walltime the run is asked to stop and save."""
    directives: dict[str, str] = field(default_factory=dict)
    """More sbatch options, always given; with an empty value, as a bare --option."""
    skip: tuple[str, ...] = ()
    """sbatch options that this site does not take."""
    prologue: tuple[str, ...] = ()
    """Lines of the batch script before ours and before `set -eu`: modules and the like."""
    env: dict[str, str] = field(default_factory=dict)
    """Literal values; what must be worked out in the job is a line of the prologue."""
    cpu_bind: str = ""
    """srun's --cpu-bind for jobs that have all GPUs of their nodes."""
    storage: Storage = field(default_factory=Storage)
    compute_internet: bool | None = None
    """Whether compute nodes reach the internet; None: not known."""

    def __post_init__(self) -> None:
        if duration_s(self.lead) >= duration_s(self.time):
            raise ValueError(f"lead {self.lead} leaves nothing of the walltime {self.time}")
        if "{gpus}" not in self.gpu_request or (self.gres_extra and "{scratch_gb}" not in self.gres_extra):
            raise ValueError(
                "gpu_request needs {gpus} and gres_extra {scratch_gb}, where the number goes, "
                f"but got {self.gpu_request!r} and {self.gres_extra!r}"
            )
        if self.partitions and self.partition not in self.partitions:
            raise ValueError(f"partition {self.partition!r} is not one of partitions: {', '.join(self.partitions)}")
        if self.status == "stub" and not self.missing:
            raise ValueError("a stub says under missing what has to be filled in")


@dataclass(frozen=True)
class Resources:
    """What one job asks for; every number decided. Changes how fast a run is, never what it computes."""

    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_rank: int
    time_s: int | None
    """None: no limit."""
    lead_s: int
    mem_gb: float | None = None
    partition: str = ""
    account: str = ""
    qos: str = ""
    scratch_gb: int = 0
    """Node-local disk, a node."""
    notes: tuple[str, ...] = ()
    """What was decided in the user's place, and what he should know of the site; printed with the plan."""

    @property
    def ranks(self) -> int:
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Request:
    """What the user said on the command line; None where he left it to the site."""

    nodes: int | None = None
    gpus: int | None = None
    ranks: int | None = None
    cpus: int | None = None
    mem_gb: float | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    scratch_gb: int | None = None


def fit(site: Site, asked: Request, n_gpus_here: int = 0) -> Resources:
    """Fill what was left open, refuse what the site cannot give. What he did not say is made smaller if it must be."""
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
        notes.append(f"{at} gives whole nodes: all {limits.gpus_per_node} GPUs of a node are yours, and --gpus is {gpus}")
    ranks = asked.ranks if asked.ranks is not None else gpus or site.ranks_per_node
    for option, value in (("--ranks", ranks), ("--cpus", asked.cpus), ("--mem", asked.mem_gb)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} must be at least 1, but got {value:g}")
    time_s, lead_s = _time(site, limits, asked, at, notes)
    account = _account(site, limits, asked.account, at, notes)
    scratch_gb = asked.scratch_gb or 0
    if scratch_gb and not site.gres_extra:
        raise ConfigError(f"--scratch {scratch_gb}: the profile {site.name} has no gres_extra to ask for local disk with")
    if limits.max_scratch_gb is not None and not 0 <= scratch_gb <= limits.max_scratch_gb:
        raise ConfigError(f"--scratch must be 0 to {limits.max_scratch_gb} GB a node on {at}, but got {scratch_gb}")
    return Resources(
        nodes=nodes,
        ranks_per_node=ranks,
        gpus_per_node=gpus,
        cpus_per_rank=_cpus(site, limits, asked, ranks, gpus, at, notes),
        time_s=time_s,
        lead_s=lead_s,
        mem_gb=_mem_gb(site, limits, asked, gpus, at, notes),
        partition=partition,
        account=account,
        qos=account if limits.qos_as_account else "",
        scratch_gb=scratch_gb,
        notes=tuple(notes),
    )


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
        return gpus  # how many there are is not known
    if not limits.gpu_only <= gpus <= most:
        only = ", which is for work on GPUs only" if limits.gpu_only and gpus == 0 else ""
        raise ConfigError(
            f"--gpus must be {_range(int(limits.gpu_only), most)} a node on {at}{only}, but got {gpus}"
            f"{_other_partition(site, asked)}"
        )
    return gpus


def _time(site: Site, limits: Partition, asked: Request, at: str, notes: list[str]) -> tuple[int | None, int]:
    """Walltime and lead, in seconds."""
    walltime = asked.time or (site.time if site.kind == "slurm" else None)
    time_s = duration_s(walltime) if walltime else None
    lead_s = duration_s(site.lead)
    if limits.max_time and time_s is not None and time_s > duration_s(limits.max_time):
        if asked.time:
            other = _other_partition(site, asked) or "; ask for less, the run goes on in a new job at its end"
            raise ConfigError(f"--time {asked.time} is more than the {limits.max_time} of {at}{other}")
        time_s = duration_s(limits.max_time)
        notes.append(f"time is {limits.max_time} instead of {site.time}, the limit of {at}")
    if asked.time and time_s is not None and time_s <= lead_s:
        if site.kind == "slurm":
            raise ConfigError(
                f"--time {asked.time} is not more than the {site.lead} that {site.name} keeps for saving: ask for more"
            )
        lead_s = 0
    return time_s, lead_s


def _cpus(site: Site, limits: Partition, asked: Request, ranks: int, gpus: int, at: str, notes: list[str]) -> int:
    """CPU cores a rank; what the user left open is made to fit."""
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
    """Memory a node; what the user left open is made to fit."""
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
    """The smaller of the two limits of a node, and where it comes from."""
    found = [(per_node, "a whole node")] if per_node is not None else []
    if per_gpu is not None and gpus:
        found.append((per_gpu * gpus, f"{per_gpu:g} a GPU"))
    return min(found) if found else (None, "")


def _account(site: Site, limits: Partition, said: str | None, at: str, notes: list[str]) -> str:
    if not said:
        if site.account.required:
            raise ConfigError(
                f"{site.name} needs an account: say --account NAME, or set HPC_ACCOUNT, or write "
                f"`{site.name}: NAME` to ~/.config/hpc/accounts.yaml"
            )
        return ""
    if site.account.pattern and not re.search(site.account.pattern, said):
        notes.append(f"accounts of {site.name} look like {site.account.pattern}; {said!r} does not")
    if not limits.account_suffix:
        return said
    suffixes = sorted({part.account_suffix for part in site.partitions.values()} - {""}, key=len)
    for suffix in suffixes:
        if said.endswith(suffix) and not limits.account_suffix.endswith(suffix):
            said = said.removesuffix(suffix)  # of another partition
    account = said.removesuffix(limits.account_suffix) + limits.account_suffix
    notes.append(f"account {account}: the suffix of {at}")
    return account


def _other_partition(site: Site, asked: Request) -> str:
    """`; --partition NAME takes it`, for the tightest one known to give all that was asked for, or nothing."""
    here = site.partitions.get(asked.partition or site.partition, Partition())
    with_gpus = asked.gpus > 0 if asked.gpus is not None else here.gpus_per_node != 0
    time_s = duration_s(asked.time) if asked.time else 0
    found = []
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
            found.append((duration_s(part.max_time), name))
    return f"; --partition {min(found)[1]} takes it" if found else ""


def _range(low: int, high: int) -> str:
    return f"{low} to {high}" if high > low else f"{high}"

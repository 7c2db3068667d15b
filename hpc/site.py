"""What a cluster looks like (Site, from configs/site/NAME.yaml), and what a job asks of it (Resources)."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpc import config
from hpc.config import ConfigError, did_you_mean


@dataclass(frozen=True)
class Site:
    """One place where runs can go. Facts about the place only; what a run computes never depends on it."""

    name: str
    kind: Literal["slurm", "local", "inline"]
    description: str = ""
    partition: str = ""
    account_required: bool = False
    max_nodes: int = 1
    gpus_per_node: int = 0
    """What a job gets unless it asks otherwise; -1: as many as this machine has."""
    max_gpus_per_node: int = 0
    gpu_request: str = "--gres=gpu:{gpus}"
    """The sbatch option that asks for GPUs, with {gpus} for the number a node."""
    ranks_per_node: int = 1
    """When there are no GPUs; with GPUs there is one rank a GPU."""
    cpus_per_rank: int = 1
    mem_gb: float | None = None
    """For a node; None leaves it to the partition's default."""
    time: str = "1h"
    lead: str = "2m"
    """How long before the end of the walltime the run is asked to stop and save."""
    env: dict[str, str] = field(default_factory=dict)
    prologue: tuple[str, ...] = ()
    """Lines of the batch script before ours: modules and the like."""

    def __post_init__(self) -> None:
        if duration_s(self.lead) >= duration_s(self.time):
            raise ValueError(f"lead {self.lead} leaves nothing of the walltime {self.time}")


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


def fit(site: Site, asked: Request, n_gpus_here: int = 0) -> Resources:
    """Fill what was left open, refuse what the site cannot give."""
    nodes = 1 if asked.nodes is None else asked.nodes
    if not 1 <= nodes <= site.max_nodes:
        raise ConfigError(f"--nodes must be 1 to {site.max_nodes} on {site.name}, but got {nodes}")
    gpus = site.gpus_per_node if asked.gpus is None else asked.gpus
    gpus = n_gpus_here if gpus == -1 else gpus
    limit = n_gpus_here if site.gpus_per_node == -1 else max(site.gpus_per_node, site.max_gpus_per_node)
    if not 0 <= gpus <= limit:
        raise ConfigError(f"--gpus must be 0 to {limit} a node on {site.name}, but got {gpus}")
    ranks = asked.ranks if asked.ranks is not None else gpus or site.ranks_per_node
    cpus = site.cpus_per_rank if asked.cpus is None else asked.cpus
    for option, value in (("--ranks", ranks), ("--cpus", cpus)):
        if value < 1:
            raise ConfigError(f"{option} must be at least 1, but got {value}")
    walltime = asked.time or (site.time if site.kind == "slurm" else None)
    time_s = duration_s(walltime) if walltime else None
    lead_s = duration_s(site.lead)
    if asked.time and time_s is not None and time_s <= lead_s:
        if site.kind == "slurm":
            raise ConfigError(
                f"--time {asked.time} is not more than the {site.lead} that {site.name} keeps for saving: ask for more"
            )
        lead_s = 0
    if site.account_required and not asked.account:
        raise ConfigError(f"{site.name} needs an account: say --account NAME, or set HPC_ACCOUNT")
    return Resources(
        nodes=nodes,
        ranks_per_node=ranks,
        gpus_per_node=gpus,
        cpus_per_rank=cpus,
        time_s=time_s,
        lead_s=lead_s,
        mem_gb=asked.mem_gb if asked.mem_gb is not None else site.mem_gb,
        partition=asked.partition or site.partition,
        account=asked.account or "",
    )


def duration_s(text: str) -> int:
    """Seconds in `90s`, `30m`, `4h`, `1h30m`, or Slurm's `[D-]HH:MM:SS`. A bare number is minutes, as in Slurm."""
    word = text.strip().lower()
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", word)
    if clock and (clock[1] or clock[4]):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if word.isdigit():
        return int(word) * 60
    parts = re.findall(r"(\d+)([smhd])", word)
    if not parts or "".join(number + unit for number, unit in parts) != word:
        raise ConfigError(f"cannot read the time {text!r}: say 90s, 30m, 4h, 2d or 1-12:00:00")
    return sum(int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in parts)


def folders() -> list[Path]:
    """Where profiles are looked for, the first one wins: here, the user's own, those that came with hpc."""
    return [Path("configs/site"), Path.home() / ".config/hpc/site", Path(__file__).parent.parent / "configs/site"]


def load(name: str) -> Site:
    for folder in folders():
        if (path := folder / f"{name}.yaml").is_file():
            return config.build(Site, config.load([path]) | {"name": name}, f"site {name}")
    known = sorted({path.stem for folder in folders() for path in folder.glob("*.yaml")})
    raise ConfigError(f"there is no site {name!r}.{did_you_mean(name, known)}")


def detect(environ: Mapping[str, str]) -> str:
    """`slurm` where this machine can submit to one, else `local`. HPC_SITE decides when it is set.

    The Slurm commands alone do not make a cluster: Debian's package puts them on a laptop, without a configuration.
    """
    if "HPC_SITE" in environ:
        return environ["HPC_SITE"]
    configured = "SLURM_CONF" in environ or any(
        Path(place).exists() for place in ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf")
    )
    return "slurm" if configured and shutil.which("sbatch") else "local"


def gpus_here(environ: Mapping[str, str]) -> int:
    """How many GPUs this machine shows us, without starting a GPU library."""
    if "CUDA_VISIBLE_DEVICES" in environ:
        return len([part for part in environ["CUDA_VISIBLE_DEVICES"].split(",") if part.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])

"""Reads the profile of a cluster, configs/site/NAME.yaml, as a Site; and recognises the site of this machine.

It holds facts only. What a job makes of them is decided in allocation.py.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpc import config
from hpc.config import secrets
from hpc.errors import ConfigError, did_you_mean
from hpc.site.container import Container

OURS = Path(__file__).parents[1] / "configs/site"
"""The folder of our profiles in a wheel; in a checkout they are at the top."""
ANY = "slurm"
"""The profile for any Slurm that no other profile describes."""


@dataclass(frozen=True)
class Partition:
    """The limits of one partition. None: not known, so sbatch decides."""

    max_time: str | None = None
    max_nodes: int | None = None
    gpus_per_node: int | None = None
    max_gpus: int | None = None
    """The most GPUs that one user may hold, on all nodes together."""
    max_cpus_per_gpu: int | None = None
    max_cpus_per_node: int | None = None
    max_mem_gb_per_gpu: float | None = None
    max_mem_gb_per_node: float | None = None
    max_scratch_gb: int | None = None
    """Node-local disk, if it has to be requested (Site.gres_extra)."""
    gpu_only: bool = False
    whole_nodes: bool = False
    account_suffix: str = ""
    """The suffix of the grant's name here; appended unless it is there."""
    qos_as_account: bool = False
    """--qos must be given too, and equals the account."""

    def __post_init__(self) -> None:
        if self.max_time:
            _check_time("max_time", self.max_time)


@dataclass(frozen=True)
class Account:
    """How the grant is found without --account. Never in a profile, because profiles are shared."""

    required: bool = False
    env: tuple[str, ...] = ("HPC_ACCOUNT", "SBATCH_ACCOUNT", "SLURM_ACCOUNT")
    pattern: str = ""
    """What names look like here (regular expression); another name gives a note, not an error."""


@dataclass(frozen=True)
class Storage:
    """The use of each disk; paths may contain $VARIABLES and {account}. Empty: not known."""

    home: str = "$HOME"
    home_gb: float | None = None
    project: str = ""
    scratch_shared: str = ""
    """Visible to all nodes, cleaned after retention_days."""
    retention_days: int | None = None
    scratch_local: tuple[str, ...] = ()
    """Visible to one node, deleted with the job; the fastest first. Inputs are copied there (staging.py)."""


@dataclass(frozen=True)
class Detect:
    """Signs that this machine belongs to the site: regular expressions, each optional; one match is enough."""

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
class Login:
    """How the launcher reaches the site over ssh from a machine that has no Slurm; see hpc/remote."""

    host: str = ""
    """The login node as ssh takes it: ui.wcss.pl, me@ui.wcss.pl, or a Host of ~/.ssh/config. Empty: not over ssh."""
    root: str = "hpc"
    """The folder there that gets a folder for each project; below the home, or a path. It may contain $VARIABLES."""
    python: str = ".venv/bin/python"
    """The Python of the environment there; below `root`, or a path."""
    setup: tuple[str, ...] = ()
    """Lines for the shell there before anything runs, where a command of ssh lacks what a login shell has:
    `. /etc/profile`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([A-Za-z0-9_][\w.@-]*)?", self.host, re.ASCII):
            raise ValueError(f"host must be a name as ssh takes it, as me@ui.wcss.pl, but got {self.host!r}")
        for key, path in (("root", self.root), ("python", self.python)):
            if not re.fullmatch(r"[\w./${}~+@-]+", path, re.ASCII) or path.startswith(("-", "~")):
                raise ValueError(f"{key} must be a path, of letters, digits, $VARIABLES and . _ - / + @, got {path!r}")


@dataclass(frozen=True)
class Site:
    """A place where runs can go. It has facts about the place only; what a run computes never depends on it."""

    name: str
    kind: Literal["slurm", "local", "inline"]
    description: str = ""
    status: Literal["official", "user-observed", "stub"] = "user-observed"
    """The source: the site's own documentation, people's scripts, or nothing yet (then nothing is submitted)."""
    verified_on: str = ""
    """The date of the sources."""
    sources: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """The fields that a stub needs before it can be used."""
    remember: tuple[str, ...] = ()
    """Sentences printed with every plan."""
    detect: Detect = field(default_factory=Detect)
    partition: str = ""
    partitions: dict[str, Partition] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    max_nodes: int = 1
    """If the partition does not have its own."""
    gpus_per_node: int = 0
    """The default of a job; -1: as many as this machine has."""
    max_gpus_per_node: int = 0
    """If the partition does not have its own."""
    gpu: Literal["nvidia", "amd", "imitated"] = "nvidia"
    """Whose GPUs they are. imitated: plain files, as on the test bed, so ranks compute on the CPU."""
    gpu_request: str = "--gres=gpu:{gpus}"
    """The sbatch option that asks for GPUs, with {gpus} for the number per node."""
    gres_extra: str = ""
    """The GRES that asks for node-local disk, with {scratch_gb}; joined to that of the GPUs."""
    ranks_per_node: int = 1
    """Without GPUs; with GPUs there is one rank per GPU."""
    cpus_per_rank: int = 1
    mem_gb: float | None = None
    """Per node; None leaves it to the partition's default."""
    mem_gb_per_gpu: float | None = None
    """For a job with GPUs, instead of mem_gb."""
    time: str = "1h"
    lead: str = "2m"
    """The time before the end of the walltime at which the run is asked to stop and save."""
    hang: str = "15m"
    """If no rank makes progress within this time, the ranks write their stacks and are started again."""
    heartbeat: str = ""
    """How often a node writes to the shared disk how far its ranks are, in the long run. Empty: 10s on a cluster, and
    twice a second on one machine."""
    directives: dict[str, str] = field(default_factory=dict)
    """More sbatch options, always given; an empty value makes a bare --option."""
    skip: tuple[str, ...] = ()
    """sbatch options that this site does not take."""
    prologue: tuple[str, ...] = ()
    """Lines of the batch script before ours and before `set -eu`, for example for modules."""
    env: dict[str, str] = field(default_factory=dict)
    """Literal values; a value that must be computed in the job is a line of the prologue."""
    fabric: str = ""
    """How the names of the fast network's interfaces begin, `hsn` or `ib0`: gloo, NCCL and TensorPipe use them where a
    run has several nodes. Empty: each finds one by itself."""
    cpu_bind: str = ""
    """srun's --cpu-bind for jobs that have all GPUs of their nodes."""
    cluster: str = ""
    """Its name for sbatch's --clusters, where one login node submits to several clusters. Empty: what SLURM_CLUSTERS
    names, or this machine's own."""
    container: Container = field(default_factory=Container)
    """The image that ranks run in, if any, and how."""
    storage: Storage = field(default_factory=Storage)
    mpi: str = ""
    """The plugin that srun needs for MPI, from `srun --mpi=list`. Empty: the site's own default."""
    stage: Literal["auto", "off"] = "auto"
    """Whether inputs that are read often are copied to storage.scratch_local."""
    node_check: Literal["on", "off"] = "on"
    """Whether a job looks at its nodes before its first step, and goes to others if one is sick. Off where the looks
    are wrong about a site's nodes."""
    share: Literal["private", "group", "umask"] = "private"
    """Who may read the run folders: you alone, your group too, or whom your umask lets."""
    compute_internet: bool | None = None
    """Whether compute nodes reach the internet; None: not known."""
    login: Login = field(default_factory=Login)
    """The way there from elsewhere."""

    def __post_init__(self) -> None:
        _check_time("time", self.time)
        _check_time("lead", self.lead)
        _check_time("hang", self.hang)
        if self.heartbeat:
            _check_time("heartbeat", self.heartbeat)
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


def _check_time(key: str, text: str) -> None:
    """YAML reads a bare 12:00:00 as the number 43200, which would pass for minutes."""
    if text.strip().isdigit():
        raise ValueError(f"{key} needs a unit, as 12h or 3d, or quotes around '12:00:00', but got the number {text}")
    duration_s(text)


def folders() -> list[Path]:
    """Return the folders with profiles; the first one wins: here, the user's own, those that came with hpc.

    In our own checkout, `here` is the same as those that came with hpc, and the user's own win.
    """
    ours = OURS if OURS.is_dir() else OURS.parent.parent.parent / "configs/site"
    here = Path("configs/site")
    own = Path.home() / ".config/hpc/site"
    return [own, ours] if here.resolve() == ours else [here, own, ours]


def find(name: str) -> Path:
    """Return the file of a profile: of that name, or at that path if it ends as a YAML file does."""
    if is_path(name):
        if not Path(name).is_file():
            raise ConfigError(f"--on: there is no file {name}; without .yaml it is the name of a site")
        return Path(name)
    for folder in folders():
        if (path := folder / f"{name}.yaml").is_file():
            return path
    raise ConfigError(f"there is no site {name!r}.{did_you_mean(name, names())}")


def is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def is_known(name: str) -> bool:
    """Whether there is a profile of that name, or at that path."""
    return Path(name).is_file() if is_path(name) else name in names()


def names() -> list[str]:
    return sorted({path.stem for folder in folders() for path in folder.glob("*.yaml")})


def load(name: str) -> Site:
    path = find(name)
    # A run remembers where its site is, for `resume` in another folder
    site = config.build(
        Site, config.load([path]) | {"name": str(path.absolute()) if is_path(name) else name}, f"site {name}"
    )
    _refuse_secrets(site)
    return site


def login(site: Site, home: Path) -> Login:
    """Return the way to a site over ssh: that of its profile, and on top of it your own, as your name there, from this
    site's lines in ~/.config/hpc/logins.yaml."""
    path = home / ".config/hpc/logins.yaml"
    own = config.load([path]).get(site.name) if path.is_file() else None
    if not own:
        return site.login
    if not isinstance(own, Mapping):
        raise ConfigError(f"{path}: {site.name} needs lines as `host: me@ui.wcss.pl`, but got {own!r}")
    return config.build(Login, {**config.plain(site.login), **own}, f"{path}: {site.name}")


def _refuse_secrets(site: Site) -> None:
    """Refuse what looks like a secret: env.sh, the batch script and plan.json of each run would hold it. Not shown."""
    lines = {f"env.{name}": f"{name}={value}" for name, value in site.env.items()}
    lines |= {f"prologue[{number}]": line for number, line in enumerate(site.prologue)}
    lines |= {f"login.setup[{number}]": line for number, line in enumerate(site.login.setup)}
    for at, line in lines.items():
        if secrets.looks_like_one(line):
            raise ConfigError(
                f"site {site.name}: {at} looks like a secret, which would be stored with each run: leave it out, and "
                "set the variable in your own environment, or let the prologue read it from a file that only you can "
                "read, as `export NAME=$(cat ~/.config/NAME)`"
            )


def detect(environ: Mapping[str, str], hostname: str | None = None, cluster_name: str | None = None) -> str:
    """Return the site of this machine: HPC_SITE, the profile whose signs match, or else `slurm` or `local`.

    The Slurm commands alone do not make a cluster: Debian's package installs them on a laptop, without a configuration.
    Nor does a SLURM_CONF whose file is gone, as a shell has it after its test bed was ended.
    """
    if environ.get("HPC_SITE"):
        return environ["HPC_SITE"]
    if not shutil.which("sbatch"):
        return "local"
    conf = next((path for path in _slurm_confs(environ) if path.exists()), None)
    hostname = os.uname().nodename if hostname is None else hostname
    cluster_name = _cluster_name(conf) if cluster_name is None else cluster_name
    name = recognise(_profiles(), environ, hostname, cluster_name)
    return name or (ANY if conf else "local")


def has_slurm(environ: Mapping[str, str]) -> bool:
    """Whether this machine belongs to a Slurm: it has the commands, and a configuration."""
    return shutil.which("sbatch") is not None and any(path.exists() for path in _slurm_confs(environ))


def is_here(site: Site, environ: Mapping[str, str]) -> bool:
    """Whether the Slurm of this machine is that of the site. A site without signs may be, if no other is recognised."""
    conf = next((path for path in _slurm_confs(environ) if path.exists()), None)
    if site.kind != "slurm" or conf is None or not shutil.which("sbatch"):
        return False
    if site.cluster:  # another machine's, of which Slurm here knows the way
        return True
    signs = environ, os.uname().nodename, _cluster_name(conf)
    if site.detect != Detect():
        return site.detect.fits(*signs)
    return site.name == ANY or recognise(_profiles(), *signs) is None


def recognise(sites: Iterable[Site], environ: Mapping[str, str], hostname: str, cluster_name: str) -> str | None:
    return next((site.name for site in sites if site.detect.fits(environ, hostname, cluster_name)), None)


def _profiles() -> Iterable[Site]:
    for name in names():
        try:
            yield load(name)
        except ConfigError:  # a broken profile gives its error when it is requested by name
            continue


def _slurm_confs(environ: Mapping[str, str]) -> list[Path]:
    if "SLURM_CONF" in environ:  # then Slurm's commands look nowhere else
        return [Path(environ["SLURM_CONF"])]
    return [*map(Path, ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf"))]


def _cluster_name(conf: Path | None) -> str:
    """Read it from Slurm's own file if possible: asking the controller could take a minute."""
    try:
        text = conf.read_text(errors="replace") if conf else ""
    except OSError:
        return ""
    match = re.search(r"^\s*ClusterName\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def duration_s(text: str) -> int:
    """Parse `90s`, `30m`, `4h`, `1h30m`, or Slurm's `[D-]HH:MM:SS`. A bare number is minutes, as in Slurm."""
    word = text.strip().lower()
    clock = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+):([0-9]{2})(?::([0-9]{2}))?", word)
    if clock and (clock[1] or clock[4]):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if re.fullmatch("[0-9]+", word):
        return int(word) * 60
    parts = re.findall(r"([0-9]+)([smhd])", word)
    if not parts or "".join(number + unit for number, unit in parts) != word:
        raise ConfigError(f"cannot read the time {text!r}: say 90s, 30m, 4h, 2d or 1-12:00:00")
    return sum(int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in parts)

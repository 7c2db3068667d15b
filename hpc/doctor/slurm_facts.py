"""What Slurm's own commands tell about a site without a job: settings, partitions, accounts, and what it refuses."""

import getpass
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from hpc.errors import ConfigError
from hpc.site import refresh
from hpc.slurm import commands, start_estimate

SCRIPT = "#!/bin/sh\nexit 0\n"
Run = Callable[..., commands.Answer]


@dataclass(frozen=True)
class Facts:
    """The answers of a login node."""

    profile: dict[str, Any]
    """As `site refresh` would write it."""
    settings: dict[str, str]
    """Of `scontrol show config`; `(null)` is an empty text."""
    partitions: dict[str, dict[str, str]]
    """Of `scontrol show partition`, by name."""
    partition: str
    account_required: bool | None = None
    """None: not tried."""
    account_refusal: str = ""
    """What sbatch says to a job without an account."""
    qos_refusal: str = ""
    """What it says to a job without the QOS that was given."""
    gpu_refusals: dict[str, str] = field(default_factory=dict)
    """What it says to each way of asking for a GPU; empty: it takes it."""
    gpu_only: bool = False
    accounts: tuple[str, ...] = ()
    """Those of this user in the accounting."""
    limits: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of each QOS that has some."""
    books: str = ""
    """Why sacct does not answer; empty if it does."""
    mpi: tuple[str, ...] = ()

    def setting(self, name: str) -> str:
        return self.settings.get(name, "")

    def number(self, name: str) -> int | None:
        """Return the number in a setting as `30 sec`."""
        match = re.match(r"\d+", self.setting(name))
        return int(match[0]) if match else None

    def sets(self, name: str) -> bool:
        """Whether a program or a plugin is set."""
        return bool(self.setting(name)) and self.setting(name).lower() not in ("none", "n/a")

    @property
    def slurm(self) -> str:
        """Which Slurm this is: its version and its controller."""
        hosts = [self.setting(name) for name in ("SLURM_VERSION", "SlurmctldHost", "SlurmctldPort")]
        return " ".join(filter(None, hosts))

    @property
    def has_epilog(self) -> bool:
        return any(self.setting(name).startswith("/") for name in self.settings if name.startswith("Epilog"))

    @property
    def n_nodes(self) -> int:
        return int(self.profile["partitions"].get(self.partition, {}).get("max_nodes", 1))

    @property
    def gpus_per_node(self) -> int:
        return int(self.profile["partitions"].get(self.partition, {}).get("gpus_per_node", 0))


def settings_of(text: str) -> dict[str, str]:
    pairs = re.findall(r"^(\w+)(?:\[\d+\])?\s*= (.*)$", text, re.MULTILINE)
    return {name: "" if value.strip() == "(null)" else value.strip() for name, value in pairs}


def ask(options: Mapping[str, str], partition: str | None, run: Run = commands.run) -> Facts:
    """Ask Slurm. `options`: those of sbatch that each job of the probes gets. Raises ConfigError where no job of theirs
    would be taken."""
    texts = refresh.texts(run)
    profile = refresh.profile(*texts, date.today())
    settings = settings_of(texts[2])
    rows = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in texts[0].splitlines() if line.strip()]
    partitions = {row["PartitionName"]: row for row in rows if "PartitionName" in row}
    chosen = partition or profile["partition"]
    if chosen not in profile["partitions"]:
        raise ConfigError(f"--partition {chosen}: those that are up here are {', '.join(profile['partitions'])}")
    facts = Facts(profile | {"partition": chosen}, settings, partitions, chosen)
    accounts, limits = _associations(run)
    taken = _taken(facts, {**options, "partition": chosen}, accounts, run)
    sacct = run("sacct", "-X", "-n", "-P", "-S", "now-1hours", "-o", "JobID", patience_s=commands.ASK_S)
    plugins = run("srun", "--mpi=list", patience_s=commands.ASK_S)
    return Facts(
        facts.profile, settings, partitions, chosen, **taken, accounts=accounts, limits=limits,
        books="" if sacct.ok else sacct.error,
        # Before 23.11 the list goes to stderr, which an answer has as one line
        mpi=tuple(sorted(set(re.findall(r"\b(pmix|pmi2|cray_shasta)\b", f"{plugins.out} {plugins.error}")))),
    )  # fmt: skip


def _taken(facts: Facts, options: dict[str, str], accounts: Sequence[str], run: Run) -> dict[str, Any]:
    """Ask `sbatch --test-only` what a job needs here."""

    def refusal(options: Mapping[str, str]) -> str:
        """Return what sbatch says against a job; empty if it takes it, or if Slurm does not say."""
        command = ["sbatch", "--test-only", "--time=1", *as_words(options)]
        answer = run(*command, patience_s=commands.ACT_S, text=SCRIPT)
        return start_estimate.read(answer.code, answer.error).refusal

    asked_gpus = _ways_to_ask(facts)
    whole = refusal(options)
    gpu_only = False
    if whole and asked_gpus:
        gpu_only = any(not refusal(with_gpu(options, way.format(gpus=1))) for way in asked_gpus)
        whole = "" if gpu_only else whole
        options = with_gpu(options, asked_gpus[0].format(gpus=1)) if gpu_only else options
    without = {name: value for name, value in options.items() if name != "account"}
    account = refusal(without) if "account" in options else whole
    if whole:
        raise ConfigError(_not_taken(facts, whole, options, accounts))
    no_qos = {name: value for name, value in options.items() if name != "qos"}
    bare = {name: value for name, value in options.items() if name not in ("gres", "gpus-per-node")}
    return {
        "account_required": bool(account), "account_refusal": account,
        "qos_refusal": refusal(no_qos) if "qos" in options else "",
        "gpu_refusals": {way: refusal(with_gpu(bare, way.format(gpus=1))) for way in asked_gpus},
        "gpu_only": gpu_only,
    }  # fmt: skip


def _not_taken(facts: Facts, why: str, options: Mapping[str, str], accounts: Sequence[str]) -> str:
    words = [f"Slurm does not take a job of one minute in the partition {facts.partition}: {why}"]
    if "account" not in options:
        yours = f" (yours are {', '.join(accounts)})" if accounts else ""
        words.append(f"say --account NAME{yours}; or --partition or --qos if it is not about the account")
    else:
        words.append("correct --account, --qos or --partition")
    return ". ".join(f"{word[:1].upper()}{word[1:]}" for word in words)


def _ways_to_ask(facts: Facts) -> list[str]:
    """Return how sbatch could be asked for GPUs in this partition: with the type, and without."""
    if not facts.gpus_per_node:
        return []
    own = facts.profile["gpu_request"]
    return list(dict.fromkeys([own, "--gres=gpu:{gpus}"]))


def with_gpu(options: Mapping[str, str], request: str) -> dict[str, str]:
    name, _, value = request.removeprefix("--").partition("=")
    more = [options[name]] if name == "gres" and name in options else []
    return {**options, name: ",".join([value, *more])}


def as_words(options: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]


def _associations(run: Run) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """Return the accounts of this user, and the limits of their QOS; nothing where there is no accounting."""
    user = getpass.getuser()
    rows = _rows(run("sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", "format=Account,QOS"))
    own = {name for row in rows if len(row) == 2 for name in row[1].split(",")}
    fields = ("MaxWall", "MaxSubmitJobsPerUser", "MaxJobsPerUser", "Flags")
    table = _rows(run("sacctmgr", "-n", "-P", "show", "qos", f"format=Name,{','.join(fields)}"))
    limits = {row[0]: {name: value for name, value in zip(fields, row[1:]) if value} for row in table if row[0] in own}
    return tuple(dict.fromkeys(row[0] for row in rows)), {name: each for name, each in limits.items() if each}


def _rows(answer: commands.Answer) -> list[list[str]]:
    return [line.split("|") for line in answer.out.splitlines() if "|" in line] if answer.ok else []


def time_limit_words(facts: Facts) -> str:
    """Return what Slurm does at the end of a walltime, by its settings."""
    kill = facts.number("KillWait")
    over = facts.setting("OverTimeLimit")
    after = f"TERM comes at the end, and KILL {kill} s later (KillWait)" if kill is not None else ""
    return after + (f", after OverTimeLimit = {over}" if after and over[:1] not in ("", "0") else "")

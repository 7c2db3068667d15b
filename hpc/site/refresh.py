"""Writes a site profile from what Slurm reports: `python -m hpc.launch site refresh NAME`, on the cluster.

Text output only: the JSON of Slurm's commands changes its shape from version to version.
"""

import re
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from hpc import config
from hpc.errors import ConfigError
from hpc.runs.rundir import atomic_write
from hpc.site.profile import Site
from hpc.slurm import commands
from hpc.slurm.commands import Answer

PARTITIONS = ["scontrol", "--oneliner", "show", "partition"]
CONFIG = ["scontrol", "show", "config"]
NODES = ["sinfo", "--noheader", "--exact", "--format=%R|%D|%c|%m|%G"]

Run = Callable[..., Answer]


def write(name: str, folder: Path, run: Run = commands.run, *, replace: bool = False) -> Path:
    """Ask Slurm, and write `folder`/`name`.yaml for a person to read and correct; return its path."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"a site's name is letters, digits, - and ., but got {name!r}")
    path = folder / f"{name}.yaml"
    if path.exists() and not replace:
        raise ConfigError(f"{path} is there already: give another name, or say --replace")
    values = profile(*texts(run), date.today())
    config.build(Site, values | {"name": name}, f"what Slurm says of {name}")
    text = HEAD.format(name=name, date=values["verified_on"]) + config.to_yaml(values)
    atomic_write(path, lambda file: file.write(text.encode()))
    return path


def texts(run: Run = commands.run) -> tuple[str, str, str]:
    """Return the output of PARTITIONS, NODES and CONFIG."""
    return _ask(run, PARTITIONS), _ask(run, NODES), _ask(run, CONFIG)


HEAD = """\
# Written on {date} by `python -m hpc.launch site refresh {name}`, from scontrol and sinfo: read it and correct it.
# Slurm does not tell: whether an account must be said (account: {{required: true}}), modules (prologue), the disks
# (storage), what is charged (remember), and the limits of your QOS. All keys: docs/sites.md
"""


def profile(partitions: str, nodes: str, settings: str, today: date) -> dict[str, Any]:
    """Return the profile as plain values.

    Parameters
    ----------
    partitions, nodes, settings
        The output of PARTITIONS, NODES and CONFIG.
    """
    parsed = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in partitions.splitlines() if line.strip()]
    up = [part for part in parsed if part.get("State", "UP") == "UP" and "PartitionName" in part]
    if not up:
        raise ConfigError(f"`{' '.join(PARTITIONS)}` names no partition that is up; it says: {partitions.strip()!r}")
    rows = _rows(nodes)
    limits = {part["PartitionName"]: _limits(part, rows.get(part["PartitionName"], [])) for part in up}
    default = next((part["PartitionName"] for part in up if part.get("Default") == "YES"), up[0]["PartitionName"])
    types = sorted({kind for part in limits for _, _, gpus in rows.get(part, []) for kind in gpus} - {""})
    cluster = re.search(r"^ClusterName\s*=\s*(\S+)", settings, re.MULTILINE)
    values: dict[str, Any] = {
        "kind": "slurm",
        "description": f"the Slurm cluster {cluster[1]}" if cluster else "a Slurm cluster",
        "status": "user-observed",
        "verified_on": today.isoformat(),
        "sources": ["scontrol show partition", "sinfo"],
    }
    if cluster:
        values["detect"] = {"cluster_names": [f"^{re.escape(cluster[1])}$"]}
    if len(types) > 1:
        values["remember"] = [f"GPUs here are {', '.join(types)}: name one in gpu_request, gpu:TYPE:{{gpus}}"]
    most_gpus = max(part.get("gpus_per_node", 0) for part in limits.values())
    return values | {
        "partition": default,
        "partitions": limits,
        "max_nodes": max((part["max_nodes"] for part in limits.values() if "max_nodes" in part), default=1),
        "gpus_per_node": 0,
        "max_gpus_per_node": most_gpus,
        "gpu_request": f"--gres=gpu:{types[0]}:{{gpus}}" if len(types) == 1 else "--gres=gpu:{gpus}",
    }


Row = tuple[int, float, dict[str, int]]
"""The nodes of one kind: CPUs, GB of memory, GPUs of each type."""


def _rows(nodes: str) -> dict[str, list[Row]]:
    """Parse the output of sinfo, by partition."""
    rows: dict[str, list[Row]] = {}
    for line in nodes.splitlines():
        partition, _, cpus, mem_mb, gres = line.strip().split("|")
        gpus: dict[str, int] = {}
        for kind, count in re.findall(r"(?:^|,)gpu(?::([A-Za-z][\w.-]*))?:(\d+)", gres):
            gpus[kind] = gpus.get(kind, 0) + int(count)
        rows.setdefault(partition, []).append((_number(cpus), _number(mem_mb) / 1024, gpus))
    return rows


def _limits(part: dict[str, str], rows: list[Row]) -> dict[str, Any]:
    """Return the keys of a Partition that are known; with several kinds of nodes, those of the largest."""
    limits: dict[str, Any] = {}
    if part.get("MaxTime", "UNLIMITED") not in ("UNLIMITED", "INFINITE", "NONE"):
        limits["max_time"] = part["MaxTime"]
    counts = [int(part[key]) for key in ("MaxNodes", "TotalNodes") if part.get(key, "").isdigit()]
    if counts:
        limits["max_nodes"] = min(counts)
    if rows:
        limits["gpus_per_node"] = max(sum(gpus.values()) for _, _, gpus in rows)
        limits["max_cpus_per_node"] = max(cpus for cpus, _, _ in rows)
        limits["max_mem_gb_per_node"] = int(max(mem_gb for _, mem_gb, _ in rows))
    return limits


def _number(text: str) -> int:
    """Parse a number of sinfo, which is `128+` if nodes of a line differ."""
    return int(text.rstrip("+"))


def _ask(run: Run, command: list[str]) -> str:
    answer = run(*command, patience_s=commands.ACT_S)
    if answer.ok:
        return answer.out
    why = answer.error
    if not shutil.which(command[0]):
        why = f"there is no {command[0]} here. Say it on the cluster's login node"
    raise ConfigError(f"cannot ask Slurm with `{' '.join(command)}`: {why}")

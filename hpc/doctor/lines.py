"""From what was seen to the lines of a profile, each with its evidence. Reads nothing and asks nobody."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.doctor import PROBES
from hpc.doctor.looks import Disk
from hpc.doctor.slurm_facts import Facts, time_limit_words
from hpc.media import many

LEAD_S = 120
"""The lead of a profile where the signal comes when it is asked for."""
LATE_S = 5
FASTER = 1.5
"""An interface is worth naming if it is so much faster than that which ranks would take by themselves."""


@dataclass(frozen=True)
class Line:
    """A key of a profile: its value, None where it is left out, and the evidence."""

    key: str
    value: Any
    why: str
    is_guess: bool = False
    """Whether it is ours, and gives way to what somebody has written."""


@dataclass
class Evidence:
    """All that is known of a site."""

    facts: Facts
    seen: dict[str, dict[str, Any]]
    """What each probe has seen, by its name."""
    missing: dict[str, str]
    """Why a probe has seen nothing."""

    def of(self, probe: str) -> dict[str, Any]:
        return self.seen.get(probe, {})

    def job(self, probe: str) -> str:
        """Return the job of a probe as evidence."""
        seen = self.of(probe)
        return f"job {seen.get('job', '?')} on {seen.get('host', '?')}"

    def why_not(self, probe: str) -> str:
        return f"not known, as the probe `{probe}` {'has no result' if probe in self.missing else 'was not made'}"

    @property
    def left_out(self) -> list[str]:
        """Return the probes that nobody has asked for yet."""
        names = [name for name in PROBES if name != "gpus" or self.facts.gpus_per_node]
        return [name for name in names if name not in self.seen and name not in self.missing]

    @property
    def disks(self) -> list[Disk]:
        """Return the disks of the node that has measured them."""
        nodes = self.of("nodes")
        shown = nodes.get("nodes", {}).get(nodes.get("host"), {})
        return [Disk(**each) for each in shown.get("disks", [])]

    @property
    def ways(self) -> list[dict[str, Any]]:
        """Return how each interface of a node was reached from the one before, of all nodes together."""
        return [way for node in self.of("nodes").get("nodes", {}).values() for way in node.get("ways", [])]

    @property
    def is_one_machine(self) -> bool:
        """Whether several nodes are one machine, as on a test bed."""
        return any(node.get("next_is_same_machine") for node in self.of("nodes").get("nodes", {}).values())


def lines(evidence: Evidence, today: str) -> list[Line]:
    """Return the lines of the profile, in the order of the file."""
    facts = evidence.facts
    cluster = facts.setting("ClusterName")
    return [
        Line("kind", "slurm", f"scontrol answers: Slurm {facts.setting('SLURM_VERSION') or 'of an unknown version'}"),
        Line("description", f"the Slurm cluster {cluster}".rstrip(), "ClusterName", is_guess=True),
        Line("status", "user-observed", "seen by hpc doctor, not read in the site's documentation"),
        Line("verified_on", today, "the day of the probes"),
        Line("sources", ["hpc doctor", "scontrol show config", "scontrol show partition", "sinfo"], "what was asked"),
        *_signs(cluster),
        *_account(facts),
        *_partitions(facts),
        *_gpus(evidence),
        *_time(evidence),
        *_network(evidence),
        *_disks(evidence),
        *_rest(evidence),
        *_remarks(evidence),
    ]


def _signs(cluster: str) -> list[Line]:
    names = [f"^{re.escape(cluster)}$"]
    return [Line("detect", {"cluster_names": names}, "ClusterName", is_guess=True)] if cluster else []


def _account(facts: Facts) -> list[Line]:
    if facts.account_required is None:
        return []
    why = "`sbatch --test-only` takes a job without one"
    if facts.account_required:
        why = f"`sbatch --test-only` without one: {facts.account_refusal}"
    return [Line("account", {"required": facts.account_required}, why)]


def _partitions(facts: Facts) -> list[Line]:
    out = [Line("partition", facts.partition, f"the probes ran there{_is_default(facts)}")]
    for name, limits in facts.profile["partitions"].items():
        more: dict[str, Any] = {}
        why = "scontrol show partition, sinfo"
        if name == facts.partition and facts.gpu_only:
            more["gpu_only"] = True
            why += "; sbatch refuses a job without GPUs"
        if facts.partitions[name].get("OverSubscribe") == "EXCLUSIVE":
            more["whole_nodes"] = True
            why += "; OverSubscribe=EXCLUSIVE"
        if (limit := _qos_wall(facts)) and "max_time" not in limits:
            more["max_time"] = limit[1]
            why += f"; MaxWall of the QOS {limit[0]}"
        out.append(Line(f"partitions.{name}", {**limits, **more}, why))
    return [*out, Line("max_nodes", facts.profile["max_nodes"], "the most nodes of a partition")]


def _is_default(facts: Facts) -> str:
    return ", and it is the default" if facts.partitions[facts.partition].get("Default") == "YES" else ""


def _qos_wall(facts: Facts) -> tuple[str, str] | None:
    walls = [(name, limits["MaxWall"]) for name, limits in facts.limits.items() if "MaxWall" in limits]
    return walls[0] if len(walls) == 1 else None


def _gpus(evidence: Evidence) -> list[Line]:
    facts, seen = evidence.facts, evidence.of("gpus")
    most = facts.profile["max_gpus_per_node"]
    out = [
        Line("gpus_per_node", int(facts.gpu_only), "of a job that does not say --gpus; our choice", is_guess=True),
        Line("max_gpus_per_node", most, "sinfo"),
    ]
    if not most:
        return out
    if facts.gpu_refusals:
        taken = [way for way, refusal in facts.gpu_refusals.items() if not refusal]
        refused = [f"{way.format(gpus=1)}: {refusal}" for way, refusal in facts.gpu_refusals.items() if refusal]
        why = f"`sbatch --test-only` takes it{'; it refuses ' + '; '.join(refused) if refused else ''}"
        out.append(Line("gpu_request", (taken or list(facts.gpu_refusals))[0], why if taken else "; ".join(refused)))
    else:
        out.append(Line("gpu_request", facts.profile["gpu_request"], "the types that sinfo shows; not tried"))
    if not seen:
        return [*out, Line("gpu", None, evidence.why_not("gpus"))]
    batch, tasks = seen["batch"], seen.get("tasks", [])
    counts = ", ".join(str(task["n"]) for task in tasks) or "none has answered"
    how = f"{many(seen['asked'], 'GPU')} asked for, the tasks see {counts} ({evidence.job('gpus')})"
    if batch["amd"]:
        return [*out, Line("gpu", "amd", f"/dev/kfd is there; {how}")]
    if batch["nvidia"]:
        return [*out, Line("gpu", "nvidia", f"{many(batch['nvidia'], 'device')} /dev/nvidia*; {how}")]
    return [*out, Line("gpu", "imitated", f"neither /dev/nvidia* nor /dev/kfd is there; {how}; ranks compute on CPUs")]


def _time(evidence: Evidence) -> list[Line]:
    seen, after = evidence.of("signal"), time_limit_words(evidence.facts)
    if not seen:
        return [
            Line(
                "lead", _time_text(LEAD_S), f"ours; {evidence.why_not('signal')}{after and f'. {after}'}", is_guess=True
            )
        ]
    if seen.get("signal") != "SIGUSR2" or seen.get("lead_s") is None:
        return [
            Line(
                "lead",
                _time_text(LEAD_S),
                f"ours: USR2 did not come ({evidence.job('signal')}). {after}",
                is_guess=True,
            )
        ]
    late_s = max(0, seen["asked_s"] - seen["lead_s"])
    lead_s = LEAD_S + (late_s if late_s > LATE_S else 0)
    is_late = lead_s > LEAD_S
    how = (
        f"asked for {seen['asked_s']} s before the end, USR2 came {seen['lead_s']} s before ({evidence.job('signal')})"
    )
    return [Line("lead", _time_text(lead_s), f"{how}. {after}", is_guess=not is_late)]


def _time_text(seconds: int) -> str:
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def _network(evidence: Evidence) -> list[Line]:
    if evidence.of("nodes") and evidence.is_one_machine:
        return [Line("env", {"GLOO_SOCKET_IFNAME": "lo"}, "the nodes are one machine: they have one boot id")]
    if not evidence.ways:
        why = "one node was probed" if evidence.of("nodes") else evidence.why_not("nodes")
        return [Line("fabric", None, f"no way between nodes was tried: {why}")]
    listed = "; ".join(way_text(way) for way in evidence.ways)
    good = [way for way in evidence.ways if not way["error"]]
    first = next((way["mb_s"] for way in good), 0)
    best = max(good, key=lambda way: way["mb_s"], default=None)
    if best and best is not good[0] and best["mb_s"] > FASTER * first:
        return [Line("fabric", re.sub(r"\d+$", "", best["name"]) or best["name"], listed)]
    return [Line("fabric", None, f"no interface is much faster than the first: {listed}")]


def way_text(way: Mapping[str, Any]) -> str:
    mbit = f", says {way['mbit']} Mbit/s" if way.get("mbit") else ""
    rate = way["error"] or f"reached at {way['mb_s']:.0f} MB/s"
    return f"{way['name']} {rate}{mbit}"


def disk_text(disk: Disk) -> str:
    if disk.error:
        return f"{disk.name} = {disk.path}: {disk.error}"
    whose = "shared" if disk.is_shared else "in memory" if disk.in_memory else "the node's own"
    return (
        f"{disk.name} = {disk.path} ({disk.kind or 'unknown'}, {whose}): {disk.mb_s:.0f} MB/s, "
        f"{disk.files_s:.0f} small files/s, {disk.free_gb:g} GB free"
    )


def local_disks(disks: list[Disk]) -> list[Disk]:
    """Return the disks of a node's own on which copies of inputs can lie, the fastest first. Memory is charged to the
    job, so it is not among them; nor is a disk on which the run folders are, which other machines see."""
    writable = [disk for disk in disks[1:] if not disk.error and not _holds(disk.path, disks[0].path)]
    own = [disk for disk in writable if not disk.is_shared and not disk.in_memory]
    in_jobs = [disk for disk in own if disk.name.startswith("$")] or own
    return sorted(in_jobs, key=lambda disk: -disk.mb_s)


def _holds(disk: str, folder: str) -> bool:
    return Path(folder).is_relative_to(disk)


def _disks(evidence: Evidence) -> list[Line]:
    disks = evidence.disks
    if not disks:
        return [Line("storage", None, evidence.why_not("nodes"))]
    shared = [disk for disk in disks[1:] if disk.is_shared and not disk.error]
    own = local_disks(disks)
    rest = [disk for disk in disks if disk not in own and disk not in shared[:1]]
    out = []
    if shared:
        out.append(Line("storage.scratch_shared", shared[0].name, disk_text(shared[0]), is_guess=True))
    if own:
        out.append(
            Line("storage.scratch_local", [disk.name for disk in own], "; ".join(map(disk_text, own)), is_guess=True)
        )
    out += [Line("", None, disk_text(disk)) for disk in rest]
    if not own:
        why = "a node has no disk of its own that a job can write to"
        out.append(Line("stage", "off", why, is_guess=True))
    return out


def _rest(evidence: Evidence) -> list[Line]:
    facts, requeue = evidence.facts, evidence.of("requeue")
    out = []
    if evidence.of("requeue").get("refused"):
        out.append(Line("skip", ["requeue"], f"{evidence.job('requeue')}: {requeue['refused']}"))
    if facts.mpi:
        out.append(Line("mpi", None, f"the site's default; srun --mpi=list has {', '.join(facts.mpi)}"))
    return out


def _remarks(evidence: Evidence) -> list[Line]:
    """Return what was seen and has no key in a profile: comments."""
    python, nodes, requeue = evidence.of("python"), evidence.of("nodes"), evidence.of("requeue")
    remarks: dict[str, str] = {}
    if python:
        torch = python["torch"]
        what = f"torch {torch['version']} imports in {torch['import_s']:g} s" if "version" in torch else torch["error"]
        where = f"{python['prefix']} ({python['on'] or 'unknown'})"
        remarks["Python"] = f"{python['python']} on {python['machine']}, from {where}: {what}, {evidence.job('python')}"
    if requeue:
        remarks["requeue"] = f"{requeue_text(requeue)}, {evidence.job('requeue')}"
    if nodes:
        cores, memory = nodes["cores"], nodes.get("memory") or {}
        if evidence.ways:
            remarks["network"] = "; ".join(map(way_text, evidence.ways))
        remarks["cores"] = f"{cores['machine']} of the node, {cores['given']} given, {cores['usable']} usable"
        if memory:
            end = "lived" if memory.get("survived") else f"was ended: {memory.get('error') or 'without a word'}"
            remarks["memory"] = f"a task with --mem={memory.get('asked_mb')}M took {memory.get('used_mb')} MB and {end}"
        remarks["environment"] = (
            "jobs get that of the submission" if nodes["gets_environment"] else "jobs get none of it"
        )
    return [Line(name, None, text) for name, text in remarks.items()]


def requeue_text(seen: Mapping[str, Any]) -> str:
    if seen.get("refused"):
        return f"refused: {seen['refused']}"
    if "held_s" in seen:
        return f"held for {seen['held_s']} s"
    again = seen.get("again_after_s")
    return "not seen to begin again" if again is None else f"it began again {again:g} s after it had left"

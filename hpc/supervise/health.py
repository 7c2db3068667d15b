"""The nodes of a job, before its first step: which of them is sick, and what shows it.

Each node looks at itself (node_check.py), all at the same time, started as ranks are. What all nodes have in common is
no node's fault, and what could not be looked at is not held against a node.
"""

import errno
import json
import os
import queue
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any, NamedTuple

from hpc.media import many
from hpc.runs.rundir import FULL
from hpc.supervise.node_check import LOOK_S, MARK, Disk, Node, Task

START_S, ANSWER_S = 10.0, LOOK_S + 1.0
"""How long to wait until all nodes have begun, and then for what they see."""
HANDED_BACK = 2
"""A job is handed back so often. After that the fault may be in the looks, so the run goes on whatever they say."""
CLOCK_S, CLOCK_NOTE_S = 30.0, 2.0
"""How far a clock may be off: silence of a rank is told by the clocks of its node and of the supervisor's."""
ROOM_GB = 0.064
"""A disk of a node with less is full."""
MEMORY, ENOUGH = 0.6, 0.9
"""How much of the memory, and of the scratch, that was asked for has to be there."""
SLOW_MB_S, SLOW = 12.0, 20
"""A way between nodes is slow below that, if others are so many times faster. It is that of Ethernet of 100 Mbit."""
OF_NO_NODE = (errno.ENOENT, errno.EACCES, errno.EPERM)
"""A scratch that is not there, or is somebody else's, may be an error of the profile."""


class Finding(NamedTuple):
    what: str
    """What kind it is; if all nodes have it, none of them is sick."""
    sentence: str
    is_certain: bool = True
    """Whether it counts where there is no other node to compare with."""


@dataclass
class Health:
    """sick: why, by node. notes: sentences about what is not as it should be, and makes no node sick."""

    sick: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def look(
    run: Path, plan: Mapping[str, Any], resources: Mapping[str, Any], over: Callable[[], object] = lambda: False
) -> Health:
    """Look at the nodes of this job, and judge. `over`: whether to give up, as a stop is requested."""
    site, n = plan["site"], int(resources["nodes"])
    wanted = {"off": [], "auto": site.get("storage", {}).get("scratch_local", [])}
    task = Task(
        run=str(run.absolute()),
        scratch=list(wanted.get(resources["stage"], [resources["stage"]])),
        account=resources.get("account", ""),
        n_gpus=0 if site.get("gpu") == "imitated" else int(resources["gpus_per_node"]),
        fabric=site.get("fabric", ""),
        secret=secrets.token_hex(16),
        has_peers=n > 1,
    )
    answers = ask("hpc.supervise.node_check", asdict(task), n, over)
    nodes = [Node.from_json(values) for values in answers.nodes.values()]
    offsets = {node.host: (node.sent - answers.heard[node.host], node.received - answers.sent) for node in nodes}
    health = judge(nodes, resources, offsets)
    if len(nodes) < n and not over():
        health.notes.insert(
            0, f"{n - len(nodes)} of {many(n, 'node')} could not be looked at{answers.why and f': {answers.why}'}"
        )
    return health


def command(n_nodes: int, module: str = "hpc.supervise.node_check") -> list[str]:
    """Return the command that starts the looks: by srun, one on each node, or here if this is the only one."""
    look = [sys.executable, "-PBs", "-m", module]
    if n_nodes == 1:
        return look
    return [
        "srun", "--overlap", f"--nodes={n_nodes}", f"--ntasks={n_nodes}", "--ntasks-per-node=1", "--cpus-per-task=1",
        "--cpu-bind=none", "--mpi=none", "--export=ALL", "--wait=0", "--quiet", *look,
    ]  # fmt: skip


class Answers(NamedTuple):
    """What nodes have shown, by their names."""

    nodes: dict[str, dict[str, Any]]
    heard: dict[str, float]
    """When each answered, and when they were told how to reach one another, by the clock of this machine."""
    sent: float
    why: str
    """What was said where some are silent."""


def ask(
    module: str, task: Mapping[str, Any], n_nodes: int, over: Callable[[], object], answer_s: float = ANSWER_S
) -> Answers:
    """Have all nodes look at themselves, by a module that reads and prints as node_check.py does."""
    package = str(Path(__file__).parents[2])
    inherited = os.environ.get("PYTHONPATH", "")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, inherited]))}
    asking = subprocess.Popen(
        command(n_nodes, module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environ, errors="replace",
    )  # fmt: skip
    assert asking.stdin and asking.stdout and asking.stderr
    lines: queue.Queue[tuple[float, str]] = queue.Queue()
    complaints: list[str] = []
    broken = ""
    reading = Thread(target=_read, args=(asking.stdout, lambda line: lines.put((time.time(), line))), daemon=True)
    reading.start()
    complaining = Thread(target=_read, args=(asking.stderr, complaints.append), daemon=True)
    complaining.start()
    hellos: dict[str, dict[str, Any]] = {}
    nodes: dict[str, dict[str, Any]] = {}
    heard: dict[str, float] = {}
    has_peers = bool(task.get("has_peers"))
    until, sent = time.monotonic() + (START_S if has_peers else max(START_S, answer_s)), 0.0
    try:
        _write(asking, task)
        while len(nodes) < n_nodes and not over():
            if has_peers and not sent and (len(hellos) == n_nodes or time.monotonic() > until):
                sent = time.time()
                _write(asking, _ring(list(hellos.values())))
                until = time.monotonic() + answer_s
            # Its end may be seen before its last line is read
            if time.monotonic() > until or (asking.poll() is not None and not reading.is_alive() and lines.empty()):
                break
            with suppress(queue.Empty):
                when, line = lines.get(timeout=0.05)
                for values in _parsed(line):
                    if "port" in values:
                        hellos[values["host"]] = values
                    else:
                        nodes[values["host"]], heard[values["host"]] = values, when
    except OSError as error:  # it has ended: what it has said counts
        broken = str(error)
    finally:
        with suppress(OSError):
            asking.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            asking.wait(1.0)
        if asking.poll() is None:
            asking.terminate()
            with suppress(subprocess.TimeoutExpired):
                asking.wait(1.0)
        if asking.poll() is None:
            asking.kill()
    complaining.join(1.0)  # what it has printed says more than that its pipe is broken
    return Answers(nodes, heard, sent, next((line for line in map(str.strip, complaints) if line), broken))


def _read(stream: Iterable[str], take: Callable[[str], object]) -> None:
    for line in stream:
        take(line)


def _write(process: "subprocess.Popen[str]", values: Mapping[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(values) + "\n")
    process.stdin.flush()


def _parsed(line: str) -> Iterable[dict[str, Any]]:
    """Return what is in a line. Lines of two nodes may have become one."""
    for part in line.split(MARK)[1:]:
        with suppress(ValueError):
            values = json.loads(part)
            if isinstance(values, dict) and isinstance(values.get("host"), str):
                yield values


def _ring(hellos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each node the one that it is to reach, so that each has two ways: one out, one in."""
    ordered = sorted(hellos, key=lambda hello: str(hello["host"]))
    pairs = zip(ordered, [*ordered[1:], *ordered[:1]], strict=True)
    return {str(hello["host"]): dict(following) for hello, following in pairs if len(ordered) > 1}


def judge(
    nodes: Sequence[Node], resources: Mapping[str, Any], offsets: Mapping[str, tuple[float, float]] | None = None
) -> Health:
    """Say which nodes are sick. Reads nothing, and asks nobody."""
    findings = {node.host: [*_disks(node, nodes, resources), *_memory(node, resources), *_gpus(node)] for node in nodes}
    health = Health()
    for host, finding in [*_network(nodes, health.notes), *_clocks(offsets or {}, health.notes)]:
        findings[host].append(finding)
    for node in nodes:
        health.notes += [f"{node.host}: {note}" for note in node.gpu_notes]
        if node.late:
            health.notes.append(f"{node.host}: no answer within {LOOK_S:.1f} s of {', '.join(sorted(node.late))}")
    kinds = dict.fromkeys(finding.what for of_node in findings.values() for finding in of_node)
    for kind in kinds:
        having = {host: one for host, of_node in findings.items() for one in of_node if one.what == kind}
        if len(nodes) > 1 and len(having) == len(nodes):
            health.notes.append(f"all {len(nodes)} nodes: {next(iter(having.values())).sentence}")
            continue
        for host, finding in having.items():
            if len(nodes) > 1 or finding.is_certain:
                health.sick[host] = (
                    f"{health.sick[host]}; {finding.sentence}" if host in health.sick else finding.sentence
                )
            else:
                health.notes.append(f"{host}: {finding.sentence}")
    return health


def sentence(sick: Mapping[str, str]) -> str:
    """Return one sentence with the evidence."""
    return "; ".join(f"{host} is sick: {why}" for host, why in sick.items())


def _disks(node: Node, nodes: Sequence[Node], resources: Mapping[str, Any]) -> Iterable[Finding]:
    for disk in node.disks:
        is_shared = disk.what == "the run folder"
        if disk.errno in FULL and is_shared:  # nobody's fault but the quota's
            continue
        if disk.error:
            # A scratch may have another path on each node
            certain = is_shared or disk.errno not in OF_NO_NODE
            yield Finding(_kind(disk), f"it cannot write to {disk.what} {disk.path} ({disk.error})", certain)
        elif not is_shared and disk.free_gb < max(ROOM_GB, ENOUGH * (asked_gb := _asked_gb(disk, resources))):
            asked = f", where {asked_gb:g} were asked for" if asked_gb else ""
            yield Finding(_kind(disk), f"{disk.what} {disk.path} has {disk.free_gb:.2f} GB free{asked}")


def _kind(disk: Disk) -> str:
    return disk.what if disk.what == "its scratch" else disk.path


def _asked_gb(disk: Disk, resources: Mapping[str, Any]) -> float:
    return float(resources.get("scratch_gb") or 0) if disk.what == "its scratch" else 0.0


def _memory(node: Node, resources: Mapping[str, Any]) -> Iterable[Finding]:
    asked_gb = float(resources.get("mem_gb") or 0)
    if node.available_gb is None or node.total_gb is None or node.total_gb < asked_gb:
        return  # not Linux; or a node that says to have more than it has, as those of the bed
    if node.available_gb < MEMORY * asked_gb:
        yield Finding(
            "memory",
            f"{node.available_gb:.1f} GB of its memory are free, where {asked_gb:g} were asked for: something else "
            "takes it",
        )


def _gpus(node: Node) -> Iterable[Finding]:
    if node.gpu_faults:
        yield Finding("GPUs", "; ".join(node.gpu_faults))


def _network(nodes: Sequence[Node], notes: list[str]) -> Iterable[tuple[str, Finding]]:
    """A node is sick whose two ways are bad while another is good. One bad way alone does not say which of its ends."""
    for node in nodes:
        if node.fabric_error:
            yield node.host, Finding("fabric", node.fabric_error)
    ways = {(node.host, node.peer.host): node.peer for node in nodes if node.peer}
    fastest = max((peer.mb_s for peer in ways.values()), default=0.0)
    bad = {
        pair: peer.error or f"{peer.mb_s:.1f} MB/s, where others have {fastest:.0f}"
        for pair, peer in ways.items()
        if peer.error or (peer.mb_s < SLOW_MB_S and fastest > SLOW * peer.mb_s)
    }
    blamed = set()
    for host in sorted({host for pair in ways for host in pair}):
        own = [pair for pair in ways if host in pair]
        is_bad = len(ways) > 2 and len(own) > 1 and all(pair in bad for pair in own) and len(bad) < len(ways)
        if is_bad and any(node.host == host for node in nodes):
            blamed.add(host)
            whys = [f"{'to' if pair[0] == host else 'from'} {_other(pair, host)} {bad[pair]}" for pair in own]
            yield host, Finding("network", f"it is not reached at speed over the network: {', '.join(whys)}")
    notes += [
        f"the network from {one} to {other}: {why}" for (one, other), why in bad.items() if not {one, other} & blamed
    ]


def _other(pair: tuple[str, str], host: str) -> str:
    return pair[1] if pair[0] == host else pair[0]


def _clocks(offsets: Mapping[str, tuple[float, float]], notes: list[str]) -> Iterable[tuple[str, Finding]]:
    """Each clock is ahead by something between two limits, as far as messages tell; only what is certain counts."""
    if len(offsets) < 2:
        return
    usual_s = median((low + high) / 2 for low, high in offsets.values())
    for host, (low, high) in offsets.items():
        off_s = max(low - usual_s, usual_s - high, 0.0)
        how = f"its clock is {off_s:.0f} s {'ahead' if low > usual_s else 'behind'} of the other nodes'"
        if off_s > CLOCK_S and len(offsets) > 2:
            yield host, Finding("clock", how)
        elif off_s > CLOCK_NOTE_S:
            notes.append(f"{host}: {how}")

"""What a run asks of the shared disk: operations on names and bytes a second, measured, and for 8, 64 and 512 ranks.

A real training on 2, 4 and 8 ranks (--quick: 2 and 4) runs under strace, as on a cluster: with heartbeats every 10 s.
Counted is what the ranks and the supervisor do in the run folder once it is under way; docs/scale.md has the formulas.
It needs strace.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.compare import Goal, PeerMissing, judged

ROOT = Path(__file__).parent.parent
RANK, SUPERVISOR, WATCHER = "rank", "supervisor", "hpc --follow"
PROGRAMS = {"hpc.worker": RANK, "hpc.supervisor": SUPERVISOR, "hpc.launch": WATCHER}
NAMES = {
    "open": "open", "openat": "open", "creat": "open", "stat": "stat", "lstat": "stat", "newfstatat": "stat",
    "statx": "stat", "access": "stat", "faccessat": "stat", "faccessat2": "stat", "readlink": "stat",
    "readlinkat": "stat", "statfs": "stat", "rename": "rename", "renameat": "rename", "renameat2": "rename",
    "unlink": "unlink", "unlinkat": "unlink", "rmdir": "unlink", "mkdir": "mkdir", "mkdirat": "mkdir",
    "getdents64": "list", "truncate": "truncate", "utimensat": "utime", "chmod": "chmod", "fchmodat": "chmod",
}  # fmt: skip
"""Calls that go by a name: on a shared disk each is a request to the one server that knows the names."""
DATA = (
    "read",
    "pread64",
    "preadv",
    "write",
    "pwrite64",
    "pwritev",
    "fsync",
    "fdatasync",
    "fstat",
    "ftruncate",
    "close",
)
TRACED = ",".join((*NAMES, *DATA, "execve", "clone", "clone3", "fork", "vfork"))
LINE = re.compile(r"^(\d+) +(\d+\.\d+) (?:<\.\.\. )?(\w+)(.*)$")
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"|<(/[^>]*)>')
STUDY = """
synthesize: {n_subjects: 2, n_pieces: 5, piece_s: [4, 6], n_channels: 8}
preprocess: {study: synthesize}
train:
  data: preprocess
  model: {hidden: 8}
  windows: {length_s: 2, batch: 8}
  optim: {steps: 10000000, validate_every: 10000000, checkpoint_every: 10000000}
"""
SITE = "kind: local\nmax_nodes: 64\nlead: 10s\nheartbeat: 10s\n"
"""The machine here, with a run folder that many nodes share."""
START_S = 300.0
WARM_S = 75.0
"""After a minute heartbeats are as seldom as they become."""


PARTS = {
    "heartbeats": r"heartbeat/node-|identity\.json|jobs/attempt-\d+$",
    "metrics": r"metrics\.jsonl|tensorboard/",
}
"""What ranks do with which files; the rest is named `else`."""
PER_NODE = 8
"""Ranks of a node in the formulas."""
SIZES = (8, 64, 512)
N_RUNS = 1000
LOGS = 128
"""For so many ranks the supervisor looks at one log more each time (hpc/supervise/ranks.py)."""
MOST = 1.0


@dataclass
class Counts:
    """What the processes of one kind did in the run folder during the window."""

    calls: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    """Operations on names, by call and file."""
    parts: Counter[str] = field(default_factory=Counter)
    """The same by PARTS."""
    bytes: int = 0


@dataclass(frozen=True)
class Measured:
    n_ranks: int
    seconds: float
    steps: int
    of: Mapping[str, Counts]

    def per_s(self, who: str, part: str = "") -> float:
        """Operations on names a second, of all processes of a kind together."""
        parts = self.of[who].parts
        return (parts[part] if part else parts.total()) / self.seconds


@dataclass(frozen=True)
class Load:
    """Operations on names a second of a run of any size. Ranks write through one of their node; the supervisor and the
    first rank, which writes the metrics, are on one node."""

    node: float
    once: float
    supervisor: float
    logs: float

    @classmethod
    def of(cls, measured: Measured) -> "Load":
        look_s = measured.seconds / max(1, measured.of[SUPERVISOR].names["open heartbeat/supervisor.json"])
        return cls(
            node=measured.per_s(RANK, "heartbeats"),
            once=measured.per_s(RANK, "metrics") + measured.per_s(RANK, "else"),
            supervisor=measured.per_s(SUPERVISOR),
            logs=1 / look_s,
        )

    def run(self, n_ranks: int) -> float:
        return self.node * -(-n_ranks // PER_NODE) + self.busiest(n_ranks) - self.node

    def busiest(self, n_ranks: int) -> float:
        """Of the node of the first rank."""
        return self.node + self.once + self.supervisor + self.logs * (n_ranks // LOGS)


def run(quick: bool) -> bool:
    if shutil.which("strace") is None:
        raise PeerMissing("strace is not installed: apt-get install strace")
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        prepare(folder)
        sizes, window_s = ((2, 4), 60.0) if quick else ((2, 4, 8), 120.0)
        measured = [measure(folder, n_ranks, WARM_S, window_s) for n_ranks in sizes]
    for one in measured:
        show(one)
    return _formulas(measured)


def _formulas(measured: Sequence[Measured]) -> bool:
    """Print what the counts mean for runs of any size, and judge that."""
    load = Load.of(measured[-1])
    print(f"\noperations on names a second, {PER_NODE} ranks a node")
    print(f"{'ranks':>6} {'nodes':>6} {'the run':>9} {'a node':>8} {'busiest':>8} {f'{N_RUNS} runs':>10}")
    for n_ranks in SIZES:
        n_nodes = n_ranks // PER_NODE
        of_run = load.run(n_ranks)
        print(
            f"{n_ranks:>6} {n_nodes:>6} {of_run:>9.2f} {of_run / n_nodes:>8.2f} {load.busiest(n_ranks):>8.2f} "
            f"{of_run * N_RUNS:>10.0f}"
        )
    few, many = (one.per_s(RANK, "heartbeats") for one in (measured[0], measured[-1]))
    goals = {f"names_a_second_a_node_of_{n}": Goal(load.run(n) * PER_NODE / n, MOST) for n in SIZES}
    goals[f"heartbeats_of_{measured[-1].n_ranks}_over_2_ranks"] = Goal(many / few, 1.5)
    return judged(goals)


def prepare(folder: Path, root: Path = ROOT, site: str = SITE) -> None:
    """Make a study and the store that the trainings read."""
    (folder / "study.yaml").write_text(STUDY)
    (folder / "configs/site").mkdir(parents=True)
    (folder / "configs/site/local.yaml").write_text(site)
    for stage in ("synthesize", "preprocess"):
        subprocess.run(
            [sys.executable, "-m", "hpc.launch", stage, "study.yaml", "--on", "local"],
            cwd=folder, env=_environ(root), stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip


def measure(folder: Path, n_ranks: int, warm_s: float, window_s: float, root: Path = ROOT) -> Measured:
    """Trace a training on so many ranks, from `warm_s` after its first step for `window_s`."""
    trace, name = folder / f"trace-{n_ranks}", f"scale-{n_ranks}"
    command = [
        "strace", "-f", "--seccomp-bpf", "-qq", "-ttt", "-y", "-s", "300", "-e", f"trace={TRACED}", "-o", str(trace),
        sys.executable, "-m", "hpc.launch", "train", "study.yaml", "--on", "local", "--ranks", str(n_ranks),
        "--name", name, f"seed={n_ranks}",
    ]  # fmt: skip
    earlier = set(_metrics(folder))
    with open(folder / f"log-{n_ranks}", "w") as log:
        launched = subprocess.Popen(command, cwd=folder, env=_environ(root), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not (metrics := [path for path in _metrics(folder) if path not in earlier and path.stat().st_size]):
            if launched.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no step within {START_S:.0f} s:\n{(folder / f'log-{n_ranks}').read_text()}")
            time.sleep(0.5)
        time.sleep(warm_s)
        began, first = time.time(), _last_step(metrics[0])
        time.sleep(window_s)
        ended, last = time.time(), _last_step(metrics[0])
    finally:
        stop = [sys.executable, "-m", "hpc.launch", "stop", name]
        subprocess.run(stop, cwd=folder, env=_environ(root), stdout=subprocess.DEVNULL, check=False)
        try:
            launched.wait(120)
        except subprocess.TimeoutExpired:
            subprocess.run([*stop, "--now"], cwd=folder, env=_environ(root), stdout=subprocess.DEVNULL, check=False)
            launched.wait(60)
    with open(trace, errors="replace") as lines:
        return Measured(n_ranks, ended - began, last - first, counted(lines, folder, began, ended))


def counted(lines: Iterable[str], folder: Path, began: float, ended: float) -> dict[str, Counts]:
    """Count what each kind of process did below a folder, from the lines of strace."""
    programs: dict[str, str] = {}
    of = {kind: Counts() for kind in PROGRAMS.values()}
    writing: set[str] = set()
    for pid, when, call, rest in _parsed(lines):
        if call == "execve":
            programs[pid] = next(
                (kind for word, kind in PROGRAMS.items() if f'"{word}"' in rest), programs.get(pid, "")
            )
        elif call in ("clone", "clone3", "fork", "vfork"):
            if child := re.search(r"= (\d+)", rest):
                # A child of vfork has become another program before its parent goes on
                programs.setdefault(child[1], programs.get(pid, ""))
        elif began <= when <= ended and (counts := of.get(programs.get(pid, ""))):
            if rest.startswith(" resumed>"):
                if pid in writing:
                    writing.discard(pid)
                    counts.bytes += _result(rest)
                continue
            path = _path(call, rest)
            if not path.startswith(f"{folder}/"):
                continue
            kind = NAMES.get(call, call)
            if call == "newfstatat" and ', "",' in rest:
                kind = "fstat"
            counts.calls[kind] += 1
            if kind in NAMES.values():
                file = path.removeprefix(f"{folder}/").partition("/")[2].partition("/")[2]  # without runs/train-…
                counts.names[f"{kind} {_plain(file)}"] += 1
                counts.parts[next((part for part, files in PARTS.items() if re.search(files, file)), "else")] += 1
            if call in ("read", "pread64", "preadv", "write", "pwrite64", "pwritev"):
                if "<unfinished" in rest:
                    writing.add(pid)
                else:
                    counts.bytes += _result(rest)
    return of


def show(measured: Measured) -> None:
    steps = measured.steps / measured.seconds
    print(f"\n{measured.n_ranks} ranks on one node, {measured.seconds:.0f} s of {steps:.1f} steps a second")
    print(f"{'':<24} {'names/s':>8} {'bytes/s':>8}")
    rows = {f"ranks, {part}": measured.per_s(RANK, part) for part in (*PARTS, "else")}
    for row, per_s in rows.items():
        print(f"{row:<24} {per_s:>8.2f}")
    for who, counts in measured.of.items():
        title = "ranks, together" if who == RANK else who
        print(f"{title:<24} {measured.per_s(who):>8.2f} {counts.bytes / measured.seconds:>8.0f}")
    for who, counts in measured.of.items():
        calls = ", ".join(f"{name} {n}" for name, n in counts.names.most_common(7))
        print(f"  {who}: {calls}")


def _plain(file: str) -> str:
    """Return a name without host and number, so that like ones are counted together."""
    return re.sub(r"(\.supervisor\.json|events\.out\.tfevents)\..*", r"\1", re.sub(r"\d\d+", "#", file))


def _parsed(lines: Iterable[str]) -> Iterator[tuple[str, float, str, str]]:
    for line in lines:
        if match := LINE.match(line):
            yield match[1], float(match[2]), match[3], match[4]


def _path(call: str, rest: str) -> str:
    """Return the path that a call is about: that of its file descriptor, or a name below it."""
    first = PATH.search(rest)
    if first is None:
        return ""
    path = first[1] or first[2] or ""
    is_folder = first[2] and rest[first.end() :].startswith(', "')
    name = PATH.search(rest, first.end()) if is_folder and call in NAMES else None
    return os.path.join(path, name[1]) if name and name[1] else path


def _result(rest: str) -> int:
    found = re.search(r"\) = (\d+)", rest)
    return int(found[1]) if found else 0


def _metrics(folder: Path) -> list[Path]:
    return list(folder.glob("runs/train-*/metrics.jsonl"))


def _last_step(metrics: Path) -> int:
    return len(metrics.read_bytes().splitlines())


def _environ(root: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

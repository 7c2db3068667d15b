"""What runs ask of a cluster that others share: files, RPCs of Slurm's controller, names of the shared disk.

For one run, for sweeps of 200 and 500 runs (--quick: of 40), and for `status` of 1,000 runs, on the test bed. RPCs are
counted by the controller (sdiag), operations on names by strace, or, where that is not installed, in a steady state
by the formulas of docs/scale.md alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bench import scale
from bench.compare import Goal, PeerMissing, judged
from bench.recovery import _bed, say
from hpc.runs.rundir import RunDir

ROOT = Path(__file__).parent.parent
PACKAGE = {
    "tiny/__init__.py": '''"""A stage with one step and one file."""

import time
from dataclasses import dataclass

from hpc.rank.context import Context


@dataclass(frozen=True)
class Tiny:
    n: int = 1
    seconds: float = 0.0


def tiny(cfg: Tiny, ctx: Context) -> dict[str, object]:
    """Wait."""
    until = time.monotonic() + cfg.seconds
    while time.monotonic() < until and not ctx.should_stop():
        ctx.progress("wait", 0, 1)
        time.sleep(0.2)
    (ctx.out / "n.txt").write_text(str(cfg.n))
    return {"n": cfg.n}
''',
    "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
    "tiny-1.dist-info/entry_points.txt": "[hpc.stages]\ntiny = tiny:tiny\n",
}
OF_DAEMONS = re.compile(
    r"NODE_REGISTRATION|EPILOG|COMPLETE_|PING|LAUNCH|PROLOG|STATS_INFO|PERSIST|ACCOUNTING|UPDATE_NODE|BATCH_SCRIPT|"
    r"RECONFIGURE|NODE_INFO|PARTITION_INFO|HEALTH"
)
"""RPCs between Slurm's own daemons, and those of this benchmark and of the bed."""
MOST_RUN, MOST_CODE, MOST_RPCS, MOST_NAMES = 12, 30, 0.2, 1.0
MOST_STATUS_RPCS = 2


def run(quick: bool) -> bool:
    if shutil.which("sdiag") is None:
        raise PeerMissing("no Slurm is installed here: env/bed install")
    goals: dict[str, Goal] = {}
    with tempfile.TemporaryDirectory(prefix="quiet-") as name:
        folder = Path(name)
        for file, text in PACKAGE.items():
            (folder / "package" / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / "package" / file).write_text(text)
        with _bed(folder):
            os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{folder / 'package'}"
            goals |= one_run(folder / "one", 60.0 if quick else 240.0)
            for n in (40,) if quick else (200, 500):
                goals |= sweep(folder / f"sweep-{n}", n)
            goals |= status(folder / "status", 1000)
        if shutil.which("strace"):
            goals |= steady_state(folder / "steady", 60.0 if quick else 120.0)
        else:
            print("strace is not installed (apt-get install strace): operations on names are not counted", flush=True)
    return judged(goals)


def one_run(folder: Path, window_s: float) -> dict[str, Goal]:
    """One job, from its submission to its end, and in a window of its steady state."""
    say("one run")
    folder.mkdir()
    _reset()
    _hpc(folder, "tiny", f"seconds={window_s + 30:g}", "--on", "bed", "--time", "24:00:00")
    (path,) = (path.parent for path in folder.glob("runs/*/plan.json"))
    started = _rpcs_after(lambda: _until(lambda: any(path.glob("heartbeat/node-*")), "the run begins"))
    _reset()
    time.sleep(window_s)
    steady = _rpcs()
    n_while = _n_inodes(path)
    _until(RunDir(path).result.exists, "the run ends")
    _until(lambda: not (path / "heartbeat").exists(), "the run has few files")
    time.sleep(2.0)  # what submitit writes after the end
    (copy,) = (folder / "runs/.code").glob("[!.]*")
    per_min = steady.total() / window_s * 60
    print(f"\none run: {_named(started)} to start it; {_named(steady)} in {window_s:.0f} s of work")
    print(f"  {n_while} inodes while it runs, {_n_inodes(path)} when it has finished: {_names_in(path)}")
    print(f"  {_n_inodes(copy)} inodes of its code, {_n_bytes(copy) / 1e6:.1f} MB")
    return {
        "rpcs_a_minute": Goal(per_min, MOST_RPCS),
        "inodes_of_a_tiny_run": Goal(_n_inodes(path), MOST_RUN),
        "inodes_of_a_code_version": Goal(_n_inodes(copy), MOST_CODE),
    }


def sweep(folder: Path, n: int) -> dict[str, Goal]:
    """A sweep: its submission, held so that its runs ask for nothing meanwhile, and a few of them to their end."""
    say(f"a sweep of {n} runs")
    folder.mkdir()
    _reset()
    began = time.monotonic()
    _hpc(folder, "sweep", "tiny", f"n=1..{n}", "--on", "bed", "--max-parallel", "4", "--sbatch", "--hold")
    took_s = time.monotonic() - began
    submitted = _rpcs()
    _reset()
    looked = _rpcs_after(lambda: _hpc(folder, "status"))
    jobs = subprocess.run(["squeue", "-h", "-o", "%F"], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["scontrol", "release", *sorted(set(jobs))], check=True)
    paths = sorted(path.parent for path in folder.glob("runs/*/plan.json"))
    queued = sum(map(_n_inodes, paths)) / n
    _until(lambda: sum(1 for path in paths if (path / "result.json").exists()) >= 8, "eight runs are finished")
    _hpc(
        folder,
        "stop",
        *(path.name for path in paths if not (path / "result.json").exists()),
        "--now",
        "--yes",
        ok=False,
    )
    _until(lambda: _n_jobs() == 0, "the queue is empty")
    finished = [path for path in paths if (path / "result.json").exists() and not (path / "heartbeat").exists()]
    mean = sum(map(_n_inodes, finished)) / max(1, len(finished))
    others = sum(_n_inodes(place) for place in (folder / "runs").glob(".[!c]*"))
    print(f"\na sweep of {n}: {took_s:.1f} s and {_named(submitted)} to submit it, {_named(looked)} for `status`")
    print(f"  inodes a run: {queued:.1f} queued, {mean:.1f} finished (of {len(finished)}); {others} for all of them")
    return {
        f"rpcs_to_submit_{n}": Goal(submitted.total(), 20),
        f"inodes_of_each_of_{n}": Goal(mean, MOST_RUN),
    }


def status(folder: Path, n: int) -> dict[str, Goal]:
    """`status` of so many runs, of which half have finished and half wait in the queue as an array."""
    say(f"status of {n} runs")
    folder.mkdir()
    _hpc(folder, "tiny", "--on", "bed", "--follow")
    (done,) = (path.parent for path in folder.glob("runs/*/result.json"))
    _until(lambda: not (done / "heartbeat").exists(), "the run has few files")
    for number in range(1, n // 2):
        shutil.copytree(done, done.with_name(f"tiny-{number:08d}"), symlinks=True)
    words = ["sweep", "tiny", f"n=2..{n // 2 + 1}", "--on", "bed", "--sbatch", "--hold"]
    _hpc(folder, *words)
    _reset()
    began = time.monotonic()
    _hpc(folder, "status")
    took_s = time.monotonic() - began
    rpcs = _rpcs()
    names = _names_of(folder, "status") if shutil.which("strace") else 0.0
    subprocess.run(["scancel", "--me"], check=False)
    print(f"\nstatus of {n} runs: {took_s:.2f} s, {_named(rpcs)}, {names / n:.1f} operations on names a run")
    return {
        f"rpcs_of_status_of_{n}": Goal(rpcs.total(), MOST_STATUS_RPCS),
        "names_a_run_of_status": Goal(names / n, 12),
    }


def steady_state(folder: Path, window_s: float) -> dict[str, Goal]:
    """Operations on names of the node of the first rank, with eight ranks a node."""
    say("a training under strace")
    folder.mkdir()
    scale.prepare(folder)
    measured = scale.measure(folder, 2, scale.WARM_S, window_s)
    scale.show(measured)
    return {"names_a_second_and_node": Goal(scale.Load.of(measured).busiest(scale.PER_NODE), MOST_NAMES)}


# ------------------------------------------------------------------------------------------------------------ counting


def _hpc(folder: Path, *words: str, ok: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hpc.launch", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if ok and done.returncode:
        raise RuntimeError(f"hpc {' '.join(words)} gave {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _reset() -> None:
    subprocess.run(["sdiag", "--reset"], check=True, capture_output=True)


def _rpcs() -> Counter[str]:
    """Return what users' commands have asked of the controller since it was reset."""
    text = subprocess.run(["sdiag"], check=True, capture_output=True, text=True).stdout
    by_kind = text.partition("by message type")[2].partition("by user")[0]
    kinds = re.findall(r"^\s+([A-Z_]+)\s+\(\s*\d+\)\s+count:(\d+)", by_kind, re.MULTILINE)
    return Counter({kind: int(n) for kind, n in kinds if not OF_DAEMONS.search(kind)})


def _rpcs_after(act: Callable[[], object]) -> Counter[str]:
    act()
    return _rpcs()


def _n_jobs() -> int:
    return len(subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout.splitlines())


def _until(condition: Callable[[], object], what: str, patience_s: float = 300.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited for {patience_s:.0f} s until {what}")
        time.sleep(0.5)


def _names_of(folder: Path, *words: str) -> int:
    """Count the operations on names of a line of ours in a folder."""
    trace = folder / "trace"
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-ttt", "-y", "-s", "300", "-e", f"trace={scale.TRACED}"]
    subprocess.run(
        [*command, "-o", str(trace), sys.executable, "-m", "hpc.launch", *words],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with open(trace, errors="replace") as lines:
        return scale.counted(_absolute(lines, folder), folder, 0.0, 1e12)[scale.WATCHER].parts.total()


def _absolute(lines: Iterable[str], folder: Path) -> Iterable[str]:
    """`status` names what it opens from the folder in which it was given."""
    return (line.replace('"runs', f'"{folder}/runs') for line in lines)


def _n_inodes(folder: Path) -> int:
    return 1 + sum(len(folders) + len(names) for _, folders, names in os.walk(folder))


def _n_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*"))


def _names_in(folder: Path) -> str:
    return ", ".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))


def _named(rpcs: Mapping[str, int]) -> str:
    kinds = json.dumps({kind.removeprefix("REQUEST_").lower(): n for kind, n in rpcs.items()})
    return f"{sum(rpcs.values())} RPCs {kinds if rpcs else ''}".rstrip()

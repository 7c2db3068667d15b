"""How long a command line takes to answer: ours, bare Python as the limit, and what an eager import would cost.

And what it costs to submit a hundred runs as one array, beside sbatch alone with an array of a hundred: on a Slurm, as
the bed's (`eval "$(env/bed start)"`); without one that part is left out, and says so.
"""

import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.compare import Goal, PeerMissing, ratio, rounds, show

if TYPE_CHECKING:
    from hpc.plan.plan import Plan

OURS, BARE, EAGER = "hpc.launch --help", "bare python", "import torch, mne, submitit"
STATUS = "hpc.launch status of 100 runs"
DRY_RUN = "hpc.launch train --dry-run"
SUBMIT, SBATCH = "submit 100 runs as an array", "sbatch --array=0-99"
STUDY = """
synthesize: {n_subjects: 3, n_pieces: 4, piece_s: [4, 6], n_channels: 4}
preprocess: {study: synthesize}
train: {data: preprocess, windows: {length_s: 2, batch: 8}}
"""
EXAMPLE = Path(__file__).parent.parent / "tests/hpc/example"


def run(quick: bool) -> bool:
    torchrun = shutil.which("torchrun", path=str(Path(sys.executable).parent))
    if torchrun is None:
        raise PeerMissing("torchrun is not installed: env/setup.sh cpu")
    with tempfile.TemporaryDirectory() as folder:
        _hundred_runs(Path(folder))
        launch = [sys.executable, "-m", "hpc.launch"]
        seconds = rounds(
            {
                OURS: _command(*launch, "--help", cwd=folder),
                STATUS: _command(*launch, "status", cwd=folder),
                DRY_RUN: dry_run(Path(folder) / "training"),
                BARE: _command(sys.executable, "-c", "pass", cwd=folder),
                EAGER: _command(sys.executable, "-c", EAGER, cwd=folder),
                "torchrun --help": _command(torchrun, "--help", cwd=folder),
            },
            n=5 if quick else 15,
        )
    goals = {
        "help_over_bare_python": Goal(ratio(seconds, OURS, BARE), 3),
        "status_of_100_over_bare_python": Goal(ratio(seconds, STATUS, BARE), 3),
        "eager_import_over_help": Goal(ratio(seconds, EAGER, OURS), 50, at_least=True),
        "eager_import_over_status": Goal(ratio(seconds, EAGER, STATUS), 50, at_least=True),
    }
    reached = show("start-up", seconds, BARE, goals)
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode != 0:
        print('\nsubmission: left out, no Slurm answers here; on the bed: eval "$(env/bed start)"')
        return reached
    return _submission(3 if quick else 10) and reached


def dry_run(folder: Path) -> Callable[[], object]:
    """Of a training, in a new folder with the study and the store that the plan looks at."""
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)

    def launch(*words: str) -> Callable[[], object]:
        return _command(sys.executable, "-m", "hpc.launch", *words, cwd=str(folder))

    for stage in ("synthesize", "preprocess"):
        launch(stage, "study.yaml", "--on", "local")()
    return launch("train", "study.yaml", "--on", "bed", "--dry-run")


def _hundred_runs(folder: Path) -> None:
    """One real run, and 99 folders like it."""
    _command(sys.executable, "-m", "hpc.launch", "count", "n=3", "--on", "local", cwd=str(folder))()
    (run,) = (path.parent for path in folder.glob("runs/*/plan.json"))
    for number in range(99):
        shutil.copytree(run, run.with_name(f"{run.name}-{number + 2}"), symlinks=True)


def _submission(n: int) -> bool:
    """All of ours between the plans and the job ids: run folders, scripts, pickles, notes; sbatch alone is beside it.

    What 400 new files cost depends on the disk, so both: in memory, which is our own time, and on the disk here. The
    copy of the code is there already, as in all but the first launch of a version.
    """
    sys.path.insert(0, str(EXAMPLE))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, tempfile.TemporaryDirectory(dir=Path.cwd()) as disk:
        there = [_hundred_plans(memory, number) for number in range(n + 1)]
        here = [_hundred_plans(disk, number) for number in range(n + 1)]
        seconds = rounds(
            {
                SUBMIT: lambda: _array(there.pop()),
                f"{SUBMIT}, on this disk": lambda: _array(here.pop()),
                SBATCH: lambda: _bare_array(disk),
            },
            n,
        )
    client = statistics.median(a - b for a, b in zip(seconds[SUBMIT], seconds[SBATCH], strict=True))
    return show("submission", seconds, SBATCH, {"client_seconds_for_100_runs": Goal(client, 0.1)})


def _hundred_plans(folder: str, number: int) -> "list[Plan]":
    """Of runs that are not there yet. Their jobs start held, so that they do not keep the machine busy."""
    from hpc.plan import plan, snapshot
    from hpc.site import allocation

    where = dataclasses.replace(allocation.load("bed"), directives={"hold": ""})
    resources = allocation.fit(where, allocation.Request())
    code = tuple(snapshot.look(["hpc"]))
    words = [f"n={100 * number + 1}..{100 * number + 100}"]
    return [
        plan.Plan(
            science=science,
            sources=(),
            site=where,
            resources=resources,
            code=code,
            runs=f"{folder}/runs",
            cwd=folder,
            python=sys.executable,
        )
        for science, _ in plan.sweep("count", {}, words)
    ]


def _array(plans: "list[Plan]") -> None:
    from hpc.submit import executors

    jobs = executors.slurm_array(plans, [], None)
    subprocess.run(["scancel", jobs[0].partition("_")[0]], check=True)


def _bare_array(folder: str) -> None:
    words = ["sbatch", "--parsable", "--hold", "--array=0-99", "--wrap=true", "--output=/dev/null", f"--chdir={folder}"]
    job = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["scancel", job], check=True)


def _command(*words: str, cwd: str) -> Callable[[], object]:
    # As a user has it: with compiled modules kept
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPATH"] = str(EXAMPLE)
    return lambda: subprocess.run(words, cwd=cwd, env=environ, stdout=subprocess.DEVNULL, check=True)

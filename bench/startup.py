"""How long a command line takes to answer: ours, bare Python as the limit, and what an eager import would cost."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.compare import Goal, PeerMissing, ratio, rounds, show

OURS, BARE, EAGER = "hpc.launch --help", "bare python", "import torch, mne, submitit"


def run(quick: bool) -> bool:
    torchrun = shutil.which("torchrun", path=str(Path(sys.executable).parent))
    if torchrun is None:
        raise PeerMissing("torchrun is not installed: env/setup.sh cpu")
    with tempfile.TemporaryDirectory() as empty:
        seconds = rounds(
            {
                OURS: _command(sys.executable, "-m", "hpc.launch", "--help", cwd=None),
                "hpc.launch status": _command(sys.executable, "-m", "hpc.launch", "status", "--runs", empty, cwd=None),
                BARE: _command(sys.executable, "-c", "pass", cwd=empty),
                EAGER: _command(sys.executable, "-c", EAGER, cwd=empty),
                "torchrun --help": _command(torchrun, "--help", cwd=empty),
            },
            n=5 if quick else 15,
        )
    goals = {
        "help_seconds": Goal(statistics.median(seconds[OURS]), 0.3),
        "help_over_bare_python": Goal(ratio(seconds, OURS, BARE), 3),
        "eager_import_over_help": Goal(ratio(seconds, EAGER, OURS), 50, at_least=True),
    }
    return show("start-up", seconds, BARE, goals)


def _command(*words: str, cwd: str | None) -> Callable[[], object]:
    # As a user has it: with compiled modules kept
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run(words, cwd=cwd, env=environ, stdout=subprocess.DEVNULL, check=True)

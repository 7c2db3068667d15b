"""The test bed is a real Slurm that comes and goes without a trace. Skipped when a site of your own is tested."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.rundir import RunDir, committed_steps, read_lines
from tests.conftest import ROOT, Launch
from tests.slurm.test_runs import only_run, wait_for

pytestmark = pytest.mark.slurm
BED = [sys.executable, str(ROOT / "env/bed")]


@pytest.fixture
def beds(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """An empty list for the folders of beds that a test starts; they are ended after it."""
    if request.config.getoption("--site"):
        pytest.skip("--site names a Slurm of your own")
    request.getfixturevalue("slurm")  # skips, or fails when Slurm is required and missing
    started: list[str] = []
    yield started
    for folder in started:
        subprocess.run([*BED, "stop", folder], check=True, capture_output=True)


def start(beds: list[str], *options: str) -> dict[str, str]:
    """Start a bed; gives the environment in which its commands work."""
    done = subprocess.run([*BED, "start", *options], capture_output=True, text=True, timeout=60, check=True)
    conf = done.stdout.strip().removeprefix("export SLURM_CONF=")
    beds.append(str(Path(conf).parent))
    return {**os.environ, "SLURM_CONF": conf}


def processes_of(folder: str) -> list[str]:
    """Command lines of processes that mention a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if folder in command and "env/bed stop" not in command:
            found.append(command)
    return found


def test_two_beds_run_side_by_side_and_leave_nothing(beds: list[str]) -> None:
    environs = [start(beds, "--nodes", nodes) for nodes in ("1", "3")]
    for environ, nodes in zip(environs, (1, 3), strict=True):
        done = subprocess.run(
            ["srun", f"-N{nodes}", "--gres=gpu:2", "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"],
            env=environ, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert sorted(done.stdout.split("\n")[:-1]) == [f"n{number} 0,1" for number in range(1, nodes + 1)]
    subprocess.run(
        ["sbatch", "--output=/dev/null", "--wrap", "sleep 1000"], env=environs[1], check=True, capture_output=True
    )
    for folder in beds:
        assert processes_of(folder), "they run"
        subprocess.run([*BED, "stop", folder], check=True, capture_output=True)
        assert processes_of(folder) == []
        assert not Path(folder).exists()


def test_a_folder_whose_path_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [*BED, "start", "--dir", str(tmp_path / ("x" * 100))], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "characters long, at most 70" in done.stderr and "Traceback" not in done.stderr


def test_a_requeued_run_does_not_wait_for_the_two_minutes_that_slurm_holds_it(beds: list[str], launch: Launch) -> None:
    launch.environ["SLURM_CONF"] = start(beds, "--cred-expire", "0")["SLURM_CONF"]  # Slurm's own default
    launch("count", "n=100", "step_s=0.05", "--nodes", "2", "--on", "bed")
    run: RunDir = only_run(launch.folder)
    wait_for(lambda: len(committed_steps(run.checkpoints)) >= 3)
    job = read_lines(run.submissions)[-1]["job"]
    subprocess.run(["scancel", "--signal=USR2", "--batch", job], env=launch.environ, check=True)
    wait_for(run.result.exists, patience_s=60)
    first, second = read_lines(run.attempts)
    assert first["outcome"] == "stopped"
    assert second["started"] - first["ended"] < 60, "the hold of 121 s was in force"

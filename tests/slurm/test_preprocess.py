"""Preprocessing through the whole line: any number of processes, started in any way, write the same store."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from hpc.codes import NEVER
from hpc.runs import products, records
from hpc.runs.rundir import RunDir
from tests.conftest import Launch
from tests.slurm.test_runs import on
from tests.waiting import open_gate, output_of

__all__ = ["on"]  # a fixture

CONFIG = """
synthesize: {n_subjects: 5, n_pieces: 2, piece_s: [3, 5], n_channels: 4}
preprocess: {study: synthesize}
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """A folder with a study of five subjects, and its store as one process writes it."""
    import os

    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yaml").write_text(CONFIG)
    launch = Launch(folder, dict(os.environ) | {"HPC_SITE": "local"})
    launch("pipeline", "tiny.yaml")
    return launch


def content(folder: Path, stage: str = "preprocess") -> dict[str, bytes]:
    (out,) = folder.glob(f"runs*/{stage}-*/out")
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def again(launch: Launch, made: Launch) -> Launch:
    """The command line in a folder that has the study, and no store yet."""
    (study,) = made.folder.glob("runs/synthesize-*")
    (launch.folder / "tiny.yaml").write_text(CONFIG)
    (launch.folder / "runs").mkdir()
    subprocess.run(["cp", "-r", str(study), str(launch.folder / "runs")], check=True)
    return launch


# Now and then PyPI's mpich hangs in MPI_Init under srun, also without us: the supervisor finds that and starts it again
MPI = ["--mpi", "--hang", "20s"]
LAYOUTS = [["--ranks", "3"], ["--nodes", "2", "--ranks", "2"], ["--ranks", "3", *MPI]]


@pytest.mark.parametrize("layout", LAYOUTS, ids=" ".join)
def test_any_layout_writes_the_same_store(launch: Launch, on: str, made: Launch, layout: list[str]) -> None:
    done = again(launch, made)("preprocess", "tiny.yaml", *layout, "--on", on, "--follow")
    assert content(launch.folder) == content(made.folder)
    assert done.stdout.split("recordings")[1].split()[:3] == ["5", "subjects", "5"]
    (run,) = launch.folder.glob("runs/preprocess-*")
    n_ranks = 4 if "--nodes" in layout else 3
    assert len(records.all_heartbeats(RunDir(run))) == n_ranks


@pytest.mark.slurm
def test_mpi_on_two_nodes_writes_the_same_store(launch: Launch, slurm: str, made: Launch) -> None:
    import os

    launch.environ |= {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    again(launch, made)("preprocess", "tiny.yaml", "--nodes", "2", "--ranks", "2", *MPI, "--on", slurm, "--follow")
    assert content(launch.folder) == content(made.folder)


def test_killed_at_work_it_goes_on_to_the_same_store(launch: Launch, on: str, made: Launch) -> None:
    watcher = again(launch, made).start("held_preprocess", "tiny.yaml", "--ranks", "2", "--on", on, "--follow")
    launch.wait_for(lambda: list(launch.folder.glob("runs/held_preprocess-*/out/*.h5")), "a recording is whole")
    (path,) = launch.folder.glob("runs/held_preprocess-*")
    run = RunDir(path)
    victims = [records.heartbeat(run, rank)["pid"] for rank in range(2)]
    subprocess.run(["kill", f"-{signal.SIGKILL}", *map(str, victims)], check=True)
    launch.wait_for(lambda: records.attempts(run), "the first attempt is over")
    assert len(list(path.glob("out/*.h5"))) < 5
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0, out
    assert [line["outcome"] for line in records.attempts(run)] == ["crashed", "finished"]
    made_again, made_at_once = content(launch.folder, "held_preprocess"), content(made.folder)
    lists = [each.pop(products.LIST).splitlines()[1:] for each in (made_again, made_at_once)]  # first, the run's name
    assert lists[0] == lists[1] and made_again == made_at_once


def test_one_broken_recording_does_not_stop_the_others(launch: Launch, on: str, made: Launch) -> None:
    again(launch, made)
    (study,) = launch.folder.glob("runs/synthesize-*/out")
    mine = launch.folder / "study"  # of no run: a damaged file of a run is made again
    shutil.copytree(study, mine, ignore=shutil.ignore_patterns("products.jsonl"))
    (broken,) = mine.glob("sub-03/eeg/*_eeg.edf")
    broken.write_bytes(broken.read_bytes()[:-5000])
    done = launch("preprocess", "tiny.yaml", f"study={mine}", "--ranks", "2", "--on", on, "--follow", code=NEVER)
    said = done.stdout + done.stderr
    assert "1 of 5 recordings cannot be used; the others are done" in said and "sub-03_task-music_run-01" in said
    (path,) = launch.folder.glob("runs/preprocess-*")
    left = [each.name for each in path.glob("out/.*") if not each.name.startswith(".products.")]
    assert len(list(path.glob("out/*.h5"))) == 4 and not left
    assert len(records.attempts(RunDir(path))) == 1, "the same tomorrow as today"


def test_mpi_that_is_not_there_is_said_before_anything_is_written(launch: Launch, made: Launch) -> None:
    again(launch, made)
    no_mpi = launch.folder / "no-mpi/bin"
    no_mpi.mkdir(parents=True)
    python = Path(launch.command()[0])
    (no_mpi / "python").symlink_to(python)
    launch.environ |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(__import__("sys").path)}
    done = subprocess.run(
        [str(no_mpi / "python"), "-m", "hpc.launch", "preprocess", "tiny.yaml", "--mpi", "--on", "local"],
        cwd=launch.folder,
        env=launch.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--mpi needs mpiexec, which is not found: `pip install hpc-eegdecode[mpi]`" in done.stderr
    assert not list(launch.folder.glob("runs/preprocess-*"))

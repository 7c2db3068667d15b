"""What `python -m build` makes does all that the checkout does: in an environment of its own, from an empty folder."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest

from hpc import __version__
from hpc.runs import status
from hpc.runs.rundir import RunDir, committed_steps, read_json
from tests.conftest import ROOT

TINY = ["synthesize.n_subjects=2", "synthesize.n_pieces=5", "synthesize.piece_s=[4,6]", "train.optim.steps=20"]
"""The demo, so small that it takes seconds."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made through the source distribution as `make wheel` does; from what git would give to somebody."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


class Installed:
    """The wheel in a virtual environment of its own, whose dependencies are those of the environment that runs this."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.venv = folder / "venv"
        self.folder = folder / "empty"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        self.packages = self.venv / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        # A line that is a path: the .pth file in there, through which our checkout is found, is not read
        (self.packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        pip = [sys.executable, "-m", "pip", "--python", self.venv / "bin/python", "install", "-q", "--no-deps"]
        subprocess.run([*pip, wheel], check=True)

    def __call__(self, *words: str, code: int = 0, command: tuple[str, ...] = ()) -> str:
        """`hpc …` as a user types it; gives what it prints."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HPC_", "PYTHONPATH"))}
        done = subprocess.run(
            [*(command or (str(self.venv / "bin/hpc"),)), *words],
            cwd=self.folder, env=inherited, capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{words} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def hpc(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    (wheel,) = built.glob("*.whl")
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_wheel_holds_the_packages_and_their_files_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    code = {name for name in tracked if name.startswith(("hpc/", "eegdecode/"))}
    configs = {name for name in tracked if name.startswith("configs/")}
    sites = {name for name in configs if name.startswith("configs/site/")}
    wanted = code | {f"hpc/{name}" for name in sites} | {f"eegdecode/{name}" for name in configs - sites}
    assert {name for name in names if ".dist-info/" not in name} >= wanted
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"hpc", "eegdecode"}
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/configs/recipes/motor-eegnet.yaml") for name in archive.getnames())


def test_it_asks_for_what_users_need_and_not_for_what_tests_need(built: Path) -> None:
    needed = [line for line in requires("hpc-eegdecode") or [] if "extra ==" not in line]
    assert any(line.startswith("torch") for line in needed)
    assert not [line for line in needed if re.match("pytest|braindecode|mypy|ruff|build", line)]


def test_it_runs_from_where_it_is_installed(hpc: Installed) -> None:
    assert f"hpc {__version__} in {hpc.packages}/hpc," in hpc("--version")
    assert f"{ROOT}/" not in hpc("sites", "--json") + hpc("recipes", "--json")
    assert re.search(r"^motor-eegnet +Which movement", hpc("recipes"), re.MULTILINE)
    assert re.search(r"^[ *] bed +slurm", hpc("sites"), re.MULTILINE)


@pytest.mark.ranks
def test_the_demo_runs_by_its_name_and_the_headline_goes_on_from_there(hpc: Installed) -> None:
    text = hpc("pipeline", "demo", *TINY, "--on", "local")
    assert text.count("finished after") == 4
    assert f"code    hpc-eegdecode {__version__}, " in text and f" files copied from {hpc.packages}\n" in text
    (report,) = hpc.folder.glob("runs/evaluate-*/out/report.html")
    assert report.stat().st_size > 10_000
    trained = hpc("train", *TINY, "train.seed=1", "--nodes", "2", "--on", "local")
    assert trained.count("finished after") == 1 and "2 nodes x 1 rank = 2 ranks" in trained
    assert "finished before" in hpc("evaluate", *TINY, command=(str(hpc.venv / "bin/python"), "-m", "hpc.launch"))


@pytest.mark.slurm
def test_it_submits_what_it_reads_first_and_resumes_on_a_slurm(hpc: Installed, slurm: str) -> None:
    words = [word for word in TINY if "steps" not in word]
    long = [*words, "train.optim.steps=100000", "train.optim.checkpoint_every=10"]  # it ends when it is told to
    submitted = hpc("train", *long, "train.seed=2", "--nodes", "2", "--on", slurm, "--runs", "on-slurm")
    jobs = re.findall(r"^submitted (\w+)-\w+ as job (\d+)$", submitted, re.MULTILINE)
    assert [stage for stage, _ in jobs] == ["synthesize", "preprocess", "train"]
    run = RunDir(*hpc.folder.glob("on-slurm/train-*"))
    _until(lambda: bool(committed_steps(run.checkpoints)), run)
    hpc("stop", run.name, "--runs", "on-slurm")
    (saved, *_) = reversed(committed_steps(run.checkpoints))
    hpc("resume", run.name, "--runs", "on-slurm")
    _until(lambda: committed_steps(run.checkpoints)[-1] > saved, run)
    assert read_json(run.attempt(2).start)["from_step"] == saved  # type: ignore[index]
    hpc("stop", run.name, "--now", "--runs", "on-slurm")


def _until(there: Callable[[], bool], run: RunDir) -> None:
    """Wait for the progress of a run, and no longer than it lives."""
    while not there():
        state = status.look(run)
        assert not state.ended, f"{state.word}: {state.text}"
        time.sleep(0.5)

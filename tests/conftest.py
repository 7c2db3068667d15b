"""What every tier shares: the real command line in a folder of its own, and a real Slurm.

Tiers: no mark (pure functions, real files), ranks (real processes), slurm (the bed, or --site NAME), gpu, docs.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc import stages
from hpc.rundir import RunDir
from tests.waiting import LONG_S, open_gate, story, wait_for

ROOT = Path(__file__).parent.parent
EXAMPLE = Path(__file__).parent / "hpc" / "example"
# Two processes with two threads each on two cores wait for each other at every step, ten times slower than with one
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts us in the background makes us ignore Ctrl-C, and those we start too: some tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--site", help="run tests/slurm on this site (a profile of configs/site) instead of the test bed")


@pytest.fixture
def example() -> Iterator[None]:
    """The package tests/hpc/example, which adds the stage `count`, as if it were installed."""
    sys.path.insert(0, str(EXAMPLE))
    stages._installed.cache_clear()
    yield
    sys.path.remove(str(EXAMPLE))
    stages._installed.cache_clear()


def users_environ() -> dict[str, str]:
    """That of a user who has the example package beside ours, and no Slurm."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    return inherited | {"PYTHONPATH": str(EXAMPLE), "HPC_SITE": "local"}


@pytest.fixture
def environ() -> dict[str, str]:
    return users_environ()


class Launch:
    """`python -m hpc.launch …` as a user types it, in a folder of its own."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Wait for it; another exit code than `code` fails the test."""
        try:
            done = subprocess.run(
                self.command(*words),
                cwd=self.folder,
                env=self.environ,
                capture_output=True,
                text=True,
                timeout=LONG_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            pytest.fail(
                f"{words} has not ended within {LONG_S:.0f} s\n{late.stdout!r}\n{late.stderr!r}\n{self.story()}"
            )
        assert done.returncode == code, f"{words} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Do not wait for it."""
        process = subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def wait_for(self, condition: Callable[[], object], what: str = "") -> None:
        """Until it is so; a failure tells what has become of the runs here."""
        wait_for(condition, what, self.story)

    def story(self) -> str:
        return "\n".join(story(RunDir(path)) for path in self.runs())

    def end(self) -> None:
        """A test that failed leaves runs held: let them go, and end who watches them."""
        open_gate(*(RunDir(path.parent) for path in self.folder.rglob("plan.json")))
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def runs(self) -> list[Path]:
        """The run folders that it has made."""
        return sorted(path.parent for path in self.folder.glob("runs/*/plan.json"))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hpc.launch", *words]


@pytest.fixture
def launch(tmp_path: Path, environ: dict[str, str]) -> Iterator[Launch]:
    launch = Launch(tmp_path, environ)
    yield launch
    launch.end()


def missing_for_slurm() -> str:
    """What this machine lacks for a test bed, in words, or ""."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    lacking = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name, path=path)]
    return f"{', '.join(lacking)} not installed (as root on Debian/Ubuntu: env/bed install)" if lacking else ""


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a site with a real Slurm: --site, else a bed started for this session."""
    if site := request.config.getoption("--site"):
        yield site
        return
    if lacking := missing_for_slurm():
        if os.environ.get("REQUIRE_SLURM") == "1":
            pytest.fail(f"REQUIRE_SLURM=1, but {lacking}")
        pytest.skip(f"no Slurm: {lacking}")
    started = subprocess.run(
        [sys.executable, str(ROOT / "env/bed"), "start"], capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    conf = started.stdout.strip().removeprefix("export SLURM_CONF=")
    os.environ["SLURM_CONF"] = conf
    yield "bed"
    del os.environ["SLURM_CONF"]
    subprocess.run([sys.executable, str(ROOT / "env/bed"), "stop", str(Path(conf).parent)], check=True)


LONGEST = ["test_drill.py", "test_recipes.py", "test_runs.py", "test_faults.py", "test_preprocess.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, and what waits for a Slurm, so that other tests fill the time it waits."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (rank.get(item.path.name, len(rank)), item.path.parent.name != "slurm"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests of the Slurm tier really ran: a green run that skipped them says so."""
    outcomes = {
        word: len({r.nodeid for r in terminalreporter.stats.get(word, []) if "slurm" in getattr(r, "keywords", ())})
        for word in ("passed", "failed", "error", "skipped")
    }
    if any(outcomes.values()):
        said = ", ".join(f"{count} {word}" for word, count in outcomes.items())
        terminalreporter.write_line(f"Slurm tier: {said}")

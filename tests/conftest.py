"""What every tier shares: the real command line in a folder of its own, and a real Slurm.

Tiers: no mark (pure functions, real files), ranks (real processes), slurm (the bed, or --site NAME), gpu, docs; and
slow, which run with --slow alone: further members of a large family, of which some run each time.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.config import plugins
from hpc.runs.rundir import RunDir
from tests.waiting import LONG_S, open_gate, story, wait_for

ROOT = Path(__file__).parent.parent
BED = [sys.executable, str(ROOT / "env/bed")]
sys.path.append(str(ROOT / "env"))
import bed_packages  # noqa: E402  a part of env/bed, which is no package

EXAMPLE = Path(__file__).parent / "hpc" / "example"
# Two processes with two threads each on two cores wait for each other at every step, ten times slower than with one
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As most users have it. In an image that sets it, each of a thousand commands would compile all that it imports
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that starts us in the background makes us ignore Ctrl-C, and those we start too: some tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--site", help="run tests/slurm on this site (a profile of configs/site) instead of the test bed")
    parser.addoption(
        "--other-slurm", metavar="RELEASE",
        help="run tests marked both_slurms a second time, on this Slurm (see env/bed start --slurm); "
        "auto: 24.11, or 22.05 where the system's is 24.11",
    )  # fmt: skip
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_slurms: hangs on what Slurm's release does; run on --other-slurm too")


@pytest.fixture
def example() -> Iterator[None]:
    """The package tests/hpc/example, which adds the stage `count`, as if it were installed."""
    sys.path.insert(0, str(EXAMPLE))
    plugins.forget()
    yield
    sys.path.remove(str(EXAMPLE))
    plugins.forget()


def users_environ() -> dict[str, str]:
    """The environment of a user who has the example package installed, and no Slurm."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    return inherited | {"PYTHONPATH": str(EXAMPLE), "HPC_SITE": "local", "COLUMNS": "300"}


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
        """Wait until a condition holds; a failure reports the state of the runs here."""
        wait_for(condition, what, self.story)

    def story(self) -> str:
        return "\n".join(story(RunDir(path)) for path in self.runs())

    def end(self) -> None:
        """Release the runs that a failed test has held, and end the processes that watch them."""
        # Not rglob, which ends at a folder that a run has just folded up
        open_gate(*(RunDir(folder) for folder, _, names in os.walk(self.folder) if "plan.json" in names))
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
    lacking = bed_packages.missing_daemons()
    return f"{lacking} not installed (as root on Debian/Ubuntu: env/bed install)" if lacking else ""


def other_slurm(config: pytest.Config) -> str | None:
    """The release that --other-slurm asks for."""
    asked: str | None = config.getoption("--other-slurm")
    if asked != "auto" or config.getoption("--site"):
        return None if config.getoption("--site") else asked
    system = bed_packages.installed()
    return next(release for release in reversed(bed_packages.DEBIAN) if not system or release != system.release)


@pytest.fixture(scope="session")
def slurm_release(request: pytest.FixtureRequest) -> str | None:
    """None: the system's. Tests that run on --other-slurm too are given both, one after the other."""
    release: str | None = getattr(request, "param", None)
    return release


@pytest.fixture(scope="session")
def bed_options(slurm_release: str | None) -> list[str]:
    """The options of `env/bed start` for a test: the owner of the bed, the version of Slurm. Skips, or fails, if
    missing."""
    if slurm_release is None:
        lacking = missing_for_slurm()
    else:  # not the name alone: it is fetched, by one process for all
        fetched = subprocess.run(
            [*BED, "install", "--slurm", slurm_release], capture_output=True, text=True, check=False
        )
        lacking = fetched.stderr.strip() if fetched.returncode != 0 else ""
    if lacking and os.environ.get("REQUIRE_SLURM") == "1":
        pytest.fail(f"REQUIRE_SLURM=1, but {lacking}")
    if lacking:
        pytest.skip(f"no Slurm{f' {slurm_release}' if slurm_release else ''}: {lacking}")
    return ["--owner", str(os.getpid()), *(["--slurm", slurm_release] if slurm_release else [])]


def exported(lines: str) -> dict[str, str]:
    """Return the variables that `env/bed start` prints; PATH stays if it is not among them."""
    words = [shlex.split(line) for line in lines.splitlines()]
    assert words and all(word[0] == "export" and len(word) == 2 for word in words), lines
    return {"PATH": os.environ["PATH"]} | dict(word[1].split("=", 1) for word in words)


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest, slurm_release: str | None) -> Iterator[str]:
    """The name of a site with a real Slurm: --site, else a bed started for this session, anew for another release."""
    if site := request.config.getoption("--site"):
        yield site
        return
    options = request.getfixturevalue("bed_options")
    started = subprocess.run([*BED, "start", *options], capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    variables = exported(started.stdout)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield "bed"
    subprocess.run([*BED, "stop", str(Path(variables["SLURM_CONF"]).parent)], check=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked both_slurms runs on the system's Slurm and on the other one."""
    other = other_slurm(metafunc.config)
    chosen = metafunc.definition.get_closest_marker("both_slurms") and "slurm_release" in metafunc.fixturenames
    if other and chosen:
        system = bed_packages.installed()
        ids = [f"slurm-{system.release if system else 'system'}", f"slurm-{other}"]
        metafunc.parametrize("slurm_release", [None, other], ids=ids, indirect=True, scope="session")


LONGEST = [
    "test_drill.py", "test_recipes.py", "test_runs.py", "test_faults.py", "test_ssh.py", "test_preprocess.py",
    "test_wheel.py",
]  # fmt: skip


# After pytest's own sorting by parameters of fixtures, which would take tests of one Slurm out of their files
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start the longest tests first, and those that wait for a Slurm, so that other tests fill the time it waits."""
    other = other_slurm(config)
    items[:] = [item for item in items if not (release_of(item) and parameter(item, "on") == "local")]
    if not config.getoption("slow") and (slow := [item for item in items if item.get_closest_marker("slow")]):
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    for item in items:
        if item.get_closest_marker("slurm"):
            item.user_properties.append(("slurm", config.getoption("--site") or release_of(item) or "system"))
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: (
            rank.get(item.path.name, len(rank)),
            item.path.parent.name != "slurm",
            str(item.path) if other else "",
            release_of(item) or "",
        )
    )


def parameter(item: pytest.Item, name: str) -> Any:
    return item.callspec.params.get(name) if hasattr(item, "callspec") else None


def release_of(item: pytest.Item) -> str | None:
    """The release of Slurm that a test is run on a second time."""
    release: str | None = parameter(item, "slurm_release")
    return release


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As --dist loadfile, but the tests of a file on the other Slurm count as a separate file, and so do those of each
    recipe, as all of them take many minutes."""
    other = other_slurm(config)
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileAndSlurm(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            values = test.partition("[")[2].rstrip("]")
            if file.endswith("/test_recipes.py"):
                return f"{file} of {values}"
            return f"{file} on {other}" if f"slurm-{other}" in values else file

    return ByFileAndSlurm(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests of the Slurm tier really ran, on which Slurm: a green run that skipped them says so."""
    ran_on: dict[str, dict[str, set[str]]] = {}
    for word in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(word, []):
            if "slurm" in (properties := dict(getattr(report, "user_properties", ()))):
                ran_on.setdefault(properties["slurm"], {}).setdefault(word, set()).add(report.nodeid)
    if ran_on:
        parts = []
        for release in sorted(ran_on, key=lambda name: name != "system"):
            counts = {word: len(ran_on[release].get(word, ())) for word in ("passed", "failed", "error", "skipped")}
            parts.append(f"{full_name(release)}: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
        terminalreporter.write_line(f"Slurm tier: {'; '.join(parts)}")


def full_name(release: str) -> str:
    """24.11 as 24.11.5."""
    is_other = release in bed_packages.DEBIAN
    slurm = bed_packages.unpacked(release) if is_other else bed_packages.installed() if release == "system" else None
    return slurm.version if slurm else release

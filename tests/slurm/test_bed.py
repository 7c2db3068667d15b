"""The test bed is a real Slurm that comes and goes without a trace. Skipped when a site of your own is tested."""

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps
from tests.conftest import BED, ROOT, Launch, bed_packages, exported, other_slurm
from tests.slurm.test_runs import only_run
from tests.waiting import LONG_S, open_gate, wait_for

pytestmark = pytest.mark.slurm


class Beds(list[str]):
    """The folders of beds that a test started."""

    def __init__(self, options: list[str]) -> None:
        super().__init__()
        self.options = options

    def stop(self) -> None:
        for folder in self:
            subprocess.run([*BED, "stop", folder], check=True, capture_output=True)


@pytest.fixture
def beds(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[Beds]:
    """For the beds that a test starts; they are ended after it."""
    with own_beds(request, bed_options) as started:
        yield started


@contextmanager
def own_beds(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[Beds]:
    """For beds of a fixture's own, whose daemons may be killed; they are ended behind it."""
    if request.config.getoption("--site"):
        pytest.skip("--site names a Slurm of your own, whose daemons are not ours to kill")
    started = Beds(bed_options)
    try:
        yield started
    finally:
        started.stop()


def start(beds: Beds, *options: str) -> dict[str, str]:
    """Start a bed; gives the variables with which its commands work."""
    command = [*BED, "start", *beds.options, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=True)
    variables = exported(done.stdout)
    beds.append(str(Path(variables["SLURM_CONF"]).parent))
    return variables


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


def test_two_beds_run_side_by_side_and_leave_nothing(beds: Beds) -> None:
    environs = [os.environ | start(beds, "--nodes", nodes) for nodes in ("1", "3")]
    for environ, nodes in zip(environs, (1, 3), strict=True):
        done = subprocess.run(
            ["srun", f"-N{nodes}", "--gres=gpu:2", "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"],
            env=environ, capture_output=True, text=True, timeout=LONG_S, check=True,
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


@pytest.mark.both_slurms
def test_what_runs_on_both_slurms_does(slurm: str, slurm_release: str | None) -> None:
    release = slurm_release or getattr(bed_packages.installed(), "release", "")
    assert release in subprocess.run(["sbatch", "--version"], capture_output=True, text=True, check=True).stdout


@pytest.mark.both_slurms
def test_a_requeued_run_does_not_wait_for_the_two_minutes_that_slurm_holds_it(beds: Beds, launch: Launch) -> None:
    launch.environ |= start(beds, "--cred-expire", "0")  # Slurm's own default
    launch("count", "n=6", "hold_at=3", "--nodes", "2", "--on", "bed")
    run: RunDir = only_run(launch.folder)
    launch.wait_for(lambda: 3 in committed_steps(run.checkpoints))
    job = records.submissions(run)[-1]["job"]
    subprocess.run(["scancel", "--signal=USR2", "--batch", job], env=launch.environ, check=True)
    launch.wait_for(run.attempt(2).start.exists, "it runs again, and is held by its gate")
    assert [line["outcome"] for line in records.attempts(run)] == ["stopped"]
    command = ["scontrol", "--oneliner", "show", "job", job]
    shown = subprocess.run(command, env=launch.environ, capture_output=True, text=True, check=True).stdout
    requeued, eligible = (
        datetime.fromisoformat(dict(re.findall(r"(\w+)=(\S+)", shown))[key]) for key in ("SubmitTime", "EligibleTime")
    )
    assert eligible - requeued < timedelta(seconds=60), f"Slurm's hold of 121 s was in force: {shown}"
    open_gate(run)
    launch.wait_for(run.result.exists)


SHELLS = {
    "bash": ["bash", "-c"],
    "sh": ["sh", "-c"],
    "a program": [sys.executable, "-c"],
}
STARTS = {
    "bash": 'eval "$(cd {env} && {start})"; echo $SLURM_CONF; read word',
    "sh": 'eval "$({start})"; echo $SLURM_CONF; read word',
    "a program": "import subprocess; subprocess.run({start!r}, shell=True); input()",
}


@pytest.mark.parametrize("who", SHELLS)
def test_a_bed_ends_with_who_started_it_and_so_do_its_jobs(beds: Beds, who: str) -> None:
    """Killed without a request: nobody is left who could stop it."""
    start_it = " ".join([*BED, "start", "--nodes", "1"])
    script = STARTS[who].format(start=start_it, env=ROOT / "env")
    owner = subprocess.Popen([*SHELLS[who], script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    conf = owner.stdout.readline().strip().removeprefix("export SLURM_CONF=")
    folder = str(Path(conf).parent)
    beds.append(folder)
    environ = os.environ | {"SLURM_CONF": conf, "PATH": bed_packages.system_path()}
    job = ["sbatch", "--output=/dev/null", "--wrap", f"exec tail -f {conf}"]
    subprocess.run(job, env=environ, check=True, capture_output=True)
    wait_for(lambda: any(f"tail -f {conf}" in line for line in processes_of(folder)))
    owner.kill()
    owner.wait()
    wait_for(lambda: not processes_of(folder) and not Path(folder).exists())


def test_a_start_that_is_killed_leaves_nothing(beds: Beds, tmp_path: Path) -> None:
    (tmp_path / "sinfo").write_text("#!/bin/sh\n")  # its nodes are never said to be idle
    (tmp_path / "sinfo").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": tempfile.mkdtemp(prefix="bed")}
    place = Path(environ["TMPDIR"])
    starter = subprocess.Popen([*BED, "start", *beds.options], env=environ, stdout=subprocess.DEVNULL)
    wait_for(lambda: any('"name": "n4"' in path.read_text() for path in place.glob("bed-*/pids.json")))
    starter.kill()
    starter.wait()
    wait_for(lambda: not processes_of(str(place)) and not list(place.iterdir()))
    place.rmdir()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_killed_pytest_leaves_no_bed(beds: Beds, tmp_path: Path, workers: str) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_waits.py").write_text(
        "import os, pathlib, time\n"
        "def test_waits(slurm):\n"
        "    pathlib.Path('beside').write_text(os.environ['SLURM_CONF'])\n"
        "    os.rename('beside', 'conf')\n"
        "    while True:\n"
        "        time.sleep(1)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", workers, "test_waits.py"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    tests = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL)
    wait_for((tmp_path / "conf").exists)
    folder = str(Path((tmp_path / "conf").read_text()).parent)
    beds.append(folder)
    assert processes_of(folder)
    tests.kill()
    tests.wait()
    wait_for(lambda: not processes_of(folder) and not Path(folder).exists())


def test_an_owner_that_is_not_there_is_refused(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    command = [*BED, "start", "--owner", str(ended.pid), "--dir", str(tmp_path / "bed")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"there is no process {ended.pid}" in done.stderr and not (tmp_path / "bed").exists()


@pytest.fixture
def other(request: pytest.FixtureRequest) -> str:
    """The release that --other-slurm names."""
    return other_slurm(request.config) or pytest.skip("--other-slurm is not given")


def test_two_releases_run_side_by_side_each_with_its_own_commands_also_in_jobs(beds: Beds, other: str) -> None:
    """And jobs have the programs and the libraries of this machine."""
    script = (
        "srun $(command -v srun) --version; srun --version; echo libraries=$LD_LIBRARY_PATH; python3 -c 'import ssl'"
    )
    for options in ([], ["--slurm", other]):
        environ = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
        environ |= start(beds, "--nodes", "1", *options)
        for export in ("ALL", "NONE"):
            output = Path(beds[-1], f"log/{export}")
            job = ["sbatch", "--wait", f"--export={export}", f"--output={output}", f"--wrap={script}"]
            subprocess.run(job, env=environ, check=True, capture_output=True, timeout=LONG_S)
            versions, libraries = output.read_text().splitlines()[:2], output.read_text().splitlines()[2:]
            assert (options == []) == (other not in versions[0]) and versions[0] == versions[1]
            assert libraries == ["libraries="]
        assert Path(beds[-1], "cgroup.conf").exists() == (versions[0].split()[1] >= "23.11")
        assert (
            versions[0].split()[1] in subprocess.run([*BED, "status", beds[-1]], capture_output=True, text=True).stdout
        )


def test_a_release_is_fetched_without_root_and_lies_in_the_cache_alone(other: str) -> None:
    """A user without rights to change the system fetches it, and runs it."""
    home = Path(tempfile.mkdtemp(prefix="bed"))  # pytest's own folder is closed to others
    try:
        for name in ("bed", *(path.name for path in (ROOT / "env").glob("bed_*.py"))):
            shutil.copy(ROOT / "env" / name, home)
        words = [os.path.realpath(sys.executable), str(home / "bed")]
        user: dict[str, Any] = {"env": {"PATH": "/usr/bin:/bin", "BED_CACHE": str(home / "cache"), "TMPDIR": str(home)}}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if subprocess.run(["test", "-x", words[0]], **user, check=False).returncode != 0:
                words[0] = "/usr/bin/python3"
        start_it = [*words, "start", "--slurm", other, "--nodes", "1", "--owner", str(os.getpid())]
        started = subprocess.run(start_it, **user, cwd=home, capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stderr
        assert "packages" in started.stderr and "nothing of the system was changed" in started.stderr
        user["env"] |= exported(started.stdout)
        said = subprocess.run(
            ["srun", "--version"], **user, cwd=home, capture_output=True, text=True, check=True
        ).stdout
        assert other in said
        subprocess.run([*words, "stop"], **user, cwd=home, check=True, capture_output=True)
        assert sorted(path.name for path in (home / "cache").iterdir()) == [f"slurm-{other}", f"slurm-{other}.lock"]
    finally:
        shutil.rmtree(home)

"""The bed's commands without a running Slurm; tests/slurm/test_bed.py tests that it is a real Slurm."""

import os
import platform
import runpy
import subprocess
from pathlib import Path

import pytest

from tests.conftest import BED, bed_packages


def test_status_into_a_pipe_that_nobody_reads_ends_without_a_trace(tmp_path: Path) -> None:
    for command in ("sinfo", "squeue"):
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    (tmp_path / "pids.json").write_text('{"daemons": [{"name": "n1", "pid": 1, "started": null, "port": 1}]}')
    read, write = os.pipe()
    os.close(read)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*BED, "status", str(tmp_path)], stdout=write, stderr=subprocess.PIPE, env=environ, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def refusal(release: str, **variables: str) -> str:
    """What `env/bed install --slurm` says when it fails."""
    command, environ = [*BED, "install", "--slurm", release], os.environ | variables
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "") and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def not_the_systems() -> str:
    system = bed_packages.installed()
    return next(release for release in bed_packages.DEBIAN if not system or release != system.release)


def test_a_release_that_no_debian_has_is_answered_with_those_there_are() -> None:
    said = refusal("23.02")
    assert "--slurm takes 22.05 (Debian 12) or 24.11 (Debian 13)" in said and "but got '23.02' instead" in said


def test_without_a_network_it_says_so_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    if platform.freedesktop_os_release().get("ID") != "debian":
        pytest.skip("not a Debian, so no packages are asked for")
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")}
    release = not_the_systems()
    said = refusal(release, BED_CACHE=str(tmp_path), **nowhere)
    assert "is there no network?" in said and "127.0.0.1:9" in said
    assert [path.name for path in tmp_path.iterdir()] == [f"slurm-{release}.lock"]


def test_elsewhere_than_on_a_debian_it_says_what_would_do(tmp_path: Path) -> None:
    said = refusal(not_the_systems(), BED_CACHE=str(tmp_path), PATH=str(tmp_path))
    assert "has no apt-get and no dpkg-deb" in said and "install Slurm from the system's packages" in said


def test_a_cache_that_slurm_conf_cannot_hold_is_refused(tmp_path: Path) -> None:
    said = refusal(not_the_systems(), BED_CACHE=str(tmp_path / "a cache"))
    assert "set BED_CACHE to one of letters" in said


def test_a_machine_without_cgroups_can_have_a_bed_of_every_release() -> None:
    bed = runpy.run_path(BED[1], run_name="bed")
    texts = {
        (version, is_mounted): bed["cgroup_conf"](bed_packages.Slurm(version), is_mounted)
        for version in ("22.05.8", "23.02.1", "24.11.5", "26.05.5")
        for is_mounted in (True, False)
    }
    assert texts == {
        ("22.05.8", True): "", ("22.05.8", False): "CgroupPlugin=cgroup/v1\n",
        ("23.02.1", True): "", ("23.02.1", False): "CgroupPlugin=cgroup/v1\n",
        ("24.11.5", True): "CgroupPlugin=disabled\n", ("24.11.5", False): "CgroupPlugin=disabled\n",
        ("26.05.5", True): "CgroupPlugin=disabled\n", ("26.05.5", False): "CgroupPlugin=disabled\n",
    }  # fmt: skip

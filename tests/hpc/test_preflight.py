"""What would be found out after hours in the queue is found out before."""

import dataclasses
import sys
from pathlib import Path

import pytest

from hpc.cli import preflight
from hpc.errors import ConfigError
from hpc.plan import plan
from hpc.plan.plan import Plan, Science
from hpc.runs.rundir import write_json
from hpc.site import allocation
from tests.conftest import Launch

SAID = """\
Configuration data as of 2026-01-01T00:00:00
MaxArraySize            = {array}
MaxJobCount             = {jobs}
SlurmctldHost[0]        = n1(127.0.0.1)
"""


@pytest.fixture
def slurm_here(tmp_path: Path, environ: dict[str, str]) -> dict[str, str]:
    """The environment on a cluster of which only scontrol says something."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text("#!/bin/sh\n")
    (commands / "scontrol").write_text(f"#!/bin/sh\ncat '{tmp_path}/said'\n")
    for command in commands.iterdir():
        command.chmod(0o755)
    (tmp_path / "slurm.conf").write_text("ClusterName=bed\n")
    (tmp_path / "said").write_text(SAID.format(array=1001, jobs=10000))
    path = f"{commands}:{environ['PATH']}"
    return environ | {"PATH": path, "SLURM_CONF": str(tmp_path / "slurm.conf"), "HPC_SITE": "bed"}


@pytest.mark.parametrize(
    ("array", "jobs", "message"),
    [
        (3, 10000, "4 runs of count would be one array, and bed takes 3: sweep a part of the values"),
        (1001, 5, "8 runs would be in the queue, and bed takes 5"),
    ],
)
def test_a_sweep_that_slurm_would_not_take_is_refused_before_anything_is_written(
    tmp_path: Path, slurm_here: dict[str, str], array: int, jobs: int, message: str
) -> None:
    launch = Launch(tmp_path, slurm_here)
    (tmp_path / "said").write_text(SAID.format(array=array, jobs=jobs))
    (tmp_path / "study.yaml").write_text("count: {n: 3}\ntally: {of: count}\n")
    assert message in launch("sweep", "pipeline", "study.yaml", "count.n=1..4", code=2).stderr
    assert launch.runs() == []


def test_of_a_sweep_only_what_is_missing_counts(
    tmp_path: Path, slurm_here: dict[str, str], example: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", slurm_here["PATH"])
    (tmp_path / "said").write_text(SAID.format(array=3, jobs=3))
    where = allocation.load("bed")
    plans = [
        Plan(
            science=science,
            sources=(),
            site=where,
            resources=allocation.fit(where, allocation.Request()),
            code=(),
            runs=str(tmp_path / "runs"),
            cwd="/",
            python="python",
        )
        for science, _ in plan.sweep("count", {}, ["n=1..4"])
    ]
    with pytest.raises(ConfigError, match="4 runs of count would be one array, and bed takes 3"):
        preflight.checked(plans, slurm_here)
    write_json(plans[0].run.result, {})
    assert len(preflight.checked(plans, slurm_here)) == 4


def test_slurm_limits_are_read() -> None:
    assert preflight.slurm_limits(SAID.format(array=1001, jobs=10000)) == {"MaxArraySize": 1001, "MaxJobCount": 10000}
    assert preflight.slurm_limits("") == {}


def test_a_batch_that_the_ranks_cannot_share_is_refused_before_it_waits_in_a_queue(tmp_path: Path) -> None:
    science = Science("train", "eegdecode.stages:train", {"data": "./x", "windows": {"batch": 4}}, {})
    where = allocation.load("local")
    layout = allocation.fit(where, allocation.Request(ranks=2))
    fits = Plan(
        science=science, sources=(), site=where, resources=layout, code=(), runs=str(tmp_path), cwd="/", python="python"
    )
    assert "config valid" in preflight.checked([fits], {})[0].checks
    too_many = dataclasses.replace(fits, resources=dataclasses.replace(layout, ranks_per_node=3))
    with pytest.raises(ConfigError, match="^train: windows.batch is 4 .* which 3 ranks cannot share evenly: use 3 or"):
        preflight.checked([too_many], {})
    write_json(too_many.run.result, {})
    with pytest.raises(ConfigError, match="which 3 ranks cannot share evenly"):
        preflight.checked([too_many], {})  # finished or not


@pytest.mark.parametrize("site_name", ["local", "bed"])
def test_mpi_without_mpi4py_names_the_extra_that_brings_it(
    tmp_path: Path, example: None, monkeypatch: pytest.MonkeyPatch, site_name: str
) -> None:
    science, where = Science("count", "counting.stages:count", {}, {}), allocation.load(site_name)
    layout = allocation.fit(where, allocation.Request(ranks=2, mpi=True))
    asked = Plan(
        science=science, sources=(), site=where, resources=layout, code=(), runs=str(tmp_path), cwd="/", python="python"
    )
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"--mpi needs mpi4py, .*: `pip install hpc-eegdecode\[mpi\]` installs it"):
        preflight.checked([asked], {})


def test_a_machine_without_proc_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MOUNTS", tmp_path / "proc/mounts")
    assert " free" in preflight._room(tmp_path / "runs")

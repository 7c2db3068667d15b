"""The comparisons of bench/ stand on nothing that another command has left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import compare, gpu_faults, startup
from hpc.rank import threads
from hpc.runs.rundir import RunDir, write_json
from tests.conftest import ROOT


@pytest.mark.ranks
def test_the_dry_run_that_startup_times_makes_what_it_looks_at(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    command = startup.dry_run(tmp_path / "new")
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    command()  # another exit code than 0 raises
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before
    assert not capfd.readouterr().err


def test_a_table_names_the_processor(capsys: pytest.CaptureFixture) -> None:
    assert compare.processor()
    compare.show("sums", {"ours": [1.0], "theirs": [2.0]}, "theirs", {})
    assert f"cores of {compare.processor()}, Python" in capsys.readouterr().out


def test_a_comparison_computes_in_the_threads_of_one_rank() -> None:
    """Whatever the environment says, as a rank that has this machine to itself."""
    code = (
        "import runpy, sys, types\n"
        "sys.argv = ['bench', 'staging']\n"
        "def run(quick):\n"
        "    import numpy, os, threadpoolctl\n"
        "    print(os.environ['OMP_NUM_THREADS'], {pool['num_threads'] for pool in threadpoolctl.threadpool_info()})\n"
        "    return True\n"
        "sys.modules['bench.staging'] = types.SimpleNamespace(run=run)\n"
        "runpy.run_module('bench', run_name='__main__')\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environ | dict.fromkeys((threads.OF_ALL, *threads.OF_ONE), "64"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{threads.here()} {{{threads.here()}}}\n"


@pytest.mark.ranks
def test_the_faults_of_gpus_are_known_where_they_are_imitated() -> None:
    """So the functions that a machine with a GPU will run are right but for the GPU."""
    rows = {what: (known, text) for what, known, text in gpu_faults.cases("cpu")}
    assert [case.what for case in gpu_faults.CASES] == list(rows)
    imitated = [case.what for case in gpu_faults.CASES if not case.n_gpus]
    assert {what: rows[what] for what in imitated if rows[what][0] is not True} == {}
    assert rows["NCCL's start"] == (None, "skipped: it needs 2 GPUs")


@pytest.mark.ranks
def test_the_ranks_of_those_faults_start_and_measure_without_a_gpu_too(tmp_path: Path) -> None:
    write_json(RunDir(tmp_path).plan, gpu_faults._plan(gpus_per_node=0))
    assert "gloo over 2 ranks on 1 node: " in next(gpu_faults._ranks(tmp_path, 2, "measure"))

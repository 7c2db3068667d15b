"""BLAS, OpenMP and torch compute in as many threads as a rank was given, whatever a user's environment says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.rank import threads
from tests.conftest import Launch

MANY = dict.fromkeys((threads.OF_ALL, *threads.OF_ONE), "64") | {threads.BEYOND: "MKL_ALL=64"}
"""As a .bashrc says it that was written for another machine."""


def pools(launch: Launch) -> list[dict[str, int]]:
    """Of each rank, the threads of each library that has some."""
    found = [json.loads(path.read_text()) for path in sorted(launch.folder.glob("runs/pools-*/out/pools-*.json"))]
    assert all("torch" in rank and sum("openblas" in name for name in rank) == 2 for rank in found), found
    return found


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("words", "n_ranks", "given"),
    [
        (["--on", "local", "--ranks", "2"], 2, threads.here(2)),
        (["--on", "local", "--cpus", "2"], 1, 2),
        (["--on", "local", "--ranks", "2", "--mpi"], 2, threads.here(2)),
        (["--on", "debug"], 1, threads.here()),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_rank_computes_in_the_threads_that_it_was_given(
    words: list[str], n_ranks: int, given: int, launch: Launch
) -> None:
    launch.environ |= MANY
    launch("pools", *words)
    assert [set(rank.values()) for rank in pools(launch)] == [{given}] * n_ranks


@pytest.mark.slurm
def test_in_a_job_those_are_its_cpus(launch: Launch, slurm: str) -> None:
    launch.environ |= MANY | {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    launch("pools", "--nodes", "2", "--ranks", "1", "--cpus", "2", "--on", slurm, "--follow")
    assert [set(rank.values()) for rank in pools(launch)] == [{2}] * 2


@pytest.mark.ranks
def test_a_smaller_number_of_the_users_own_stands(launch: Launch) -> None:
    launch.environ |= MANY | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    launch("pools", "--on", "local", "--cpus", "2")
    (rank,) = pools(launch)
    assert rank["torch"] == 1 and {n for name, n in rank.items() if "openblas" in name} == {2}


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ({}, 4),
        ({"OMP_NUM_THREADS": "64"}, 4),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": " 8, 2"}, 4),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": ""}, 4),
        ({"OMP_NUM_THREADS": "0"}, 4),
        ({"OMP_NUM_THREADS": "all"}, 4),
    ],
)
def test_what_a_variable_says_counts_up_to_what_was_given(said: dict[str, str], heard: int) -> None:
    environ = threads.capped(4, said | {"HOME": "/home/me", threads.BEYOND: "MKL_BLAS=64"})
    assert {environ[name] for name in (threads.OF_ALL, *threads.OF_ONE)} == {str(heard)}
    assert environ["HOME"] == "/home/me" and threads.BEYOND not in environ
    assert threads.given(environ) == 4 and threads.capped(4, environ) == environ


def test_a_rank_knows_what_it_was_given_where_srun_passes_nothing_on() -> None:
    assert threads.given({"SLURM_CPUS_PER_TASK": "3", "OMP_NUM_THREADS": "64"}) == 3
    assert threads.given({"SLURM_CPUS_PER_TASK": "3", "HPC_THREADS": "2"}) == 2
    assert threads.given({"OMP_NUM_THREADS": "64"}) == threads.here()


def test_a_library_that_is_loaded_already_is_told(tmp_path: Path) -> None:
    code = """
import numpy
from threadpoolctl import threadpool_info
from hpc.rank import threads
before = {pool["num_threads"] for pool in threadpool_info()}
threads.cap(1)
print(before, {pool["num_threads"] for pool in threadpool_info()})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | MANY, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    before, after = done.stdout.split("} {")
    assert before.strip("{") != "1" or os.cpu_count() == 1
    assert after.strip("}\n") == "1"

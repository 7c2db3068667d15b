"""Limits the threads of BLAS, OpenMP and torch to what the process was given, whatever the environment says.

They look at the environment once, when they are loaded, so it is set before that; what is loaded already is told.
A smaller number of the user's own stands.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

GIVEN = "HPC_THREADS"
"""By which the supervisor tells a rank."""
OF_ALL = "OMP_NUM_THREADS"
"""What the other libraries heed as well, where they are not told otherwise by a variable of their own."""
OF_ONE = (
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
BEYOND = "MKL_DOMAIN_NUM_THREADS"
"""It outranks MKL_NUM_THREADS."""


def here(n_processes: int = 1) -> int:
    """What each of so many processes gets of this machine, or of what this process may use of it.

    One core stays free for all else that runs: the threads of a rank wait for the slowest at each step, so that one of
    them on a busy core makes small models several times slower.
    """
    return max(1, (len(os.sched_getaffinity(0)) - 1) // n_processes)


def of_a_rank(plan: Mapping[str, Any], n_ranks: int, on_slurm: bool) -> int:
    """What a plan.json gives each rank: its CPUs in a job; on one machine those that were asked for, else its share."""
    if on_slurm:
        return int(plan["resources"]["cpus_per_rank"])
    return int(plan["asked"].get("cpus") or here(n_ranks))


def given(environ: Mapping[str, str]) -> int:
    """What who started this process gave it: the supervisor, or srun, which may pass on no more than its own words."""
    return _whole(environ.get(GIVEN, "")) or _whole(environ.get("SLURM_CPUS_PER_TASK", "")) or here()


def capped(n: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is given n threads."""
    of_all = min(n, _whole(environ.get(OF_ALL, "")) or n)
    own = {name: min(n, _whole(environ.get(name, "")) or of_all) for name in OF_ONE}
    limits = {name: str(value) for name, value in {GIVEN: n, OF_ALL: of_all, **own}.items()}
    return {name: value for name, value in environ.items() if name != BEYOND} | limits


def cap(n: int) -> None:
    """Give this process n threads."""
    environ = capped(n, os.environ)
    os.environ.pop(BEYOND, None)
    os.environ.update(environ)
    if "numpy" in sys.modules:  # which has brought its BLAS along
        from threadpoolctl import threadpool_limits

        threadpool_limits({"blas": int(environ["OPENBLAS_NUM_THREADS"]), "openmp": int(environ[OF_ALL])})


@contextmanager
def one() -> Iterator[None]:
    """What is loaded computes in one thread meanwhile, so that it comes to the same bits whatever was given: a BLAS
    takes its blocks of a matrix by the number of its threads."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _whole(text: str) -> int:
    """The number that a variable says, 0 where it says none; of several, "8,2", which are for loops in loops, the
    first."""
    number = re.match(r"\s*(\d+)\s*(,|$)", text)
    return int(number[1]) if number else 0

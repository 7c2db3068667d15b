"""Limits the threads of BLAS, OpenMP and torch to the CPUs of the process, whatever the environment says.

The libraries read the environment once, when they are loaded, so it is set before that; a library that is loaded
already is called. A smaller number that the user has set is kept.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

GIVEN = "HPC_THREADS"
"""The variable in which the supervisor passes the number to a rank."""
OF_ALL = "OMP_NUM_THREADS"
"""The other libraries read it as well, if their own variable is not set."""
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
    """Return the threads of each of `n_processes` on this machine, or on the CPUs that this process may use.

    One core stays free for the rest of the system: the threads of a rank wait for the slowest at each step, so that a
    single one on a busy core makes small models several times slower.
    """
    return max(1, (len(os.sched_getaffinity(0)) - 1) // n_processes)


def of_a_rank(plan: Mapping[str, Any], n_ranks: int, on_slurm: bool) -> int:
    """Return the threads of a rank: its CPUs in a job; on one machine those that were requested, or its share."""
    if on_slurm:
        return int(plan["resources"]["cpus_per_rank"])
    return int(plan["asked"].get("cpus") or here(n_ranks))


def given(environ: Mapping[str, str]) -> int:
    """Return the number that the parent of this process set: the supervisor, or srun, which may not pass on ours."""
    return _whole(environ.get(GIVEN, "")) or _whole(environ.get("SLURM_CPUS_PER_TASK", "")) or here()


def capped(n: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a process with n threads."""
    of_all = min(n, _whole(environ.get(OF_ALL, "")) or n)
    own = {name: min(n, _whole(environ.get(name, "")) or of_all) for name in OF_ONE}
    limits = {name: str(value) for name, value in {GIVEN: n, OF_ALL: of_all, **own}.items()}
    return {name: value for name, value in environ.items() if name != BEYOND} | limits


def cap(n: int) -> None:
    """Limit this process to n threads."""
    environ = capped(n, os.environ)
    os.environ.pop(BEYOND, None)
    os.environ.update(environ)
    if "numpy" in sys.modules:  # its BLAS is loaded as well
        from threadpoolctl import threadpool_limits

        threadpool_limits({"blas": int(environ["OPENBLAS_NUM_THREADS"]), "openmp": int(environ[OF_ALL])})


@contextmanager
def one() -> Iterator[None]:
    """Compute in one thread inside the block, so that the result is the same to the bit: a BLAS divides a matrix into
    blocks by the number of its threads."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _whole(text: str) -> int:
    """Parse the number in a variable, 0 if there is none. Of several, as "8,2" for nested loops, take the first."""
    number = re.match(r"\s*(\d+)\s*(,|$)", text)
    return int(number[1]) if number else 0

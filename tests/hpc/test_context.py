"""Who I am, and what my part is."""

from pathlib import Path

import pytest

from hpc.context import Context, Input, World, input_path
from hpc.rundir import RunDir, read_json


@pytest.mark.parametrize(
    ("environ", "world"),
    [
        ({}, World()),
        ({"HPC_RANK": "3", "HPC_SIZE": "4", "HPC_LOCAL_RANK": "1", "HPC_LOCAL_SIZE": "2"}, World(3, 4, 1, 2)),
        (
            {
                "SLURM_PROCID": "5",
                "SLURM_STEP_NUM_TASKS": "7",
                "SLURM_LOCALID": "0",
                "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
            },
            World(5, 7, 0, 2),
        ),
        # the batch script of a job is not a rank of it, although Slurm gives it a number
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, World()),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, World(1, 2, 0, 1)),
        # what our supervisor says goes before what Slurm says
        ({"HPC_RANK": "0", "HPC_SIZE": "1", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}, World()),
    ],
)
def test_the_world_is_read_from_what_started_us(environ: dict[str, str], world: World) -> None:
    assert World.from_env(environ) == world


def test_a_place_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no such place in the world"):
        World(rank=2, size=2)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_together_are_all_the_work_each_once(size: int) -> None:
    work = list(range(5))
    assert sorted(item for rank in range(size) for item in World(rank, size).share(work)) == work


def test_progress_is_written_at_first_and_at_last_however_fast(tmp_path: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path))
    for done in range(1001):
        ctx.progress("train", done, 1000, loss=0.5)
    pulse = read_json(ctx.run.pulse(0))
    assert (pulse["done"], pulse["total"], pulse["figures"]) == (1000, 1000, {"loss": 0.5})


def test_an_input_is_a_run_or_a_path(tmp_path: Path) -> None:
    assert input_path(Input("train-abc"), tmp_path) == tmp_path / "train-abc" / "out"
    assert input_path(Input("data/bids"), tmp_path) == Path("data/bids")

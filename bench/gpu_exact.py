"""Trainings that are stopped in the middle and go on in another process: part of `python -m bench gpu`.

Three processes: one trains the whole of each case and stops another run in the middle, with compute.exact=true; one
goes on with what was stopped; one trains twice without compute.exact, which is set for a whole process.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from bench import loop
from bench.gpu_arms import SIZES, Size
from eegdecode.training import model_file
from eegdecode.training.config import Compute, Watch
from eegdecode.training.loop import fit
from hpc.rank.context import Context, Preempted, World
from hpc.runs.rundir import RunDir, read_lines

ROOT = Path(__file__).parent.parent
PARTS = ("whole and half", "the rest", "without")
LOOKS = 2
"""Steps from one log point to the next, at which a run is asked to stop."""
LIMIT_S = 60.0


def run_part(part: str, size: Size, folder: Path) -> None:
    """Run it in a process of its own; on an imitated GPU in this one."""
    if size.imitated:
        with _as_before():
            do_part(part, size, folder)
        return
    (name,) = (name for name, one in SIZES.items() if replace(one, imitated=False) == size)
    command = [sys.executable, "-m", "bench.gpu_exact", part, str(folder), name]
    subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT_S)


def do_part(part: str, size: Size, folder: Path) -> None:
    for name in size.exact:
        try:
            _do_case(part, name, size, folder / name)
        except RuntimeError as error:  # an operation without a deterministic kernel: of this case alone
            (folder / name / FAILED).write_text(f"{part}: {error}")


FAILED = "failed"


def failure(folder: Path) -> str:
    """Return why a case failed, or ""."""
    path = folder / FAILED
    return path.read_text()[:500] if path.exists() else ""


def _do_case(part: str, name: str, size: Size, folder: Path) -> None:
    if part == "whole and half":
        _train(name, size, folder, "whole", exact=True)
        _train(name, size, folder, "parts", exact=True, stop_after=size.exact_steps // 2)
    elif part == "the rest":
        _train(name, size, folder, "parts", exact=True)
    else:
        _train(name, size, folder, "loose")
        _train(name, size, folder, "loose-again")


def _train(name: str, size: Size, folder: Path, run: str, exact: bool = False, stop_after: int | None = None) -> None:
    compute = Compute(exact=True) if exact else Compute()
    cfg = replace(loop.config(size.cases[name], folder, compute, size.exact_steps), watch=Watch(every=LOOKS))
    metrics = RunDir(folder / run).metrics

    def should_stop() -> bool:
        return stop_after is not None and metrics.exists() and len(read_lines(metrics)) >= stop_after

    with suppress(Preempted):
        fit(cfg, Context(World(), RunDir(folder / run), should_stop=should_stop))


def same(one: Path, other: Path) -> bool:
    """Whether two runs have written parameters of the same bits."""
    mine, theirs = (model_file.load(RunDir(run).out).parameters for run in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def step_s(run: Path) -> float:
    """Return the mean time of a step in the second half of a run."""
    lines = read_lines(RunDir(run).metrics)
    second_half = lines[len(lines) // 2 :]
    return sum(line["seconds"] for line in second_half) / len(second_half)


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave torch as it was: compute.exact is for a whole process."""
    deterministic, cudnn = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    flags, workspace = (cudnn.deterministic, cudnn.benchmark), os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def main(words: list[str]) -> None:
    part, folder, size = words
    do_part(part, SIZES[size], Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])

"""A checkpoint of tensors on a GPU is copied while training goes on, and holds what they were when it was taken."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench import spy
from bench.streams import Streams
from hpc.checkpoint import checkpoint, format
from hpc.checkpoint.format import HostBuffer
from hpc.runs.rundir import RunDir
from tests.hpc.test_saver import saver_of
from tests.imitated import late

__all__ = ["late"]
State = dict[str, Any]


def state_on(device: torch.device) -> State:
    kinds = [torch.ones(5, dtype=kind, device=device) for kind in (torch.bfloat16, torch.int64, torch.bool)]
    weights = {"w": torch.ones(300, 40, device=device), "t": torch.ones(30, 40, device=device).mT, "n": torch.tensor(1)}
    return {
        "model": weights,
        "kinds": kinds,
        "optimizer": {"m": torch.ones(70_000, device=device), "cpu": torch.ones(9)},
    }


def flat(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    return [each for part in (state.values() if isinstance(state, dict) else state) for each in flat(part)]


def change(tensors: Any) -> None:
    for tensor in flat(tensors):
        tensor.fill_(0)


def read(path: Path, written: State) -> State:
    return format.join([format.read(path, written["bytes"], written["sha256"])])


def test_training_waits_for_nothing_and_the_file_holds_what_was_there(
    late: tuple[torch.device, Streams], tmp_path: Path
) -> None:
    device, streams = late
    buffer = HostBuffer()
    for number in range(3):  # in the same memory
        state = state_on(device)
        with spy.counting() as counts:
            buffer.take(state, is_first=True, later=("optimizer",))
            change([state["model"], state["kinds"]])
            buffer.settle()
            change(state["optimizer"])
        assert counts.silent and not counts.waits and counts.n_ops, counts.where
        found = read(tmp_path / f"{number}", buffer.write(tmp_path / f"{number}"))
        assert all(bool((tensor == 1).all()) and tensor.device.type == "cpu" for tensor in flat(found))
        assert [tensor.shape for tensor in flat(found)] == [tensor.shape for tensor in flat(state)]
    assert streams.unordered == []


def test_who_changes_it_without_settling_would_be_seen(late: tuple[torch.device, Streams], tmp_path: Path) -> None:
    device, streams = late
    buffer, state = HostBuffer(), state_on(device)
    buffer.take(state, is_first=True, later=("optimizer",))
    change(state["optimizer"]["m"])
    found = read(tmp_path / "state", buffer.write(tmp_path / "state"))
    assert found["optimizer"]["m"].unique().tolist() == [0] and found["model"]["w"].unique().tolist() == [1]
    assert len(streams.unordered) == 1 and "fill_" in streams.unordered[0]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def test_a_saver_writes_in_its_thread_what_arrives_there(late: tuple[torch.device, Streams], run: RunDir) -> None:
    device, streams = late
    ours, state = saver_of(run), state_on(device)
    with spy.counting() as counts:
        for step in range(1, 4):
            ours.save(step, state, later=("optimizer",))
            for tensor in flat([state["model"], state["kinds"]]):
                tensor.logical_not_() if tensor.dtype == torch.bool else tensor.add_(1)
            ours.settle()
            for tensor in flat(state["optimizer"]):
                tensor.add_(1)
    ours.close()
    assert counts.silent and not counts.waits, counts.where
    for step in checkpoint.whole_steps(run.checkpoints):
        found = checkpoint.load(run.checkpoints, step)
        values = {
            value for tensor in flat(found) if tensor.dtype != torch.bool for value in tensor.float().unique().tolist()
        }
        assert values == {float(step)}
    assert streams.unordered == []

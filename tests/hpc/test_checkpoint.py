"""Checkpoints are whole, verified, or absent."""

import logging
import pickle
from pathlib import Path

import pytest
import torch

from hpc import checkpoint
from hpc.rundir import committed_steps


def state(value: float) -> dict[str, object]:
    return {"model": {"weight": torch.full((3,), value)}, "step": int(value), "best": None}


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    weights = torch.randn(1000)
    checkpoint.save(tmp_path, 7, {"model": weights, "nested": {"lr": 1e-3, "names": ["a"]}})
    step, loaded = checkpoint.latest(tmp_path) or (None, {})
    assert step == 7
    assert torch.equal(loaded["model"], weights)
    assert loaded["nested"] == {"lr": 1e-3, "names": ["a"]}


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "checkpoints") is None


def test_the_oldest_are_dropped_and_two_always_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, state(step))
    assert committed_steps(tmp_path) == [4, 5]
    with pytest.raises(ValueError, match="keep must be at least 2, got 1"):
        checkpoint.save(tmp_path, 6, state(6), keep=1)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_one_is_named_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, state(step))
    file = tmp_path / "step-00000002" / "state.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "truncated": lambda: file.write_bytes(content[:100]),
        "flipped": lambda: file.write_bytes(content),
        "gone": file.unlink,
    }[damage]()
    with caplog.at_level(logging.WARNING):
        step, loaded = checkpoint.latest(tmp_path) or (None, {})
    assert (step, loaded["step"]) == (1, 1)
    assert "step-00000002 is damaged" in caplog.text


def test_one_that_was_cut_off_before_its_commit_does_not_count_and_is_written_again(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000002" / "state.pt").write_bytes(b"half")
    assert (checkpoint.latest(tmp_path) or (None,))[0] == 1
    checkpoint.save(tmp_path, 2, state(2))
    assert (checkpoint.latest(tmp_path) or (None,))[0] == 2


def test_a_checkpoint_from_a_stranger_runs_no_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return print, ("boom",)

    checkpoint.save(tmp_path, 1, {"bomb": Bomb()})
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        checkpoint.latest(tmp_path)

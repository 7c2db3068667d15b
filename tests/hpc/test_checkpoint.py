"""Checkpoints are whole, verified, or absent."""

import logging
import shutil
from pathlib import Path

import pytest
import torch

from hpc.checkpoint import checkpoint
from hpc.checkpoint.saver import Saver
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir, committed_steps, read_json


def state(value: float) -> dict[str, object]:
    return {"model": {"weight": torch.full((3,), value)}, "step": int(value), "best": None}


def save(run: Path, *steps: int, attempt: int = 1, **options: int) -> Path:
    """Save these steps, one after the other; gives the folder of the checkpoints."""
    saver = Saver(Context(World(), RunDir(run), attempt), **options)
    for step in steps:
        saver.save(step, state(step))
    saver.close()
    return RunDir(run).checkpoints


def newest(folder: Path) -> int:
    step, found = checkpoint.latest(folder) or (0, {"step": 0})
    assert found["step"] == step
    return step


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    weights = torch.randn(1000)
    saver = Saver(Context(World(), RunDir(tmp_path)))
    saver.save(7, {"model": weights, "nested": {"lr": 1e-3, "names": ["a"]}})
    saver.close()
    step, loaded = checkpoint.latest(RunDir(tmp_path).checkpoints) or (None, {})
    assert step == 7
    assert torch.equal(loaded["model"], weights)
    assert loaded["nested"] == {"lr": 1e-3, "names": ["a"]}


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "checkpoints") is None


def test_the_commit_says_what_the_save_took(tmp_path: Path) -> None:
    commit = read_json(save(tmp_path, 7, attempt=3) / "step-00000007" / "COMMIT")
    assert commit is not None
    assert (commit["step"], commit["attempt"], commit["ranks"]) == (7, 3, 1)
    assert commit["seconds"] > 0
    ((name, file),) = commit["files"].items()
    assert (name, file["bytes"], len(file["sha256"])) == ("state-0000-of-0001.bin", commit["bytes"], 64)


def test_the_oldest_are_dropped_and_two_always_kept(tmp_path: Path) -> None:
    assert committed_steps(save(tmp_path, 1, 2, 3, 4, 5)) == [4, 5]
    with pytest.raises(ValueError, match="keep must be at least 2, got 1"):
        save(tmp_path, 6, keep=1)


def test_the_best_and_every_nth_are_kept(tmp_path: Path) -> None:
    saver = Saver(Context(World(), RunDir(tmp_path)), every=1, keep_every=4)
    for step in range(1, 12):
        saver.save(step, state(step), best=3 if step >= 3 else step)
    saver.close()
    assert committed_steps(RunDir(tmp_path).checkpoints) == [3, 4, 8, 10, 11]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "COMMIT empty", "COMMIT cut off", "COMMIT zeros"])
def test_a_damaged_one_is_named_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    folder = save(tmp_path, 1, 2)
    file = folder / "step-00000002" / ("COMMIT" if "COMMIT" in damage else "state-0000-of-0001.bin")
    content = bytearray(file.read_bytes())
    flipped = content.copy()
    flipped[len(content) // 2] ^= 1
    {
        "truncated": lambda: file.write_bytes(content[:100]),
        "flipped": lambda: file.write_bytes(flipped),
        "gone": file.unlink,
        "COMMIT empty": lambda: file.write_bytes(b""),
        "COMMIT cut off": lambda: file.write_bytes(content[:20]),
        "COMMIT zeros": lambda: file.write_bytes(bytes(len(content))),
    }[damage]()
    with caplog.at_level(logging.WARNING):
        assert newest(folder) == 1
    assert "step 2 is damaged" in caplog.text
    assert str(file) in caplog.text
    assert newest(save(tmp_path, 2, attempt=2)) == 2, "written again in its place"
    assert sorted(path.name for path in save(tmp_path, 3, attempt=3).iterdir()) == ["step-00000002", "step-00000003"]


def test_one_that_was_cut_off_before_its_commit_does_not_count_and_is_swept(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    half = checkpoint.beside(folder, 2, attempt=1)
    half.mkdir()
    (half / "state-0000-of-0001.bin").write_bytes(b"half")
    (folder / "step-00000003").mkdir()
    assert newest(folder) == 1
    Saver(Context(World(), RunDir(tmp_path), attempt=2))
    assert not half.exists()
    assert newest(save(tmp_path, 2, attempt=2)) == 2


def test_a_whole_one_of_that_step_is_kept(tmp_path: Path) -> None:
    place = save(tmp_path, 5) / "step-00000005" / "COMMIT"
    before = place.read_text()
    folder = save(tmp_path, 5, attempt=2)
    assert place.read_text() == before
    assert [path.name for path in folder.iterdir()] == ["step-00000005"]


def test_rotation_leaves_the_only_whole_one_and_what_is_newer(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 2)
    shutil.copytree(folder / "step-00000002", folder / "step-00000009")  # of an attempt that got further
    (folder / "step-00000002" / "COMMIT").write_bytes(b"")
    checkpoint.rotate(folder, step=2, keep=2)
    assert committed_steps(folder) == [1, 2, 9]
    save(tmp_path, 3, 4, attempt=2)
    assert committed_steps(folder) == [3, 4, 9]


def test_one_that_was_being_replaced_when_a_kill_came_is_not_lost(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 2)
    before = checkpoint.beside(folder, 2, attempt=1).with_suffix(checkpoint.BEFORE)
    checkpoint.at(folder, 2).rename(before)
    Saver(Context(World(), RunDir(tmp_path), attempt=2))
    assert newest(folder) == 2

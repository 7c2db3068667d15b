"""Checkpoints are whole, verified, or absent."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from hpc.checkpoint import checkpoint, format
from hpc.checkpoint.saver import Saver
from hpc.rank import ddp
from hpc.rank.context import Context, World
from hpc.runs.rundir import Damaged, RunDir, committed_steps, read_json, write_json
from tests.ranks import in_ranks


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


def test_rotation_looks_at_the_files_of_a_checkpoint_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 512 files in each, all of them after each save are thousands of requests to a shared disk."""
    folder = save(tmp_path, 1, 2, keep=4)
    looked: list[int] = []
    real = checkpoint._has_its_size

    def look(place: Path) -> bool:
        looked.append(int(place.name.removeprefix("step-")))
        return real(place)

    monkeypatch.setattr(checkpoint, "_has_its_size", look)
    save(tmp_path, 3, 4, 5, 6, attempt=2, keep=4)
    assert looked.count(1) <= 2 and not set(looked) & {3, 4, 5, 6}, looked
    assert committed_steps(folder) == [3, 4, 5, 6]


def one_of_three(rank: int, run: Path) -> None:
    read: list[str] = []
    real = format.read

    def counted(path: Path, n_bytes: int, sha256: str) -> format.Contents:
        read.append(path.parent.name)
        return real(path, n_bytes, sha256)

    format.read = counted
    ctx = Context(World(rank, 3, rank, 3), RunDir(run))
    ddp.start(ctx)
    nothing = checkpoint.latest_on_all(run / "nothing")
    step, loaded = checkpoint.latest_on_all(ctx.run.checkpoints) or (0, {})
    same = checkpoint.fingerprint(loaded) == checkpoint.fingerprint(checkpoint.load(ctx.run.checkpoints, 1))
    write_json(run / f"saw-{rank}", {"nothing": nothing, "step": step, "same": same, "read": read[:-1]})
    ddp.barrier()
    os._exit(0)


@pytest.mark.ranks
def test_a_checkpoint_is_read_by_one_rank_and_checked_by_all(tmp_path: Path) -> None:
    """The newest is damaged: all go on from the one before, and nobody but the first rank has asked the disk."""
    saver = Saver(Context(World(), RunDir(tmp_path)))
    for step in (1, 2):
        saver.save(step, {"weights": torch.randn(100_000), "small": torch.ones(3), "step": step, "names": ["a", None]})
    saver.close()
    with open(RunDir(tmp_path).checkpoints / "step-00000002" / "state-0000-of-0001.bin", "r+b") as file:
        file.seek(-100_000, os.SEEK_END)
        file.write(b"damage")
    in_ranks(one_of_three, 3, tmp_path)
    for rank in range(3):
        read = ["step-00000002", "step-00000001"] if rank == 0 else []
        assert read_json(tmp_path / f"saw-{rank}") == {"nothing": None, "step": 1, "same": True, "read": read}


def test_bytes_that_were_damaged_on_their_way_are_found(tmp_path: Path) -> None:
    place = save(tmp_path, 1) / "step-00000001"
    ((name, file),) = (read_json(place / "COMMIT") or {})["files"].items()
    whole = format.read(place / name, file["bytes"], file["sha256"])
    assert format.received(place / name, whole.head, whole.body.clone(), file["sha256"]).pieces.keys()
    whole.body[3] += 1
    with pytest.raises(Damaged, match="has checksum"):
        format.received(place / name, whole.head, whole.body, file["sha256"])

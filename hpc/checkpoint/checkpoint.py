"""Numbered checkpoints, each complete and verified, or absent.

    checkpoints/step-00001200/state-0000-of-0004.bin   rank 0's part of the state, of 4 (hpc.checkpoint.format)
    checkpoints/step-00001200/COMMIT                   size and checksum of each file; a folder without it is ignored
    checkpoints/.step-00001240.attempt-0003.tmp/       being written by attempt 3, renamed when it is whole

hpc.checkpoint.saver writes them. Read back, the tensors are whole, however many ranks wrote them.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from hpc.checkpoint import format
from hpc.rank import ddp
from hpc.runs.rundir import Damaged, committed_steps

log = logging.getLogger(__name__)

BEFORE = ".before.tmp"
"""The suffix of a checkpoint that is being replaced."""


def latest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Load the newest complete checkpoint, as (step, state), or None. A damaged one is reported and skipped."""
    newest = _latest(folder)
    return newest and newest[:2]


def _latest(folder: Path) -> tuple[int, dict[str, Any], list[format.Contents]] | None:
    for step in reversed(committed_steps(folder)):
        try:
            parts = _parts(at(folder, step))
            return step, format.join(parts), parts
        except Damaged as damage:
            log.warning("checkpoint of step %d is damaged, trying the one before: %s", step, damage)
    return None


def latest_on_all(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Load the newest complete checkpoint on every rank of the process group: the first one reads it and passes its
    bytes on, so that the disk is asked once, however many they are. Every rank checks every byte. A collective."""
    if ddp.size() == 1:
        return latest(folder)
    newest = _latest(folder) if ddp.rank() == 0 else None
    files = {part.path.name: part for part in newest[2]} if newest else {}
    outline = {"step": newest[0], "files": commit_of(at(folder, newest[0]))["files"]} if newest else None  # type: ignore[index]
    outline = json.loads(ddp.bytes_of_first(json.dumps(outline).encode()).numpy().tobytes())
    if outline is None:
        return None
    place = at(folder, outline["step"])
    parts = []
    for name, file in outline["files"].items():
        mine = files.get(name)
        head = ddp.bytes_of_first(mine.head if mine else b"").numpy().tobytes()
        body = ddp.bytes_of_first(mine.body if mine else b"")
        parts.append(mine or format.received(place / name, head, body, file["sha256"]))
    return outline["step"], newest[1] if newest else format.join(parts)


def load(folder: Path, step: int) -> dict[str, Any]:
    """Load the state of a step onto the CPU, with every byte checked. Raises Damaged."""
    return load_from(at(folder, step))


def load_from(place: Path) -> dict[str, Any]:
    return format.join(_parts(place))


def _parts(place: Path) -> list[format.Contents]:
    """Read the files of a checkpoint."""
    commit = commit_of(place)
    if commit is None:
        raise Damaged(f"{place / 'COMMIT'} is missing or cut off")
    return [format.read(place / name, file["bytes"], file["sha256"]) for name, file in commit["files"].items()]


def fingerprint(state: Any) -> str:
    """Compute the SHA-256 of all tensors and values of a state, independent of their order."""
    digest = hashlib.sha256()

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                walk(value[key], f"{path}/{key}")
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                walk(item, f"{path}/{number}")
        elif hasattr(value, "untyped_storage"):
            digest.update(f"{path} {value.dtype} {tuple(value.shape)} ".encode())
            digest.update(format.raw(value))
        else:
            digest.update(f"{path} {value!r} ".encode())

    walk(state, "")
    return digest.hexdigest()


def at(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def commit_of(place: Path) -> dict[str, Any] | None:
    """Read the COMMIT of a checkpoint, or None if there is none that can be read."""
    try:
        commit = json.loads((place / "COMMIT").read_bytes())
    except (
        FileNotFoundError,
        ValueError,
        RecursionError,
    ):  # a disk that lost power can leave it empty, or full of zeros
        return None
    return commit if isinstance(commit, dict) and _are_files(commit.get("files")) else None


def _are_files(files: Any) -> bool:
    return (
        isinstance(files, dict)
        and bool(files)
        and all(
            "/" not in name
            and isinstance(file, dict)
            and type(file.get("bytes")) is int
            and isinstance(file.get("sha256"), str)
            for name, file in files.items()
        )
    )


def whole_steps(folder: Path, known: set[int] | None = None) -> list[int]:
    """List the steps whose files have the size that was written, in order. Cheap; the content is checked on loading.
    `known`: steps that were whole before, whose files are not looked at again; the others are added."""
    known = set() if known is None else known
    there = committed_steps(folder)
    known.intersection_update(there)
    known.update(step for step in there if step not in known and _has_its_size(at(folder, step)))
    return sorted(known)


def commit(partial: Path, folder: Path, step: int) -> bool:
    """Rename a complete folder, COMMIT included, to its final name. False if the same state is there already.

    Another state of the same step is replaced: an interrupted validation is done now.
    """
    place, before = at(folder, step), partial.with_name(partial.name.removesuffix(".tmp") + BEFORE)
    if place.exists():
        try:
            same = fingerprint(load(folder, step)) == fingerprint(load_from(partial))
        except Damaged:
            same = False
        if same:
            shutil.rmtree(partial)
            return False
        os.rename(place, before)
    sync(partial)
    os.rename(partial, place)
    sync(folder)
    shutil.rmtree(before, ignore_errors=True)
    return True


def rotate(
    folder: Path,
    step: int,
    keep: int,
    keep_every: int = 0,
    best: int | None = None,
    known: set[int] | None = None,
) -> None:
    """Delete checkpoints older than `step`, except the last `keep`, the best, and each `keep_every`-th. `known`: steps
    that are known to be whole, see `whole_steps`.

    Newer ones are left alone: after a fallback they are damaged, or belong to an attempt that got further.
    """
    until_now = [whole for whole in whole_steps(folder, known) if whole <= step]
    if not until_now:
        return  # even if the only one is damaged, it may be better than nothing
    spared = {*until_now[-keep:], best} | {whole for whole in until_now if keep_every and whole % keep_every == 0}
    for place in folder.glob("step-*"):
        number = int(place.name.removeprefix("step-"))
        if number < until_now[-1] and number not in spared:
            try:
                (place / "COMMIT").unlink(missing_ok=True)  # first: a half-deleted folder must not count
                shutil.rmtree(place)
            except OSError as error:
                log.warning("%s is not deleted, the next save tries again: %s", place, error)


def sweep(folder: Path, attempt: int, before: int | None = None) -> None:
    """Delete the unfinished checkpoints of attempts up to this one, of steps below `before` if it is given. Restore one
    that was about to be replaced when the process was killed."""
    for leftover in folder.glob(".step-*.tmp"):
        step, of_attempt = (part.split("-")[1] for part in leftover.name.split(".")[1:3])
        if int(of_attempt) <= attempt and (before is None or int(step) < before):
            place = at(folder, int(step))
            if leftover.name.endswith(BEFORE) and not place.exists():
                os.rename(leftover, place)
                continue
            shutil.rmtree(leftover, ignore_errors=True)  # a rank that is late may still be writing into it


def beside(folder: Path, step: int, attempt: int) -> Path:
    """Return the folder in which an attempt writes the checkpoint of a step until it is complete."""
    return folder / f".step-{step:08d}.attempt-{attempt:04d}.tmp"


def refuse_full_disk(folder: Path, n_bytes: int, n_files: int) -> None:
    """Raise ENOSPC before a save would, if the disk has no room."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < 1.1 * n_bytes:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB free, {1.1 * n_bytes / 1e9:.2f} GB needed")
    if disk.f_files and disk.f_favail < n_files:  # some file systems do not count files and report 0
        raise OSError(errno.ENOSPC, f"room for {disk.f_favail} files, {n_files} needed")


def sync(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _has_its_size(place: Path) -> bool:
    commit = commit_of(place)
    return commit is not None and all(_size_b(place / name) == file["bytes"] for name, file in commit["files"].items())


def _size_b(file: Path) -> int:
    """Return the size of a file, -1 if there is none."""
    try:
        entry = file.stat()
    except OSError:
        return -1
    return entry.st_size if stat.S_ISREG(entry.st_mode) else -1

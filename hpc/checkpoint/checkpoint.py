"""Numbered checkpoints, each complete and verified, or absent.

    checkpoints/step-00001200/state-0000-of-0004.bin   what rank 0 of 4 has of the state (hpc.checkpoint.format)
    checkpoints/step-00001200/COMMIT                   what each file holds: a folder without it does not count
    checkpoints/.step-00001240.attempt-0003.tmp/       being written by attempt 3, renamed when it is whole

hpc.checkpoint.saver writes them. Read back, the tensors are whole, however many ranks wrote them.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from hpc.checkpoint import format
from hpc.checkpoint.format import Damaged
from hpc.runs.rundir import committed_steps

log = logging.getLogger(__name__)

BEFORE = ".before.tmp"
"""Ends the name of one that is being replaced."""


def latest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The newest whole checkpoint, as (step, state), or None. A damaged one is reported, and the one before is used."""
    for step in reversed(committed_steps(folder)):
        try:
            return step, load(folder, step)
        except Damaged as damage:
            log.warning("checkpoint of step %d is damaged, trying the one before: %s", step, damage)
    return None


def load(folder: Path, step: int) -> dict[str, Any]:
    """The state of that step, on the CPU, every byte of it checked. Raises Damaged."""
    return load_from(at(folder, step))


def load_from(place: Path) -> dict[str, Any]:
    commit = commit_of(place)
    if commit is None:
        raise Damaged(f"{place / 'COMMIT'} is missing or cut off")
    return format.join(
        [format.read(place / name, file["bytes"], file["sha256"]) for name, file in commit["files"].items()]
    )


def fingerprint(state: Any) -> str:
    """The SHA-256 of all tensors and values of a state, whatever order they were written in."""
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
    """What the COMMIT of a checkpoint says, or None where there is none that can be read."""
    try:
        commit = json.loads((place / "COMMIT").read_text())
    except (FileNotFoundError, ValueError):  # a disk that lost power can leave it empty, or full of zeros
        return None
    return commit if isinstance(commit, dict) and "files" in commit else None


def whole_steps(folder: Path) -> list[int]:
    """The steps whose files have the size that was written, in order. Cheap; what they hold is checked when loaded."""
    return [step for step in committed_steps(folder) if _has_its_size(at(folder, step))]


def commit(beside: Path, folder: Path, step: int) -> bool:
    """Give a folder that is complete, COMMIT included, its name. False when a whole one of the same state stands there.

    Another state of the same step is replaced: a validation that was broken off is done now.
    """
    place, before = at(folder, step), beside.with_name(beside.name.removesuffix(".tmp") + BEFORE)
    if place.exists():
        try:
            same = fingerprint(load(folder, step)) == fingerprint(load_from(beside))
        except Damaged:
            same = False
        if same:
            shutil.rmtree(beside)
            return False
        os.rename(place, before)
    sync(beside)
    os.rename(beside, place)
    sync(folder)
    shutil.rmtree(before, ignore_errors=True)
    return True


def rotate(folder: Path, step: int, keep: int, keep_every: int = 0, best: int | None = None) -> None:
    """Delete what is older than `step`, but for the last `keep`, the best, and each `keep_every`-th, kept for good.

    Newer ones are left alone: after a fall back they are damaged, or those of an attempt that got further.
    """
    until_now = [whole for whole in whole_steps(folder) if whole <= step]
    if not until_now:
        return  # the only one there is may be damaged, and may still be better than nothing
    spared = {*until_now[-keep:], best} | {whole for whole in until_now if keep_every and whole % keep_every == 0}
    for place in folder.glob("step-*"):
        number = int(place.name.removeprefix("step-"))
        if number < until_now[-1] and number not in spared:
            try:
                (place / "COMMIT").unlink(missing_ok=True)  # first: a folder half deleted must not count
                shutil.rmtree(place)
            except OSError as error:
                log.warning("%s is not deleted, the next save tries again: %s", place, error)


def sweep(folder: Path, attempt: int, before: int | None = None) -> None:
    """Delete what attempts up to this one have left half-written, of steps below `before` if it is given. One that was
    about to be replaced when the process was killed is restored."""
    for leftover in folder.glob(".step-*.tmp"):
        step, of_attempt = (part.split("-")[1] for part in leftover.name.split(".")[1:3])
        if int(of_attempt) <= attempt and (before is None or int(step) < before):
            place = at(folder, int(step))
            if leftover.name.endswith(BEFORE) and not place.exists():
                os.rename(leftover, place)
                continue
            shutil.rmtree(leftover, ignore_errors=True)  # a rank that is late may still be writing into it


def beside(folder: Path, step: int, attempt: int) -> Path:
    """Where an attempt writes the checkpoint of a step before it is whole."""
    return folder / f".step-{step:08d}.attempt-{attempt:04d}.tmp"


def refuse_full_disk(folder: Path, n_bytes: int, n_files: int) -> None:
    """Raise ENOSPC, before a save would, where the disk says that it has no room."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < 1.1 * n_bytes:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB free, {1.1 * n_bytes / 1e9:.2f} GB needed")
    if disk.f_files and disk.f_favail < n_files:  # some file systems do not count their files and say 0
        raise OSError(errno.ENOSPC, f"room for {disk.f_favail} files, {n_files} needed")


def sync(folder: Path) -> None:
    """The names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _has_its_size(place: Path) -> bool:
    commit = commit_of(place)
    return commit is not None and all(
        (place / name).is_file() and (place / name).stat().st_size == file["bytes"]
        for name, file in commit["files"].items()
    )

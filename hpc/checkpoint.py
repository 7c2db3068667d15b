"""Numbered checkpoints: whole, verified, or absent.

    checkpoints/step-00001200/state.pt   tensors and plain values; loading it runs no code
    checkpoints/step-00001200/COMMIT     its SHA-256, written last: a folder without it does not count

One rank writes; every rank may read.
"""

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from hpc.rundir import atomic_write, committed_steps, read_json, write_json

log = logging.getLogger(__name__)


def save(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> None:
    """Write the state of a step and drop the oldest beyond `keep`. One rank calls it."""
    if keep < 2:
        raise ValueError(f"keep must be at least 2, got {keep}: the last one may be the one a kill damages")
    place = folder / f"step-{step:08d}"
    if _checksum_kept(place):
        return
    atomic_write(place / "state.pt", lambda file: torch.save(state, file))
    write_json(place / "COMMIT", {"step": step, "sha256": {"state.pt": _sha256(place / "state.pt")}})
    log.info("saved step %d", step)
    for old in committed_steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old:08d}")


def latest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The newest whole checkpoint, as (step, state), or None. A damaged one is named, and the one before it taken."""
    for step in reversed(committed_steps(folder)):
        place = folder / f"step-{step:08d}"
        if _checksum_kept(place):
            return step, torch.load(place / "state.pt", map_location="cpu", weights_only=True)
        log.warning("checkpoint %s is damaged (its bytes are not those written): trying the one before", place)
    return None


def _checksum_kept(place: Path) -> bool:
    commit = read_json(place / "COMMIT")
    if commit is None:
        return False
    return all((place / name).is_file() and _sha256(place / name) == sha for name, sha in commit["sha256"].items())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

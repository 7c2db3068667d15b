"""Whether a run is still what was submitted: its folder the one it began in, its code that of the manifest.

runs/train-k3f9x2ab/identity.json        {"id", "made"}: made once by the launcher; plan.json names the id
runs/train-k3f9x2ab/code/manifest.json   size and SHA-256 of every file of code.zip; plan.json has its SHA-256
"""

import hashlib
import importlib.util
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc.runs import unpack
from hpc.runs.rundir import GONE, RESULT, Damaged, Gone, RunDir, atomic_write, forbid_making, read_json
from hpc.runs.unpack import ARCHIVE, MANIFEST

HALF_WRITTEN_S = 1.0
"""How long another launcher may take to write the identity, a line."""


class Unsealed(ValueError):
    """The code that would run is not that of the run's snapshot; trying again would change nothing."""


def identity(run: RunDir) -> str:
    """Return the id of a run folder, which stays the same as long as the folder is there; give it one if it has none.

    A copy of the folder has the same id: it can be resumed elsewhere.
    """
    path, new = run.identity, _of_plan(run) or secrets.token_hex(8)
    content = json.dumps({"id": new, "made": time.time()}).encode()
    try:
        with open(path, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return new
    except FileExistsError:
        deadline = time.monotonic() + HALF_WRITTEN_S
        while not (written := identity_of(run)) and time.monotonic() < deadline:
            time.sleep(0.02)
    if not written:  # left empty by a disk that lost power
        atomic_write(path, lambda file: file.write(content))
    return written or new


def identity_of(run: RunDir) -> str:
    """Read the id of a run folder; empty if it has none that can be read. That of a finished run is in plan.json."""
    try:
        record = read_json(run.identity)
    except Damaged:
        return ""
    return _of_plan(run) if record is None else str(record.get("id", "")) if isinstance(record, dict) else ""


def _of_plan(run: RunDir) -> str:
    if not os.path.exists(f"{run.folder}/{RESULT}"):
        return ""
    try:
        plan = read_json(run.plan)
    except Damaged:
        return ""
    return str(plan.get("identity", "")) if isinstance(plan, dict) else ""


def work_in(run: RunDir, expected: str) -> None:
    """Bind this process to a run folder: it raises Gone if it is not the expected one, and never makes it anew."""
    forbid_making(run.path)
    check_identity(run, expected)


def check_identity(run: RunDir, expected: str) -> None:
    """Raise Gone if the run folder is no longer the expected one: moved, deleted, or made anew. A disk that does not
    answer at the moment says nothing."""
    try:
        now = identity_of(run)
    except OSError:
        return
    if now == expected:
        return
    lost = "has no identity.json that can be read" if run.path.exists() else "was moved or deleted"
    what = f"is another one now (id {now}, not {expected})" if now else lost
    raise Gone(
        f"the run folder {run.folder} {what} while the run was working in it: it ends here and {GONE}. "
        f"Where the folder is whole, `python -m hpc.launch resume {run.name}` goes on from its last checkpoint"
    )


def manifest(files: Mapping[str, tuple[bytes, bool]]) -> bytes:
    """Return the text of a manifest, a line for each file. `files`: path -> (content, whether it can be executed)."""
    lines = []
    for path, (content, executable) in sorted(files.items()):
        entry: dict[str, Any] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        lines.append(f" {json.dumps(path)}: {json.dumps(entry | ({'executable': True} if executable else {}))}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def verify(run: RunDir, plan: Mapping[str, Any]) -> None:
    """Raise Unsealed if the snapshot is gone, or not to the byte what the plan names. Then make the copy on this node,
    from which this process has imported, what the snapshot says."""
    expected = plan.get("snapshot")
    if not expected:
        raise Unsealed(f"{run.plan} names no snapshot of the code, as an older version of hpc wrote it{_mend(run)}")
    if fault := difference(run.code, expected):
        raise Unsealed(f"{fault}{_mend(run)}")
    if not (run.code / ARCHIVE).exists():
        raise Unsealed(f"{run.code} is a copy of the code as older versions of hpc made it, file by file{_mend(run)}")
    if copy := copy_of(expected):
        try:
            unpack.mend(copy, run.code / ARCHIVE, json.loads((run.code / MANIFEST).read_text()))
        except OSError as error:  # a disk that is full: what is whole is enough for what was imported
            raise Unsealed(f"{copy}, this node's copy of the code, cannot be mended: {error}{_mend(run)}") from None


def copy_of(sha256: str) -> Path | None:
    """Return the copy of that snapshot from which this process has imported, if it has."""
    copy = Path(os.environ.get(unpack.UNPACKED, ""))
    return copy if copy.name == f"code-{sha256[:16]}" else None


def difference(code: Path, sha256: str) -> str:
    """Describe the first thing in which a snapshot differs from the one whose manifest has this SHA-256; empty if
    nothing does."""
    try:
        text = (code / MANIFEST).read_bytes()
    except FileNotFoundError:
        gone = not code.exists()
        return f"the run's copy of the code is gone: {code if gone else code / MANIFEST} is not there"
    if (digest := hashlib.sha256(text).hexdigest()) != sha256:
        return f"{code / MANIFEST} was changed after submission: its SHA-256 is {digest}, the plan's {sha256}"
    files: dict[str, dict[str, Any]] = json.loads(text)
    if ARCHIVE in os.listdir(code):
        return _difference_of_archive(code / ARCHIVE, files)
    if unpack.IMPORTS in files:
        return f"the run's copy of the code is gone: {code / ARCHIVE} is not there"
    return _difference_of_folder(code, files)


def _difference_of_archive(archive: Path, files: Mapping[str, Mapping[str, Any]]) -> str:
    try:
        with unpack.opened(archive) as packed:
            for path, entry in files.items():
                unpack.content_of(packed, path, entry)
            names = packed.namelist()
            added = sorted(set(names) - {*map(unpack.entry_name, files)}) or [n for n in names if names.count(n) > 1]
    except unpack.Changed as changed:
        return str(changed)
    return f"{added[0]} in {archive} was added after submission" if added else ""


def _difference_of_folder(code: Path, files: Mapping[str, Mapping[str, Any]]) -> str:
    """The same of a snapshot of an earlier version, which is no archive."""
    for path, entry in files.items():
        try:
            content = (code / path).read_bytes()
        except FileNotFoundError:
            return f"{code / path}, of the run's copy of the code, is gone"
        digest = hashlib.sha256(content).hexdigest()
        if digest != entry["sha256"]:
            return (
                f"{code / path} was changed after submission: expected {entry['bytes']} bytes with SHA-256 "
                f"{entry['sha256']}, found {len(content)} with {digest}"
            )
    added = next((path for path in unpack.importable(code.resolve()) if path not in files), None)
    return f"{code / added} was added after submission: Python could import it in place of another" if added else ""


def refuse_other_code(run: RunDir, plan: Mapping[str, Any]) -> None:
    """Raise Unsealed if this process would import a package of the plan from elsewhere than from this node's copy of
    the snapshot."""
    copy = copy_of(plan.get("snapshot", ""))
    for package, place in plan.get("packages", {}).items():
        expected, origin = os.path.realpath(copy / place) if copy else "", location(package)
        if origin is None or os.path.realpath(origin) != expected:
            raise Unsealed(
                f"this rank would import {package} from {origin or 'nowhere'}, not from the run's copy of the code, "
                f"{expected or run.code / ARCHIVE}: its PYTHONPATH is {os.environ.get('PYTHONPATH') or 'not set'}. See "
                "what the site's or your own scripts do with it"
            )


def location(package: str) -> str | None:
    """Return the folder, or the one file, from which Python imports a top-level package; None if it finds none."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    return next(iter(spec.submodule_search_locations or []), spec.origin)


def _mend(run: RunDir) -> str:
    return f". `python -m hpc.launch resume {run.name}` copies today's code, and goes on from the last checkpoint"

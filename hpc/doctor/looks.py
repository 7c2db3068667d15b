"""What a machine shows of itself: its disks and how fast they are, its cores, its Python and torch.

Used on the nodes of a probe's job, and on a machine without a Slurm.
"""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpc.site import gpus
from hpc.site.disks import disk_path

MOST_B, MOST_S = 64 << 20, 1.0
"""How much is written to a disk, and for how long at most."""
MOST_FILES, FILES_S, FILE_B = 200, 0.5, 4096
NAMES = re.compile(r"(SLURM_)?TMPDIR(_\w+)?|(\w+_)?SCRATCH(_\w+)?|LOCAL_?(SCRATCH|TMP)\w*|FLASH|WORK|PDDIR|PROJECTDIR")
"""Variables that sites name disks by."""
IN_MEMORY = ("tmpfs", "ramfs")
NETWORK = (
    "lustre",
    "nfs",
    "nfs4",
    "gpfs",
    "beegfs",
    "ceph",
    "panfs",
    "wekafs",
    "afs",
    "cifs",
    "9p",
    "orangefs",
    "cvmfs",
)
"""File systems that several machines share."""
TORCH = """\
import time
began = time.perf_counter()
import torch
print(f"{time.perf_counter() - began:.1f}|{torch.__version__}|{torch.version.cuda or ''}|{torch.version.hip or ''}|"
      f"{torch.cuda.device_count()}")
"""
TORCH_S, SLOW_S = 180.0, 15.0


@dataclass
class Disk:
    """A folder where a job can write."""

    name: str
    """As a profile names it: $TMPDIR, or its path."""
    path: str
    kind: str = ""
    """Its file system."""
    free_gb: float = 0.0
    mb_s: float = 0.0
    files_s: float = 0.0
    """Small files made and removed, in a second."""
    locks: bool = True
    error: str = ""
    seen_elsewhere: bool | None = None
    """Whether another node of the job sees what is written here; None: there was none that could look."""

    @property
    def is_shared(self) -> bool:
        return self.kind in NETWORK or self.kind.startswith("fuse.") or bool(self.seen_elsewhere)

    @property
    def in_memory(self) -> bool:
        return self.kind in IN_MEMORY


def disks(folder: str, scratch: list[str], account: str, environ: Mapping[str, str]) -> list[Disk]:
    """Return the places of this machine that a run could use, each once: not yet measured.

    Parameters
    ----------
    folder
        Where run folders are.
    scratch
        The places that a profile names.
    """
    named = {text: path for text in scratch if (path := disk_path(text, environ, account))}
    named |= {
        f"${name}": Path(value) for name, value in sorted(environ.items()) if NAMES.fullmatch(name) and value[:1] == "/"
    }
    named |= {place: Path(place) for place in ("/tmp", "/dev/shm")}
    every = [Disk("the run folder", folder)]
    for name, path in named.items():
        if path.is_dir() and all(os.path.realpath(path) != os.path.realpath(each.path) for each in every):
            every.append(Disk(name, str(path)))
    mounts = _mounts()
    for disk in every:
        disk.kind = kind_of(disk.path, mounts)
    return every


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(errors="replace")
    except OSError:  # no Linux
        return ""


def kind_of(path: str, mounts: str) -> str:
    """Return the file system that a folder is on."""
    kinds = {words[1]: words[2] for line in mounts.splitlines() if len(words := line.split()) > 2}
    real = Path(os.path.realpath(path))
    return next((kinds[str(place)] for place in (real, *real.parents) if str(place) in kinds), "")


def measure(disk: Disk) -> None:
    """Write to a disk for a second or two, and remove it again."""
    try:
        state = os.statvfs(disk.path)
        disk.free_gb = round(state.f_bavail * state.f_frsize / 1e9, 1)
        with tempfile.TemporaryDirectory(prefix=".hpc-doctor-", dir=disk.path) as folder:
            disk.mb_s = round(_written_mb_s(Path(folder, "large")), 1)
            disk.files_s = round(_files_s(Path(folder)))
            disk.locks = _locks(Path(folder, "lock"))
    except OSError as error:
        disk.error = error.strerror or str(error)


def _written_mb_s(file: Path) -> float:
    chunk, n_b, began = os.urandom(1 << 20), 0, time.perf_counter()
    with open(file, "wb", buffering=0) as written:
        while n_b < MOST_B and time.perf_counter() - began < MOST_S:
            n_b += written.write(chunk)
        os.fsync(written.fileno())
    return n_b / 1e6 / max(time.perf_counter() - began, 1e-6)


def _files_s(folder: Path) -> float:
    content, n, began = bytes(FILE_B), 0, time.perf_counter()
    while n < MOST_FILES and time.perf_counter() - began < FILES_S:
        file = folder / f"small-{n}"
        file.write_bytes(content)
        file.unlink()
        n += 1
    return n / max(time.perf_counter() - began, 1e-6)


def _locks(file: Path) -> bool:
    with open(file, "w") as locked:
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def cores(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the cores of the machine, those that this process may use, and those that Slurm has given."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = environ.get("SLURM_CPUS_ON_NODE", "")
    return {"machine": os.cpu_count() or 1, "usable": usable, "given": int(given) if given.isdecimal() else None}


def memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None


def software() -> dict[str, Any]:
    """Return this machine's kind and Python, and what came of importing torch there."""
    told: dict[str, Any] = {
        "machine": os.uname().machine, "python": sys.version.split()[0], "executable": sys.executable,
        "on": kind_of(sys.prefix, _mounts()), "prefix": sys.prefix,
    }  # fmt: skip
    return told | {"torch": torch()}


def torch(is_first: bool = True) -> dict[str, Any]:
    """Import torch in a process of its own: how long it takes, and what it is, or why it cannot."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, check=False, timeout=TORCH_S
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it takes more than {TORCH_S:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    seconds, version, cuda, hip, n_gpus = done.stdout.strip().splitlines()[-1].split("|")
    seen = {"import_s": float(seconds), "version": version, "cuda": cuda, "hip": hip, "n_gpus": int(n_gpus)}
    if is_first and float(seconds) > SLOW_S:  # once more, when the node has read its files
        seen["again_s"] = torch(is_first=False).get("import_s")
    return seen


def seen_gpus(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the GPUs that this process sees, and why."""
    devices = [str(path) for path in Path("/dev").glob("nvidia[0-9]*")]
    amd = Path("/dev/kfd").exists()
    return {
        "n": gpus.count(environ), "hidden_by": gpus.hidden_by(environ), "nvidia": len(devices), "amd": amd,
        "driver": gpus.driver(),
    }  # fmt: skip


def boot_id() -> str:
    """Return what tells machines apart that have the same names for their nodes."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def all_of(folder: str, scratch: list[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Look at this machine alone."""
    places = disks(folder, scratch, "", environ)
    for disk in places:
        measure(disk)
    return {
        "disks": [asdict(disk) for disk in places], "cores": cores(environ), "memory_gb": memory_gb(),
        "software": software(), "gpus": seen_gpus(environ),
    }  # fmt: skip

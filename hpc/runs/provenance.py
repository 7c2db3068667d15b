"""What a run was computed with: its settings, its environment, its ranks, and the hashes of what it has read.

    RUN/provenance.json    written by rank 0 when the stage is done; `hpc replay` compares with it

Of what another run has made, the hash is that of its list of products. Of a folder from outside, each file has one;
beyond WHOLE_B they are not read whole, but their beginning and end.
"""

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hpc.errors import ConfigError
from hpc.runs import products, records
from hpc.runs.rundir import LIST, Damaged, RunDir, read_json, write_json

WHOLE_B = 20 * 10**9
"""So many bytes from outside are read whole, some half a minute; a survey of terabytes should not take hours more."""
ENDS_B = 1 << 20
ENDS = "ends:"
"""Stands before the hash of the first and the last MiB of a file."""
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE", "OPENBLAS_CORETYPE",
)  # fmt: skip
"""The only variables that are noted: with another value, sums are rounded otherwise."""


def write(
    run: RunDir, settings: Mapping[str, Any], outside: Mapping[str, Path], n_ranks: int, beat: Callable[[], object]
) -> None:
    """Note what this process has computed with.

    Parameters
    ----------
    settings
        The config of the stage, as plain values.
    outside
        The paths that the config names, and where they are.
    beat
        Called now and then while files are read.
    """
    about: dict[str, Any] = {"ranks": n_ranks, "settings": settings, "environment": environment()}
    about["runs"] = {ref: products.digest(upstream.out) for ref, upstream in upstream_runs(run).items()}
    about["paths"] = hashes(outside, run.path.parent, beat)
    write_json(run.provenance, about)


def read(run: RunDir) -> dict[str, Any]:
    """Read it; empty for a run of a version that did not note it."""
    record = read_json(run.provenance)
    return record if isinstance(record, dict) else {}


def upstream_runs(run: RunDir) -> dict[str, RunDir]:
    """Return the runs next to this one that it reads, and those that they read, by name."""
    read: dict[str, RunDir] = {}
    left = [run]
    while left:
        for ref in _inputs(left.pop()).values():
            upstream = RunDir(run.path.parent / ref)
            if "/" not in ref and ref not in read and ref not in (".", "..") and upstream.plan.exists():
                read[ref] = upstream
                left.append(upstream)
    return read


def _inputs(run: RunDir) -> Mapping[str, str]:
    try:
        return records.plan(run).get("inputs", {})
    except (Damaged, ConfigError):  # of a run upstream, or of a later version: whoever reads it says so
        return {}


# What was read


def hashes(outside: Mapping[str, Path], runs: Path, beat: Callable[[], object] = bool) -> dict[str, Any]:
    """Return for each path its `digest`: that of the list in it, or of all of its `files`, which are listed then."""
    left_b = WHOLE_B
    found: dict[str, Any] = {}
    for ref, path in outside.items():
        if digest := products.digest(path) if (path / LIST).is_file() else "":
            found[ref] = {"digest": digest}
            continue
        sizes = dict(sorted((name, _size_b(file)) for name, file in _files(path, runs)))
        is_whole = sum(sizes.values()) <= left_b
        left_b -= sum(sizes.values()) if is_whole else 0
        with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
            read = pool.map(_whole if is_whole else _ends, (path / name for name in sizes))
            files = {}
            for (name, n_bytes), sha256 in zip(sizes.items(), read, strict=True):
                files[name] = [n_bytes, sha256]
                beat()
        found[ref] = {"digest": digest_of(files), "files": files}
    return found


def digest_of(files: Mapping[str, Any]) -> str:
    """Return the hash of a table of files."""
    lines = "".join(f"{name}\t{entry[0]}\t{entry[1]}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256(lines.encode(errors="backslashreplace")).hexdigest()


def first_difference(path: Path, was: Mapping[str, Any], runs: Path) -> str:
    """Describe the first thing in which a path is not what a run has read; empty if nothing is. `was`: its entry in
    `paths`."""
    if not path.exists():
        return f"{path} is not there"
    if "files" not in was:
        now = products.digest(path)
        what = f"has the hash {now[:12]}…" if now else f"has no {LIST}"
        return "" if now == was["digest"] else f"{path} {what}, and {was['digest'][:12]}… was read"
    files = dict(_files(path, runs))
    for name, (n_bytes, sha256) in was["files"].items():
        file = path / name if name else path
        if name not in files:
            return f"{file} is gone"
        if _size_b(file) != n_bytes:
            return f"{file} has {_size_b(file)} bytes, and {n_bytes} were read"
        now = (_ends if sha256.startswith(ENDS) else _whole)(file)
        if now != sha256:
            return f"{file} has the SHA-256 {_short(now)}…, and {_short(sha256)}… was read"
    added = sorted(set(files) - set(was["files"]))
    return f"{path / added[0]} was not there when it was read" if added else ""


def _short(sha256: str) -> str:
    return sha256.removeprefix(ENDS)[:12]


def _files(path: Path, runs: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a path, by their names below it: not what is hidden, nor the runs. Of a file, itself."""
    if path.is_file():
        yield "", path
        return
    passed = {os.path.realpath(runs)}  # a link may lead to a folder above it
    for parent, folders, names in os.walk(path, followlinks=True):
        here = Path(parent)
        passed.add(os.path.realpath(here))
        folders[:] = [
            name for name in sorted(folders) if not name.startswith(".") and os.path.realpath(here / name) not in passed
        ]
        for name in names:
            if not name.startswith(".") and (here / name).is_file():
                yield (here / name).relative_to(path).as_posix(), here / name


def _size_b(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # deleted meanwhile: that is no reason to end a run that has read it
        return -1


def _whole(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable, {error.strerror}"


def _ends(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read(ENDS_B))
            file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS_B))
            digest.update(file.read())
    except OSError as error:
        return f"{ENDS}unreadable, {error.strerror}"
    return ENDS + digest.hexdigest()


# Where it was computed


def environment() -> dict[str, Any]:
    """Return the packages of this process, its processor, and what else decides how sums are rounded. No names of
    machines and people."""
    about: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "packages": dict(sorted(packages(sys.path))),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        about["threads"] = torch.get_num_threads()
        about["instructions"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            about["gpu"] = f"{torch.cuda.get_device_name()}, CUDA or ROCm {torch.version.cuda or torch.version.hip}"
    return about


def packages(places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the installed distributions with their versions, from the names of folders alone: of two, the first on
    sys.path counts."""
    seen: set[str] = set()
    for place in places:
        try:
            names = sorted(os.listdir(place or "."))
        except OSError:
            continue
        for name in names:
            stem, suffix = os.path.splitext(name)
            package, dash, version = stem.partition("-")
            if suffix == ".dist-info" and dash and package not in seen:
                seen.add(package)
                yield package.lower().replace("_", "-"), version


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", errors="replace") as file:
            parts = (line.partition(":") for line in file if ":" in line)
            lines = {name.strip(): value.strip() for name, _, value in parts}
    except OSError:
        return platform.processor()
    return str(lines.get("model name") or lines.get("CPU part") or platform.processor())

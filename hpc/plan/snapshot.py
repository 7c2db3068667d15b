"""Copies the code at submission. Ranks import the copy, so editing the checkout, or `pip install -U`, does not change a
queued job.

runs/.code/3f2a91c0d4e5b6a7/                 one copy for all runs of the same code: a sweep of 160 is one copy
runs/.code/3f2a91c0d4e5b6a7/code.zip         its files, which each node unpacks for itself (hpc/runs/unpack.py)
runs/.code/3f2a91c0d4e5b6a7/manifest.json    size and SHA-256 of each of them; its own SHA-256 names the folder
runs/train-k3f9x2ab/code                     a link to it

What was sent here by ssh is such a copy already, and runs as it is (hpc/remote).

Of a git checkout all is copied that git tracks, or would, but for what no run needs: docs, tests, benchmarks, unless a
package of the run is in there. Of a package without one (installed, or unpacked from an
archive) its own folder, and what pip wrote about it that Python reads.
"""

import dataclasses
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.errors import ConfigError
from hpc.runs import seal, unpack

MAX_FILE_MB = 5
NEW_CODE = (".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh", ".sbatch", ".jinja")
"""Suffixes of new files, not yet in git, that are copied: data and secrets may lie next to the code."""
COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)
"""Suffixes of modules in machine code, which are copied whatever their size."""
NOT_RUN = (
    "docs", "doc", "tests", "test", "bench", "benchmarks", ".github", ".gitlab", ".gitlab-ci.yml", ".gitignore",
    ".pre-commit-config.yaml",
)  # fmt: skip
"""What stands at the top of a checkout and is for those who work on the code; pages of text (.md, .rst) too."""
SENT = "HPC_SENT"
"""The variable that names a file on code that was sent here: see `origin`."""
ABOUT = ("METADATA", "entry_points.txt", "top_level.txt")
"""What is copied of a distribution's .dist-info."""


@dataclass(frozen=True)
class Code:
    """A checkout, or a folder with packages outside of git, from which packages are imported."""

    root: str
    imports: tuple[str, ...]
    """The folders on sys.path, below root."""
    commit: str
    """Empty if it is no git checkout."""
    modified: tuple[str, ...]
    """Files that differ from the commit, including new ones; for people to read."""
    files: tuple[str, ...]
    """All files to copy: those that git tracks, and new code that is not ignored; or those of the packages."""
    version: str = ""
    """The versions of installed packages."""
    packages: tuple[tuple[str, str], ...] = ()
    """The packages that are imported from here, and their places below root."""
    too_large: tuple[str, ...] = ()
    """Files that are not copied."""
    folder_name: str = ""
    sent: str = ""
    """The SHA-256 of the snapshot it came in, if it was sent here from another machine."""

    @property
    def folder(self) -> str:
        """The name of its folder in the run's code/."""
        return self.folder_name or Path(self.root).name

    @property
    def import_folders(self) -> list[str]:
        """Return the folders in the snapshot from which Python imports."""
        return [os.path.normpath(f"{self.folder}/{each}") for each in self.imports]


@dataclass(frozen=True)
class Snapshot:
    """A copy of the code on the disk, and the SHA-256 of its manifest."""

    folder: Path
    sha256: str


def origin(codes: Sequence[Code], copy: Snapshot) -> str:
    """Return as JSON what is known of the code in a snapshot that is sent to another machine: `sent` reads it there."""
    host = os.uname().nodename
    entries = [
        dataclasses.asdict(code)
        | ({} if code.sent else {"root": f"{host}:{code.root}", "folder_name": code.folder, "sent": copy.sha256})
        for code in codes
    ]
    return json.dumps(entries)


def sent(environ: Mapping[str, str]) -> list[Code]:
    """Return the code that was sent here and runs this process; none if it was not sent."""
    if not environ.get(SENT):
        return []
    return [
        Code(**{key: _tuples(value) for key, value in entry.items()})
        for entry in json.loads(Path(environ[SENT]).read_text())
    ]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def look(packages: Sequence[str]) -> list[Code]:
    """Return where these packages are imported from: each git checkout once, and each folder of others once."""
    checkouts: dict[str, list[Path]] = {}
    loose: dict[str, list[Path]] = {}
    for package in packages:
        place = _place(package)
        if place is None:
            continue  # a package of somebody's that is broken is in nobody's way: see hpc.config.plugins
        root = _root(place)
        (checkouts if root else loose).setdefault(root or str(place.parent), []).append(place)
    codes = [_checkout(Path(root), places) for root, places in checkouts.items()]
    codes += [_packages(Path(folder), places) for folder, places in loose.items()]
    return [_with_folder(code, number, codes) for number, code in enumerate(codes)]


def _place(package: str) -> Path | None:
    """Return the folder or the file of a package."""
    origin = seal.location(package)
    if origin is None:
        return None
    if not os.path.exists(origin):
        raise ConfigError(f"{package} is imported from {origin}, of which no copy can be made: unpack it")
    return Path(origin).resolve()


def _root(place: Path) -> str:
    """Return the git checkout that the package belongs to; empty if it belongs to none."""
    if "site-packages" in place.parts:
        return ""
    root = os.fsdecode(_git(place.parent, "rev-parse", "--show-toplevel"))
    name = os.path.relpath(place, root) if root else ""
    # An ignored package, as in build/, is only next to what git knows
    return root if root and (_names(Path(root), "ls-files", "-z", "--", name) or _new(Path(root), name)) else ""


def _checkout(root: Path, places: Sequence[Path]) -> Code:
    tracked = _names(root, "ls-files", "-z")
    new = _new(root)
    changed = _names(root, "diff", "--name-only", "-z", "HEAD")
    own = [os.path.relpath(place.parent if place.parent != root else place, root) for place in places]
    files = [name for name in dict.fromkeys(tracked + new) if _is_run(name, own) and (root / name).is_file()]
    small = [name for name in files if _is_small(root / name)]
    commit = _git(root, "rev-parse", "HEAD").decode()
    return Code(
        root=str(root),
        imports=_imports(root, places),
        commit=commit or "no commit yet",
        modified=tuple(os.fsencode(name).decode(errors="replace") for name in sorted({*changed, *new})),
        files=tuple(small),
        packages=_named(root, places),
        too_large=tuple(name for name in files if name not in small),
    )


def _is_run(name: str, own: Sequence[str]) -> bool:
    """Whether a run may need a file of a checkout. `own`: where the packages of the run are."""
    if any(name == place or name.startswith(f"{place}/") for place in own):
        return True
    top, below, _ = name.partition("/")
    return top not in NOT_RUN and (bool(below) or not name.endswith((".md", ".rst")))


def _packages(folder: Path, places: Sequence[Path]) -> Code:
    """Return the code of packages that no checkout has; `folder` is the one on sys.path."""
    files = [os.path.relpath(path, folder) for place in places for path in _files_of(place)]
    distributions = [name for place in places for name in _distributions(place, folder)]
    about = [path for name in dict.fromkeys(distributions) for path in _about(name, folder)]
    small = [name for name in files if _is_small(folder / name)]
    return Code(
        root=str(folder),
        imports=(".",),
        commit="",
        modified=(),
        files=tuple(dict.fromkeys([*small, *about])),
        version=", ".join(f"{name} {importlib.metadata.version(name)}" for name in dict.fromkeys(distributions)),
        packages=_named(folder, places),
        too_large=tuple(name for name in files if name not in small),
    )


def _files_of(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for parent, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", ".git"))
        yield from (Path(parent, name) for name in sorted(names) if os.path.isfile(os.path.join(parent, name)))


def _distributions(place: Path, folder: Path) -> list[str]:
    """Return the distributions that installed a package here; none if it was only unpacked."""
    names = importlib.metadata.packages_distributions().get(place.name.partition(".")[0], [])
    return [name for name in names if _about(name, folder)]


def _about(distribution: str, folder: Path) -> list[str]:
    """Return the files about a distribution, below the folder on sys.path. Ranks find models and metrics in them."""
    files = importlib.metadata.distribution(distribution).files or []
    own = [str(file) for file in files if file.name in ABOUT and file.parent.suffix == ".dist-info"]
    return [name for name in own if (folder / name).is_file()]


def _with_folder(code: Code, number: int, codes: Sequence[Code]) -> Code:
    """Give the second of two folders of the same name another one in the snapshot."""
    is_taken = code.folder in [other.folder for other in codes[:number]]
    return dataclasses.replace(code, folder_name=f"{code.folder}.{number + 1}") if is_taken else code


def _imports(root: Path, places: Sequence[Path]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.relpath(place.parent, root) for place in places))


def _named(root: Path, places: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    return tuple((place.name.partition(".")[0], os.path.relpath(place, root)) for place in places)


def _new(root: Path, *paths: str) -> list[str]:
    names = _names(root, "ls-files", "-z", "--others", "--exclude-standard", "--exclude=__pycache__", "--", *paths)
    return [name for name in names if name.endswith(NEW_CODE)]


def _is_small(path: Path) -> bool:
    return path.stat().st_size <= MAX_FILE_MB * 1e6 or path.name.endswith(COMPILED)


def take(checkouts: Sequence[Code], runs: Path) -> Snapshot:
    """Return the snapshot `runs/.code/HASH` of this code; make it unless it is there, to the byte."""
    if checkouts and checkouts[0].sent:
        return _as_sent(checkouts[0].sent, runs)
    files = _contents(tuple(checkouts))
    manifest = seal.manifest(files)
    sha256 = hashlib.sha256(manifest).hexdigest()
    place = runs / ".code" / sha256[:16]
    # Sites that clean their scratch disks delete old files one by one
    was_there = place.exists()
    if was_there and not seal.difference(place, sha256):
        return Snapshot(place, sha256)
    partial = place.with_name(f".{place.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with zipfile.ZipFile(partial / unpack.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, (content, _) in sorted(files.items()):
            entry = zipfile.ZipInfo(unpack.entry_name(name))  # without times: equal code, equal file
            packed.writestr(entry, content, zipfile.ZIP_DEFLATED)
    (partial / unpack.MANIFEST).write_bytes(manifest)
    if was_there:  # no longer complete, or changed; the runs that link to it get the new one
        with suppress(FileNotFoundError):  # another launcher repairs it too
            os.replace(place, partial.with_suffix(".old"))
    try:
        os.rename(partial, place)
    except OSError:  # another launcher was first, with the same files
        if not place.exists():
            raise
        shutil.rmtree(partial)
    shutil.rmtree(partial.with_suffix(".old"), ignore_errors=True)
    return Snapshot(place, sha256)


def _as_sent(sha256: str, runs: Path) -> Snapshot:
    place = runs / ".code" / sha256[:16]
    if fault := seal.difference(place, sha256):
        raise ConfigError(f"{fault}: remove {place} there, and give the line again, which sends the code again")
    return Snapshot(place, sha256)


@functools.cache
def _contents(checkouts: tuple[Code, ...]) -> dict[str, tuple[bytes, bool]]:
    """Read the files of a snapshot, with code.diff: once, so that all stages of a pipeline run the same code, however
    long the first ones take."""
    diffs = [_git(Path(checkout.root), "diff", "HEAD") for checkout in checkouts if checkout.commit]
    imports = [path for checkout in checkouts for path in checkout.import_folders]
    contents = {
        "code.diff": (b"\n".join(diffs), False),
        unpack.IMPORTS: (json.dumps(imports).encode(), False),
        "__main__.py": (Path(unpack.__file__).read_bytes(), False),
    }
    for checkout in checkouts:
        for name in checkout.files:
            path = Path(checkout.root, name)
            contents[f"{checkout.folder}/{name}"] = (path.read_bytes(), os.access(path, os.X_OK))
    return contents


def digests(checkouts: Sequence[Code]) -> set[str]:
    """Return the SHA-256 of each file that a snapshot of this code would hold."""
    return {hashlib.sha256(content).hexdigest() for content, _ in _contents(tuple(checkouts)).values()}


def link(folder: Path, code: Path) -> None:
    """Make `code` a link to a snapshot, atomically: ranks that start meanwhile see the old one or the new one."""
    target = os.path.relpath(folder, code.parent)
    if code.is_symlink() and os.readlink(code) == target:
        return
    if code.is_dir() and not code.is_symlink():  # a run folder that was copied from elsewhere, links followed
        shutil.rmtree(code)
    new_link = code.with_name(f".code.{os.getpid()}.tmp")
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(target)
    os.replace(new_link, code)


def _names(folder: Path, *words: str) -> list[str]:
    """Return the file names that git lists; bytes that are not UTF-8 are kept, as Python does for all file names."""
    return [os.fsdecode(name) for name in _git(folder, *words).split(b"\0") if name]


def _git(folder: Path, *words: str) -> bytes:
    """Run git and return its output; empty if there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    except FileNotFoundError:
        return b""
    return done.stdout.strip(b"\n") if done.returncode == 0 else b""

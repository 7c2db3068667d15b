"""Copies the code at submission. Ranks import the copy, so editing the checkout does not change a queued job.

runs/.code/3f2a91c0d4e5b6a7/     one copy for all runs of the same code: a sweep of 160 is one copy
runs/train-k3f9x2ab/code         a link to it
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_MB = 5
NEW_CODE = (".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh", ".sbatch", ".jinja")
"""Suffixes of new files, not yet in git, that are copied: data and secrets may lie next to the code."""


@dataclass(frozen=True)
class Code:
    """The checkout that a package is imported from. `imports`: the folder on sys.path, below root."""

    root: str
    imports: str
    commit: str
    modified: tuple[str, ...]
    """Files that differ from the commit, including new ones; for people to read."""
    files: tuple[str, ...]
    """All files to copy: those that git tracks, and new code that is not ignored."""
    digest: str = ""
    """A hash of everything that determines the content of the copied files."""

    @property
    def folder(self) -> str:
        """The name of its folder in the run's code/."""
        return Path(self.root).name


def look(packages: list[str]) -> list[Code]:
    """Return the checkouts of these packages, each once. An installed package that is not editable has none."""
    checkouts: dict[str, Code] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        imports = Path(spec.submodule_search_locations[0]).resolve().parent
        root = os.fsdecode(_git(imports, "rev-parse", "--show-toplevel"))
        if root and "site-packages" not in imports.parts and root not in checkouts:
            checkouts[root] = _checkout(Path(root), imports)
    return list(checkouts.values())


def installed(packages: Sequence[str], checkouts: Sequence[Code]) -> tuple[str, ...]:
    """Return the other packages as `name version`: the ranks import them from where they are installed."""
    copied = [Path(checkout.root, checkout.imports).resolve() for checkout in checkouts]
    versions = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec and spec.origin and Path(spec.origin).resolve().parent.parent not in copied:
            versions.append(f"{package} {_version(package)}".rstrip())
    return tuple(versions)


def _version(package: str) -> str:
    """Return the version of the distribution that contains the package."""
    for distribution in importlib.metadata.packages_distributions().get(package, []):
        return importlib.metadata.version(distribution)
    return ""


def _checkout(root: Path, imports: Path) -> Code:
    tracked = _names(root, "ls-files", "-z")
    new = _names(root, "ls-files", "-z", "--others", "--exclude-standard", "--exclude=__pycache__")
    new = [name for name in new if name.endswith(NEW_CODE)]
    changed = _names(root, "diff", "--name-only", "-z", "HEAD")
    files = [name for name in dict.fromkeys(tracked + new) if (root / name).is_file()]
    files = [name for name in files if (root / name).stat().st_size <= MAX_FILE_MB * 1e6]
    commit = _git(root, "rev-parse", "HEAD").decode()
    modified = sorted({*changed, *new})
    digest = hashlib.sha256(os.fsencode("\0".join([root.name, commit, *files])))
    for name in modified if commit else files:  # the commit determines the rest
        if name in files:
            digest.update(os.fsencode(f"\0{name}\0{(root / name).stat().st_mode}\0") + (root / name).read_bytes())
    return Code(
        root=str(root),
        imports=os.path.relpath(imports, root),
        commit=commit or "no commit yet",
        modified=tuple(os.fsencode(name).decode(errors="replace") for name in modified),
        files=tuple(files),
        digest=digest.hexdigest(),
    )


def keep(checkouts: Sequence[Code], runs: Path) -> Path:
    """Return the folder `runs/.code/HASH` with these checkouts' files and code.diff; make it unless it is complete."""
    name = hashlib.sha256("".join(checkout.digest for checkout in checkouts).encode()).hexdigest()[:16]
    place = runs / ".code" / name
    # Sites that clean their scratch disks delete old files one by one
    files = [f"{checkout.folder}/{file}" for checkout in checkouts for file in checkout.files]
    if all((place / file).exists() for file in [*files, "code.diff"]):
        return place
    partial = place.with_name(f".{name}.{os.uname().nodename}.{os.getpid()}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    for checkout in checkouts:
        for file in checkout.files:
            target = partial / checkout.folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(checkout.root) / file, target)
            if os.access(Path(checkout.root) / file, os.X_OK):  # its other modes follow the umask
                target.chmod(target.stat().st_mode | (target.stat().st_mode & 0o444) >> 2)
    partial.mkdir(parents=True, exist_ok=True)
    diffs = [_git(Path(checkout.root), "diff", "HEAD") for checkout in checkouts]
    (partial / "code.diff").write_bytes(b"\n".join(diffs))
    if place.exists():  # no longer complete; the runs that link to it get the new one
        os.replace(place, partial.with_suffix(".old"))
    try:
        os.rename(partial, place)
    except OSError:  # another launcher was first, with the same files
        if not place.exists():
            raise
        shutil.rmtree(partial)
    shutil.rmtree(partial.with_suffix(".old"), ignore_errors=True)
    return place


def link(place: Path, code: Path) -> None:
    """Make `code` a link to a kept copy, atomically: ranks that start meanwhile see the old one or the new one."""
    target = os.path.relpath(place, code.parent)
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

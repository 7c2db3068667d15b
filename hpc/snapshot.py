"""The code as it is now, kept with the run: ranks import the copy, so editing the checkout changes no queued job."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_MB = 5
NEW_CODE = (".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh", ".sbatch")
"""What a new file that git does not know yet must end with to be copied: data and secrets may lie beside the code."""


@dataclass(frozen=True)
class Code:
    """The checkout that a package is imported from. `imports`: the folder on sys.path, below root."""

    root: str
    imports: str
    commit: str
    modified: tuple[str, ...]
    """Files that differ from the commit, new ones included."""
    files: tuple[str, ...]
    """All that is copied: what git tracks, and code that is new and not ignored."""

    @property
    def folder(self) -> str:
        """Its name in the run's code/."""
        return Path(self.root).name


def look(packages: list[str]) -> list[Code]:
    """The checkouts of these packages, each once. A package that is installed for good is in none."""
    found: dict[str, Code] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        imports = Path(spec.submodule_search_locations[0]).resolve().parent
        root = _git(imports, "rev-parse", "--show-toplevel")
        if root and "site-packages" not in imports.parts and root not in found:
            found[root] = _checkout(Path(root), imports)
    return list(found.values())


def _checkout(root: Path, imports: Path) -> Code:
    tracked = _git(root, "ls-files", "-z").split("\0")
    new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--exclude=__pycache__").split("\0")
    new = [name for name in new if name.endswith(NEW_CODE)]
    changed = _git(root, "diff", "--name-only", "-z", "HEAD").split("\0")
    files = [name for name in dict.fromkeys(tracked + new) if name and (root / name).is_file()]
    return Code(
        root=str(root),
        imports=os.path.relpath(imports, root),
        commit=_git(root, "rev-parse", "HEAD") or "no commit yet",
        modified=tuple(sorted({name for name in changed + new if name})),
        files=tuple(name for name in files if (root / name).stat().st_size <= MAX_FILE_MB * 1e6),
    )


def copy(checkouts: list[Code], code: Path, diff: Path) -> None:
    """Put the files into `code/`, and what git diff says about them into `code.diff`. A copy of before is replaced."""
    beside = code.with_name(".code.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    for checkout in checkouts:
        for name in checkout.files:
            target = beside / checkout.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(checkout.root) / name, target)
    beside.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(code, ignore_errors=True)
    os.replace(beside, code)
    diff.write_text("\n".join(_git(Path(checkout.root), "diff", "HEAD") for checkout in checkouts))


def _git(folder: Path, *words: str) -> str:
    """What git says, or "" where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip("\n") if done.returncode == 0 else ""

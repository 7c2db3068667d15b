"""The archive of a snapshot, as somebody would edit it."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path


def files_of(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def write(archive: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)


def edit(archive: Path, ending: str, change: Callable[[bytes], bytes]) -> None:
    """Change the one file whose name ends so."""
    files = files_of(archive)
    (name,) = (name for name in files if name.endswith(ending))
    write(archive, files | {name: change(files[name])})

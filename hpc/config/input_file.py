"""Settings that name a file: its digest becomes a part of the setting when a plan is made, and so of the run's name.

components: InputFile = InputFile("")        `decisions.tsv` in a config, `decisions.tsv#sha256=…` in the plan
input_file(cfg.components)                   its path; refused where it is another file by now
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NewType, TypeVar, get_type_hints

from hpc.errors import ConfigError

InputFile = NewType("InputFile", str)
"""The type of a config field that names a file which the stage reads; empty: none."""

NO_FILE = InputFile("")
MARK = "#sha256="
DIGITS = 16
MOVED = "HPC_INPUTS"
"""The variable that names a table of paths in settings, and where these files and folders are on this machine."""
T = TypeVar("T")


def with_digests(config: T, at: str = "") -> T:
    """The config with the digest of each file that it names. A file that is not there is a ConfigError."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        hints, changed = get_type_hints(type(config)), {}
        for name in (field.name for field in dataclasses.fields(config) if field.init):
            value, path = getattr(config, name), f"{at}.{name}"
            new = _with_digest(value, path) if hints[name] is InputFile else with_digests(value, path)
            if new is not value:
                changed[name] = new
        return dataclasses.replace(config, **changed) if changed else config
    if isinstance(config, tuple):
        items = [with_digests(item, f"{at}[{index}]") for index, item in enumerate(config)]
        return config if all(new is old for new, old in zip(items, config, strict=True)) else tuple(items)  # type: ignore[return-value]
    return config


def _with_digest(setting: str, at: str) -> str:
    if not setting or MARK in setting:
        return setting
    path = Path(setting).expanduser()
    if not path.is_file():
        raise ConfigError(f"{at} is {setting}, but there is no such file: it is looked for from {Path.cwd()}")
    return f"{setting}{MARK}{file_digest(path)}"


def file_digest(path: Path) -> str:
    """The digest of a file as a setting has it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def place_of(name: str) -> str:
    """Where what a setting names is: there, or where `hpc replay` has found it, as the file says that MOVED names."""
    table = os.environ.get(MOVED)
    moved: dict[str, str] = json.loads(Path(table).read_text()) if table else {}
    return moved.get(name, name)


def input_file(setting: Any) -> Path:
    """The file of a setting, if it is still the one with which the run was planned."""
    name, _, digest = str(setting).partition(MARK)
    path = Path(place_of(name)).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no file {path}, which the run was planned with: put it there again")
    if digest and file_digest(path) != digest:
        raise ValueError(
            f"{path} is not the file any more with which the run was planned: give the same line again, which plans a "
            "run with this one"
        )
    return path

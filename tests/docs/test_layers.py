"""The rooms of both packages: imports lead downwards, no folder is too full. The layers themselves are in setup.cfg."""

import ast
import graphlib
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT

MOST_FILES = 16
FLAT = {"eegdecode/models", "eegdecode/preprocessing/steps", "eegdecode/evaluation/metrics"}  # a file a thing: 0030


def modules(root: Path, package: str) -> dict[str, Path]:
    """The files of a package by the names they are imported by."""
    files = sorted((root / package).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(root: Path, package: str) -> dict[str, set[str]]:
    """What each module imports of its package: also within functions, and for the eyes of a type checker only."""
    files = modules(root, package)
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{file}:{node.lineno}: imports name the whole path here"
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= {member if member in files else node.module for member in members}
        graph[name] = {other for other in imported if other in files and other != name}
    return graph


def ring(graph: dict[str, set[str]]) -> str:
    """Return modules that import each other in a ring, the first such; "" if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return " is imported by ".join(error.args[1])
    return ""


@pytest.mark.parametrize("package", ["hpc", "eegdecode"])
def test_no_modules_import_each_other_in_a_ring(package: str) -> None:
    graph = imports(ROOT, package)
    assert len(graph) > 40
    assert ring(graph) == ""


@pytest.mark.parametrize(
    "back",
    [
        "from pack.a import work",
        "def later():\n    import pack.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack import a",
    ],
    ids=["at the top", "in a function", "for types only"],
)
def test_a_ring_is_seen_however_it_is_closed(tmp_path: Path, back: str) -> None:
    (tmp_path / "pack/room").mkdir(parents=True)
    for name, text in {"__init__": "", "a": "from pack.room import b", "room/__init__": "", "room/b": back}.items():
        (tmp_path / f"pack/{name}.py").write_text(text)
    assert set(ring(imports(tmp_path, "pack")).split(" is imported by ")) == {"pack.a", "pack.room.b"}


@pytest.mark.parametrize("package", ["hpc", "eegdecode"])
def test_no_folder_holds_more_files_than_one_looks_through(package: str) -> None:
    counts = Counter(str(file.parent.relative_to(ROOT)) for file in modules(ROOT, package).values())
    assert {name: n for name, n in counts.items() if n > MOST_FILES and name not in FLAT} == {}

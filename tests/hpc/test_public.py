"""The names in `import hpc` and `import eegdecode` with their signatures, and the time that importing takes."""

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

PUBLIC = {
    "hpc": [
        "Choices", "ConfigError", "Context", "DONE", "FAILED", "HUNG", "Input", "NEVER", "Preempted", "REFUSED", "Run",
        "RunDir", "RunFailed", "RunRecord", "RunTable", "STOPPED", "Secret", "USAGE", "World", "checked_by", "dry_run",
        "runs", "submit",
    ],
    "eegdecode": [
        "Decoder", "EEGClassifier", "EEGRegressor", "Predictions", "RECIPES", "load_model", "open", "open_store",
        "predict", "read_model", "read_predictions",
    ],
}  # fmt: skip
"""A name that goes from here breaks other people's code: announce it one version before."""
RECORDS = ROOT / "tests/records/public"
BASES = {"EEGClassifier": "_Estimator", "EEGRegressor": "_Estimator"}
"""Whose constructor is that of a class of the same file."""


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these_and_each_can_be_had(package: str) -> None:
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__) == sorted(PUBLIC[package])
    for name in PUBLIC[package]:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", PUBLIC)
def test_importing_a_package_imports_nothing_heavy(package: str, tmp_path: Path) -> None:
    code = f"import sys; import {package}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "mne", "h5py", "numpy", "submitit", "omegaconf", "scipy"}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_says_that_it_has_types(package: str) -> None:
    module = importlib.import_module(package)
    assert (Path(str(module.__file__)).parent / "py.typed").is_file()


def place(module: ModuleType, name: str) -> tuple[str, str]:
    """The module that a public name is from, and what it is called there."""
    if name in getattr(module, "_ROOMS", ()):
        return "hpc.notebook", name
    found = module._AT.get(name, module.__name__)
    return (found, name) if isinstance(found, str) else found


def signature(module: str, name: str, public: str) -> list[str]:
    """A public name as its source declares it: a function with its parameters, a class with its public members."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    nodes = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    if name not in nodes:
        return [f"{public}: a constant"]
    return declared(nodes[name], public, nodes)


def declared(node: ast.stmt, name: str, nodes: dict[str, ast.FunctionDef | ast.ClassDef]) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        kind = {"property": "property ", "classmethod": "classmethod ", "staticmethod": "staticmethod "}
        first = next((kind[word] for word in map(ast.unparse, node.decorator_list) if word in kind), "")
        return [f"{first}{name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns) if node.returns else None}"]
    if isinstance(node, ast.AnnAssign):
        value = f" = {ast.unparse(node.value)}" if node.value else ""
        return [f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{value}"]
    assert isinstance(node, ast.ClassDef)
    bases = ", ".join(map(ast.unparse, node.bases))
    members = [member for base in (BASES.get(node.name),) if base for member in nodes[base].body]  # type: ignore[union-attr]
    lines = [f"class {name}({bases})"]
    for member in [*members, *node.body]:
        own = getattr(member, "name", getattr(getattr(member, "target", None), "id", ""))
        if isinstance(member, ast.FunctionDef | ast.AnnAssign) and (own == "__init__" or own[:1] not in ("_", "")):
            lines += [f"    {line}" for line in declared(member, own, nodes)]
    return lines


@pytest.mark.parametrize("package", PUBLIC)
def test_no_signature_of_a_public_name_changes_unannounced(package: str) -> None:
    """A change breaks other people's code. Where it is meant, announce it in the changelog, and renew the record."""
    module = importlib.import_module(package)
    lines = [line for name in PUBLIC[package] for line in signature(*place(module, name), name)]
    record, text = RECORDS / f"{package}.txt", "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        record.parent.mkdir(exist_ok=True)
        record.write_text(text)
    how = f"announce it in CHANGELOG.md, then UPDATE_GOLDEN=1 pytest {Path(__file__).relative_to(ROOT)}"
    assert text == record.read_text(), f"the public names of {package} have changed: {how}"


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_function_and_class_is_documented_and_typed(package: str) -> None:
    module = importlib.import_module(package)
    for name in PUBLIC[package]:
        where, called = place(module, name)
        spec = importlib.util.find_spec(where)
        assert spec is not None and spec.origin is not None
        for node in ast.parse(Path(spec.origin).read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == called:
                assert ast.get_docstring(node), f"{package}.{name} has no docstring"
                functions = [node] if isinstance(node, ast.FunctionDef) else node.body
                untyped = [each.name for each in functions if isinstance(each, ast.FunctionDef) and not each.returns]
                assert untyped == [], f"{package}.{name}"


def test_a_room_that_is_a_function_is_a_package_still() -> None:
    import inspect

    import hpc
    from hpc.submit import start

    assert hpc.submit.start is start and hpc.runs.rundir.RunDir is hpc.RunDir  # type: ignore[attr-defined]
    assert list(inspect.signature(hpc.submit).parameters)[:4] == ["stage", "config", "settings", "nodes"]

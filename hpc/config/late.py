"""Importing a file for its config without what its code imports: torch stays out of a plan.

A model, an objective or a step is one file: its config, a frozen dataclass with a `name`, and its code. On a login node
only the config is wanted. For the packages that are registered here, importing such a file runs the statements that
its configs need, and the others when something else of the file is asked for:

    >>> from eegdecode.models.eegnet import EEGNet  # the dataclass, and what it names
    >>> from eegdecode.models.eegnet import Network  # imports torch, and runs the rest of the file

It is an ordinary file: without this, the import runs all of it at once, with the same result. See
docs/decisions/0033-one-file-a-thing.md.
"""

import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable, Sequence
    from types import ModuleType
    from typing import Any

_PACKAGES: set[str] = set()
"""Packages whose modules are imported in two parts; also single modules."""


def register(*names: str) -> None:
    """Import these modules, and those of these packages (not of their sub-packages), in two parts from now on."""
    _PACKAGES.update(names)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds registered modules as Python does, and lets `_Loader` load them."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        if name not in _PACKAGES and name.rpartition(".")[0] not in _PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader or spec.submodule_search_locations is not None:
            return spec
        spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: "ModuleType") -> None:
        import ast

        first, rest = split(ast.parse(self.get_data(self.path), self.path))
        self._run(first, module)
        if not rest:
            return
        if hasattr(module, "__getattr__"):  # it has its own: run all at once
            self._run(rest, module)
            return
        running, lock = False, threading.RLock()

        def complete() -> None:
            nonlocal running
            with lock:
                if running or vars(module).get("__getattr__") is not missing:  # by itself, or done
                    return
                running = True
                try:
                    self._run(rest, module)
                    del module.__getattr__, module.__dir__
                finally:
                    running = False

        def missing(name: str) -> "Any":
            if not name.startswith("__"):  # such as __path__, which the import system looks for
                complete()
            try:
                return vars(module)[name]
            except KeyError:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}") from None

        def names() -> "Iterable[str]":
            complete()
            return sorted(vars(module))

        module.__getattr__ = missing  # type: ignore[method-assign]
        module.__dir__ = names  # type: ignore[method-assign]

    def _run(self, statements: "list[ast.stmt]", module: "ModuleType") -> None:
        import ast

        exec(compile(ast.Module(statements, []), self.path, "exec", dont_inherit=True), module.__dict__)


def split(tree: "ast.Module") -> "tuple[list[ast.stmt], list[ast.stmt]]":
    """Divide the statements of a module into those that its configs need, and the others, each in the order of the
    file. If there is no config, the first part has all."""
    import ast

    body = [single for statement in tree.body for single in _singly(statement)]
    binds = [_bound(statement) for statement in body]
    uses = [{node.id for node in ast.walk(each) if isinstance(node, ast.Name) and _is_read(node)} for each in body]
    first = {i for i, statement in enumerate(body) if _is_config(statement)}
    if not first:
        return body, []
    first |= {i for i, statement in enumerate(body) if _describes_the_module(statement)}
    todo = set().union(*(uses[i] for i in first))
    wanted: set[str] = set()
    while todo:
        wanted |= todo
        new = {i for i, names in enumerate(binds) if names & todo} - first
        first |= new
        todo = set().union(*(uses[i] for i in new)) - wanted
    parts: tuple[list[ast.stmt], list[ast.stmt]] = ([], [])
    for i, statement in enumerate(body):
        parts[i not in first].append(statement)
    return parts


def _is_read(name: "ast.Name") -> bool:
    import ast

    return isinstance(name.ctx, ast.Load)


def _singly(statement: "ast.stmt") -> "list[ast.stmt]":
    """Split an import of several names into several imports."""
    import ast

    match statement:
        case ast.Import(names):
            return [ast.copy_location(ast.Import([name]), statement) for name in names]
        case ast.ImportFrom(module, names, level):
            return [ast.copy_location(ast.ImportFrom(module, [name], level), statement) for name in names]
    return [statement]


def _is_config(statement: "ast.stmt") -> bool:
    """Whether the statement is a dataclass with `name: … = "…"`."""
    import ast

    if not isinstance(statement, ast.ClassDef):
        return False
    decorators = (each.func if isinstance(each, ast.Call) else each for each in statement.decorator_list)
    return any(ast.unparse(each).rpartition(".")[2] == "dataclass" for each in decorators) and any(
        isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and each.target.id == "name"
        and isinstance(each.value, ast.Constant)
        for each in statement.body
    )


def _describes_the_module(statement: "ast.stmt") -> bool:
    """Whether the statement is the docstring, an import from __future__, or a name such as __all__."""
    import ast

    return (
        (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__")
        or (isinstance(statement, ast.Assign) and any(name.startswith("__") for name in _bound(statement)))
    )


def _bound(statement: "ast.stmt") -> set[str]:
    """Return the names that a statement of a module binds."""
    import ast

    names: set[str] = set()
    todo: list[ast.AST] = [statement]
    for node in todo:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)  # names inside it are local
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {each.asname or each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        todo += ast.iter_child_nodes(node)
    return names

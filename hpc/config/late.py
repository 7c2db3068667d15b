"""Importing a file for its config without what its code imports: torch stays out of a plan.

A model, an objective or a step is one file: its config, a frozen dataclass with a `name`, and its code. On a login node
only the config is wanted. For the packages that are registered here, importing such a file runs the statements that
its configs need, and the others when something else of the file is asked for:

    >>> from eegdecode.models.eegnet import EEGNet  # the dataclass, and the names that it uses
    >>> from eegdecode.models.eegnet import Network  # imports torch, and runs the rest of the file

It is an ordinary file: without this, the import runs all of it at once, with the same result. A file in which the order
of statements could matter is run at once: see `split` and docs/decisions/0033-one-file-a-thing.md.
"""

import sys
import threading
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TypeGuard

_NAMES: set[str] = set()
"""Modules that are imported in two parts, and packages all of whose modules are."""


WHOLE = ("__all__", "__test__")
"""Names of a module that `from … import *` and doctest ask for before they look at all of it."""
_PENDING: "dict[ModuleType, _Completion]" = {}
"""Modules of which the second part has not run yet."""


def there(module: ModuleType) -> "dict[str, Any]":
    """Return what a module has so far, without running its second part."""
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names


def register(*names: str) -> None:
    """From now on, import these modules, and those of these packages (not of packages in them), in two parts."""
    _NAMES.update(names)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds registered modules as Python does, and has them loaded by `_Loader`."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        if name not in _NAMES and name.rpartition(".")[0] not in _NAMES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
        if spec is None or not _is_plain(spec.loader) or spec.submodule_search_locations is not None:
            return spec
        spec.loader = _Loader(name, spec.loader.path)
        return spec


def _is_plain(loader: object) -> "TypeGuard[SourceFileLoader]":
    """Whether a loader runs what stands in the file: others, of pytest or typeguard, change it first."""
    return type(loader) is SourceFileLoader or hasattr(loader, "compiles_as_python_does")


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        import ast

        tree = ast.parse(self.get_data(self.path), self.path)
        first, rest = split(tree)
        if rest and any(_bound(statement) & there(module).keys() for statement in tree.body):  # it is imported again
            first, rest = tree.body, []
        flags = _future_flags(tree)
        _run(first, module, self.path, flags)
        if rest:
            _PENDING[module] = _Completion(module, lambda: _run(rest, module, self.path, flags))
            module.__class__ = _LateModule


class _LateModule(ModuleType):
    """A module whose second part runs as soon as something is asked for that is not there, or is set. It is a plain
    module from then on, so nothing here calls super()."""

    def __getattr__(self, name: str) -> "Any":
        if not name.startswith("__") or name in WHOLE:  # not what the import system looks for, such as __path__
            _complete(self)
        try:
            return there(self)[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: "Any") -> None:
        if not name.startswith("__"):
            _complete(self)
        object.__setattr__(self, name, value)

    def __dir__(self) -> "Iterable[str]":
        _complete(self)
        return ModuleType.__dir__(self)


def _complete(module: ModuleType) -> None:
    if pending := _PENDING.get(module):
        pending()


class _Completion:
    """Runs the second part of a module, once."""

    def __init__(self, module: ModuleType, run: "Callable[[], None]") -> None:
        self._module, self._run = module, run
        self._running, self._lock = False, threading.RLock()

    def __call__(self) -> None:
        with self._lock:
            if self._running or type(self._module) is not _LateModule:  # by itself, or done
                return
            self._running = True
            try:
                self._run()
            finally:
                self._running = False
            object.__setattr__(self._module, "__class__", ModuleType)
            del _PENDING[self._module]


def _run(statements: "list[ast.stmt]", module: ModuleType, path: str, flags: int) -> None:
    import ast

    code = compile(ast.Module(statements, []), path, "exec", flags=flags, dont_inherit=True)
    exec(code, there(module))


def _future_flags(tree: "ast.Module") -> int:
    """Return what `from __future__ import …` asks of the compiler, for both parts."""
    import __future__

    import ast

    imports = (each for each in tree.body if isinstance(each, ast.ImportFrom) and each.module == "__future__")
    flags = (getattr(__future__, name.name).compiler_flag for each in imports for name in each.names)
    return sum(set(flags))


def split(tree: "ast.Module") -> "tuple[list[ast.stmt], list[ast.stmt]]":
    """Return the statements of a module that its configs need, and the others; each part in the order of the file.

    All are in the first part where there is no config, and where a statement may have an effect on another one: where
    there is anything but imports, definitions and assignments to names. So it makes no difference when each part runs.
    """
    import ast

    body = [single for statement in tree.body for single in _singly(statement)]
    first = {i for i, statement in enumerate(body) if _is_config(statement)}
    defined = {each.name for each in body if isinstance(each, ast.FunctionDef)}
    if not first or not all(_only_binds(statement, defined) for statement in body):
        return tree.body, []
    binds, uses = [_bound(statement) for statement in body], [_used(statement) for statement in body]
    first |= {i for i, statement in enumerate(body) if i == 0 or _describes_the_module(statement)}
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


def _singly(statement: "ast.stmt") -> "list[ast.stmt]":
    """Return an import of several names as several imports."""
    import ast

    match statement:
        case ast.Import(names):
            return [ast.copy_location(ast.Import([name]), statement) for name in names]
        case ast.ImportFrom(module, names, level):
            return [ast.copy_location(ast.ImportFrom(module, [name], level), statement) for name in names]
    return [statement]


def _only_binds(statement: "ast.stmt", defined: set[str]) -> bool:
    """Whether a statement binds names and has no other effect that a config could see. `defined` are the functions of
    the module: one of them as a decorator, or called, may have effects."""
    import ast

    match statement:
        case ast.Import() | ast.Pass():
            return True
        case ast.ImportFrom(names=names):
            return names[0].name != "*"
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            decorators = {each.id for one in statement.decorator_list for each in _names(one)}
            return name not in ("__getattr__", "__dir__") and not decorators & defined
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=targets):
            return all(isinstance(each, ast.Name | ast.Tuple) for each in targets) and not _calls(statement, defined)
        case ast.AnnAssign(target=target):
            return isinstance(target, ast.Name) and not _calls(statement, defined)
        case ast.If(test=test, body=body, orelse=orelse):
            return not _calls(test, defined) and all(_only_binds(each, defined) for each in (*body, *orelse))
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
            inside = [*body, *orelse, *finalbody, *(each for handler in handlers for each in handler.body)]
            return all(_only_binds(each, defined) for each in inside)
    return False


def _calls(node: "ast.AST", defined: set[str]) -> bool:
    """Whether it calls a function of the module, which may change another of its names."""
    import ast

    todo = [node]
    for each in todo:
        if isinstance(each, ast.Call) and any(name.id in defined for name in _names(each.func)):
            return True
        todo += () if isinstance(each, ast.Lambda) else ast.iter_child_nodes(each)
    return False


def _is_config(statement: "ast.stmt") -> bool:
    """Whether it is a dataclass with `name: … = "…"`."""
    import ast

    if not isinstance(statement, ast.ClassDef):
        return False
    decorators = (each.func if isinstance(each, ast.Call) else each for each in statement.decorator_list)
    return any(ast.unparse(each).rpartition(".")[2] == "dataclass" for each in decorators) and any(
        isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and each.target.id == "name"
        and each.value
        for each in statement.body
    )


def _describes_the_module(statement: "ast.stmt") -> bool:
    """Whether it is an import from __future__, or a name such as __all__."""
    import ast

    return (isinstance(statement, ast.ImportFrom) and statement.module == "__future__") or (
        isinstance(statement, ast.Assign) and any(name.startswith("__") for name in _bound(statement))
    )


def _names(node: "ast.AST") -> "Iterator[ast.Name]":
    import ast

    return (each for each in ast.walk(node) if isinstance(each, ast.Name))


def _used(statement: "ast.stmt") -> set[str]:
    """Return the names that a statement reads, those in annotations that are texts too."""
    import ast

    used = {name.id for name in _names(statement) if isinstance(name.ctx, ast.Load)}
    todo = [
        each for node in ast.walk(statement) for each in (_part(node, "annotation"), _part(node, "returns")) if each
    ]
    for node in todo:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                used |= {name.id for name in _names(ast.parse(node.value, mode="eval"))}
            except SyntaxError:  # not an annotation after all
                continue
        elif not (isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "Literal"):
            todo += ast.iter_child_nodes(node)
    return used


def _part(node: "ast.AST", name: str) -> "ast.AST | None":
    part: ast.AST | None = getattr(node, name, None)
    return part


def _bound(statement: "ast.stmt") -> set[str]:
    """Return the names that a statement of a module binds."""
    import ast

    names: set[str] = set()
    todo: list[ast.AST] = [statement]
    for node in todo:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)  # what is inside is its own
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {each.asname or each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        todo += ast.iter_child_nodes(node)
    return names

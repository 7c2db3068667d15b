"""What installed packages add through entry points: stages, verbs, recipes and more.

    [options.entry_points]
    hpc.stages =
        train = eegdecode.stages:train

Their files are read here, which takes a millisecond; importing importlib.metadata takes fifty, and --help and the tab
key would wait for it.
"""

import os
import sys

from hpc.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_GROUPS: dict[str, dict[str, str]] = {}
"""Every entry point of a group whose name begins with one of OURS: {group: {name: "module:attribute"}}."""
_MEANINGS: "dict[str, dict[int, str]]" = {}
"""What has been looked up of stages, by `module:attribute`."""
_SHOWN: "dict[tuple[str, str], tuple[str, ...]]" = {}
"""The same of `headline` and `curves`, by stage and decorator."""
OURS = ("hpc.", "eegdecode.")
_CACHES: "list[Callable[[], None]]" = []
"""What others have looked up by entry points, to be cleared with them."""


def points(group: str) -> dict[str, str]:
    """Return the entry points of a group by name, in the order in which packages declare them. If two packages have the
    same name, the first on sys.path wins, as with imports."""
    if not _GROUPS:
        _read()
    return _GROUPS.get(group, {})


def groups() -> dict[str, dict[str, str]]:
    """Return all groups of entry points, as `points` does."""
    points("")
    return {group: dict(entries) for group, entries in _GROUPS.items() if group}


def packages() -> list[str]:
    """Return the packages that add choices to settings: a run needs their code as well as that of its stage."""
    return sorted({module.partition(".")[0] for module in modules()})


def forget() -> None:
    """Clear what is cached, because sys.path has changed."""
    _GROUPS.clear()
    _MEANINGS.clear()
    _SHOWN.clear()
    for clear in _CACHES:
        clear()


def forget_with(clear: "Callable[[], None]") -> None:
    """Have `forget` clear another cache too."""
    _CACHES.append(clear)


def load(where: str) -> "Any":
    """Import the object at `module:attribute`. Raises ConfigError with the reason if that fails."""
    import traceback
    from importlib import import_module

    module, _, attribute = where.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where} cannot be imported: {error}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = "" if isinstance(error, SyntaxError) else f" ({frames[-1].filename}, line {frames[-1].lineno})"
        raise ConfigError(f"{where} cannot be imported: {type(error).__name__}: {error}{at}") from error


def modules() -> list[str]:
    """Return the modules that add choices to settings."""
    if not _GROUPS:
        _read()
    added = (entries for group, entries in _GROUPS.items() if group and not group.startswith("hpc."))
    return sorted({where.partition(":")[0] for entries in added for where in entries.values()})


def sentence(where: str) -> str:
    """Return the first sentence of a function's docstring, read from its source without an import; empty if the source
    is not found."""
    import re

    match = re.search(
        rf'^def {re.escape(where.partition(":")[2])}\(.*?:\n    """(.*?)(?:\.\s|\."""|""")', _source(where), re.M | re.S
    )
    return " ".join(match[1].split()) if match else ""


def examples(where: str) -> "tuple[str, ...]":
    """Return the lines of a function's docstring that begin with `python -m hpc.launch`, as what follows it."""
    import re

    head = rf'^def {re.escape(where.partition(":")[2])}\(.*?:\n    """(.*?)"""'
    match = re.search(head, _source(where), re.M | re.S)
    lines = [line.strip() for line in match[1].splitlines()] if match else []
    start = "python -m hpc.launch "
    return tuple(line.removeprefix(start) for line in lines if line.startswith(start))


def meanings(where: str) -> "dict[int, str]":
    """Return what `@with_meaning` says beside a stage, read from its source; the stage is imported only if it does not
    stand there word for word. Raises ConfigError if the stage is not installed."""
    if where not in _MEANINGS:
        written = _written(_source(where), where.partition(":")[2], "with_meaning")
        if written is None or not all(isinstance(each, dict) for each in written):
            written = (getattr(load(where), "meanings", {}),)
        _MEANINGS[where] = dict(*written[:1])
    return _MEANINGS[where]


def shown(where: str, what: str) -> "tuple[str, ...]":
    """Return what `@headline` or `@curves` says beside a stage, in the same way; empty if it says nothing, or is not
    installed."""
    if (where, what) not in _SHOWN:
        try:
            written = _written(_source(where), where.partition(":")[2], what)
            names = getattr(load(where), what, ()) if written is None else written
        except ConfigError:
            names = ()
        _SHOWN[where, what] = tuple(map(str, names))
    return _SHOWN[where, what]


def _written(text: str, name: str, decorator: str) -> "tuple[Any, ...] | None":
    """Return the arguments of a decorator of that function, none if it has no such; None if the text does not tell."""
    before, function, _ = f"\n{text}".partition(f"\ndef {name}(")
    decorators = before.rpartition("\n\n")[2]
    if not function or f"{decorator} as" in before:
        return None
    if f"{decorator}(" not in decorators:
        return ()
    import ast

    try:
        (node,) = ast.parse(f"{decorators}\ndef {name}(): ...").body
        assert isinstance(node, ast.FunctionDef)
        calls = [each for each in node.decorator_list if isinstance(each, ast.Call)]
        (call,) = (each for each in calls if ast.unparse(each.func).rpartition(".")[2] == decorator)
        return tuple(map(ast.literal_eval, call.args)) if not call.keywords else None
    except (SyntaxError, ValueError):  # no literal
        return None


def _source(where: str) -> str:
    """Return the source of the module at `module:attribute`; empty if it is not found."""
    module = where.partition(":")[0]
    parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for folder in (*sys.path, parent):
        for file in (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/__init__.py"):
            try:
                with open(os.path.join(folder, file), encoding="utf-8") as source:
                    return source.read()
            except (OSError, UnicodeDecodeError):
                continue
    return ""


def _read() -> None:
    _GROUPS.setdefault("", {})  # marks the groups as read, even if there are none
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                _read_file(os.path.join(folder, name, "entry_points.txt"))


def _read_file(path: str) -> None:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    group = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            group = line.strip("[]")
        elif "=" in line and not line.startswith("#") and group.startswith(OURS):
            name, _, where = line.partition("=")
            _GROUPS.setdefault(group, {}).setdefault(name.strip(), where.partition("[")[0].strip())

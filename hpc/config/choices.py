"""The choices of a setting, by name: the members of a union, or the files of a package and those that others add.

    Schedule = Constant | Cosine
    Model = Annotated[ModelConfig, Choices("eegdecode.models")]

A Schedule is one of the two. A Model is the dataclass with that `name` in `eegdecode/models/NAME.py`, or one that an
installed package adds by an entry point of the group `eegdecode.models`. Its file is imported for its config alone
(hpc/config/late.py), and only if it is chosen or looked at.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hpc.config import late, plugins
from hpc.errors import ConfigError


class Choices(Mapping[str, Any]):
    """Dataclasses by name, imported on access: from the files of our package, and from the entry points of a group.

    Parameters
    ----------
    group
        The group of entry points.
    package
        The package; each file has the name of its config, and `config.py` has what they share. Default: the group.
    only
        Tells the allowed ones; by default, all are.
    not_provided
        Names that people look for but we do not have, with the reason; an error prints it if one is chosen.
    needs
        Attributes that each must have.
    """

    def __init__(
        self,
        group: str,
        package: str | None = None,
        only: Callable[[Any], bool] | None = None,
        not_provided: Mapping[str, str] | None = None,
        needs: Sequence[str] = (),
    ) -> None:
        self.group = group
        self.package = group if package is None else package
        self.only = only
        self.not_provided = not_provided or {}
        self.needs = needs
        if self.package:
            late.register(self.package)

    def __contains__(self, name: object) -> bool:
        there = name in self._files() or name in self._points()
        return there and (self.only is None or self.only(self[str(name)]))

    def __iter__(self) -> Iterator[str]:
        """Our names, then those of other packages."""
        every = dict.fromkeys([*self._files(), *self._points()])
        return iter(every) if self.only is None else (kind.name for kind in self._intact(every) if self.only(kind))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    __eq__ = object.__eq__  # as a mark of a type
    __hash__ = object.__hash__

    def __getitem__(self, name: str) -> Any:
        own = f"{self.package}.{name}"
        if name in self._files():
            module = import_module(own)
            kinds = [each for each in late.there(module).values() if _is_named(each, name) and each.__module__ == own]
            if len(kinds) != 1:
                raise ConfigError(f"{own} has to have a dataclass whose `name` is {name!r}, but has {len(kinds)}")
            return kinds[0]
        entry_point = self._points()[name]
        kind = plugins.load(entry_point)
        if not _is_named(kind, name):
            raise ConfigError(
                f"{entry_point}, of the group {self.group}, has to be a dataclass whose `name` is {name!r}"
            )
        if lacking := [each for each in self.needs if not hasattr(kind, each)]:
            raise ConfigError(f"{entry_point}, of the group {self.group}, has to have {' and '.join(lacking)}")
        return kind

    def by_former_name(self, old: object) -> Any:
        """Return the choice that had this name in the last version, or None."""
        return next((kind for kind in self.intact() if old in getattr(kind, "FORMER_NAMES", ())), None)

    def intact(self) -> Iterator[Any]:
        """Yield all that can be imported. The error of a broken package is raised when it is chosen."""
        return self._intact(self)

    def _intact(self, names: Iterable[str]) -> Iterator[Any]:
        for name in names:
            try:
                kind = self[name]
            except ConfigError:
                continue
            yield kind

    def _points(self) -> Mapping[str, str]:
        _register_plugins()
        return plugins.points(self.group)

    def _files(self) -> tuple[str, ...]:
        return _files_of(self.package) if self.package else ()


@dataclasses.dataclass(frozen=True)
class Unnamed:
    """A mark of an optional choice whose settings may be given without a name: they are then those of this one.

    Events = Annotated[BidsEvents | AnnotationEvents | None, Unnamed("bids")]
    """

    name: str


@functools.cache
def _files_of(package: str) -> tuple[str, ...]:
    """Return the names of the choices in a package. Looked up once: one page of the reference asks 2,000 times."""
    names = {path.stem for folder in import_module(package).__path__ for path in Path(folder).glob("*.py")}
    return tuple(sorted(name for name in names if not name.startswith("_") and name != "config"))


@functools.cache
def _register_plugins() -> None:
    late.register(*plugins.modules())  # all, as a package may import its others where one is imported


plugins.forget_with(_files_of.cache_clear)
plugins.forget_with(_register_plugins.cache_clear)


def code_of(config: Any) -> types.ModuleType:
    """Return the module of a chosen config, which holds its code as well."""
    return import_module(type(config).__module__)


def choices_of(kind: Any) -> tuple[tuple[Any, ...], Choices | None]:
    """Return the members of a union (empty for another type), and the `Choices` besides them, if any."""
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        more = next((mark for mark in marks if isinstance(mark, Choices)), None)
        return ((kind,) if dataclasses.is_dataclass(kind) else choices_of(kind)[0]), more
    if get_origin(kind) not in (Union, types.UnionType):
        return (), None
    members: list[Any] = []
    more = None
    for each in get_args(kind):
        inside, by_name = choices_of(each)  # optional: `Model | None`
        members += inside or (() if by_name else (each,))
        more = more or by_name
    return tuple(members), more


def kinds(kind: Any) -> tuple[Any, ...]:
    """Return the dataclasses that a schema, or the type of a field or of the items of a list, can be, those of
    installed packages too."""
    if dataclasses.is_dataclass(kind):
        return (kind,)
    members, more = _members(kind)
    members_of = [each for member in members for each in kinds(member)]
    return tuple(dict.fromkeys([*members_of, *(more.intact() if more else ())]))


def names(kind: Any) -> tuple[str, ...]:
    """Return the names of `kinds`, in their order. No file is imported for them."""
    if dataclasses.is_dataclass(kind):
        return (kind.name,) if hasattr(kind, "name") else ()
    members, more = _members(kind)
    names_of = [each for member in members for each in names(member)]
    return tuple(dict.fromkeys([*names_of, *(more or ())]))


def named(kind: Any, name: str) -> Any:
    """Return the one of `kinds` with this name, and import only that; None if there is none."""
    if dataclasses.is_dataclass(kind):
        return kind if getattr(kind, "name", None) == name else None
    members, more = _members(kind)
    member = next((each for member in members if (each := named(member, name)) is not None), None)
    return more[name] if member is None and more is not None and name in more else member


def formerly(kind: Any, name: object) -> Any:
    """Return the one of `kinds` that had this name in the last version, or None."""
    members, more = _members(kind)
    ours = (each for member in members for each in kinds(member))
    own = next((each for each in ours if name in getattr(each, "FORMER_NAMES", ())), None)
    return more.by_former_name(name) if own is None and more is not None else own


def not_provided(kind: Any, name: object) -> str:
    """Return why there is no choice of a name that people look for; empty if nothing is known of it."""
    more = _members(kind)[1]
    return more.not_provided.get(str(name), "") if more else ""


def _members(kind: Any) -> tuple[tuple[Any, ...], Choices | None]:
    """Return `choices_of` a type, or of the items of a list."""
    members, more = choices_of(kind)
    if not members and get_origin(kind) in (tuple, list):
        members = get_args(kind)
    return members, more


def leaves(schema: Any, leaf: str) -> list[str]:
    """Return the settings, in all groups, whose last word is `leaf`."""
    return sorted(path for path in _paths(schema) if path.rpartition(".")[2] == leaf)


def _paths(schema: Any, prefix: str = "", above: tuple[Any, ...] = ()) -> Iterator[str]:
    for cls in kinds(schema):
        if cls in above:  # a choice of choices
            continue
        hints = get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            if field.init and field.name != "name":
                yield f"{prefix}{field.name}"
                if get_origin(hints[field.name]) not in (tuple, list) and kinds(hints[field.name]):
                    yield from _paths(hints[field.name], f"{prefix}{field.name}.", (*above, cls))


def _is_named(kind: Any, name: str) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and getattr(kind, "name", None) == name

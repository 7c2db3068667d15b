"""What a setting can be: the members of its union, and what installed packages add to them.

    Model = Annotated[EEGNet | Conformer, Plugins("eegdecode.models")]

is one of these, or one that a package brings by an entry point of that group: a dataclass with a `name`.
"""

import dataclasses
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hpc.config import plugins
from hpc.errors import ConfigError


class Plugins:
    """The group of entry points by which packages add to what a setting can be."""

    def __init__(self, group: str) -> None:
        self.group = group

    def load(self, name: str) -> Any:
        """The dataclass of that name."""
        where = plugins.points(self.group)[name]
        kind = plugins.load(where)
        if not dataclasses.is_dataclass(kind) or getattr(kind, "name", None) != name:
            raise ConfigError(f"{where}, of the group {self.group}, has to be a dataclass whose `name` is {name!r}")
        return kind

    def names(self) -> list[str]:
        return list(plugins.points(self.group))


def choices_of(kind: Any) -> tuple[tuple[Any, ...], Plugins | None]:
    """The members of a union, empty for another type; and what packages may add to them."""
    more: Plugins | None = None
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        more = next((mark for mark in marks if isinstance(mark, Plugins)), None)
        if get_origin(kind) not in (Union, types.UnionType):
            return (kind,), more
    return (get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()), more


def kinds(kind: Any) -> tuple[Any, ...]:
    """The dataclasses that a schema, or the type of a field, can be, those of installed packages too; also as items of
    a list."""
    if dataclasses.is_dataclass(kind):
        return (kind,)
    members, more = choices_of(kind)
    if not members and get_origin(kind) in (tuple, list):
        members = get_args(kind)
    members_of = [each for member in members for each in kinds(member)]
    return tuple(dict.fromkeys([*members_of, *((more.load(name) for name in more.names()) if more else ())]))


def leaves(schema: Any, leaf: str) -> list[str]:
    """The settings, in all groups, whose last word is that one."""
    return sorted(path for path in _paths(schema) if path.rpartition(".")[2] == leaf)


def _paths(schema: Any, prefix: str = "") -> Iterator[str]:
    for cls in kinds(schema):
        hints = get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            if field.init and field.name != "name":
                yield f"{prefix}{field.name}"
                if get_origin(hints[field.name]) not in (tuple, list) and kinds(hints[field.name]):
                    yield from _paths(hints[field.name], f"{prefix}{field.name}.")

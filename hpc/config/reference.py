"""The reference of a stage's settings: name, type, default, and the sentence that its code has for each.

A field's sentence is the comment behind it, the string below it, or its entry under `Parameters` in the docstring of
its dataclass. A subclass inherits them.
"""

import ast
import dataclasses
import functools
import inspect
import io
import re
import tokenize
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from hpc.config.choices import formerly, kinds, named, names
from hpc.config.schema import NoSetting, known_as
from hpc.config.secrets import Secret
from hpc.errors import did_you_mean, notice_of_new_word


@dataclass(frozen=True)
class Setting:
    """One line of the reference."""

    path: str  # as it is typed, optim.lr
    kind: str  # its type, in words
    default: str  # as it is typed; empty if there is none, and the setting must be given
    sentence: str  # what it is for
    choices: tuple[str, ...] = ()  # names of the groups of settings that it can be; the first is the default

    @property
    def description(self) -> str:
        """Return its type with the choices, and its sentence."""
        kind = f"{self.kind}: {', '.join(self.choices)}" if self.choices else self.kind
        return ". ".join(filter(None, [kind, self.sentence]))


def settings(schema: Any, at: str = "") -> list[Setting]:
    """Return all settings of a schema; for a choice, only the setting that chooses. `below` has the settings of
    each."""
    return list(_settings(schema, f"{at}." if at else "", None))


def groups(schema: Any) -> list[str]:
    """Return the paths of all groups of settings that are a choice, `model.eegnet`, each dataclass once."""
    paths: list[str] = []
    seen: set[Any] = set()
    todo: list[tuple[str, Any]] = [("", schema)]
    for path, kind in todo:
        several = kinds(kind)
        for each in several:
            named = len(several) > 1 and hasattr(each, "name")
            own = f"{path}{'.' if path else ''}{each.name}" if named else path
            if named and each in seen:
                continue
            seen.add(each)
            paths += [own] if named else []
            hints = get_type_hints(each, include_extras=True)
            for field in dataclasses.fields(each):
                if field.init and kinds(hints[field.name]):
                    todo.append((f"{own}{'.' if own else ''}{field.name}", hints[field.name]))
    return paths


def below(schema: Any, path: str) -> tuple[str, str, list[Setting]]:
    """Look up a path, `optim`, `model` or `model.eegnet`: its title, its description and its settings. Words of
    the last version lead to those of today.

    For a path that is a choice, the settings are the choices, each with its description.
    """
    at: list[str] = []
    base: Any = None
    now = schema
    for given in filter(None, path.split(".")):
        word = _of_today(now, given, at)
        if word in _several(now):
            now = named(now, word)
            base = base if isinstance(base, now) else None
            at.append(word)
            continue
        cls = kinds(now)[0]
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        if word not in fields:
            there = [*names(now), *(name for name in fields if name != "name")]
            known = known_as(now, word) or (known_as(schema, word, not_in=at[0]) if at else "")
            raise NoSetting(".".join(at) or "it", word, known, f".{did_you_mean(word, there)}")
        now = get_type_hints(cls, include_extras=True)[word]
        base = _default_of(fields[word], base)
        at.append(word)
        if not _several(now) and not kinds(now):
            own = [each for each in _settings(cls, "", None) if each.path == word]
            path = f"{_without_names(schema, at[:-1])}{word}"
            return ".".join(at), "", [dataclasses.replace(own[0], path=path)]
    title, prefix = ".".join(at), _without_names(schema, at)
    if _several(now):
        key = prefix.rstrip(".") or "name"
        rows = [Setting(f"{key}={kind.name}", "", "", first_sentence(kind)) for kind in kinds(now)]
        return title, "One of these, chosen by its name:", rows
    cls = kinds(now)[0]
    return title, _description(cls), list(_settings(cls, prefix, base))


def _of_today(kind: Any, word: str, at: Sequence[str]) -> str:
    """Return the name of a choice or a setting that has this one or had it in the last version, then with a notice."""
    if word in names(kind):  # before any is imported
        return word
    where = ".".join(at)
    fields = getattr(kinds(kind)[0], "FORMER", {}) if kinds(kind) else {}
    if word in fields:
        notice_of_new_word(f"{where}.{word}" if where else word, fields[word])
        return str(fields[word])
    if not _several(kind) or (choice := formerly(kind, word)) is None:
        return word
    notice_of_new_word(f"{where}: {word}" if where else word, choice.name)
    return str(choice.name)


def _several(kind: Any) -> tuple[str, ...]:
    """Return the names to choose from; empty if there is no choice."""
    several = names(kind)
    return several if len(several) > 1 else ()


@functools.cache
def sentences(cls: Any) -> Mapping[str, str]:
    """Return the sentence of each field of a dataclass, from its code."""
    own: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        if dataclasses.is_dataclass(kind):
            own |= _parameters(kind) | _comments(kind)
    return {name: re.sub(r"\bNone\b", "null", text) for name, text in own.items()}  # as it is typed


def first_sentence(cls: Any) -> str:
    """Return the first sentence of a docstring, in one line."""
    text = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
    end = re.search(r"(?<=[a-z0-9)`\"])[.](?=\s|$)", text)
    return text[: end.end()] if end else text


def _settings(schema: Any, prefix: str, base: Any) -> Iterator[Setting]:
    cls = kinds(schema)[0]
    hints, sentence_of = get_type_hints(cls, include_extras=True), sentences(cls)
    for field in dataclasses.fields(cls):
        if not field.init or field.name == "name":
            continue
        kind, default = hints[field.name], _default_of(field, base)
        several = _several(kind)
        inside = () if several else kinds(kind)
        path, sentence = f"{prefix}{field.name}", sentence_of.get(field.name, "")
        many = get_origin(kind) in (tuple, list)
        if len(inside) == 1 and not many and dataclasses.is_dataclass(default):
            yield from _settings(inside[0], f"{path}.", default)
        elif several or inside:
            choices = several or names(kind)
            yield Setting(path, "a list" if many else "one of several", say(default), sentence, choices)
        else:
            has_none = field.default is field.default_factory is dataclasses.MISSING and base is None
            yield Setting(path, kind_in_words(kind), "" if has_none else say(default), sentence)


def _names_along(schema: Any, at: Sequence[str]) -> list[str]:
    """Return the words of a path that are names of choices: they are not part of a setting's own path."""
    chosen: list[str] = []
    now = schema
    for word in at:
        if word in _several(now):
            chosen.append(word)
            now = named(now, word)
        else:
            now = get_type_hints(kinds(now)[0], include_extras=True)[word]
    return chosen


def _without_names(schema: Any, at: Sequence[str]) -> str:
    """Return how the settings below a path begin when they are typed."""
    chosen = set(_names_along(schema, at))
    return "".join(f"{word}." for word in at if word not in chosen)


def _default_of(field: Any, base: Any) -> Any:
    if base is not None and hasattr(base, field.name):
        return getattr(base, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def say(value: Any) -> str:
    """Write a value as it is typed on the command line."""
    if isinstance(value, Enum):
        return say(value.value)
    if dataclasses.is_dataclass(value):
        return str(getattr(value, "name", type(value).__name__.lower()))
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(say, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {say(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, Secret):
        return value.name or "''"
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


def kind_in_words(kind: Any) -> str:
    words = {
        int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path", Any: "anything",
        Secret: "name of a secret",
    }  # fmt: skip
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, NewType):
        return "run or path"
    if origin is Literal:
        return " | ".join(map(say, args))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(map(say, kind))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else kind_in_words(arg) for arg in args)
    if origin in (tuple, list):
        if origin is list or args[-1] is Ellipsis:
            inside = kind_in_words(args[0])
            return f"list of {inside}s" if inside in ("whole number", "number", "path") else f"list of {inside}"
        return f"[{', '.join(map(kind_in_words, args))}]"
    if origin is dict:
        return f"{{{kind_in_words(args[0])}: {kind_in_words(args[1])}}}"
    return words.get(kind) or str(getattr(kind, "__name__", kind))


def _description(cls: Any) -> str:
    return " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\nParameters\n")[0].split())


@functools.cache
def _module(path: str) -> tuple[ast.Module, dict[int, str]]:
    """Parse a file: its classes, and the comment at the end of each line."""
    text = Path(path).read_text()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip()
    }
    return ast.parse(text), comments


def _comments(cls: Any) -> dict[str, str]:
    """Read sentences from the comment behind a field, or the string below it."""
    path = inspect.getsourcefile(cls)
    if path is None:
        return {}
    tree, comments = _module(path)
    name = cls.__qualname__.rpartition(".")[2]
    node = next((each for each in ast.walk(tree) if isinstance(each, ast.ClassDef) and each.name == name), None)
    comment_of: dict[str, str] = {}
    body = node.body if node else []
    for place, line in enumerate(body):
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        after = body[place + 1] if place + 1 < len(body) else None
        if comment := comments.get(line.end_lineno or line.lineno):
            comment_of[line.target.id] = comment
        elif isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            comment_of[line.target.id] = " ".join(str(after.value.value).split())
    return comment_of


def _parameters(cls: Any) -> dict[str, str]:
    """Read sentences from the section `Parameters` of a numpy docstring; `train, val, test` are three fields."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    part = re.search(r"^Parameters\n-+\n(.*)", text, re.MULTILINE | re.DOTALL)
    lines_of: dict[str, list[str]] = {}
    names: list[str] = []
    for line in part[1].splitlines() if part else []:
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
        elif line.strip():
            for name in names:
                lines_of.setdefault(name, []).append(line.strip())
    return {name: " ".join(lines) for name, lines in lines_of.items()}

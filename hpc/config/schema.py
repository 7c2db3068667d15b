"""Plain values become a typed dataclass, or a ConfigError that names the nearest valid name.

The schema of a config is a dataclass, and its types are the rules. A setting that got another name is found by its old
one for one version, with a notice: the class variable FORMER = {"old": "new"} of its dataclass says so, and for one of
several choices FORMER_NAMES = ("old",).
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from hpc.config.choices import Choices, Unnamed, choices_of, formerly, leaves, named, names, not_provided
from hpc.config.input_file import InputFile
from hpc.config.secrets import Secret
from hpc.errors import ConfigError, did_you_mean, notice_of_new_word


class NoSetting(ConfigError):
    """There is no such setting. What its dataclass has no word for, one around it may know: `optim.epochs`."""

    def __init__(self, where: str, key: str, known: str, near: str = "") -> None:
        super().__init__(f"{where} has no setting {key!r}{f': {known}' if known else near}")
        self.where, self.key, self.known = where, key, known


T = TypeVar("T")
Converter = Callable[[Any, Any, str, Any], Any]
"""Of a type, a plain value, where it stands, and the default: gives the value of that type."""


def build(cls: type[T], values: Any, at: str, base: T | None = None) -> T:
    """A dataclass from plain values, every field checked against its type.

    Parameters
    ----------
    cls
        The dataclass, or a union of some: chosen by the `name` in the values, else the first. A field whose type is a
        union of dataclasses is chosen by the `name` in its values.
    at
        Where we are in the config, for messages: `train.model`.
    base
        What fields have that are not in `values`; without it, the defaults of the class.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{at} needs settings, {at.rpartition('.')[2]}.KEY=VALUE or `key: value` in a file, but got {values!r}: "
            f"`python -m hpc.launch settings {at}` shows them"
        )
    kinds, more = choices_of(cls)
    if kinds or more:
        first = {"name": kinds[0].name} if kinds else {}
        chosen: T = _union(cls, {**first, **values}, at, base)
        return chosen
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(cls, include_extras=True)
    values = _with_new_words(cls, values, at)
    for key in values:
        if key not in fields:
            raise NoSetting(at, str(key), known_as(cls, str(key)), f".{did_you_mean(str(key), fields)}")
    try:
        given = {
            key: _convert(hints[key], value, f"{at}.{key}", _default(fields[key], base))
            for key, value in values.items()
        }
    except NoSetting as error:
        group = error.where.removeprefix(f"{at}.").partition(".")[0].partition("[")[0]
        joined = f"{group}_{error.key}"  # data.on_device for compute.data_on_device
        if error.known or not (known := known_as(cls, error.key, not_in=group) or known_as(cls, joined)):
            raise
        better = NoSetting(error.where, error.key, known)
        better.at = error.at
        raise better from None
    for name, field in fields.items():
        if name not in given and base is not None:
            given[name] = getattr(base, name)
        elif name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{at}.{name} is missing: set it in the file, or say {name}=… ({_say(hints[name])})")
    try:
        return cls(**given)
    except ValueError as error:
        raise ConfigError(f"{at}: {error}") from None


def known_as(cls: Any, key: str, not_in: str = "") -> str:
    """What to say instead of a setting that is not there: what its dataclass knows by another word (SYNONYMS), or that
    of the same name in one of its groups. Empty if nothing is known.

    Parameters
    ----------
    not_in
        The group in which it was looked for: other choices of that group may have it, which this one has not.
    """
    if synonym := getattr(cls, "SYNONYMS", {}).get(key) or not_provided(cls, key):
        return str(synonym)
    paths = [path for path in leaves(cls, key) if path.partition(".")[0] != not_in]
    return f"it is {' or '.join(dict.fromkeys(paths))}" if paths else ""


def _with_new_words(cls: Any, values: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    """The values under today's names."""
    former: Mapping[str, str] = getattr(cls, "FORMER", {})
    if not any(key in former for key in values):
        return values
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        new = former.get(key, key)
        if new != key:
            notice_of_new_word(f"{at}.{key}", new)
        if new in renamed:
            raise ConfigError(f"{at}.{new} is there twice, once by its old name: leave one out")
        renamed[new] = value
    return renamed


def required(schema: Any) -> list[str]:
    """The settings of a stage that have no default."""
    kinds = get_args(schema) if get_origin(schema) in (Union, types.UnionType) else (schema,)
    return [
        field.name
        for field in dataclasses.fields(kinds[0])
        if field.init and field.default is field.default_factory is dataclasses.MISSING
    ]


def inputs(config: Any) -> dict[str, str]:
    """The fields of a config that name what the stage reads, as {field: value}; those left at None are left out. Of a
    field that names several: `data`, `data[1]`, …; of one in settings below: `start.source`."""
    hints = get_type_hints(type(config))
    refs: dict[str, str] = {}
    for name in (field.name for field in dataclasses.fields(config)):
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            refs |= {f"{name}.{below}": ref for below, ref in inputs(value).items()}
        elif value is not None and any(map(_is_input, (hints[name], *get_args(hints[name])))):
            several = [value] if isinstance(value, str) else value
            refs |= {f"{name}[{index}]" if index else name: one for index, one in enumerate(several)}
    return refs


def _is_input(kind: Any) -> bool:
    return isinstance(kind, NewType) and kind is not InputFile


def with_inputs(config: T, refs: Mapping[str, str]) -> T:
    """The config with other names for what it reads, in the form of `inputs`."""
    changed: dict[str, Any] = {}
    below: dict[str, dict[str, str]] = {}
    for key, ref in refs.items():
        name, dot, rest = key.partition(".")
        name = name.partition("[")[0]
        if dot:
            below.setdefault(name, {})[rest] = ref
        else:
            changed[name] = ref if isinstance(getattr(config, name), str) else (*changed.get(name, ()), ref)
    changed |= {name: with_inputs(getattr(config, name), refs) for name, refs in below.items()}
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]


def secrets_of(config: Any) -> dict[str, Secret]:
    """The settings that name a secret, as {path: secret}: `watch.alerts.webhook`. Those left empty are left out."""
    return dict(_secrets(config, ""))


def _secrets(value: Any, at: str) -> Iterator[tuple[str, Secret]]:
    if isinstance(value, Secret):
        if value:
            yield at, value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _secrets(getattr(value, field.name), _below(at, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, _below(at, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _secrets(item, _below(at, index))


def blanked(values: Any, paths: Collection[str], at: str = "") -> Any:
    """Values with an empty text at these paths, in the form of `secrets_of`, and for each Secret."""
    if at in paths or isinstance(values, Secret):
        return ""
    if isinstance(values, Mapping):
        return {key: blanked(item, paths, _below(at, key)) for key, item in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(blanked(item, paths, _below(at, index)) for index, item in enumerate(values))
    return values


def unnamed(config: Any, at: str = "") -> Iterator[str]:
    """Yield the paths of settings that are no part of a run's name: those that a class lists in ADDED_LATER, as long as
    they have their default, which means what was so before. So a new setting gives no run another name."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        for field in dataclasses.fields(config):
            value, path = getattr(config, field.name), _below(at, field.name)
            if field.name in getattr(config, "ADDED_LATER", ()) and value == _default(field, None):
                yield path
            else:
                yield from unnamed(value, path)
    elif isinstance(config, list | tuple):
        for index, item in enumerate(config):
            yield from unnamed(item, _below(at, index))


def without(values: Any, paths: Collection[str], at: str = "") -> Any:
    """Values without the settings at these paths."""
    if isinstance(values, Mapping):
        within = {key: _below(at, key) for key in values}
        return {key: without(values[key], paths, path) for key, path in within.items() if path not in paths}
    if isinstance(values, list | tuple):
        return type(values)(without(item, paths, _below(at, index)) for index, item in enumerate(values))
    return values


def _below(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)


def _default(field: dataclasses.Field, base: Any) -> Any:
    if base is not None:
        return getattr(base, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _convert(kind: Any, value: Any, at: str, default: Any = None) -> Any:
    try:
        return _converter(kind)(kind, value, at, default)
    except ConfigError as error:
        error.at = error.at or at
        raise


def _converter(kind: Any) -> Converter:
    if isinstance(kind, NewType):
        return _new_type
    if dataclasses.is_dataclass(kind):
        return _dataclass
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum
    origin = get_origin(kind)
    return BY_ORIGIN.get(origin, _checked) if origin else BY_TYPE.get(kind, _checked)


def _new_type(kind: Any, value: Any, at: str, default: Any) -> Any:
    if value is None:
        raise _wrong(kind.__supertype__, value, at)
    return _convert(kind.__supertype__, value, at)


def _dataclass(kind: Any, value: Any, at: str, default: Any) -> Any:
    return build(kind, value, at, default if isinstance(default, kind) else None)


def _literal(kind: Any, value: Any, at: str, default: Any) -> Any:
    # 1 is no true: it would name another run
    if not any(type(value) is type(arg) and value == arg for arg in get_args(kind)):
        words = [str(arg).lower() if isinstance(arg, bool) else str(arg) for arg in get_args(kind)]
        raise ConfigError(f"{at} cannot be {value!r}.{did_you_mean(str(value), words)}")
    return value


def _list(kind: Any, value: Any, at: str, default: Any) -> Any:
    """A list, or a tuple of any length or of a given one."""
    origin, args = get_origin(kind) or kind, get_args(kind) or (Any, ...)
    if isinstance(args[0], NewType) and isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise _no_list(args[0], value, at)
    if origin is list or args[-1] is Ellipsis:
        args = args[:1] * len(value)
    if len(value) != len(args):
        raise ConfigError(f"{at} needs {len(args)} values, but got {len(value)}: {value!r}")
    return origin(_convert(arg, item, f"{at}[{i}]") for i, (arg, item) in enumerate(zip(args, value)))


def _no_list(kind: Any, value: Any, at: str) -> ConfigError:
    """What to write instead of `steps.bandpass.low_hz=1`, or of `steps=bandpass`."""
    leaf, several = at.rpartition(".")[2], names(kind)
    if isinstance(value, str) and value in several:
        return ConfigError(f"{at} is a list of several, in order, but got {value!r}: say {leaf}=[{value}]")
    chosen = next((name for name in value if name in several), None) if isinstance(value, Mapping) else None
    if chosen is None and not several and isinstance(value, Mapping) and value:
        return NoSetting(at, str(next(iter(value))), "", " as it is a list, [a, b]")
    if chosen is None:
        return ConfigError(f"{at} needs a list, [a, b], but got {value!r}")
    inside = value[chosen] if isinstance(value[chosen], Mapping) else {}
    build(named(kind, chosen), {"name": chosen, **inside}, f"{at}.{chosen}")  # what else is wrong with it
    settings = "".join(f", {key}: {item}" for key, item in inside.items())
    return ConfigError(
        f"{at} is a list of several, in order, in which settings stand with their name: say "
        f"{leaf}='[{{name: {chosen}{settings}}}]', and the others before and after it"
    )


def _dict(kind: Any, value: Any, at: str, default: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{at} needs settings (`key: value`), but got {value!r}")
    of_key, of_value = get_args(kind)
    return {_convert(of_key, key, at): _convert(of_value, item, f"{at}.{key}") for key, item in value.items()}


def _union(kind: Any, value: Any, at: str, default: Any) -> Any:
    kinds, more = choices_of(kind)
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(each for each in kinds if each is not type(None))
    if default is None and isinstance(value, Mapping) and "name" not in value:
        value = _with_name(kind, kinds, value, at)
    if not kinds and more is None:  # Annotated, with something that is not for us
        return _convert(get_args(kind)[0], value, at, default)
    if more is None and len(kinds) == 1:  # settings or none: there is nothing to choose by a name
        return _convert(kinds[0], value, at, default)
    if more is None and not any(map(dataclasses.is_dataclass, kinds)):
        return _one_of(kinds, value, at, default)
    return _chosen(kind, kinds, more, value, at, default)


def _with_name(kind: Any, kinds: tuple[Any, ...], value: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    """Settings without a name, with that of the choice that they are for (Unnamed). Those of another are refused."""
    mark = next((mark for mark in get_args(kind)[1:] if isinstance(mark, Unnamed)), None)
    if get_origin(kind) is not Annotated or mark is None:
        return value
    settings_of = {each.name: {field.name for field in dataclasses.fields(each)} for each in kinds}
    for key in value:
        having = [name for name, settings in settings_of.items() if key in settings]
        if having and mark.name not in having:
            raise ConfigError(
                f"{at}.{key} is a setting of {' and '.join(having)}: say which with {at}.name={having[0]}"
            )
    return {"name": mark.name, **value}


def _one_of(kinds: tuple[Any, ...], value: Any, at: str, default: Any) -> Any:
    """A plain value of one of several types: the type that it has, else the first that it can be converted to."""
    for each in sorted(kinds, key=lambda kind: type(value) is not kind):
        try:
            return _convert(each, value, at, default)
        except ConfigError:
            continue
    raise ConfigError(f"{at} needs {' or '.join(map(_say, kinds))}, but got {value!r}")


def _enum(kind: Any, value: Any, at: str, default: Any) -> Any:
    """A member of an enumeration, by its value or its name."""
    if isinstance(value, kind):
        return value
    members = {str(name): member for member in kind for name in (member.name, member.value)}
    if str(value) not in members:
        raise ConfigError(
            f"{at} cannot be {value!r}.{did_you_mean(str(value), [str(member.value) for member in kind])}"
        )
    return members[str(value)]


def _chosen(type_: Any, kinds: tuple[Any, ...], more: Choices | None, value: Any, at: str, default: Any) -> Any:
    """One of several dataclasses, by its name or the one that it had formerly."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        there = did_you_mean(str(value), [*(each.name for each in kinds if hasattr(each, "name")), *(more or ())])
        raise ConfigError(
            f"{at} needs settings (`name: …`), but got {'nothing' if value is None else repr(value)}.{there}"
        )
    if joined := [key for key in value if ":" in str(key)]:
        raise ConfigError(f"{at}: YAML needs a space after the colon of {', '.join(joined)}, as in '{{name: …}}'")
    name = value.get("name", getattr(default, "name", None))
    choices: dict[str, Any] = {each.name: each for each in kinds if dataclasses.is_dataclass(each)}  # type: ignore[union-attr]
    if name in choices:
        kind = choices[name]
    elif more is not None and name in more:
        kind = more[name]
    else:
        kind = _formerly(type_, name, [*choices, *(more or ())], at)
        notice_of_new_word(f"{at}: {name}", kind.name)
        name = kind.name
        value = {**value, "name": name}
    return build(kind, value, at, default if getattr(default, "name", None) == name else None)


def _formerly(type_: Any, name: Any, there: Iterable[str], at: str) -> Any:
    if reason := not_provided(type_, name):
        raise ConfigError(f"{at}: {reason}")
    kind = formerly(type_, name)
    if name is None:
        leaf, shown = at.rpartition(".")[2], ", ".join(there)
        raise ConfigError(f"{at} needs a name besides its settings, {leaf}.name=… There is: {shown}.")
    if kind is None:
        raise ConfigError(f"{at}: {name!r} is not one of the choices.{did_you_mean(str(name), there)}")
    return kind


def _any(kind: Any, value: Any, at: str, default: Any) -> Any:
    return value


def _float(kind: Any, value: Any, at: str, default: Any) -> Any:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(value)  # YAML 1.1 reads 1e-3 as a word
    raise _wrong(kind, value, at)


def _int(kind: Any, value: Any, at: str, default: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else _checked(kind, value, at, default)


def _str(kind: Any, value: Any, at: str, default: Any) -> Any:
    if value is None:  # `target=`
        return ""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else _checked(kind, value, at, default)


def _secret(kind: Any, value: Any, at: str, default: Any) -> Any:
    if isinstance(value, Secret):
        return value
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return Secret("" if value is None else str(value))
    raise ConfigError(f"{at} needs {_say(kind)}")  # the value is not shown: it may be the secret itself


def _path(kind: Any, value: Any, at: str, default: Any) -> Any:
    return Path(value) if isinstance(value, str) else _checked(kind, value, at, default)


def _checked(kind: Any, value: Any, at: str, default: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(kind, value, at)
    return value


def _wrong(kind: Any, value: Any, at: str) -> ConfigError:
    return ConfigError(f"{at} needs {_say(kind)}, but got {value!r}")


BY_ORIGIN: dict[Any, Converter] = {
    Union: _union, types.UnionType: _union, Annotated: _union,
    Literal: _literal, tuple: _list, list: _list, dict: _dict,
}  # fmt: skip
BY_TYPE: dict[Any, Converter] = {
    Any: _any, tuple: _list, list: _list, float: _float, int: _int, str: _str, Path: _path, Secret: _secret
}  # fmt: skip
"""A value of any other type is only checked."""


def _say(kind: Any) -> str:
    words = {
        int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path",
        Secret: "the name of a secret, in capitals",
    }  # fmt: skip
    if isinstance(kind, NewType):
        return "the name of a run, or a path"
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return words.get(kind) or typing.cast(str, getattr(kind, "__name__", str(kind)))


def texts(values: Any, at: str) -> Iterator[tuple[str, str]]:
    """Yield all texts in plain values, each with its path; the keys of tables too."""
    if isinstance(values, str):
        yield at, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield at, str(key)
            yield from texts(value, f"{at}.{key}")
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            yield from texts(value, f"{at}[{number}]")


def plain(config: Any) -> Any:
    """A dataclass as plain values that JSON and YAML can hold; `build` makes it again."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(item) for item in config]
    if isinstance(config, Enum):
        return config.value
    if isinstance(config, Secret):
        return config.name
    return str(config) if isinstance(config, Path) else config

"""Files and words become a typed dataclass, or a ConfigError that names the nearest right word.

    python -m hpc.launch train configs/demo.yaml optim.lr=1e-3 model.hidden=64

The schema of a config is a dataclass, and its types are the rules.
"""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from hpc.errors import ConfigError, did_you_mean

T = TypeVar("T")


def load(files: Sequence[Path]) -> dict[str, Any]:
    """Read YAML files, later ones over earlier. `include: other.yaml` in a file is read first, as from its folder."""
    from omegaconf import OmegaConf

    merged: dict[str, Any] = {}
    for path in _with_includes(files):
        merged = _merge(merged, OmegaConf.to_container(_read(path)))  # type: ignore[arg-type]
    return _plain(OmegaConf.create(merged))


def choose(values: Mapping[str, Any], word: str | None) -> dict[str, Any]:
    """The config with the settings over it that `--set size=tiny` means, of those that its `sets` offer.

    sets:
      size:
        tiny: {train: {optim: {steps: 60}}}
    """
    rest = {key: value for key, value in values.items() if key != "sets"}
    sets = values.get("sets") or {}
    if word is None:
        return rest
    name, _, value = word.partition("=")
    if not isinstance(sets, Mapping) or name not in sets:
        raise ConfigError(f"--set {word}: the file's `sets` do not offer {name!r}.{did_you_mean(name, list(sets))}")
    if value not in sets[name]:
        raise ConfigError(f"--set {word}: {name} cannot be {value!r}.{did_you_mean(value, list(sets[name]))}")
    return _merge(rest, sets[name][value])


def _with_includes(files: Sequence[Path], above: tuple[Path, ...] = ()) -> list[Path]:
    paths = []
    for path in files:
        if path in above:
            raise ConfigError(f"{path} includes itself, through {' -> '.join(str(p) for p in above)}")
        include = _read(path).get("include", [])
        names = [include] if isinstance(include, str) else include
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{path}: include needs the name of a file, or a list of names, but got {include!r}")
        paths += [*_with_includes([path.parent / name for name in names], (*above, path)), path]
    return paths


def _read(path: Path) -> Any:
    import yaml
    from omegaconf import OmegaConf

    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a .yaml file in it")
    if not path.is_file():
        siblings = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        hint = (
            did_you_mean(str(path), sorted(siblings))
            if siblings
            else " `python -m hpc.launch recipes` lists what comes along."
        )
        raise ConfigError(f"there is no config file {path}.{hint}")
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not OmegaConf.is_dict(content):
        raise ConfigError(f"{path} holds a {type(OmegaConf.to_container(content)).__name__}; a config is `key: value`")
    return content


def _plain(config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).split("\n")[0]) from None
    values.pop("include", None)
    return values


def check_words(words: Sequence[str]) -> None:
    """Refuse what is no `key.key=value`, as it was typed."""
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not key.replace(".", "").replace("_", "").isalnum():
            raise ConfigError(f"{word!r} is neither a file.yaml nor a key=value")


def apply_words(values: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The config with `key.key=value` words over it; a value is read as YAML would read it."""
    from omegaconf import OmegaConf

    if any("${" in word for word in words):  # refers to another value: only OmegaConf knows how
        return _plain(OmegaConf.merge(OmegaConf.create(dict(values)), *map(_dotted, words)))
    changes: dict[str, Any] = {}
    for word in words:
        changes = _merge(changes, _read_word(word), together=True)
    return _merge(values, changes)


@functools.cache
def _read_word(word: str) -> dict[str, Any]:
    """`a.b=1` as {"a": {"b": 1}}. Kept: a sweep has the same words many times, and reading one takes a millisecond."""
    return _plain(_dotted(word))


def _dotted(word: str) -> Any:
    """What is no YAML is plain text, as **/{subject}.set is; but a list has to be one."""
    import yaml
    from omegaconf import OmegaConf

    try:
        return OmegaConf.from_dotlist([word])
    except yaml.YAMLError:
        key, _, value = word.partition("=")
        if value.startswith("["):
            raise ConfigError(
                f"{word!r} is not YAML: what begins with * or has braces stands in quotes within a list, "
                f"as '{key}=[\"*run2\"]'"
            ) from None
        config = OmegaConf.create({})
        OmegaConf.update(config, key, value)
        return config


def _merge(below: Mapping[str, Any], above: Mapping[str, Any], together: bool = False) -> dict[str, Any]:
    """Both, where they meet that from above; as OmegaConf.merge does, a hundred times faster.

    One of several choices may be said by its name alone, `model: conformer`: settings said later are then its own, and
    those of another name go. `together`: both were said in one breath, in either order.
    """
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, str) and isinstance(value, Mapping):
            under = {"name": under}
        if isinstance(under, Mapping) and isinstance(value, str) and together:
            merged[key] = {**under, "name": value}
        elif isinstance(under, Mapping) and isinstance(value, Mapping):
            same = "name" not in value or value["name"] == under.get("name", value["name"])
            merged[key] = _merge(under if same else {}, value, together)
        else:
            merged[key] = value
    return merged


def to_yaml(values: Mapping[str, Any]) -> str:
    """As text that `load` reads again as the same values."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        pass

    def text(dumper: Any, value: str) -> Any:
        # OmegaConf reads some words as numbers that YAML does not (1e-3), so all but plain words stand in quotes
        plain = re.fullmatch(r"[A-Za-z_][\w./ -]*", value) is not None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    Dumper.add_representer(str, text)
    return str(yaml.dump(dict(values), Dumper=Dumper, sort_keys=False, allow_unicode=True))


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
        raise ConfigError(f"{at} needs settings (`key: value`), but got {values!r}")
    if get_origin(cls) in (Union, types.UnionType):
        chosen: T = _convert_union(get_args(cls), {"name": get_args(cls)[0].name, **values}, at, base)
        return chosen
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise ConfigError(f"{at} has no setting {key!r}.{did_you_mean(str(key), fields)}")
    given = {
        key: _convert(hints[key], value, f"{at}.{key}", _default(fields[key], base)) for key, value in values.items()
    }
    for name, field in fields.items():
        if name not in given and base is not None:
            given[name] = getattr(base, name)
        elif name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{at}.{name} is missing: set it in the file, or say {name}=… ({_say(hints[name])})")
    try:
        return cls(**given)
    except ValueError as error:
        raise ConfigError(f"{at}: {error}") from None


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
        elif value is not None and any(isinstance(kind, NewType) for kind in (hints[name], *get_args(hints[name]))):
            several = [value] if isinstance(value, str) else value
            refs |= {f"{name}[{index}]" if index else name: one for index, one in enumerate(several)}
    return refs


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


def _default(field: dataclasses.Field, base: Any) -> Any:
    if base is not None:
        return getattr(base, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _convert(kind: Any, value: Any, at: str, default: Any = None) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, NewType):
        return _convert_plain(kind.__supertype__, value, at)
    if kind is str and value is None:  # `target=`
        return ""
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, at, default)
    if dataclasses.is_dataclass(kind):
        same = default if isinstance(default, kind) else None  # type: ignore[arg-type]
        return build(kind, value, at, same)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{at} cannot be {value!r}.{did_you_mean(str(value), [str(arg) for arg in args])}")
        return value
    if origin in (tuple, list):
        if isinstance(args[0], NewType) and isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{at} needs a list, [a, b], but got {value!r}")
        if origin is tuple and args[-1] is not Ellipsis:
            if len(value) != len(args):
                raise ConfigError(f"{at} needs {len(args)} values, but got {len(value)}: {value!r}")
            return tuple(_convert(arg, item, f"{at}[{i}]") for i, (arg, item) in enumerate(zip(args, value)))
        return origin(_convert(args[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{at} needs settings (`key: value`), but got {value!r}")
        return {_convert(args[0], k, at): _convert(args[1], v, f"{at}.{k}") for k, v in value.items()}
    return _convert_plain(kind, value, at)


def _convert_union(args: tuple[Any, ...], value: Any, at: str, default: Any) -> Any:
    if value is None and type(None) in args:
        return None
    kinds = [arg for arg in args if arg is not type(None)]
    if len(kinds) == 1:  # settings or none: there is nothing to choose by a name
        return _convert(kinds[0], value, at, default)
    choices: dict[str, Any] = {kind.name: kind for kind in kinds if dataclasses.is_dataclass(kind)}  # type: ignore[union-attr]
    if not choices:
        return _convert(kinds[0], value, at, default)
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{at} needs settings (`name: …`), but got {value!r}")
    name = value.get("name", getattr(default, "name", None))
    if name not in choices:
        shown = "no name" if name is None else repr(name)
        raise ConfigError(f"{at}: {shown} is not one of the choices.{did_you_mean(str(name), choices)}")
    return build(choices[name], value, at, default if getattr(default, "name", None) == name else None)


def _convert_plain(kind: Any, value: Any, at: str) -> Any:
    wrong = ConfigError(f"{at} needs {_say(kind)}, but got {value!r}")
    if kind is Any:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a word
        try:
            return float(value)
        except ValueError:
            raise wrong from None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise wrong
    return value


def _say(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    if isinstance(kind, NewType):
        return "the name of a run, or a path"
    return words.get(kind) or typing.cast(str, getattr(kind, "__name__", str(kind)))


def plain(config: Any) -> Any:
    """A dataclass as plain values that JSON and YAML can hold; `build` makes it again."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(item) for item in config]
    return str(config) if isinstance(config, Path) else config

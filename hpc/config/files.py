"""Config files and `key=value` settings, merged to plain values. The only file that imports OmegaConf."""

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.errors import ConfigError, did_you_mean, notice_of_new_word

MAX_BYTES, MAX_DEPTH = 1 << 24, 200
"""Of a config file: its size, and its brackets in one another."""


def load(files: Sequence[Path]) -> dict[str, Any]:
    """Read YAML files; later ones override earlier ones. `include: other.yaml` is relative to its file, and read
    first."""
    from omegaconf import OmegaConf

    merged: dict[str, Any] = {}
    for path in with_includes(files):
        merged = _merge(merged, _with_new_words(OmegaConf.to_container(_read(path))))  # type: ignore[arg-type]
    return _plain(OmegaConf.create(merged))


def choose(values: Mapping[str, Any], word: str | None) -> dict[str, Any]:
    """Apply a preset of the file, `--preset size=tiny`, to the config.

    presets:
      size:
        tiny: {train: {optim: {steps: 60}}}
    """
    rest = {key: value for key, value in values.items() if key != "presets"}
    presets = values.get("presets") or {}
    if word is None:
        return rest
    name, equals, value = word.partition("=")
    of_value = (
        [each for each, values_of in presets.items() if word in values_of] if isinstance(presets, Mapping) else []
    )
    if not equals and of_value:
        raise ConfigError(f"--preset {word}: say which preset it is of, --preset {of_value[0]}={word}")
    if not isinstance(presets, Mapping) or name not in presets:
        raise ConfigError(f"--preset {word}: the file has no preset {name!r}.{did_you_mean(name, list(presets))}")
    if value not in presets[name]:
        raise ConfigError(f"--preset {word}: {name} cannot be {value!r}.{did_you_mean(value, list(presets[name]))}")
    return _merge(rest, presets[name][value])


def _with_new_words(values: dict[str, Any]) -> dict[str, Any]:
    if "sets" in values and isinstance(values["sets"], Mapping):
        notice_of_new_word("sets:", "presets:")
        values = {"presets" if key == "sets" else key: value for key, value in values.items()}
    return values


def with_includes(files: Sequence[Path], above: tuple[Path, ...] = ()) -> list[Path]:
    """Return config files after those that they include."""
    paths = []
    for path in files:
        if path in above:
            raise ConfigError(f"{path} includes itself, through {' -> '.join(str(p) for p in above)}")
        include = _read(path).get("include", [])
        names = [include] if isinstance(include, str) else include
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{path}: include needs the name of a file, or a list of names, but got {include!r}")
        for name in names:
            if os.path.isabs(name) or ".." in name.split("/"):
                raise ConfigError(
                    f"{path}: include is {name!r}, but only files in the folder of {path.name} are included, as a "
                    "config from elsewhere could read any other. Name both files on the line: FILE.yaml OTHER.yaml"
                )
        paths += [*with_includes([path.parent / name for name in names], (*above, path)), path]
    return paths


def _read(path: Path) -> Any:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

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
    _refuse_large(path)
    try:
        content = OmegaConf.load(path)
    except RecursionError:
        raise ConfigError(f"{path} is nested too deep for a config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {_not_a_reference(error)}") from None
    if not OmegaConf.is_dict(content):
        raise ConfigError(f"{path} holds a {type(OmegaConf.to_container(content)).__name__}; a config is `key: value`")
    _refuse_calls(content, f"{path}: ")
    return content


def _refuse_large(path: Path) -> None:
    """Refuse what no config is, before the parser: it takes hours for a line of brackets."""
    if (n_bytes := path.stat().st_size) > MAX_BYTES:
        raise ConfigError(f"{path} has {n_bytes} bytes, and a config {MAX_BYTES} at most: is it another file?")
    content, depth = path.read_bytes(), 0
    for bracket in re.findall(rb"[][{}]", content):
        depth = max(0, depth + (1 if bracket in b"[{" else -1))
        if depth > MAX_DEPTH:
            line = f"{path} has more than {MAX_DEPTH} brackets in one another"
            raise ConfigError(f"{line}: correct it, or give the values on lines of their own")


def _refuse_calls(content: Any, where: str) -> None:
    """Refuse `${name:…}`. OmegaConf would call a function of that name, which may read the environment or a file, and
    what it returned would be stored with the run. `${train.seed}`, another value of the config, is all that is
    needed."""
    from omegaconf import OmegaConf
    from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
    from omegaconf.grammar_parser import parse

    for at, text in _texts(OmegaConf.to_container(content), ""):
        todo: list[Any] = [parse(text)]
        for node in todo:
            if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
                raise ConfigError(
                    f"{where}{at} has {node.getText()}, but `${{…}}` stands for another value of the config, as "
                    "${train.seed}, and reads neither the environment nor files. Write the value itself, or, where a "
                    "setting takes a secret, its name"
                )
            todo += getattr(node, "children", None) or []


def _texts(values: Any, at: str) -> Iterator[tuple[str, str]]:
    """Yield the texts in plain values in which OmegaConf looks for references, with where they stand."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _texts(value, f"{at}.{key}" if at else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _texts(value, f"{at}[{index}]")
    elif isinstance(values, str) and "${" in values:
        yield at, values


def _not_a_reference(error: Exception) -> str:
    return (
        f"`${{` begins a reference to another value, as ${{train.seed}}; for the text itself write \\${{ "
        f"({' '.join(str(error).splitlines()[0].split())})"
    )


def _escaped(values: Any) -> Any:
    """Plain values that OmegaConf resolves to the same ones: a text with `${` is a text, and no reference."""
    if isinstance(values, Mapping):
        return {key: _escaped(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_escaped(value) for value in values]
    if isinstance(values, str):
        return re.sub(r"(\\*)\$\{", lambda found: f"{2 * found[1]}\\${{", values)
    return values


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
    """Refuse a word that is not `key.key=value`, with the word as it was typed."""
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not key.replace(".", "").replace("_", "").isalnum():
            raise ConfigError(f"{word!r} is neither a file.yaml nor a key=value")


def apply_words(values: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Apply `key.key=value` words to the config; a value is read as YAML would read it."""
    from omegaconf import OmegaConf

    if any("${" in word for word in words):  # refers to another value: only OmegaConf knows how
        return _plain(OmegaConf.merge(OmegaConf.create(_escaped(values)), *map(_dotted, words)))
    changes: dict[str, Any] = {}
    for word in words:
        changes = _merge(changes, _read_word(word), together=True)
    return _merge(values, changes)


@functools.cache
def _read_word(word: str) -> dict[str, Any]:
    """Parse `a.b=1` as {"a": {"b": 1}}. Cached: a sweep repeats the same words, and parsing one takes a millisecond."""
    return _plain(_dotted(word))


def _dotted(word: str) -> Any:
    """Read a word, with what it refers to unresolved."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = _dotted_yaml(word)
    except OmegaConfBaseException as error:
        if "${" not in word:
            raise
        raise ConfigError(f"{word!r}: {_not_a_reference(error)}") from None
    if "${" in word:
        _refuse_calls(config, "")
    return config


def _dotted_yaml(word: str) -> Any:
    """Read a value as YAML; other text, as **/{subject}.set, is plain text, but a list must be YAML."""
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
    """Merge both; `above` wins. The same as OmegaConf.merge, a hundred times faster.

    A choice may be given by its name alone, `model: conformer`: settings given later are then for that
    choice, and those of another one are dropped. `together`: both were given in one place, in either order.
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


def in_one_line(value: Any) -> str:
    """Write a value as YAML in one line, for a row of a file that a person reads too."""
    import yaml

    text = yaml.dump(
        value, Dumper=_dumper(), sort_keys=False, allow_unicode=True, default_flow_style=True, width=1 << 20
    )
    return str(text).removesuffix("\n").removesuffix("\n...")


def to_yaml(values: Mapping[str, Any]) -> str:
    """Write text that `load` reads back as the same values."""
    import yaml

    dump = functools.partial(yaml.dump, Dumper=_dumper(), sort_keys=False, allow_unicode=True)
    written = str(dump(dict(values)))
    return str(dump(_escaped(values))) if "${" in written else written


def _dumper() -> Any:
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        pass

    def text(dumper: Any, value: str) -> Any:
        # OmegaConf reads some words as numbers that YAML does not (1e-3), so all but plain words stand in quotes
        plain = re.fullmatch(r"[A-Za-z_][\w./ -]*", value) is not None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    Dumper.add_representer(str, text)
    return Dumper

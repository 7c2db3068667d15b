"""A protocol: a config file of what a public benchmark fixes, of which `bench` makes a sweep and a page.

    protocol:
      data: preprocess.study              # the setting that data=PATH sets
      model: train.model                  # the choice that model=a,b sets
      layout: what is in the folder, in a sentence
      sweep: ["train.seed=33..35"]        # a run of each model for each of these
      each: {train.split.only: subjects}  # likewise, but the values are read from the data
      page: leaderboard                   # the section that reads all runs of the section that its `runs` names
    preprocess: …
    presets: {model: {eegpt: {train: …}}} # what the protocol sets for one of the models only

`each` names an entry point of the group `hpc.axes`, a function of all sections that returns values, as YAML.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpc import config
from hpc.config import plugins, recipes
from hpc.errors import ConfigError, did_you_mean
from hpc.plan import plan
from hpc.plan.plan import Science
from hpc.runs.rundir import RunDir

OWN = ("protocol", "model", "data")
"""The words of a line that are no settings."""
LINE = "bench protocol=NAME model=a,b data=PATH"


@dataclass(frozen=True)
class Protocol:
    """The section `protocol` of the file."""

    data: str
    model: str = ""
    layout: str = ""
    sweep: tuple[str, ...] = ()
    each: dict[str, str] = field(default_factory=dict)
    page: str = "leaderboard"


@dataclass(frozen=True)
class Line:
    """The words of a line: the protocol's file, models, the data, and settings that depart from the protocol."""

    file: Path
    models: tuple[str, ...]
    data: str
    settings: tuple[str, ...]


def parse(words: Sequence[str]) -> Line:
    config.check_words(words)
    own = {key: text for key, _, text in (word.partition("=") for word in words) if key in OWN}
    if "protocol" not in own:
        there = recipes.protocols()
        width = max(map(len, there), default=0)
        known = [f"  {name:<{width}}  {recipes.title(path)}" for name, path in there.items()]
        raise ConfigError("\n".join([f"bench which protocol? Say {LINE}. There are:", *known]))
    file = find(own["protocol"])
    models = tuple(filter(None, own.get("model", "").split(",")))
    if len(set(models)) < len(models):
        raise ConfigError(f"model={own['model']} names a model twice: name each once")
    data = own.get("data", "")
    if data and Path(data).expanduser().exists():
        data = str(Path(data).expanduser().absolute())
    settings = tuple(word for word in words if word.partition("=")[0] not in OWN)
    return Line(file, models, data, settings)


def find(name: str) -> Path:
    """Return the file of a protocol, by its name or its path."""
    known = recipes.protocols()
    if name in known:
        return known[name]
    if Path(name).suffix in (".yaml", ".yml") and Path(name).is_file():
        return Path(name)
    raise ConfigError(f"there is no protocol {name!r}.{did_you_mean(name, known)}")


def sciences(
    line: Line, named: Callable[[str], Sequence[RunDir]] = lambda ref: (), verbs: Sequence[str] = ()
) -> list[tuple[Science, str]]:
    """Return the runs of all models, each with the words that distinguish it, and last the page that reads them."""
    values, protocol, page = _read(line)
    of_page = [word for word in line.settings if word.startswith(f"{protocol.page}.")]
    page = config.apply_words({protocol.page: page}, of_page)[protocol.page]
    line = replace(line, settings=tuple(word for word in line.settings if word not in of_page))
    of_name: dict[str, tuple[Science, str]] = {}
    for model in line.models or ("",):
        for science, own in _of_model(model, line, values, protocol, named, verbs):
            own = " ".join(filter(None, [f"model={model}" if line.models[1:] else "", own]))
            shared = science.name in of_name and of_name[science.name][1] != own
            of_name[science.name] = science, "" if shared else own
    order = list(dict.fromkeys(science.section for science, _ in of_name.values()))
    pairs = sorted(of_name.values(), key=lambda pair: order.index(pair[0].section))
    results = [science.name for science, _ in pairs if science.section == page["runs"]]
    settings = {**page, "runs": results, "changed": list(line.settings)}
    (last,) = plan.sciences(protocol.page, {protocol.page: settings}, [], verbs=verbs)
    return [*pairs, (replace(last, section=protocol.page), "")]


def _read(line: Line) -> tuple[dict[str, Any], Protocol, dict[str, Any]]:
    """Return the sections of the file without the last two, and these: the protocol and the page."""
    values = config.load([line.file])
    if "protocol" not in values:
        raise ConfigError(f"{line.file} has no section `protocol`: `hpc pipeline {line.file}` runs a config as it is")
    protocol = config.build(Protocol, values.pop("protocol"), "protocol")
    page = values.pop(protocol.page, None)
    if not isinstance(page, Mapping) or page.get("runs") not in values:
        raise ConfigError(
            f"{line.file}: the section {protocol.page} has to say whose runs it reads, as `runs: evaluate`"
        )
    if protocol.model and not line.models:
        raise ConfigError(f"which models are compared by {line.file.stem}? Say model=a,b; `settings train.model` lists")
    if line.models and not protocol.model:
        raise ConfigError(f"{line.file.stem} fixes the model itself: leave out model={','.join(line.models)}")
    if not line.data:
        layout = f" It is {protocol.layout.rstrip('.')}." if protocol.layout else ""
        raise ConfigError(f"{line.file.stem} needs the data, data=PATH.{layout}")
    return values, protocol, dict(page)


def _of_model(
    model: str,
    line: Line,
    values: Mapping[str, Any],
    protocol: Protocol,
    named: Callable[[str], Sequence[RunDir]],
    verbs: Sequence[str],
) -> list[tuple[Science, str]]:
    presets = (values.get("presets") or {}).get("model", {})
    chosen = config.choose(values, f"model={model}" if model in presets else None)
    chosen = _with(chosen, protocol.data, line.data)
    if model:
        chosen = _with(chosen, f"{protocol.model}.name", model)
    given = {word.partition("=")[0] for word in line.settings}
    axes = [word for word in protocol.sweep if word.partition("=")[0] not in given]
    for setting, name in protocol.each.items():
        if setting not in given:
            axes.append(f"{setting}={','.join(_axis(name)(config.apply_words(chosen, line.settings)))}")
    return plan.sweep("pipeline", chosen, [*line.settings, *axes], None, named, None, verbs)


def _axis(name: str) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    points = plugins.points("hpc.axes")
    if name not in points:
        raise ConfigError(f"protocol.each cannot be {name!r}.{did_you_mean(name, points)}")
    function = plugins.load(points[name])

    def values(sections: Mapping[str, Any]) -> Sequence[str]:
        try:
            found: Sequence[str] = function(sections)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return found

    return values


def _with(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the values with another one at `a.b.c`."""
    first, _, rest = path.partition(".")
    below = values.get(first)
    if not rest:
        return {**values, first: value}
    below = {"name": below} if isinstance(below, str) else below or {}
    return {**values, first: _with(below, rest, value)}

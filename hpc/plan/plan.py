"""The plan of a run, decided before anything happens. Pure functions: what --dry-run prints is what is submitted.

A config file holds the settings of one stage, or those of a whole pipeline, one section for each stage:

    preprocess:
      study: data/my-bids-study
    train:
      data: preprocess          # an input that names a section stands for the run of that section
    again:
      stage: train              # a section of another name says of which stage it is
      start: {source: train}
"""

import dataclasses
import functools
import hashlib
import json
import operator
import os
import re
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc import config, media
from hpc.book.budget import Budget
from hpc.book.forecast import Forecast
from hpc.config import stages
from hpc.config.secrets import how
from hpc.errors import ConfigError, did_you_mean, first_of
from hpc.media import many, one_of
from hpc.plan.snapshot import Code
from hpc.plan.sweep import draws, grid, is_list
from hpc.rank.context import Input, input_path
from hpc.runs import records
from hpc.runs.rundir import RunDir
from hpc.site.allocation import Resources, Site
from hpc.slurm.sbatch_words import text_of


@dataclass(frozen=True)
class Science:
    """The computation: a stage and its complete config. Its hash is part of the run's name."""

    stage: str
    entry: str
    config: dict[str, Any]
    inputs: dict[str, str]
    """The fields of the config that name an input, with their values."""
    again: int = 1
    """The number of this run among those of the same science: 2 after the first `--again`."""
    section: str = ""
    """The section of the file; it is not part of the science."""
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)
    """The settings that name a secret, with the names; they are not part of the science."""
    unnamed: tuple[str, ...] = ()
    """The settings that are no part of the name, see config.unnamed."""

    @functools.cached_property
    def name(self) -> str:
        """The run's name: the same science has the same name, wherever and however often it is requested."""
        science = config.without(self.config, self.unnamed) if self.unnamed else self.config
        science = config.blanked(science, self.secrets) if self.secrets else science
        text = json.dumps([self.stage, science], sort_keys=True, ensure_ascii=False)
        name = f"{self.stage}-{b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:8]}"
        return name if self.again == 1 else f"{name}-{self.again}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run: what is computed, from which files and code, at which site, with which resources."""

    science: Science
    sources: tuple[str, ...]
    """The files and words from which the config was made."""
    site: Site
    resources: Resources
    code: tuple[Code, ...]
    runs: str
    """The folder that holds the run folders."""
    cwd: str
    python: str
    label: str = ""
    """The user's own name for the run."""
    settings: str = ""
    """The settings that differ from the other runs of a sweep; for a single run, the words of the command line."""
    asked: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The site and the resources as they were requested, so that `resume` need not repeat them."""
    checks: tuple[str, ...] = ()
    """The checks that have passed: see preflight.py."""
    start: str = ""
    """When Slurm estimates that it would start."""
    reason: str = ""
    """Why it is planned, if the command line does not name it."""
    warnings: tuple[str, ...] = ()
    """What will not work as it is: see preflight.py."""
    meaning: int = 1
    """The version of meaning of its results: see hpc.config.stages.meaning."""
    outdated: tuple[str, ...] = ()
    """What differs from what today's code would give: see meanings.py."""
    exact: str = ""
    """Of a malleable run: whether its parameters are the same on any of its numbers of nodes."""

    pause_at: int | None = None
    """Of a trial of a search: the step after which it rests until it is promoted."""
    budget: Budget | None = None
    """The hours that the run may spend in all of its jobs."""
    forecast: Forecast | None = None
    """How long it will take, if that is known from runs before it: see hpc/submit/costs.py."""
    cost: tuple[tuple[str, str], ...] = ()
    """What that will cost, when it ends, and the walltime that would do, as rows of the plan."""
    follow_up: tuple[str, ...] = ()
    """Of a trial of a search: the line that its job gives when it has ended."""

    @property
    def run(self) -> RunDir:
        return RunDir(Path(self.runs) / self.science.name)

    @property
    def python_path(self) -> list[str]:
        """Return the folders in the snapshot from which the ranks import."""
        return [path for code in self.code for path in code.import_folders]

    @property
    def packages(self) -> dict[str, str]:
        """Return where in the snapshot each package is."""
        return {name: os.path.normpath(f"{code.folder}/{at}") for code in self.code for name, at in code.packages}

    def to_json(self) -> dict[str, Any]:
        """Return the content of plan.json: `stage` and `entry` for the worker, the rest for the supervisor and for
        people."""
        return {
            "schema": records.SCHEMA,
            "name": self.science.name,
            "again": self.science.again,
            "label": self.label,
            "settings": self.settings,
            "asked": self.asked,
            "stage": self.science.stage,
            "entry": self.science.entry,
            "inputs": self.science.inputs,
            "secrets": self.science.secrets,
            "unnamed": list(self.science.unnamed),
            "sources": list(self.sources),
            "site": config.plain(self.site),
            "resources": config.plain(self.resources),
            "code": [
                {
                    "root": c.root,
                    "imports": list(c.imports),
                    "commit": c.commit,
                    "version": c.version,
                    "modified": list(c.modified),
                }
                for c in self.code
            ],
            "packages": self.packages,
            "meaning": self.meaning,
            "python": self.python,
            "python_path": self.python_path,
            "cwd": self.cwd,
            **({"exact": self.exact} if self.exact else {}),
            **({"pause_at": self.pause_at} if self.pause_at else {}),
            **({"budget": {"hours": self.budget.hours, "unit": self.budget.unit}} if self.budget else {}),
        }

    def to_text(self, identity: str, snapshot: str) -> str:
        """Write plan.json, a line for each key. json.dumps(indent=…) is five times slower, and a sweep has many.

        `identity`: the id of the run folder. `snapshot`: the SHA-256 of the manifest of the code.
        """
        content = self.to_json() | {"identity": identity, "snapshot": snapshot}
        lines = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in content.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def render(self) -> str:
        """Describe the plan for a person."""
        r, science = self.resources, self.science
        layout = f"{many(r.nodes, 'node')} x {many(r.ranks_per_node, 'rank')} = {many(r.ranks, 'rank')}"
        layout += f", chosen of {one_of(r.node_counts, 'node')}" if r.node_counts else ""
        gpus = f", {many(r.gpus_per_node, 'GPU')} a node" if r.gpus_per_node else ""
        whose_word = f"   profile: {self.site.status}, {self.site.verified_on}" if self.site.kind == "slurm" else ""
        places = {"off": "", "auto": ", else ".join(self.site.storage.scratch_local)}.get(r.stage, r.stage)
        rows = [
            ("run", f"{science.name}{self.label and f' ({self.label})'}   in {self.runs}"),
            *([("because", self.reason)] if self.reason else []),
            ("where", f"{self.site.name} ({self.site.description or self.site.kind}){whose_word}"),
            *([("cluster", r.cluster)] if r.cluster else []),
            ("layout", layout + gpus),
            *([("exact", self.exact)] if self.exact else []),
            *(
                [("time", f"{r.time_s / 60:g} min, asked to save {r.lead_s} s before the end")]
                if r.time_s is not None
                else []
            ),
            ("config", f"{many(_count(science.config), 'value')} from {', '.join(self.sources) or 'the defaults'}"),
            *(
                ("input", f"{field}: {input_path(Input(ref), Path(self.runs))}")
                for field, ref in science.inputs.items()
            ),
            *([("image", f"{r.container}, by {self.site.container.runtime}")] if r.container else []),
            *([("sbatch", text_of(r.options))] if r.options and self.site.kind == "slurm" else []),
            *([("copies", f"what is read often goes to {places} of each node")] if places else []),
            *(("code", text) for code in self.code for text in _say_code(code)),
            *(("note", note) for note in (*self.outdated, *r.notes, *self.warnings)),
            *([("checks", " · ".join(self.checks))] if self.checks else []),
            *([("start", self.start)] if self.start else []),
            *([("budget", f"{self.budget}, then it stops at a checkpoint")] if self.budget else []),
            *self.cost,
        ]
        return media.lines("\n".join(f"{label:<8}{text}" for label, text in rows))


def sciences(
    verb: str,
    values: Mapping[str, Any],
    words: Sequence[str],
    anew: Callable[[str], int] | None = None,
    named: Callable[[str], Sequence[RunDir]] = lambda ref: (),
    lacks: Callable[[str], bool] | None = None,
    verbs: Sequence[str] = (),
) -> list[Science]:
    """Return what a verb computes, in order: one stage, or for `pipeline` every section of the file.

    Parameters
    ----------
    verb
        The name of a stage, or `pipeline`.
    values
        The config files, merged.
    words
        `key=value` words. In a pipeline file `train.optim.lr=1e-3` sets a value of that section; for a single stage
        the section's name may be left out.
    anew
        With --again: the number that the new run of a name gets.
    named
        Finds the runs that an input means if it is neither a section nor a run's own name. The name of the result does
        not depend on how the input was written.
    lacks
        Whether a run has no result yet. If so, for a single stage, the sections that it reads from are computed first.
    verbs
        The other words of the command line, to recognise a slip of the pen.
    """
    config.check_words(words)
    values, sections = sections_of(values)
    if verb == "pipeline" or verb in sections:
        values = _of_sections(verb, values, sections, words)
    elif verb in stages.names():
        values = _of_other_stage(verb, values, sections, words)
        sections = [*sections, verb]
    elif verb in verbs:  # as in `sweep status`
        raise ConfigError(f"{verb} is not a stage.{did_you_mean(verb, stages.names())}")
    else:
        raise ConfigError(f"there is no stage or verb {verb!r}.{did_you_mean(verb, [*verbs, *stages.names()])}")
    done: dict[str, Science] = {}
    targets = sections if verb == "pipeline" else [verb]
    try:
        for section in targets:
            again = lambda o: anew(o.name) if anew and o.section in targets else 1  # noqa: E731
            _science(section, values, sections, done, (), again, named)
    except ConfigError as error:
        for word in filter(is_list, words):
            key = word.partition("=")[0].removesuffix(".name")
            if error.at == (key if key.split(".")[0] in sections else f"{verb}.{key}"):
                raise ConfigError(f"{error}. Several values are for sweep: sweep {verb} {word}") from None
        raise
    if verb == "pipeline":
        return list(done.values())
    return _with_missing(done[verb], list(done.values()), lacks) if lacks else [done[verb]]


def sections_of(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the file's values, with empty sections of stages as {}, and the keys that are sections of stages."""
    known = stages.names()
    values = {key: {} if key in known and value is None else value for key, value in values.items()}
    sections = []
    for key, value in values.items():
        if not isinstance(value, Mapping):
            continue
        stage = value.get("stage", key)
        if key in known and stage != key:
            raise ConfigError(f"{key} is a stage, so its section cannot be of {stage}: give the section another name")
        if stage in known:
            sections.append(key)
        elif "stage" in value:
            raise ConfigError(f"{key}.stage cannot be {stage!r}.{did_you_mean(str(stage), known)}")
    return values, sections


def _of_sections(verb: str, values: Mapping[str, Any], sections: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    """Return the values of a file with one section for each stage, after applying the words."""
    known = stages.names()
    if plain := [key for key in values if key in known and key not in sections]:
        raise ConfigError(f"{plain[0]} is a stage, and its section needs settings, but got {values[plain[0]]!r}")
    if strangers := [key for key in values if key not in sections]:
        if "protocol" in strangers:
            raise ConfigError("this file is a protocol, which `bench` runs: bench protocol=FILE model=a,b data=PATH")
        raise ConfigError(f"{strangers[0]!r} is not the section of a stage.{did_you_mean(strangers[0], known)}")
    if not sections:
        raise ConfigError("a pipeline needs a config file with a section for each stage, as configs/demo.yaml")
    prefix = "" if verb == "pipeline" else f"{verb}."
    full = [word if word.split(".")[0] in sections else prefix + word for word in words]
    for word in full:
        if word.split(".")[0] not in sections:
            raise ConfigError(f"{word!r} names no section of the file.{did_you_mean(word.split('.')[0], sections)}")
    return config.apply_words(values, full)


def _of_other_stage(
    stage: str, values: Mapping[str, Any], sections: Sequence[str], words: Sequence[str]
) -> dict[str, Any]:
    """Return the values of a file without a section for this stage, with one added. It can read from the other stages,
    and a stage may start from the settings of another one."""
    like = getattr(stages.schema(stages.load(stages.entry(stage))), "section", "")
    own = [word.removeprefix(f"{stage}.").removeprefix(f"{like}.") for word in words]
    rest = {key: value for key, value in values.items() if key not in sections}
    start = values[like] if like in sections else rest
    return {key: values[key] for key in sections} | {stage: config.apply_words(start, own)}


def _with_missing(asked: Science, above: Sequence[Science], lacks: Callable[[str], bool]) -> list[Science]:
    """Return a science after those of `above` that it reads from and that have no result yet, in their order."""
    needed = [asked]
    for science in needed:
        read = [other for other in above if other.name in science.inputs.values() and other not in needed]
        needed += [other for other in read if lacks(other.name)]
    return [science for science in above if science in needed]


def sweep(
    verb: str,
    values: Mapping[str, Any],
    words: Sequence[str],
    n_draws: int | None = None,
    named: Callable[[str], Sequence[RunDir]] = lambda ref: (),
    lacks: Callable[[str], bool] | None = None,
    verbs: Sequence[str] = (),
) -> list[tuple[Science, str]]:
    """Return the sciences of every combination of the words, or of n_draws drawn at random, each with the words that
    distinguish it. A science that several combinations share is returned once, without such words."""
    combinations = grid(words) if n_draws is None else draws(words, n_draws)
    by_name: dict[str, tuple[Science, str]] = {}
    for combination in combinations:
        own = " ".join(word for word in combination if word not in words)
        for science in sciences(verb, values, combination, named=named, lacks=lacks, verbs=verbs):
            shared = science.name in by_name and by_name[science.name][1] != own
            by_name[science.name] = (science, "" if shared else own)
    order = list(dict.fromkeys(science.section for science, _ in by_name.values()))
    return sorted(by_name.values(), key=lambda pair: order.index(pair[0].section))


def of_run(run: RunDir) -> Science:
    """Read the science of an existing run from its folder."""
    record = records.whole_plan(run)
    if not record:
        raise ConfigError(f"{run.path} is not a run folder: it has no plan.json")
    return Science(
        record["stage"],
        record["entry"],
        config.load([run.config]),
        record["inputs"],
        record["again"],
        secrets=record.get("secrets", {}),
        unnamed=tuple(record.get("unnamed", ())),
    )


def of_folder(run: RunDir) -> Plan:
    """Return the plan that a run was last submitted with."""
    science, record = of_run(run), records.whole_plan(run)
    return Plan(
        science=science,
        sources=tuple(record["sources"]),
        site=config.build(Site, record["site"], "site"),
        resources=config.build(Resources, record["resources"], "resources"),
        code=tuple(
            Code(code["root"], _listed(code["imports"]), code["commit"], tuple(code["modified"]), ())
            for code in record["code"]
        ),
        runs=str(run.path.parent),
        cwd=record["cwd"],
        python=record["python"],
        label=record["label"],
        settings=record["settings"],
        asked=record["asked"],
    )


def _listed(imports: str | list[str]) -> tuple[str, ...]:
    """Return the folders on sys.path: one until version 1 of run folders."""
    return (imports,) if isinstance(imports, str) else tuple(imports)


def label_of(run: RunDir) -> str:
    """Return the user's own name for an existing run, or an empty text."""
    return str(records.plan(run).get("label", ""))


def next_again(name: str, runs: Path) -> int:
    """Return the number for a new run of that name: one more than there are."""
    matches = [re.fullmatch(re.escape(name) + r"-([0-9]+)", path.name) for path in runs.glob(f"{name}-*")]
    numbers = [int(number[1]) for number in matches if number]
    return max(numbers, default=1) + 1 if (runs / name).exists() else 1


def _science(
    section: str,
    values: Mapping[str, Any],
    sections: Sequence[str],
    done: dict[str, Science],
    above: tuple[str, ...],
    again: Callable[[Science], int],
    named: Callable[[str], Sequence[RunDir]],
) -> Science:
    """Return the science of a section, after those of its inputs: their names are part of its config."""
    if section in above:
        raise ConfigError(
            f"the stages wait for each other: {' -> '.join([*above, section])}. Let one of them read a run that is "
            "there, or a folder"
        )
    if section in done:
        return done[section]
    stage = values[section].get("stage", section)
    entry = stages.entry(stage)
    schema = stages.schema(stages.load(entry))
    cfg = config.build(schema, {key: value for key, value in values[section].items() if key != "stage"}, section)
    refs: dict[str, str] = {}
    for field, ref in config.inputs(cfg).items():
        if ref in sections:
            refs[field] = _science(ref, values, sections, done, (*above, section), again, named).name
            continue
        several = isinstance(operator.attrgetter(field.partition("[")[0])(cfg), tuple)
        reads = getattr(schema, "READS", {}).get(field, ())
        names = _names(f"{section}.{field}", ref, named(ref), several, reads)
        refs |= {f"{field}[{number}]": name for number, name in enumerate(names)}
    cfg = config.with_digests(config.with_inputs(cfg, refs), section)
    first = Science(
        stage,
        entry,
        config.plain(cfg),
        config.inputs(cfg),
        section=section,
        secrets=_secrets(section, cfg),
        unnamed=tuple(config.unnamed(cfg)),
    )
    done[section] = dataclasses.replace(first, again=again(first))
    return done[section]


def _secrets(section: str, cfg: Any) -> dict[str, str]:
    """Return the names of the secrets that a config asks for. Refuse a secret itself, without showing it."""
    secrets = config.secrets_of(cfg)
    for path, secret in secrets.items():
        if secret.is_literal:
            key = path.rpartition(".")[2]
            name = f"MY_{key.upper()}"
            raise ConfigError(
                f"{section}.{path} needs the name of a secret, in capitals, and not the secret itself, which would be "
                f"stored with the run: say {key}={name} and {how(name, os.environ)}"
            )
    return {path: secret.name for path, secret in secrets.items()}


def _names(at: str, ref: str, runs: Sequence[RunDir], several: bool, reads: Sequence[str] = ()) -> list[str]:
    """Return the own names of the runs that an input means, or the input itself if there are none. If `several` are
    allowed, all runs of a sweep, which share a --name and a stage, are meant; of a sweep of a pipeline, those of the
    stages that the input `reads`, except for what others of these read themselves."""
    if several and len(runs) > 1 and all(label_of(run) == ref for run in runs):
        plans = {run: records.plan(run) for run in runs}
        of_stage = [run for run in runs if plans[run].get("stage") in reads]
        read = {name for run in of_stage for name in plans[run].get("inputs", {}).values()}
        if of_stage:
            return sorted(run.name for run in of_stage if run.name not in read)
    names = sorted(run.name for run in runs)
    if len(names) < 2:
        return names or [ref]
    stages_of = {records.plan(run).get("stage") for run in runs}
    if several and len(stages_of) == 1 and all(label_of(run) == ref for run in runs):
        return names
    raise ConfigError(f"{at} is {ref}, which could be {first_of(names)}: say which, by its whole name")


def _count(value: Any) -> int:
    """Count the settings of a config."""
    if isinstance(value, Mapping):
        return sum(_count(item) for item in value.values())
    if isinstance(value, list):
        return sum(_count(item) for item in value) or 1
    return 1


def _say_code(code: Code) -> list[str]:
    changed = f" + {many(len(code.modified), 'changed file')}" if code.modified else ""
    version = code.commit[:10] or code.version or "no git"
    if code.files or not code.sent:
        lines = [f"{version}{changed}, {many(len(code.files), 'file')} copied from {code.root}"]
    else:  # of a run that is computed again
        lines = [f"{version}{changed}, the run's own copy of {code.root}"]
    if code.too_large:
        lines += [f"not copied, as too large: {first_of(code.too_large)} of {code.root}"]
    return lines

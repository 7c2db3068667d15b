"""Help for one verb, from the table of options and, for a stage, from its config; and the reference of all settings."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from hpc.cli import options
from hpc.cli.options import Arguments
from hpc.cli.table import CONFIG, TOOL, Verb, verbs
from hpc.cli.verbs import load
from hpc.codes import DONE
from hpc.config import plugins, reference, stages
from hpc.config.choices import kinds, leaves
from hpc.config.reference import Setting
from hpc.errors import ConfigError, did_you_mean, first_of
from hpc.runs.rundir import write_output

WIDEST = 110
"""The maximum width in columns; longer lines are hard to read."""


def show_help(args: Arguments, environ: Mapping[str, str]) -> int:
    """`hpc VERB --help`."""
    print(text(args.verb), end="")
    return DONE


def text(verb: str) -> str:
    if verb in stages.names():
        return _of_stage(verb)
    row = verbs().get(verb)
    if row is None and verb in options.SYNONYMS:
        raise ConfigError(f"there is no stage or verb {verb!r}: say {options.SYNONYMS[verb]}")
    if row is None:
        known = [*verbs(), *stages.names()]
        raise ConfigError(f"there is no stage or verb {verb!r}.{did_you_mean(verb, known)}")
    about = f"{row.what[0].upper()}{row.what[1:]}.\n"
    more = plugins.load(row.more)() if row.more else ""
    parts = [_usage(verb, row.words), about, _settings(verb, row), _options(verb), more, _examples(row.examples)]
    return "\n".join(filter(None, parts))


def _settings(verb: str, row: Verb) -> str:
    """Return the settings of a verb from another package, which has a config as a stage has."""
    if row.where != TOOL:
        return ""
    return f"settings:\n{table(reference.settings(stages.schema(load(verb))))}"


def _of_stage(stage: str) -> str:
    function = stages.load(stages.entry(stage))
    schema = stages.schema(function)
    about, example = _docstring(function)
    _, several, rows = reference.below(schema, "")
    one_of = f"{several}\n" if len(kinds(schema)) > 1 else ""
    needed = " ".join(f"{row.path}=…" for row in rows if row.kind and not row.default)
    return "\n".join(
        [
            _usage(stage, CONFIG),
            f"{about}\n",
            f"{one_of}settings ({stage}.KEY=VALUE, or KEY=VALUE; more: python -m hpc.launch settings {stage}.KEY):",
            table(rows),
            _options(stage),
            _examples(example or (f"{stage} my-study.yaml", f"{stage} {needed} --nodes 2 --dry-run")),
        ]
    )


def _docstring(function: Any) -> tuple[str, tuple[str, ...]]:
    """Return what a stage does, and the examples in its docstring: lines that begin with `python -m hpc.launch`."""
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    command = "python -m hpc.launch "
    examples = [line.strip().removeprefix(command) for line in lines if line.strip().startswith(command)]
    about = " ".join(line for line in lines if not line.strip().startswith(command)).strip()
    return "\n".join(wrap(about, _width())), tuple(examples)


def _usage(verb: str, words: str) -> str:
    return f"usage: python -m hpc.launch {f'{verb} {words}'.strip()} [options]\n"


def _options(verb: str) -> str:
    short = {long: f"{letter}, " for letter, long in options.SHORT.items()}
    rows = [
        (f"{short.get(row.name, '')}{row.name} {row.metavar}".strip(), row.for_verbs.get(verb, row.what))
        for row in options.OPTIONS.values()
        if row.verbs and row.fits(verb)
    ]
    if not rows:
        return ""
    wide = max(len(how) for how, _ in rows) + 4
    return "\n".join(["options:", *(_entry(f"  {how}", what, wide) for how, what in rows), ""])


def _examples(examples: Sequence[str]) -> str:
    return "\n".join(["examples:", *(f"  python -m hpc.launch {line}" for line in examples), ""])


def table(rows: Sequence[Setting]) -> str:
    """Format one setting a paragraph: how it is written, its default, its type and what it is for."""
    lines: list[str] = []
    for row in rows:
        default = f"={row.default}" if row.default else "  (must be given)" if row.kind else ""
        lines.append(f"  {row.path}{default}")
        lines += wrap(row.description, _width(), initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join([*lines, ""])


def _entry(how: str, what: str, wide: int) -> str:
    lines = wrap(what, max(30, _width() - wide)) or [""]
    return "\n".join([f"{how:<{wide}}{lines[0]}", *(" " * wide + line for line in lines[1:])])


def _width() -> int:
    return max(40, min(WIDEST, get_terminal_size((100, 24)).columns - 1))


def _named(path: str) -> list[str]:
    """Return the settings of all stages that have this path, or that end with it if it is a single word."""
    paths: list[str] = []
    for stage in stages.names():
        try:
            schema = stages.schema(stages.load(stages.entry(stage)))
            below = [reference.below(schema, path)[0]] if "." in path else leaves(schema, path)
        except ConfigError:  # a broken stage, or one without it
            continue
        paths += [f"{stage}.{each}" for each in dict.fromkeys(below)]
    whole = [each for each in paths if each.count(".") > path.count(".")]  # model.eegnet, not another stage's model
    return whole or paths


def show_settings(args: Arguments, environ: Mapping[str, str]) -> int:
    """`hpc settings [STAGE[.PATH]]`: print every setting of a stage, a group of settings, or a choice."""
    if len(args.words) > 1:
        raise ConfigError(f"settings shows one stage or path at a time, but got {' '.join(args.words)!r}")
    if not args.words and args.output is not None:
        raise ConfigError(f"settings of which stage? It writes one page: settings train --output {args.output}")
    if not args.words:
        return _list_stages(args.json)
    asked = args.words[0].replace("=", ".", 1)  # model=eegnet, as on the line of a run
    stage, _, path = asked.partition(".")
    if stage not in stages.names() and (paths := _named(asked)):
        raise ConfigError(f"there is no stage {stage!r}; settings of that name: {first_of(paths)}")
    schema = stages.schema(stages.load(stages.entry(stage)))
    if args.output is not None:
        write_output(Path(args.output), page(stage))
        print(f"wrote {args.output}")
        return DONE
    title, about, rows = reference.below(schema, path)
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return DONE
    print(f"{'.'.join(filter(None, (stage, title)))}\n")
    if about:
        print("\n".join(wrap(about, _width())) + "\n")
    print(table(rows), end="")
    return DONE


def _list_stages(as_json: bool) -> int:
    stages_about: list[tuple[str, str]] = []
    for name in stages.names():
        try:
            stages_about.append((name, _docstring(stages.load(stages.entry(name)))[0]))
        except ConfigError as error:  # a package that is being written
            stages_about.append((name, f"broken: {error}"))
    if as_json:
        print(json.dumps([{"stage": name, "about": about} for name, about in stages_about]))
        return DONE
    wide = max(len(name) for name, _ in stages_about) + 4
    print("\n".join(_entry(f"  {name}", " ".join(about.split()), wide) for name, about in stages_about))
    print("\n  one of them   python -m hpc.launch settings STAGE   and below it   settings train.model.eegnet")
    return DONE


def page(stage: str) -> str:
    """Return all settings of a stage as a page of Markdown, with those of each choice, for docs/reference."""
    function = stages.load(stages.entry(stage))
    schema = stages.schema(function)
    lines = [f"# {stage}", "", " ".join(_docstring(function)[0].split()), ""]
    lines += [*map(_item, reference.below(schema, "")[2]), ""]
    for path in reference.groups(schema):
        _, about, rows = reference.below(schema, path)
        lines += [f"## {path}", "", *([about, ""] if about else []), *map(_item, rows), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _item(row: Setting) -> str:
    default = f" = `{row.default}`" if row.default else " (must be given)" if row.kind else ""
    return f"* **{row.path}**{default} — {row.description}"

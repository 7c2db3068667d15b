"""Verbs that a package adds through the entry points hpc.verbs; they work on files, not on runs.

    [options.entry_points]
    hpc.verbs =
        inspect = eegdecode.weights.inspect:run

Such a function is `(cfg, files, as_json) -> text`, and the annotation of `cfg` is the schema of the key=value words;
its settings are options too, `--explain` for `explain=true`. A line of its docstring that begins with
`python -m hpc.launch` shows its use. With --output its text goes to that file, or the setting `output`, if it has one,
gets the name; a setting `runs` gets that of --runs.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc import config
from hpc.cli.options import Arguments
from hpc.cli.table import verbs
from hpc.codes import DONE
from hpc.config import plugins, stages
from hpc.errors import ConfigError
from hpc.rank import threads
from hpc.runs.rundir import write_output


def run(args: Arguments) -> str:
    """Call the function of a verb with the given files and settings, and return its text."""
    return call(load(args.verb), args)


def call(function: Any, args: Arguments) -> str:
    """Call such a function, and return its text."""
    threads.cap(threads.given(os.environ))
    # Files of Lightning are called epoch=3-step=100.ckpt
    files = [word for word in args.words if "=" not in word or Path(word).exists()]
    words = [word for word in args.words if word not in files]
    config.check_words(words)
    schema = stages.schema(function)
    flags = {field.name for field in dataclasses.fields(schema) if field.type in (bool, "bool")}
    texts = {field.name for field in dataclasses.fields(schema)} - flags
    if valueless := [word for word in words if word.endswith("=true") and word.removesuffix("=true") in texts]:
        name = valueless[0].removesuffix("=true")
        raise ConfigError(f"--{name} of {args.verb} needs a value: --{name}=VALUE")
    own = {field.name for field in dataclasses.fields(schema)}.intersection(("output", "runs"))
    given = {name: value for name in own if (value := getattr(args, name)) is not None}
    own_output = "output" in given
    cfg = config.build(schema, config.apply_words(given, words), args.verb)
    try:
        text = str(function(cfg, [Path(name) for name in files], args.json))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if args.output is None or own_output:
        return text
    write_output(Path(args.output), f"{text}\n")
    return f"wrote {args.output}"


def load(verb: str) -> Any:
    """The function of a verb."""
    points = plugins.points("hpc.verbs")
    if verb not in points:
        raise ConfigError(f"no installed package provides {verb}: install the project again (env/setup.sh)")
    return plugins.load(points[verb])


def run_verb(args: Arguments, environ: Mapping[str, str]) -> int:
    if not args.words or all("=" in word and not os.path.exists(word) for word in args.words):
        raise ConfigError(f"{args.verb} which file or folder? Name one: {verbs()[args.verb].examples[0]}")
    print(run(args))
    return DONE

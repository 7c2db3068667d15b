"""Verbs that a package adds through the entry points hpc.verbs; they work on files, not on runs.

    [options.entry_points]
    hpc.verbs =
        inspect = eegdecode.weights.inspect:run

Such a function is `(cfg, files, as_json) -> text`, and the annotation of `cfg` is the schema of the key=value words.
"""

import functools
import importlib
import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hpc import DONE, config
from hpc.cli.options import Arguments
from hpc.config import stages
from hpc.errors import ConfigError
from hpc.rank import threads


def run(args: Arguments) -> str:
    """Call the function of a verb with the files and the settings that were said; gives what it has to say."""
    threads.cap(threads.given(os.environ))
    function = load(args.verb)
    # Files of Lightning are called epoch=3-step=100.ckpt
    files = [word for word in args.words if "=" not in word or Path(word).exists()]
    words = [word for word in args.words if word not in files]
    config.check_words(words)
    cfg = config.build(stages.schema(function), config.apply_words({}, words), args.verb)
    try:
        return str(function(cfg, [Path(name) for name in files], args.json))
    except ValueError as error:
        raise ConfigError(str(error)) from None


@functools.cache
def load(verb: str) -> Any:
    """The function of a verb."""
    for point in entry_points(group="hpc.verbs"):
        if point.name == verb:
            module, _, attribute = point.value.partition(":")
            return getattr(importlib.import_module(module), attribute)
    raise ConfigError(f"no package that is installed here brings {verb}: install the project again (env/setup.sh)")


def inspect_files(args: Arguments, environ: Mapping[str, str]) -> int:
    if not args.words or all("=" in word and not os.path.exists(word) for word in args.words):
        raise ConfigError("inspect which file? Name one, or two to compare them")
    print(run(args))
    return DONE

"""Verbs that a package adds through the entry points hpc.verbs; they work on files, not on runs.

    [options.entry_points]
    hpc.verbs =
        inspect = eegdecode.weights.inspect:run

Such a function is `(cfg, files, as_json) -> text`, and the annotation of `cfg` is the schema of the key=value words.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc import config
from hpc.cli.options import Arguments
from hpc.codes import DONE
from hpc.config import plugins, stages
from hpc.errors import ConfigError
from hpc.rank import threads


def run(args: Arguments) -> str:
    """Call the function of a verb with the given files and settings, and return its text."""
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


def load(verb: str) -> Any:
    """The function of a verb."""
    verbs = plugins.points("hpc.verbs")
    if verb not in verbs:
        raise ConfigError(f"no installed package provides {verb}: install the project again (env/setup.sh)")
    return plugins.load(verbs[verb])


def run_verb(args: Arguments, environ: Mapping[str, str]) -> int:
    if not args.words or all("=" in word and not os.path.exists(word) for word in args.words):
        raise ConfigError(f"{args.verb} which file? Name one, or several")
    print(run(args))
    return DONE

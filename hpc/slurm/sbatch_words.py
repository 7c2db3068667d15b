"""Reads options of sbatch from words, as `--sbatch "--begin=now+1hour --switches=1"` has them."""

from __future__ import annotations

import re
import shlex

from hpc.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LETTERS = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus", "H": "hold",
    "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes", "O": "overcommit", "Q": "quiet", "S": "core-spec",
    "V": "version", "W": "wait", "a": "array", "b": "begin", "c": "cpus-per-task", "d": "dependency", "e": "error",
    "h": "help", "i": "input", "k": "no-kill", "m": "distribution", "n": "ntasks", "o": "output", "p": "partition",
    "q": "qos", "s": "oversubscribe", "t": "time", "v": "verbose", "w": "nodelist", "x": "exclude",
}  # fmt: skip
NOT_FROM_THE_LINE = {
    **dict.fromkeys(("output", "error", "input", "open-mode"), "the output of a run is in its folder"),
    **dict.fromkeys(("requeue", "no-requeue"), "a run goes back into the queue by itself, and `stop` ends it for good"),
    **dict.fromkeys(
        ("wrap", "parsable", "test-only", "wait", "quiet", "verbose", "help", "usage", "version", "ignore-pbs"),
        "it is about the command sbatch, not about a job; --dry-run prints the script",
    ),
    "chdir": "a run works in the folder where its line is given",
    "signal": "`lead` of the profile is how long before its end a run is asked to save",
    "array": "several runs are a sweep",
    "clusters": "say --on SITE of a profile with that `cluster`, or set SLURM_CLUSTERS",
    "kill-on-invalid-dep": "--after sets it",
    "mem-per-cpu": "say --mem GB, of a node",
    "mem-per-gpu": "say --mem GB, of a node",
    "gpus-per-task": "say --gpus N, of a node",
    "gpus": "say --gpus N, of a node, without --sbatch",
}  # fmt: skip
"""Options that hpc has in its own hand, with the reason or with what to say instead."""
FOR_THE_FIRST = ("begin", "hold")
"""Options about when a job may start: not for the one that follows it where a site does not requeue."""


def parse(text: str, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the options by their long names; the value of one without a value is empty.

    Parameters
    ----------
    text
        The words, quoted as in a shell: --name=value, --name value, --name, -x value.
    ours
        sbatch's names of what has an option of its own here, and that option.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        raise ConfigError(f"--sbatch {text!r}: a quote is not closed") from None
    options: dict[str, str] = {}
    while words:
        name, value = _option(words.pop(0))
        if value is None:
            value = words.pop(0) if words and not words[0].startswith("-") else ""
        name = _whole(name, [*ours, *NOT_FROM_THE_LINE])
        if name in ours and not (name == "gres" and not value.startswith("gpu")):
            raise ConfigError(f"--sbatch: --{name} has an option of its own here: say {ours[name]}, outside the quotes")
        if name in NOT_FROM_THE_LINE:
            raise ConfigError(f"--sbatch cannot take --{name}: {NOT_FROM_THE_LINE[name]}")
        if name in options:
            raise ConfigError(f"--sbatch has --{name} twice: {options[name]!r} and {value!r}")
        options[name] = value
    return options


def _option(word: str) -> tuple[str, str | None]:
    """Return the long name of an option, and its value if that is in the same word."""
    if match := re.fullmatch(r"--([a-z][a-z0-9-]+)(?:=(.*))?", word, re.DOTALL):
        return match[1], match[2]
    if (match := re.fullmatch(r"-([A-Za-z])=?(.*)", word, re.DOTALL)) and match[1] in LETTERS:
        return LETTERS[match[1]], match[2] or None
    raise ConfigError(f"--sbatch takes options of sbatch, as '--begin=now+1hour --exclusive', but got {word!r}")


def _whole(name: str, held: Sequence[str]) -> str:
    """Return which of the options that hpc holds a name means: sbatch takes the beginning of a name as well."""
    return name if name in held else next((whole for whole in held if whole.startswith(name)), name)


def text_of(options: Mapping[str, str]) -> str:
    """Return options as one would give them to sbatch."""
    return " ".join(shlex.quote(f"--{name}={value}" if value else f"--{name}") for name, value in options.items())

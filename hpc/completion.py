"""What may come next on a command line, for the shell's tab key: verbs, options, sites, runs, files, settings."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hpc import options, profile, stages, status
from hpc.errors import ConfigError

_BASH = """\
_hpc_launch() {
  if [[ "${COMP_WORDS[1]} ${COMP_WORDS[2]}" != "-m hpc.launch" ]]; then
    COMPREPLY=($(compgen -o default -- "${COMP_WORDS[COMP_CWORD]}"))
    return
  fi
  local line="${COMP_LINE:0:COMP_POINT}" words
  read -ra words <<<"${line#*hpc.launch}"
  [[ "$line" == *" " ]] && words+=("")
  local current="${words[-1]}"
  local IFS=$'\\n'
  COMPREPLY=($("${COMP_WORDS[0]}" -m hpc.launch completion words -- "${words[@]}" 2>/dev/null))
  # The shell completes only what follows the last `=`
  [[ "$current" == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${current%=*}="}")
  [[ "${COMPREPLY[0]}" == *[=/] ]] && compopt -o nospace
}
complete -F _hpc_launch python python3"""

SCRIPTS = {"bash": _BASH, "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{_BASH}"}


def candidates(words: Sequence[str]) -> list[str]:
    """What the last word can become; the others stand before it. Each begins with the word as it is."""
    *before, word = words or [""]
    option = options.OPTIONS.get(before[-1]) if before else None
    if option and option[3] is not None:
        found = _values(option[0], before)
    elif word.startswith("-"):
        found = sorted(options.OPTIONS)
    elif not _plain(before):
        found = [*stages.names(), *options.VERBS]
    else:
        found = _words(_plain(before), word)
    return [choice for choice in found if choice.startswith(word)]


def _plain(words: Sequence[str]) -> list[str]:
    """Without the options and their values."""
    found = []
    coming = iter(words)
    for word in coming:
        option = options.OPTIONS.get(options.SHORT.get(word, word))
        if option and option[3] is not None:
            next(coming, None)
        elif not word.startswith("-"):
            found.append(word)
    return found


def _values(option: str, before: Sequence[str]) -> list[str]:
    if option == "--on":
        return profile.names()
    if option == "--partition" and "--on" in before[:-1]:
        return _partitions(before[before.index("--on") + 1])
    return _runs() if option == "--after" else []


def _partitions(site: str) -> list[str]:
    try:
        return sorted(profile.load(site).partitions)
    except ConfigError:  # half a word
        return []


def _words(plain: Sequence[str], word: str) -> list[str]:
    verb = plain[0]
    if verb in ("status", "logs", "stop", "resume", "export"):
        return _runs()
    if verb == "site":
        return ["refresh"] if len(plain) == 1 else []
    if verb == "completion":
        return ["bash", "zsh"]
    if verb == "sweep" and len(plain) == 1:
        return [*stages.names(), "pipeline"]
    stage = plain[1] if verb == "sweep" and len(plain) > 1 else verb
    return [*_settings(stage), *_files(word)]


def _runs() -> list[str]:
    return [run.name for run in status.all_runs(Path("runs"))]


def _files(word: str) -> list[str]:
    """Config files, and folders on the way to them."""
    folder = Path(word).parent if not word.endswith("/") else Path(word)
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    shown = [path for path in there if not path.name.startswith(".") or word.startswith(".")]
    return [f"{path}/" if path.is_dir() else str(path) for path in shown if path.is_dir() or path.suffix == ".yaml"]


def _settings(stage: str) -> list[str]:
    """`optim.lr=` and the like of one stage, or of all with the stage's name before it."""
    if stage == "pipeline":
        return [f"{name}.{setting}" for name in stages.names() for setting in _settings(name)]
    try:
        return [f"{name}=" for name in _names(stages.schema(stages.load(stages.entry(stage))))]
    except ConfigError:  # no such stage, or a broken one: nothing to offer
        return []


def _names(schema: Any) -> list[str]:
    """The settings of a config, those of its parts after a dot; of parts to choose from by name, of all of them."""
    found = []
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        parts = [kind for kind in (hints[field.name], *get_args(hints[field.name])) if dataclasses.is_dataclass(kind)]
        found += [f"{field.name}.{name}" for part in parts for name in _names(part)] or [field.name]
    return list(dict.fromkeys(found))

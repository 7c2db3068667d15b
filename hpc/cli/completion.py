"""Candidates for the shell's tab key: verbs, options, sites, runs, files and settings."""

import dataclasses
import itertools
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from hpc import config
from hpc.cli import options, table, verbs
from hpc.cli.options import Arguments
from hpc.codes import DONE
from hpc.config import choices, recipes, stages
from hpc.doctor import PROBES
from hpc.errors import ConfigError
from hpc.runs import status
from hpc.site import profile
from hpc.slurm.squeue import Job, Queue

_BASH = """\
_hpc_words() {
  # The words after COMMAND ($1), and what may follow the last of them
  local line="${COMP_LINE:0:COMP_POINT}" words
  read -ra words <<<"${line#*$1}"
  [[ "$line" == *" " ]] && words+=("")
  local current="${words[-1]}"
  local IFS=$'\\n'
  COMPREPLY=($("${@:2}" completion words -- "${words[@]}" 2>/dev/null))
  # The shell completes only what follows the last `=`
  [[ "$current" == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${current%=*}="}")
  [[ "${COMPREPLY[0]}" == *[=/] ]] && compopt -o nospace
}
_hpc() {
  COMPREPLY=()
  _hpc_words "${COMP_WORDS[0]}" "${COMP_WORDS[0]}"
}
_hpc_launch() {
  COMPREPLY=()
  if [[ "${COMP_WORDS[1]} ${COMP_WORDS[2]}" == "-m hpc.launch" ]]; then
    _hpc_words hpc.launch "${COMP_WORDS[0]}" -m hpc.launch
  elif [[ -n "${_hpc_before[${1##*/}]}" ]]; then
    "${_hpc_before[${1##*/}]}" "$@"  # the completion installed before ours; without a reply the shell acts as usual
  fi
}
declare -A _hpc_before
for _hpc_python in python python3; do
  declare -F _completion_loader >/dev/null && _completion_loader "$_hpc_python"
  _hpc_spec="$(complete -p "$_hpc_python" 2>/dev/null)"
  if [[ "$_hpc_spec" == *" -F "* && "$_hpc_spec" != *" _hpc_launch "* ]]; then
    _hpc_spec="${_hpc_spec#* -F }"
    _hpc_before[$_hpc_python]="${_hpc_spec%% *}"
  fi
done
unset _hpc_python _hpc_spec
complete -o bashdefault -o default -F _hpc hpc
complete -o bashdefault -o default -F _hpc_launch python python3"""

SCRIPTS = {"bash": _BASH, "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{_BASH}"}


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last word can become, after the words before it. Each candidate begins with that word."""
    *before, word = words or [""]
    name, equals, _ = word.partition("=")
    plain = _plain(before)
    if before and _takes_value(before[-1]):
        choices = _values(before[-1], before[:-1])
    elif equals and _takes_value(name):
        choices = [f"{name}={value}" for value in _values(name, before)]
    elif word.startswith("-"):
        choices = sorted(name for name, row in options.OPTIONS.items() if not plain or row.fits(plain[0]))
    elif not plain:
        choices = [*stages.names(), *table.verbs()]
    else:
        choices = _words(plain, word, _folder(before))
    return [choice for choice in choices if choice.startswith(word)]


def _takes_value(word: str) -> bool:
    row = options.OPTIONS.get(options.SHORT.get(word, word))
    return row is not None and row.convert is not None


def _plain(words: Sequence[str]) -> list[str]:
    """Return the words without options and their values."""
    plain = []
    coming = iter(words)
    for word in coming:
        if _takes_value(word):
            next(coming, None)
        elif not word.startswith("-"):
            plain.append(word)
    return plain


def _said(option: str, words: Sequence[str]) -> str:
    """Return the value of an option, `--on SITE` or `--on=SITE`, or nothing."""
    both = [word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}=")]
    return next((value for word, value in itertools.pairwise(words) if word == option), both[0] if both else "")


def _folder(words: Sequence[str]) -> str:
    return _said("--runs", words) or "runs"


def _values(option: str, before: Sequence[str]) -> list[str]:
    if option == "--on":
        return profile.names()
    if option == "--partition" and _said("--on", before):
        return _partitions(_said("--on", before))
    if option == "--preset":
        return _presets(_plain(before))
    return _runs(_folder(before)) if option == "--after" else []


def _presets(words: Sequence[str]) -> list[str]:
    """Return NAME=VALUE for each preset of the config files and recipes on the line."""
    presets: list[str] = []
    for word in words[1:]:
        try:
            path = Path(word) if word.endswith((".yaml", ".yml")) else recipes.find(word)
            values = config.load([path])
        except ConfigError:  # a stage, a setting, or half a word
            continue
        for name, choices_of in (values.get("presets") or {}).items():
            presets += [f"{name}={value}" for value in choices_of]
    return presets


def _partitions(site: str) -> list[str]:
    try:
        return sorted(profile.load(site).partitions)
    except ConfigError:  # half a word
        return []


def _words(plain: Sequence[str], word: str, runs: str) -> list[str]:
    verb = plain[0]
    if table.takes_run(verb):
        return _runs(runs, alive=verb == "stop")
    if verb == "site":
        return ["refresh"] if len(plain) == 1 else []
    if verb == "completion":
        return ["bash", "zsh"]
    if verb == "doctor":
        return list(PROBES)
    if table.is_tool(verb) and not word:
        return []  # files: the shell completes them itself
    if verb in ("sweep", "search", "drill") and len(plain) == 1:
        return [*stages.names(), "pipeline"]
    if verb == "settings":
        below = {stage: _settings(stage, {}, rest) for stage, rest in _looked_at(stages.names(), word)}
        return [f"{stage}{key and '.'}{key}" for stage, keys in below.items() for key in ("", *keys)]
    if verb == "bench":
        return _of_bench(word, runs)
    stage = plain[1] if verb in ("sweep", "search", "drill") else verb
    prefix = f"{stage}." if word.startswith(f"{stage}.") else ""
    chosen = dict(each.removeprefix(f"{stage}.").split("=", 1) for each in plain if "=" in each)
    key, equals, _ = word.partition("=")
    wanted = f"{key}{equals}".removeprefix(prefix)
    settings = {f"{prefix}{name}": kinds for name, kinds in _settings(stage, chosen, wanted).items()}
    if equals:
        return [f"{key}={value}" for value in _choices(settings.get(key, []), runs)]
    return [*(f"{name}=" for name in settings), *(() if table.is_tool(verb) else [*recipes.every(), *_files(word)])]


def _of_bench(word: str, runs: str) -> list[str]:
    if word.startswith("protocol="):
        return [f"protocol={name}" for name in recipes.protocols()]
    if word.startswith("model="):
        return _words(["train"], word, runs)
    own = [f"{name}=" for name in ("protocol", "model", "data") if name.startswith(word)]
    return [*own, *_words(["pipeline"], word, runs)] if word else own


class _NotAsked(Queue):
    """A queue without answers: the tab key does not wait for Slurm."""

    def look(self, ids: Iterable[str], owners: Mapping[str, int] | None = None) -> dict[str, Job]:
        return {}

    def silence_of(self, job: str) -> str:
        return "not asked"

    def ended(self, ids: Iterable[str]) -> dict[str, str]:
        return {}


def _runs(folder: str, alive: bool = False) -> list[str]:
    """Return the names of runs, and their labels."""
    states = [state for state in status.look_all(status.all_runs(folder), _NotAsked()) if not (alive and state.ended)]
    return [*(state.run for state in states), *dict.fromkeys(state.name for state in states if state.name)]


def _files(word: str) -> list[str]:
    """Return config files, and folders on the way to them."""
    folder = Path(word).parent if not word.endswith("/") else Path(word)
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    shown = [path for path in there if not path.name.startswith(".") or word.startswith(".")]
    return [f"{path}/" if path.is_dir() else str(path) for path in shown if path.is_dir() or path.suffix == ".yaml"]


def _settings(stage: str, chosen: Mapping[str, str], wanted: str) -> dict[str, list[Any]]:
    """Return the settings of one stage (`optim.lr`), or of all stages with the stage's name in front, and their types.

    Parameters
    ----------
    chosen
        The choices that the line makes already, as {"model": "eegnet"}.
    wanted
        The beginning of the settings that are of use, as `optim.`, or `model=` for a single one. Others may be left
        out, so that `windows.` does not import the files of all models.
    """
    if stage == "pipeline":
        below = {name: _settings(name, {}, rest) for name, rest in _looked_at(stages.names(), wanted)}
        return {f"{name}.{key}": kinds for name, of_stage in below.items() for key, kinds in of_stage.items()}
    try:
        function = verbs.load(stage) if table.is_tool(stage) else stages.load(stages.entry(stage))
        return _types(stages.schema(function), chosen, wanted)
    except ConfigError:  # no such stage, or a broken one: nothing to offer
        return {}


def _looked_at(names: Iterable[str], wanted: str) -> list[tuple[str, str]]:
    """Return the parts of a config whose settings can begin as wanted, each with the beginning that applies to it."""
    return [
        (name, wanted.removeprefix(f"{name}.") if wanted.startswith(f"{name}.") else "")
        for name in names
        if wanted.startswith(f"{name}.") or f"{name}.".startswith(wanted)
    ]


def _types(schema: Any, chosen: Mapping[str, str], wanted: str, at: str = "") -> dict[str, list[Any]]:
    """Return the settings of a config, those of its parts after a dot. If a part is a choice, return those of the
    chosen one, or of all."""
    types_of: dict[str, list[Any]] = {}
    if not dataclasses.is_dataclass(schema):
        for choice in choices.kinds(schema):
            for name, kinds in _types(choice, chosen, wanted, at).items():
                types_of[name] = [*types_of.get(name, []), *kinds]
        return types_of
    hints = get_type_hints(schema, include_extras=True)
    names = [field.name for field in dataclasses.fields(schema)]
    looked_at = dict(_looked_at(names, wanted))
    for name in names:
        for part in _parts(hints[name], chosen, f"{at}{name}") if name in looked_at else ():
            for below, kinds in _types(part, chosen, looked_at[name], f"{at}{name}.").items():
                types_of[f"{name}.{below}"] = [*types_of.get(f"{name}.{below}", []), *kinds]
        if f"{name}=".startswith(wanted) and (own := _own(hints[name])):
            types_of[name] = own
    return types_of


def _parts(kind: Any, chosen: Mapping[str, str], path: str) -> tuple[Any, ...]:
    """Return the dataclasses with the settings below a field: the chosen one, or all choices."""
    if get_origin(kind) in (tuple, list):
        return ()
    name = chosen.get(path, chosen.get(f"{path}.name", ""))
    named = choices.named(kind, name) if name else None
    return choices.kinds(kind) if named is None else (named,)


def _own(kind: Any) -> list[Any]:
    """Return the types of a field itself: the names of its choices; empty if there is no choice."""
    several = () if get_origin(kind) in (tuple, list) else choices.names(kind)
    if len(several) > 1:
        return [Literal[several]]
    if get_origin(kind) not in (tuple, list) and choices.kinds(kind):
        return []
    return list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]


def _choices(kinds: Sequence[Any], runs: str) -> list[str]:
    """Return the values that a setting can have, if they can be listed."""
    choices: list[str] = []
    for kind in kinds:
        choices += [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else []
        choices += ["true", "false"] if kind is bool else []
        choices += _runs(runs) if isinstance(kind, NewType) else []
    return list(dict.fromkeys(choices))


def show_completion(args: Arguments, environ: Mapping[str, str]) -> int:
    """Print the shell code (`completion bash`), or the candidates that it asks for (`completion -- WORDS`)."""
    if args.words in (["bash"], ["zsh"]):
        print(SCRIPTS[args.words[0]])
    elif args.words[:1] == ["words"]:
        print("\n".join(candidates(args.words[1:])))
    else:
        raise ConfigError("completion for which shell? bash or zsh: source <(python -m hpc.launch completion bash)")
    return DONE

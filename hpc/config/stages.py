"""Finds a stage by name among the entry points of the installed packages, and reads the type of its config.

    [options.entry_points]
    hpc.stages =
        train = eegdecode.stages:train

A package of a user's own adds stages in the same way.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from hpc.config import plugins
from hpc.errors import ConfigError, did_you_mean, notice_of_new_word


def names() -> list[str]:
    """Return every installed stage, in the order in which the packages declare them."""
    return list(plugins.points("hpc.stages"))


def entry(name: str) -> str:
    """Return the location of the stage of that name, `eegdecode.stages:train`."""
    stages = plugins.points("hpc.stages")
    if name in stages:
        return stages[name]
    raise ConfigError(f"there is no stage {name!r}.{did_you_mean(name, names())}")


@functools.cache
def load(where: str) -> Any:
    """Import the function at `module:function`, and check its signature."""
    try:
        function = plugins.load(where)
    except ConfigError as error:
        raise ConfigError(f"the stage {error}") from error
    if list(inspect.signature(function).parameters) != ["cfg", "ctx"]:
        raise ConfigError(f"a stage is a function (cfg, ctx); {where} is {inspect.signature(function)}")
    return function


@functools.cache
def schema(function: Any) -> Any:
    """Return the dataclass that a stage takes as its config. If it has a class variable `section` and the file has no
    section for the stage, it starts from the values of that section."""
    return get_type_hints(function)["cfg"]


Check = Callable[[Any, int, Callable[[Any], Path | None]], str]
"""A check before a job is submitted: (cfg, number of ranks, folder of an input or None if it does not exist yet) -> a
phrase for the plan, or an empty text. A ValueError refuses the plan."""
Stage = TypeVar("Stage", bound=Callable[..., Any])


def checked_by(check: Check) -> Callable[[Stage], Stage]:
    """Decorate a stage with the check of its config that runs before a job is submitted."""

    def register(stage: Stage) -> Stage:
        stage.check = check  # type: ignore[attr-defined]
        return stage

    return register


@dataclass(frozen=True)
class Searched:
    """How a stage can be searched: see `searched_by`."""

    score: str | Callable[[Mapping[str, Any]], str]
    """`min:METRIC` or `max:METRIC`, or a function of the config that returns it: what it is searched by unless the line
    says otherwise."""
    steps: str = ""
    """The setting that is the number of its steps, if it can pause between them: Context.pauses_after."""
    every: str = ""
    """The setting that is the number of steps from one score to the next."""
    fixed: Sequence[str] = ()
    """Settings that all trials must share, as they say what is scored."""
    without: Sequence[str] = ()
    """Settings that must be None, as with them a result depends on when other runs end."""

    def score_of(self, config: Mapping[str, Any]) -> str:
        return self.score if isinstance(self.score, str) else self.score(config)


def searched_by(searched: Searched) -> Callable[[Stage], Stage]:
    """Decorate a stage whose settings can be searched, with the score that a search goes by. No data that the chosen
    settings are tested on later may have a part in it."""

    def register(stage: Stage) -> Stage:
        stage.searched = searched  # type: ignore[attr-defined]
        return stage

    return register


def searched(stage: Any) -> Searched | None:
    """Return how a stage can be searched; None if it cannot."""
    own: Searched | None = getattr(stage, "searched", None)
    return own


def estimates(other: str) -> Callable[[Stage], Stage]:
    """Decorate a stage that finds out how long another one of its module would take with the same settings and as many
    ranks: `hours` among its metrics. A plan of that other stage then says what it costs."""

    def register(stage: Stage) -> Stage:
        stage.estimates = other  # type: ignore[attr-defined]
        return stage

    return register


def estimators(name: str) -> list[str]:
    """Return the stages of the same module that estimate a stage: to import others, to ask them, would take long."""
    module = entry(name).partition(":")[0]
    others = [each for each in names() if each != name and entry(each).partition(":")[0] == module]
    return [each for each in others if _estimated_by(each) == name]


def _estimated_by(name: str) -> str:
    try:
        return str(getattr(load(entry(name)), "estimates", ""))
    except ConfigError:
        return ""


def on_gpus(stage: Stage) -> Stage:
    """Decorate a stage whose ranks each compute on a GPU, if the run has any: more ranks than GPUs are then refused."""
    stage.on_gpus = True  # type: ignore[attr-defined]
    return stage


def exact_unless(why_not: Callable[[Any, Sequence[int]], str]) -> Callable[[Stage], Stage]:
    """Decorate a stage with what it promises if the number of its ranks changes under way: the function gets the config
    and the numbers of ranks, and returns how its results differ then, in a sentence, or an empty text if they are equal
    bit for bit."""

    def register(stage: Stage) -> Stage:
        stage.why_not_exact = why_not  # type: ignore[attr-defined]
        return stage

    return register


def why_not_exact(stage: Any, cfg: Any, n_ranks: Sequence[int]) -> str | None:
    """Return how the results of a stage differ if it changes between these numbers of ranks; empty: they are equal bit
    for bit; None: the stage does not say."""
    own = getattr(stage, "why_not_exact", None)
    return None if own is None else str(own(cfg, n_ranks))


class Leaves(NamedTuple):
    """What a stage leaves, for whoever compares two runs of it.

    Parameters
    ----------
    pages
        Patterns of the names of products that are for people to read, which may say when and where they were made.
    passing
        Patterns of the names of figures, in metrics and in parts of a checkpoint, that say how a run went and not what
        it has computed: times.
    values
        Where the function is that yields `(name, array or text)` for what is in a product of a format that hpc does not
        know, `module:function`; empty: there is none.
    """

    pages: tuple[str, ...] = ("*.html", "*.log")
    passing: tuple[str, ...] = ("seconds", "*_s")
    values: str = ""


def leaves(
    pages: tuple[str, ...] = Leaves().pages, passing: tuple[str, ...] = Leaves().passing, values: str = ""
) -> Callable[[Stage], Stage]:
    """Decorate a stage with what it leaves: see Leaves."""

    def register(stage: Stage) -> Stage:
        stage.leaves = Leaves(pages, passing, values)  # type: ignore[attr-defined]
        return stage

    return register


def what_it_leaves(stage: Any) -> Leaves:
    """Return what a stage says of what it leaves."""
    own: Leaves = getattr(stage, "leaves", Leaves())
    return own


def headline(*names: str) -> Callable[[Stage], Stage]:
    """Decorate a stage with the figure of its metrics that says most: the first of these names that is there, of
    patterns as `val_*`. It is what `status` and the page of all runs show. Without it, it is the first figure that has
    a chance level, or the first. Write the names out: they are read from the source, so that nothing is imported."""

    def register(stage: Stage) -> Stage:
        stage.headline = names  # type: ignore[attr-defined]
        return stage

    return register


def curves(*names: str) -> Callable[[Stage], Stage]:
    """Decorate a stage with the figures of metrics.jsonl whose curves are worth a look, the most telling first, in the
    same way. Without it, it is the first few."""

    def register(stage: Stage) -> Stage:
        stage.curves = names  # type: ignore[attr-defined]
        return stage

    return register


def imports(*modules: str) -> Callable[[Stage], Stage]:
    """Decorate a stage with the modules that it imports only when it runs, and then always. They are imported before
    its ranks are forked, so that a rank that died is back at once (hpc/rank/forkserver.py)."""

    def register(stage: Stage) -> Stage:
        stage.imports = modules  # type: ignore[attr-defined]
        return stage

    return register


def import_ahead(stage: Any) -> None:
    """Import what the stage says that it will."""
    for module in getattr(stage, "imports", ()):
        import_module(module)


def with_meaning(raises: Mapping[int, str]) -> Callable[[Stage], Stage]:
    """Decorate a stage whose results have changed since its first release: with the number of each change, and what
    differs since, in a phrase. Without it a stage has the meaning 1.

    Raise it when the same config and inputs give other results on purpose; a finished run of a smaller number is then
    not passed off as today's.
    """
    if list(raises) != list(range(2, len(raises) + 2)):
        raise ValueError(f"the numbers of meaning go 2, 3, 4 …, but got {list(raises)}")

    def register(stage: Stage) -> Stage:
        stage.meanings = dict(raises)  # type: ignore[attr-defined]
        return stage

    return register


def meaning(stage: Any) -> int:
    """Return the version of meaning of a stage's results."""
    return max(getattr(stage, "meanings", {}), default=1)


def reasons(stage: Any, since: int) -> list[str]:
    """Return what differs in a stage's results since that version of meaning."""
    return [reason for number, reason in getattr(stage, "meanings", {}).items() if number > since]


def check(stage: Any, cfg: Any, n_ranks: int, find: Callable[[Any], Path | None]) -> str:
    """Run the stage's own check of a config; return its phrase, or an empty text if there is no check."""
    own: Check | None = getattr(stage, "check", None)
    return own(cfg, n_ranks, find) if own else _former_checks(cfg, n_ranks, find)


def _former_checks(cfg: Any, n_ranks: int, find: Callable[[Any], Path | None]) -> str:
    """Run checks that are methods of the config, as packages of users may still have them, for one version."""
    methods = [name for name in ("check_ranks", "check_inputs") if hasattr(cfg, name)]
    if methods:
        notice_of_new_word(f"the method {methods[0]} of {type(cfg).__name__}", "@checked_by (hpc.config.stages)")
    if "check_ranks" in methods:
        cfg.check_ranks(n_ranks)
    return str(cfg.check_inputs(find) or "") if "check_inputs" in methods else ""

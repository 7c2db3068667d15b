"""What a stage declares of how it can be searched (hpc.config.stages.searched_by), held against a search of it."""

from typing import Any

from hpc.config import stages
from hpc.config.stages import Searched
from hpc.errors import ConfigError, first_of
from hpc.plan.plan import Science
from hpc.search import halving
from hpc.search.space import Space


def of(trial: Science) -> Searched:
    """Return how the stage of a trial can be searched."""
    declared = stages.searched(stages.load(trial.entry))
    if declared is None:
        known = [name for name in stages.names() if _declares_score(name)]
        raise ConfigError(
            f"{trial.stage} cannot be searched: a search goes by a score in which no test data have a part, and "
            f"{trial.stage} declares none (hpc.config.stages.searched_by). Search {first_of(known)}"
        )
    return declared


def _declares_score(name: str) -> bool:
    try:
        return stages.searched(stages.load(stages.entry(name))) is not None
    except ConfigError:  # a stage of another package that is broken
        return False


def check(trial: Science, space: Space, declared: Searched) -> None:
    """Refuse to search what says on which data a trial is scored, and what would make it depend on other runs."""
    for word in space.words:
        key = word.partition("=")[0].removeprefix(f"{trial.section}.").removeprefix(f"{trial.stage}.")
        if own := [each for each in declared.fixed if f"{key}.".startswith(f"{each}.")]:
            raise ConfigError(
                f"{key} cannot be searched, as {own[0]} says what trials are scored on: a search compares trials on "
                f"the same data. --each {word} makes a search for each"
            )
    for path in declared.without:
        if _value(trial, path) is not None:
            raise ConfigError(
                f"{path} cannot be used in a search, as the result would depend on which run ends first: leave it "
                "out, and say --halving STEPS"
            )


def rungs(trial: Science, space: Space, declared: Searched, text: str) -> halving.Rungs:
    """Return the rungs that `--halving` asks for."""
    if not declared.steps:
        raise ConfigError(f"--halving: {trial.stage} does not pause between steps, so its trials run to their ends")
    for path in filter(None, (declared.steps, declared.every)):
        if any(f".{word.partition('=')[0]}".endswith(f".{path}") for word in space.words):
            raise ConfigError(f"--halving counts {declared.steps}, so {path} cannot be searched with it")
    every = int(_value(trial, declared.every)) if declared.every else 1
    return halving.rungs(text, int(_value(trial, declared.steps)), every, declared.every)


def _value(trial: Science, path: str) -> Any:
    """Return a setting of a trial, by its path."""
    value: Any = trial.config
    for key in path.split("."):
        value = value[key]
    return value

"""Samplers by name: random, tpe, and those of optuna. Each proposes a combination from the trials whose losses are
known, and from nothing else, so that the same trials lead to the same proposal, whenever and wherever it is made."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hpc.errors import ConfigError, did_you_mean
from hpc.plan.sweep import TRIES
from hpc.search import tpe
from hpc.search.space import Choice, Combination, Range, Space, chance

if TYPE_CHECKING:
    import optuna

OURS = ("random", "tpe")
OPTUNA = "optuna:"


@dataclass(frozen=True)
class Seen:
    """A trial whose loss is known: at the last rung that it has come to."""

    combination: Combination
    loss: float
    """Lower is better; infinite if it has failed."""
    rung: int = 0


def check(name: str) -> None:
    """Refuse a sampler that is not there."""
    if name in OURS:
        return
    if not name.startswith(OPTUNA):
        raise ConfigError(f"--sampler needs random, tpe, or optuna:NAME, got {name!r}")
    _of_optuna(name)


def propose(
    name: str, space: Space, seen: Sequence[Seen], tried: Collection[Combination], seed: int, number: int
) -> Combination:
    """Return the combination of a new trial, which none before it had.

    Parameters
    ----------
    seen
        The trials whose losses count for it, in the order of their numbers.
    tried
        The combinations of all trials before it.
    seed, number
        Of the search, and of the trial.
    """
    if name.startswith(OPTUNA):
        combination = _by_optuna(name, space, seen, seed, number)
        return combination if combination not in tried else space.drawn(seed, tried)
    if name == "random" or len(seen) < tpe.N_RANDOM:
        return space.drawn(seed, tried)
    # Who has come farther was better than those who were left behind
    best_first = [each.combination for each in sorted(seen, key=lambda each: (-each.rung, each.loss))]
    for again in range(TRIES):
        combination = tpe.proposed(space, best_first, partial(chance, seed, number, again))
        if combination not in tried:
            return combination
    return space.drawn(seed, tried)


def _of_optuna(name: str) -> Any:
    """Return the class of a sampler of optuna."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError(
            f"--sampler {name} needs optuna, which is not installed: pip install hpc-eegdecode[search]; random and tpe "
            "need no package"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    word = name.removeprefix(OPTUNA)
    names = [each for each in vars(optuna.samplers) if each.endswith("Sampler") and not each.startswith("Base")]
    if word not in names:
        raise ConfigError(f"optuna has no sampler {word!r}.{did_you_mean(word, names)}")
    return getattr(optuna.samplers, word)


def _by_optuna(name: str, space: Space, seen: Sequence[Seen], seed: int, number: int) -> Combination:
    """Ask a sampler of optuna, with a study in memory that is made of these trials."""
    import optuna

    sampler = _of_optuna(name)
    try:
        drawing = sampler(seed=int(chance(seed, number) * 2**31))
    except (TypeError, ImportError) as error:
        raise ConfigError(f"--sampler {name} cannot be used here: {error}") from None
    study = optuna.create_study(sampler=drawing)
    distributions = {setting.key: _distribution(setting) for setting in space.settings}
    for each in seen:
        values = (_of(setting, word) for setting, word in zip(space.settings, each.combination))
        params = dict(zip(distributions, values, strict=True))
        if math.isfinite(each.loss):
            about: dict[str, Any] = {"value": each.loss}
        else:
            about = {"state": optuna.trial.TrialState.FAIL}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, **about))
    trial = study.ask(distributions)
    return tuple(_word(setting, trial.params[setting.key]) for setting in space.settings)


def _distribution(setting: Range | Choice) -> "optuna.distributions.BaseDistribution":
    from optuna import distributions

    if isinstance(setting, Choice):
        return distributions.CategoricalDistribution(setting.words)
    if setting.is_whole:
        return distributions.IntDistribution(int(setting.low), int(setting.high), log=setting.is_log)
    return distributions.FloatDistribution(setting.low, setting.high, log=setting.is_log)


def _of(setting: Range | Choice, word: str) -> str | float | int:
    if isinstance(setting, Choice):
        return word
    value = float(word.partition("=")[2])
    return int(value) if setting.is_whole else value


def _word(setting: Range | Choice, value: Any) -> str:
    if isinstance(setting, Choice):
        return str(value)
    return setting.word(math.log(value) if setting.is_log else value)

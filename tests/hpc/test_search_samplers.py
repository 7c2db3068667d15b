"""What a search proposes: a function of the trials whose losses are known, in a fixed order, and of nothing else."""

import builtins
import itertools
import math
import random
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hpc.errors import ConfigError
from hpc.plan.sweep import draws
from hpc.search import halving, samplers, tpe
from hpc.search.halving import Rungs
from hpc.search.samplers import Seen
from hpc.search.space import Choice, Combination, Range, Space, chance
from hpc.search.study import Job, Search, Study

SPACE = Space(("lr=log:1e-4..1", "dropout=0..0.9", "layers=1..6", "act=relu,elu,gelu"))


def loss(combination: Combination) -> float:
    """Least at lr .01, dropout .3, two layers and elu."""
    lr, dropout, layers, act = (word.partition("=")[2] for word in combination)
    numbers = (math.log10(float(lr)) + 2) ** 2 + 4 * (float(dropout) - 0.3) ** 2 + 0.1 * (int(layers) - 2) ** 2
    return numbers + (act != "elu")


def searched(search: Search, of: Callable[[Job], float | None] = lambda job: loss(job.combination)) -> Study:
    study = Study(search, of)
    study.advance()
    return study


def search(sampler: str = "tpe", n: int = 40, at_once: int = 4, seed: int = 0, rungs: Rungs | None = None) -> Search:
    return Search(SPACE, n, at_once, sampler, seed, rungs)


def test_a_value_is_in_its_range_and_a_whole_number_where_both_ends_are() -> None:
    study = searched(search(n=60))
    assert study.is_over and len(set(study.combinations)) == 60, "no combination twice"
    for lr, dropout, layers, act in study.combinations:
        assert 1e-4 <= float(lr.removeprefix("lr=")) <= 1 and 0 <= float(dropout.removeprefix("dropout=")) <= 0.9
        assert layers.removeprefix("layers=") in "123456" and act in ("act=relu", "act=elu", "act=gelu")


def test_random_trials_are_those_of_a_sweep_with_draws() -> None:
    assert [list(each) for each in searched(search("random", 30)).combinations] == draws(SPACE.words, 30)
    assert searched(search("random", 30, seed=1)).combinations != searched(search("random", 30)).combinations


def test_tpe_comes_nearer_to_the_best_than_random_trials_do() -> None:
    best = {
        sampler: [min(map(loss, searched(search(sampler, 50, seed=seed)).combinations)) for seed in range(6)]
        for sampler in ("random", "tpe")
    }
    assert statistics.median(best["tpe"]) < 0.5 * statistics.median(best["random"]), best


def test_a_density_of_tpe_is_one_over_its_range_and_high_where_trials_were() -> None:
    setting = Range("x", 2.0, 5.0, is_log=False, is_whole=False)
    kernels = tpe._Kernels.of(setting, ["x=2.5", "x=2.6", "x=2.55"])
    places = [2 + 3 * (number + 0.5) / 3000 for number in range(3000)]
    density = [math.exp(kernels.log_of(f"x={place}")) for place in places]
    assert sum(density) * 3 / 3000 == pytest.approx(1, abs=1e-3)
    assert max(density) == pytest.approx(math.exp(kernels.log_of("x=2.55")), rel=0.1)
    drawn = [float(kernels.draw(partial(chance, number)).removeprefix("x=")) for number in range(2000)]
    share = sum(2.3 < value < 2.8 for value in drawn) / 2000
    expected = sum(each for place, each in zip(places, density) if 2.3 < place < 2.8) * 3 / 3000
    assert share == pytest.approx(expected, abs=0.04), "draws have that density"


def test_a_choice_of_tpe_is_as_likely_as_it_was_tried_and_once_more() -> None:
    counts = tpe._Counts.of(Choice("a", ("a=x", "a=y", "a=z")), ["a=x", "a=x", "a=y"])
    assert [math.exp(counts.log_of(f"a={value}")) for value in "xyz"] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    drawn = [counts.draw(partial(chance, number)) for number in range(3000)]
    assert [drawn.count(f"a={value}") / 3000 for value in "xyz"] == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=0.04)


RUNGS = Rungs((1, 3, 9), 3)


def in_order_of_end(search: Search, seed: int) -> list[Job]:
    """The jobs of a search whose runs end in some order, as many at a time as it allows."""
    ended: set[Job] = set()
    draw = random.Random(seed)
    study = Study(search, lambda job: loss(job.combination) + 1 / (1 + job.rung) if job in ended else None)
    while True:
        study.advance()
        if study.is_over:
            return study.jobs
        due = study.due()
        assert 0 < len(due) <= search.at_once, "so many can run, and never none"
        ended.add(draw.choice(due))


@pytest.mark.parametrize("rungs", [None, RUNGS])
def test_the_order_in_which_runs_end_changes_nothing(rungs: Rungs | None) -> None:
    first, *others = (in_order_of_end(search(n=30, rungs=rungs), seed) for seed in range(4))
    assert all(jobs == first for jobs in others) and len({job.trial for job in first}) == 30


def test_a_trial_is_proposed_from_a_fixed_set_of_trials_before_it() -> None:
    def jobs(better: int) -> list[Job]:
        return searched(search(n=24, at_once=4), lambda job: loss(job.combination) - 9 * (job.trial == better)).jobs

    usual, other = jobs(-1), jobs(12)
    n_same = next(number for number, pair in enumerate(itertools.zip_longest(usual, other)) if pair[0] != pair[1])
    assert n_same == 16, "trial 16 is the first that sees trial 12, the best or not"


def test_a_larger_number_of_trials_goes_on_from_a_smaller_one() -> None:
    assert searched(search(n=40)).jobs[:25] == searched(search(n=25)).jobs


def test_a_trial_that_failed_has_the_worst_place() -> None:
    def of(job: Job) -> float:
        return math.inf if "act=elu" in job.combination else loss(job.combination)

    study = searched(search(n=40), of)
    assert study.best and "act=elu" not in study.best.combination
    late = [combination for combination in study.combinations[20:]]
    assert sum("act=elu" in combination for combination in late) < len(late) / 4, "and is not tried again"


def test_the_best_third_is_promoted_and_a_failure_never() -> None:
    losses = [(trial, 0, value) for trial, value in enumerate([5.0, 3.0, 4.0, 1.0, math.inf, 2.0])]
    assert halving.promotion(RUNGS, losses, set()) == (3, 1)
    assert halving.promotion(RUNGS, losses, {(3, 1)}) == (5, 1)
    assert halving.promotion(RUNGS, losses, {(3, 1), (5, 1)}) is None
    above = [*losses, (3, 1, 0.9), (5, 1, 0.5), (1, 1, 0.7)]
    assert halving.promotion(RUNGS, above, {(3, 1), (5, 1), (1, 1)}) == (5, 2), "the highest rung first"
    failed = [(trial, 0, math.inf) for trial in range(9)]
    assert halving.promotion(RUNGS, failed, set()) is None


def test_halving_trains_few_to_the_end_and_the_best_of_them() -> None:
    def of(job: Job) -> float:
        return loss(job.combination) + 1 / RUNGS.steps[job.rung]

    study = searched(search("random", 27, rungs=RUNGS), of)
    counts = [sum(job.rung == rung for job in study.jobs) for rung in range(3)]
    assert counts[0] == 27 and 9 <= counts[1] <= 14 and 3 <= counts[2] <= 6, counts
    steps = sum(RUNGS.steps[job.rung] - (RUNGS.steps[job.rung - 1] if job.rung else 0) for job in study.jobs)
    assert steps < 27 * 9 / 2, "a promoted trial goes on from its checkpoint"
    assert study.best and study.best.rung == 2 and study.best.combination == min(study.combinations, key=loss)


def test_steps_of_the_rungs() -> None:
    assert halving.rungs("100", 900, 50, "every") == Rungs((100, 300, 900), 3)
    assert halving.rungs("100", 1000, 50, "every") == Rungs((100, 300, 1000), 3)
    assert halving.rungs("100:4", 1600, 50, "every") == Rungs((100, 400, 1600), 4)
    for text, message in (
        ("70", "a multiple of every, which is 50"),
        ("900", "has 900 steps, and the first rung needs fewer"),
        ("100:1", "the factor is 2 or more"),
        ("a", "needs steps of the first rung, as 100"),
    ):
        with pytest.raises(ConfigError, match=message):
            halving.rungs(text, 900, 50, "every")
    with pytest.raises(ConfigError, match="of 8 trials none would come to the last of the rungs.*--trials 9"):
        search(n=8, rungs=RUNGS)


def test_a_search_of_more_trials_than_combinations_is_refused_and_one_of_all_ends() -> None:
    space = Space(("a=1..4", "b=x,y"))
    with pytest.raises(ConfigError, match="there are only 8 combinations for 9 trials"):
        Search(space, 9, 4, "tpe", 0)
    study = searched(Search(space, 8, 4, "random", 0), lambda job: 0.0)
    assert len(set(study.combinations)) == 8


def test_samplers_of_optuna_see_the_same_trials_and_propose_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    seen = [Seen(each, loss(each)) for each in searched(search("random", 14)).combinations]
    seen[3] = Seen(seen[3].combination, math.inf)
    tried = [each.combination for each in seen]

    def proposed(name: str, seed: int = 0) -> Combination:
        return samplers.propose(name, SPACE, seen, tried, seed, 14)

    assert proposed("optuna:TPESampler") == proposed("optuna:TPESampler") != proposed("optuna:TPESampler", 1)
    assert all(
        setting.key == word.partition("=")[0] for setting, word in zip(SPACE.settings, proposed("optuna:TPESampler"))
    )
    with pytest.raises(ConfigError, match=r"optuna has no sampler 'TpeSampler'. Did you mean 'TPESampler'"):
        samplers.check("optuna:TpeSampler")


def test_without_optuna_its_samplers_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs optuna, which is not installed: pip install hpc-eegdecode\[search\]"):
        samplers.check("optuna:TPESampler")
    samplers.check("tpe")

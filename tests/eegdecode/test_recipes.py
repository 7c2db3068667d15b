"""Every recipe runs with one line at its tiny size and finds what was planted; one, that without it does not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from eegdecode import stages
from eegdecode.data import splits, store
from eegdecode.training import state
from hpc import USAGE, config, plan
from hpc.context import Context, Preempted, World
from hpc.rundir import RunDir, read_json
from tests.conftest import ROOT, Launch, users_environ

FOLDER = ROOT / "configs" / "recipes"
Chance = Callable[[RunDir], float]


@dataclass(frozen=True)
class Recipe:
    """Where to look for what a recipe finds, and what that would be by chance.

    Parameters
    ----------
    figure
        Of `section`, as val_accuracy of train.
    chance
        Of the finished run of that section.
    by
        What is found differs from chance by so much at least: below 0, it is to be less.
    after
        The recipe whose training this one begins with.
    also
        What else is to be found, in other sections.
    """

    figure: str
    chance: Chance
    by: float
    section: str = "train"
    after: str = ""
    also: tuple["Recipe", ...] = ()


def always(value: float) -> Chance:
    return lambda run: value


def best_constant(off_by: Callable[[np.ndarray], float]) -> Chance:
    """How far off the best constant is on the validation part."""

    def chance(run: RunDir) -> float:
        trained = state.load(run.out)
        data = store.open_store(*(run.path.parent / name / "out" for name in trained.data))
        part = splits.split(trained.split, data.recordings, trained.train().windows).val
        of = [(data.recordings[segment.recording], segment.trial) for segment in part]
        return off_by(np.array([stored.values(trained.target)[stored.trials.index(trial)] for stored, trial in of]))

    return chance


def mean_square(truth: np.ndarray) -> float:
    return float(truth.var())


def mean_distance(truth: np.ndarray) -> float:
    return float(np.abs(truth - np.median(truth)).mean())


def bound(name: str) -> Chance:
    """What its figure stays below in 95 of 100 cases with the music rotated in time, as evaluate has found."""
    return lambda run: float(read_json(run.out / "report.json")["figures"][name]["bound"])  # type: ignore[index]


RECIPES = {
    "eeg2025-c1": Recipe("val_loss", best_constant(mean_square), by=-0.08),  # s², of about 0.21
    "eeg2025-c2": Recipe("val_loss", best_constant(mean_distance), by=-0.1),
    "eegpt-pretrain": Recipe("val_rebuilt", always(1.0), by=-0.04),  # that of no wave at all
    "eegpt-probe": Recipe("val_accuracy", always(1 / 2), by=0.25, after="eegpt-pretrain"),
    "images-clip": Recipe("val_top5", always(5 / 16), by=0.3),
    "meg-movie-ssl": Recipe("val_loss", always(1.0), by=-0.04),  # that of the mean
    "motor-conformer": Recipe("val_accuracy", always(1 / 4), by=0.4),
    "motor-eegnet": Recipe("val_accuracy", always(1 / 4), by=0.4),
    "music-bilstm": Recipe("val_r", always(0.0), by=0.5),
    "music-diffusion": Recipe("r", bound("r"), by=0.15, section="evaluate"),
    "music-eegpt-spectrogram": Recipe("val_r", always(0.0), by=0.25),
    "scmbm": Recipe(
        "val_top5", always(5 / 16), by=0.3, also=(Recipe("val_loss", always(1.0), by=-0.04, section="pretrain"),)
    ),
    "simclr": Recipe("val_found", always(1 / 31), by=0.3),  # among the 2 * 16 views of a batch, but itself
    "speech-eeg": Recipe("val_r", always(0.0), by=0.5),
    "speech-meg-clip": Recipe("val_top5", always(5 / 16), by=0.3),
    "tfc": Recipe("val_across", always(float(np.log(31))), by=-0.2),  # as well as any of 31; before training 5.3
}
CONTROLS = {"motor-eegnet": ("val_accuracy", 0.45)}
"""What is at most found where nothing is planted."""


def found(launch: Launch, name: str, *words: str) -> dict[str, RunDir]:
    """Run a recipe at its tiny size; gives its runs by section."""
    launch("pipeline", str(FOLDER / f"{name}.yaml"), "--set", "size=tiny", "--on", "local", *words)
    return {science.section: RunDir(launch.folder / "runs" / science.name) for science in sciences(name, *words)}


def sciences(name: str, *words: str) -> list[plan.Science]:
    values = config.choose(config.load([FOLDER / f"{name}.yaml"]), "size=tiny")
    return plan.sciences("pipeline", values, words)


def metric(run: RunDir, name: str) -> float:
    kept = read_json(run.result)
    assert kept is not None
    value = kept["metrics"][name]
    return float(value["value"] if isinstance(value, dict) else value)


def test_each_recipe_is_tested_and_says_how_it_is_run() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(RECIPES)
    guide = (ROOT / "docs" / "guide.md").read_text()
    for name in RECIPES:
        text = (FOLDER / f"{name}.yaml").read_text()
        assert f"#   python -m hpc.launch pipeline configs/recipes/{name}.yaml --set size=tiny" in text
        assert f"`{name}`" in guide


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_full_size_of_each_recipe_can_be_planned(name: str, launch: Launch) -> None:
    words = ["pipeline", str(FOLDER / f"{name}.yaml"), "--on", "local", "--dry-run"]
    if RECIPES[name].after:  # begins with what is not there yet
        assert "train.start.source is ./eegpt" in launch(*words, code=USAGE).stderr
        (launch.folder / "taught.ckpt").touch()
        words.append("train.start.source=./taught.ckpt")
    assert "config valid" in launch(*words).stdout


@dataclass(frozen=True)
class Ran:
    """A recipe that was run at its tiny size."""

    name: str
    words: tuple[str, ...]
    runs: dict[str, RunDir]


@pytest.fixture(scope="module", params=sorted(set(RECIPES) - {recipe.after for recipe in RECIPES.values()}))
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Ran]:
    """A recipe, and before it the one that it begins with."""
    launch = Launch(tmp_path_factory.mktemp(request.param), users_environ())
    words: tuple[str, ...] = ()
    done = []
    for name in filter(None, (RECIPES[request.param].after, request.param)):
        runs = found(launch, name, *words)
        done.append(Ran(name, words, runs))
        words = (f"train.start.source={runs['train'].path.name}",)
    return done


@pytest.mark.ranks
def test_a_recipe_finds_what_was_planted(ran: list[Ran]) -> None:
    for each in ran:
        for recipe in (RECIPES[each.name], *RECIPES[each.name].also):
            run = each.runs[recipe.section]
            value, chance = metric(run, recipe.figure), recipe.chance(run)
            said = f"{each.name}: {recipe.figure} is {value:.3f}, by chance {chance:.3f}"
            print(said)
            assert (value - chance) / recipe.by >= 1, said


@pytest.mark.ranks
def test_a_recipe_that_was_interrupted_ends_as_one_that_was_not(ran: list[Ran]) -> None:
    for each in ran:
        for section in (science.section for science in sciences(each.name, *each.words) if science.stage == "train"):
            short = (f"{section}.optim.steps=24", f"{section}.optim.validate_every=8")
            training = {science.section: science for science in sciences(each.name, *each.words, *short)}[section]
            folder = each.runs[section].path.parent
            whole, parts = (folder / f"{each.name}-{section}-{what}" for what in ("whole", "parts"))
            run_train(training, whole)
            for stop_at in (9, 6):
                with pytest.raises(Preempted):
                    run_train(training, parts, stop_at)
            run_train(training, parts)
            one, other = (state.load(run / "out").parameters for run in (whole, parts))
            assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def run_train(science: plan.Science, folder: Path, stop_at: int = 0) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_at

    cfg = config.build(stages.Train, science.config, science.stage)
    stages.train(cfg, Context(World(), RunDir(folder), should_stop=should_stop))


@pytest.mark.ranks
@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_where_nothing_was_planted_it_finds_nothing(name: str, launch: Launch) -> None:
    figure, most = CONTROLS[name]
    assert metric(found(launch, name, "synthesize.effect=0")["train"], figure) < most

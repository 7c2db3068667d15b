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
from hpc import config, plan
from hpc.context import Context, Preempted, World
from hpc.rundir import RunDir, read_json
from tests.conftest import ROOT, Launch

FOLDER = ROOT / "configs" / "recipes"
Chance = Callable[[RunDir], float]


@dataclass(frozen=True)
class Recipe:
    """Where to look for what a recipe finds, and what that would be by chance.

    Parameters
    ----------
    figure
        Of `stage`, as val_accuracy of train.
    chance
        Of the finished run of that stage.
    by
        What is found differs from chance by so much at least: below 0, it is to be less.
    after
        The recipe whose training this one begins with.
    """

    figure: str
    chance: Chance
    by: float
    stage: str = "train"
    after: str = ""


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


def beside(name: str) -> Chance:
    """What evaluate has found beside its figure, with other music in the place of the true one."""
    return lambda run: float(read_json(run.result)["metrics"][name]["chance"])  # type: ignore[index]


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
    "music-diffusion": Recipe("r", beside("r"), by=0.15, stage="evaluate"),
    "music-eegpt-spectrogram": Recipe("val_r", always(0.0), by=0.25),
    "scmbm-finetune": Recipe("val_top5", always(5 / 16), by=0.3, after="scmbm-pretrain"),
    "scmbm-pretrain": Recipe("val_loss", always(1.0), by=-0.04),
    "simclr": Recipe("val_found", always(1 / 31), by=0.3),  # among the 2 * 16 views of a batch, but itself
    "speech-eeg": Recipe("val_r", always(0.0), by=0.5),
    "speech-meg-clip": Recipe("val_top5", always(5 / 16), by=0.3),
    "tfc": Recipe(
        "val_across", always(float(np.log(31))), by=-0.2
    ),  # as well as any of 31; before training 5.3  # of 31 other views, found by chance
}
CONTROLS = {"motor-eegnet": ("val_accuracy", 0.45)}
"""What is at most found where nothing is planted."""


def found(launch: Launch, name: str, *words: str) -> dict[str, RunDir]:
    """Run a recipe at its tiny size; gives its runs by stage."""
    launch("pipeline", str(FOLDER / f"{name}.yaml"), "--set", "size=tiny", "--on", "local", *words)
    return {science.stage: RunDir(launch.folder / "runs" / science.name) for science in sciences(name, *words)}


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
    assert "config valid" in launch("pipeline", str(FOLDER / f"{name}.yaml"), "--on", "local", "--dry-run").stdout


def stages_schema(stage: str) -> type:
    from hpc import stages as known

    return known.schema(known.load(known.entry(stage)))


@pytest.mark.ranks
@pytest.mark.parametrize("name", sorted(set(RECIPES) - {recipe.after for recipe in RECIPES.values()}))
def test_a_recipe_finds_what_was_planted(name: str, launch: Launch) -> None:
    words: list[str] = []
    for each in filter(None, (RECIPES[name].after, name)):
        recipe = RECIPES[each]
        runs = found(launch, each, *words)
        words = [f"train.start.source={runs['train'].path.name}"]
        run = runs[recipe.stage]
        value, chance = metric(run, recipe.figure), recipe.chance(run)
        print(f"{each}: {recipe.figure} {value:.3f}, by chance {chance:.3f}")
        assert (value - chance) / recipe.by >= 1, f"{each}: {recipe.figure} is {value:.3f}, by chance {chance:.3f}"


@pytest.mark.ranks
@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_where_nothing_was_planted_it_finds_nothing(name: str, launch: Launch) -> None:
    figure, most = CONTROLS[name]
    assert metric(found(launch, name, "synthesize.effect=0")["train"], figure) < most


@pytest.mark.parametrize("name", ["motor-eegnet", "music-diffusion"])
def test_a_recipe_that_was_interrupted_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    *before, train = (science for science in sciences(name, "train.optim.steps=12", "train.optim.validate_every=4")
                      if science.stage != "evaluate")  # fmt: skip
    for science in before:
        run_stage(science, tmp_path / science.name)
    run_stage(train, tmp_path / "whole")
    for stop_at in (5, 4):
        with pytest.raises(Preempted):
            run_stage(train, tmp_path / "parts", stop_at)
    run_stage(train, tmp_path / "parts")
    one, other = (state.load(tmp_path / run / "out").parameters for run in ("whole", "parts"))
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def run_stage(science: plan.Science, folder: Path, stop_at: int = 0) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_at

    stage = {"synthesize": stages.synthesize, "preprocess": stages.preprocess, "train": stages.train}[science.stage]
    cfg = config.build(stages_schema(science.stage), science.config, science.stage)
    stage(cfg, Context(World(), RunDir(folder), should_stop=should_stop))  # type: ignore[operator]

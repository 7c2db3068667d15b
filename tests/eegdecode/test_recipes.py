"""Every recipe runs with one line at its tiny size and finds what was planted; one, that without it does not.

What each is to find stands in bench/effects.py; how surely it does, `python -m bench recipes` measures.
"""

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from bench import recipes
from bench.effects import CONTROLS, EFFECTS, FOLDER, chain, effects, metric, sciences
from eegdecode import stages
from eegdecode.training import model_file
from eegdecode.training.config import Train
from hpc import config
from hpc.codes import USAGE
from hpc.plan import plan
from hpc.rank.context import Context, Preempted, World
from hpc.runs.rundir import RunDir
from tests.conftest import ROOT, Launch, users_environ
from tests.eegdecode import products

PORTABLE = recipes.Machine("default")
"""Any processor: torch's kernels without vectors."""


def test_each_recipe_is_tested_and_says_how_it_is_run() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(EFFECTS)
    guide = "".join(page.read_text() for page in (ROOT / "docs/guide").glob("*.md"))
    for name in EFFECTS:
        text = (FOLDER / f"{name}.yaml").read_text()
        assert f"#   python -m hpc.launch pipeline configs/recipes/{name}.yaml --preset size=tiny" in text
        assert f"`{name}`" in guide


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_the_full_size_of_each_recipe_can_be_planned(name: str, launch: Launch) -> None:
    words = ["pipeline", str(FOLDER / f"{name}.yaml"), "--on", "local", "--dry-run"]
    if EFFECTS[name].after:  # begins with what is not there yet
        assert "train.start.source is ./eegpt" in launch(*words, code=USAGE).stderr
        (launch.folder / "taught.ckpt").touch()
        words.append("train.start.source=./taught.ckpt")
    assert "config valid" in launch(*words).stdout


@dataclass(frozen=True)
class Ran:
    """A recipe that was run at its tiny size, by section."""

    name: str
    words: tuple[str, ...]
    runs: dict[str, RunDir]


ON_LOCAL = {"motor-eegnet", "tfc"}
"""As processes of their own; of the others all stages run in one, which imports torch once."""


def run(launch: Launch, name: str, *words: str) -> Ran:
    on = "local" if name in ON_LOCAL else "debug"
    launch("pipeline", str(FOLDER / f"{name}.yaml"), "--preset", "size=tiny", "--on", on, *words)
    runs = {science.section: RunDir(launch.folder / "runs" / science.name) for science in sciences(name, words)}
    return Ran(name, words, runs)


@pytest.fixture(scope="module", params=sorted(set(EFFECTS) - {effect.after for effect in EFFECTS.values()}))
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Ran]:
    """A recipe, and before it the one that it begins with."""
    launch = Launch(tmp_path_factory.mktemp(request.param), users_environ())
    words: tuple[str, ...] = ()
    done = []
    for name in chain(request.param):
        done.append(run(launch, name, *words))
        words = (f"train.start.source={done[-1].runs['train'].name}",)
    return done


@pytest.mark.ranks
def test_a_recipe_finds_what_was_planted(ran: list[Ran]) -> None:
    for each in ran:
        for effect in effects(each.name):
            size = effect.size(each.runs[effect.section])
            print(f"{each.name}: {size}")
            assert size.margin >= 1, f"{each.name}: {size}"


RECORDS = ROOT / "tests/records/products"


@pytest.mark.ranks
def test_a_recipe_makes_what_it_made_before(ran: list[Ran]) -> None:
    """The same runs, the same recordings, trials, windows and parameters, whatever was moved or renamed in the code."""
    for each in ran:
        made = {section: products.fingerprint(run) for section, run in each.runs.items()}
        record = RECORDS / f"{each.name}.json"
        if os.environ.get("UPDATE_GOLDEN") == "1":
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
        before = json.loads(record.read_text())
        again = "if that is meant, `UPDATE_GOLDEN=1 pytest tests/eegdecode/test_recipes.py -k before` records it anew"
        assert made.keys() == before.keys()
        for section in made:
            assert made[section]["run"] == before[section]["run"], f"other settings or defaults: {again}"
            assert made[section]["exact"] == before[section]["exact"], f"{section} of {each.name}: {again}"
            assert made[section]["numbers"].keys() == before[section]["numbers"].keys()
            for name, values in made[section]["numbers"].items():
                assert values == pytest.approx(before[section]["numbers"][name], rel=1e-2, abs=1e-3, nan_ok=True), (
                    f"{name}: {again}"
                )


@pytest.mark.ranks
def test_with_another_seed_and_on_another_processor_as_well(ran: list[Ran]) -> None:
    """Trained again on the same data, in one process."""
    name, runs = ran[-1].name, ran[-1].runs["train"].path.parent
    done = subprocess.run(
        recipes.child(PORTABLE, "measure", name, str(runs), "0/1"),
        cwd=ROOT,
        env=PORTABLE.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = [recipes.Measured(**json.loads(line)) for line in done.stdout.splitlines()]
    assert len(measured) == sum(len(effects(each.name)) for each in ran)
    for each in measured:
        print(f"{each.recipe}: {each.size}")
        assert each.margin >= 1, f"{each.recipe}: {each.size}"


@pytest.mark.ranks
def test_a_recipe_that_was_interrupted_ends_as_one_that_was_not(ran: list[Ran]) -> None:
    for each in ran:
        for section in (science.section for science in sciences(each.name, each.words) if science.stage == "train"):
            short = (f"{section}.optim.steps=24", f"{section}.optim.validate_every=8")
            training = {science.section: science for science in sciences(each.name, (*each.words, *short))}[section]
            folder = each.runs[section].path.parent
            whole, parts = (folder / f"{each.name}-{section}-{what}" for what in ("whole", "parts"))
            run_train(training, whole)
            for stop_at in (9, 6):
                with pytest.raises(Preempted):
                    run_train(training, parts, stop_at)
            run_train(training, parts)
            one, other = (model_file.load(run / "out").parameters for run in (whole, parts))
            assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def run_train(science: plan.Science, folder: Path, stop_at: int = 0) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_at

    cfg = config.build(Train, science.config, science.stage)
    cfg = replace(cfg, watch=replace(cfg.watch, every=1))  # asked after each step
    stages.train(cfg, Context(World(), RunDir(folder), should_stop=should_stop))


@pytest.mark.ranks
@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_where_nothing_was_planted_it_finds_nothing(name: str, launch: Launch) -> None:
    figure, most = CONTROLS[name]
    assert metric(run(launch, name, "synthesize.effect=0").runs["train"], figure) < most

"""Recipes are found by name, and missing inputs of a stage are made first."""

import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from hpc import __version__
from hpc.cli import options, planner
from hpc.config import plugins, recipes
from hpc.errors import ConfigError
from hpc.site import profile
from tests.conftest import ROOT, Launch
from tests.eegdecode import layouts


def test_a_recipe_is_found_by_its_name(launch: Launch) -> None:
    by_name = launch("pipeline", "motor-eegnet", "--preset", "size=tiny", "--dry-run", "--on", "local").stdout
    path = ROOT / "configs/recipes/motor-eegnet.yaml"
    by_path = launch("pipeline", str(path), "--preset", "size=tiny", "--dry-run", "--on", "local").stdout
    assert by_name == by_path
    assert f"values from {path}" in by_name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pipeline", "motor-egnet"], "'motor-egnet' is neither a key=value, nor a .yaml file, nor a recipe. "
         "Did you mean 'motor-eegnet'?"),
        (["pipeline", "motor-eegnet.yaml"], "there is no config file motor-eegnet.yaml; the recipe motor-eegnet has "
         "that name: say motor-eegnet"),
        (["pipeline", "nothing.yaml"], "there is no config file nothing.yaml. `python -m hpc.launch recipes` lists"),
        (["recipes", "bogus"], "recipes lists all and takes no word, but got 'bogus'"),
        (["sweep", "count", "n=1", "n=2"], "n is given 2 times: several values are one word, n=a,b"),
        (["train", "lr"], "'lr' is neither a key=value, nor a .yaml file, nor a recipe"),
        (["sweep", "train", "demmo", "seed=0,1"], "Did you mean 'demo'?"),
        (["status", "--only"], "--only is for STAGE and sweep, not for status"),
    ],
)  # fmt: skip
def test_a_word_that_is_nothing_is_refused(launch: Launch, words: list[str], message: str) -> None:
    assert message in launch(*words, code=2).stderr


def test_a_recipe_of_ones_own_goes_before_one_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    installed = recipes.find("demo")
    own = tmp_path / "configs" / "recipes" / "demo.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# Mine. And more.\n#   hpc pipeline demo\ncount: {n: 2}\n")
    assert recipes.find("demo") == Path("configs/recipes/demo.yaml") != installed
    assert recipes.title(recipes.find("demo")) == "Mine"


def test_what_two_packages_call_the_same_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = tmp_path / "theirs"
    (theirs / "recipes").mkdir(parents=True)
    (theirs / "recipes/demo.yaml").write_text("count: {n: 2}\n")
    (theirs / "other.yaml").write_text("count: {n: 3}\n")
    ours = recipes.find("demo")
    monkeypatch.setattr(recipes, "_folders", lambda: {"eegdecode": ours.parent, "counting": theirs})
    recipes._of_packages.cache_clear()
    try:
        assert recipes.find("counting/demo") == theirs / "recipes/demo.yaml"
        assert recipes.find("eegdecode/demo") == ours
        assert recipes.find("other") == recipes.find("counting/other") == theirs / "other.yaml"
        with pytest.raises(ConfigError, match="'demo': use counting/demo or eegdecode/demo"):
            recipes.find("demo")
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs/demo.yaml").write_text("count: {n: 4}\n")
        assert recipes.find("demo") == Path("configs/demo.yaml")
    finally:
        recipes._of_packages.cache_clear()


BOMB = "a: &a [1, 1]\n" + "".join(f"{k}: &{k} [{', '.join([f'*{j}'] * 9)}]\n" for j, k in pairwise("abcdefgh"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: !!python/object/apply:os.system ['touch was-run']", "a.yaml is not YAML: could not determine a"),
        (BOMB, "a.yaml is not YAML: YAML node expansion exceeds"),
        ("count: " + "[" * 100_000, "a.yaml has more than 200 brackets in one another"),
        ("{a: " * 5000 + "1" + "}" * 5000, "a.yaml has more than 200 brackets in one another"),
        ("\n".join(" " * k + "a:" for k in range(2000)), "a.yaml is nested too deep for a config"),
        ("include: /etc/passwd", "include is '/etc/passwd', but only files in the folder of a.yaml are included"),
        ("include: [b.yaml, x/../../b.yaml]", "include is 'x/../../b.yaml', but only files in the folder of a.yaml"),
    ],
)  # fmt: skip
def test_a_config_of_a_stranger_runs_reads_and_fills_nothing(launch: Launch, text: str, message: str) -> None:
    (launch.folder / "a.yaml").write_text(text)
    (launch.folder / "b.yaml").write_text("count: {n: 1}")
    refused = launch("count", "a.yaml", "--dry-run", code=2)
    assert message in refused.stderr and len(refused.stderr.splitlines()) == 1 and "root:" not in refused.stderr
    assert not (launch.folder / "was-run").exists()


def test_a_file_too_large_for_a_config_is_not_parsed(launch: Launch) -> None:
    with open(launch.folder / "a.yaml", "wb") as file:
        file.truncate(1 << 32)
    refused = launch("count", "a.yaml", "--dry-run", code=2)
    assert "a.yaml has 4294967296 bytes, and a config 16777216 at most" in refused.stderr


def test_every_recipe_is_listed_with_a_title(launch: Launch) -> None:
    listed = json.loads(launch("recipes", "--json").stdout)
    files = {path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("site", "protocols")}
    assert {Path(recipe["file"]) for recipe in listed} == files - {ROOT / "configs/default.yaml"}
    assert all(recipe["title"] for recipe in listed)
    table = launch("recipes").stdout
    assert all(re.search(rf"^{re.escape(recipe['name'])} +\w", table, re.MULTILINE) for recipe in listed)


def test_every_site_is_listed_and_that_of_this_machine_marked(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "configs/site").mkdir(parents=True)
    (tmp_path / "configs/site/half.yaml").write_text("kind: slurm\npartitoin: x\n")
    listed = {site["name"]: site for site in json.loads(launch("sites", "--json").stdout)}
    assert {path.stem for path in profile.OURS.parent.parent.parent.glob("configs/site/*.yaml")} < set(listed)
    assert [name for name, site in listed.items() if site["here"]] == ["local"]
    assert listed["half"]["status"] == "broken" and "partitoin" in listed["half"]["description"]
    table = launch("sites").stdout
    assert re.search(r"^\* local ", table, re.MULTILINE) and re.search(r"^  bed ", table, re.MULTILINE)


def test_what_a_stage_reads_is_made_first_and_only_once(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("count: {n: 4}\ntally: {of: count}\n")
    refused = launch("tally", "study.yaml", "--only", code=2)
    assert re.search(r"tally.of is the run count-\w+, which is not in .* yet: make it first", refused.stderr)
    first = launch("tally", "study.yaml", "--name", "mine").stdout
    assert [state["name"] for state in json.loads(launch("status", "mine", "--json").stdout)] == ["mine"]
    assert "because tally reads it, and it is not there yet; --only refuses instead\n" in first
    assert "inputs are made first" in first and first.count("finished after") == 2
    second = launch("tally", "study.yaml", "--again").stdout
    assert "because" not in second and second.count("finished after") == 1
    other = launch("tally", "study.yaml", "count.n=5", "--dry-run").stdout
    (made,) = (run.name for run in launch.runs() if run.name.startswith("count"))
    assert f"--only refuses instead. To read a finished one say of={made}\n" in other


def test_a_sweep_makes_what_it_reads_first(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("count: {n: 4}\ntally: {of: count}\n")
    planned = launch("sweep", "tally", "study.yaml", "count.n=3,4", "--dry-run", "--on", "bed").stdout
    assert "4 runs: 2 x count, 2 x tally" in planned
    assert (
        "make it first" in launch("sweep", "tally", "study.yaml", "count.n=3,4", "--only", "--on", "bed", code=2).stderr
    )


def test_in_an_empty_folder_a_training_makes_the_demo_s_data_first(launch: Launch, tmp_path: Path) -> None:
    text = launch("train", "--nodes", "2", "--on", "local", "--dry-run").stdout
    assert re.findall(r"^run +([a-z]+)-", text, re.MULTILINE) == ["synthesize", "preprocess", "train"]
    assert text.count("2 nodes x 1 rank = 2 ranks") == 3
    assert f"values from {ROOT / 'configs/default.yaml'}" in text
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_is_told_what_to_read_takes_nothing_of_the_demo(launch: Launch, tmp_path: Path) -> None:
    layouts.bids(tmp_path / "study")
    words = ("preprocess", "study=./study", "events.duration_s=1", "--on", "local", "--dry-run")
    assert "values from study=./study" in launch(*words).stdout
    own = tmp_path / "configs/default.yaml"
    own.parent.mkdir()
    own.write_text("preprocess: {study: ./study, events: {duration_s: 1}}\ntrain: {data: preprocess}\n")
    text = launch("train", "--on", "local", "--dry-run").stdout
    assert "values from configs/default.yaml" in text and "synthesize" not in text


def test_the_default_of_a_package_is_for_its_own_stages(
    example: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert planner._default_file("tally", []) == []
    assert planner._default_file("train", []) == [ROOT / "configs/default.yaml"]


def test_a_package_whose_recipes_are_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "points", lambda group: {"counting": "counting:NOTHING"})
    recipes._folders.cache_clear()
    recipes._of_packages.cache_clear()
    with pytest.raises(
        ConfigError, match=r"the recipes of counting cannot be found: counting:NOTHING cannot be imported"
    ):
        recipes.every()
    recipes._folders.cache_clear()
    recipes._of_packages.cache_clear()


def test_the_command_hpc_is_the_module(launch: Launch) -> None:
    command = shutil.which("hpc", path=str(Path(sys.executable).parent))
    assert command, "install the project again: env/setup.sh cpu"
    for words in (["--version"], ["status"], ["nonsense"]):
        one, other = (
            subprocess.run([*start, *words], cwd=launch.folder, env=launch.environ, capture_output=True, check=False)
            for start in ([command], launch.command())
        )
        assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
    assert f"hpc {__version__} in {ROOT}/hpc, Python 3." in launch("--version").stdout


def test_without_the_environment_one_sentence_says_what_to_activate(tmp_path: Path) -> None:
    """-S: a Python that has none of our packages."""
    for words in (["train", "--nodes", "2"], ["pipeline", "configs/demo.yaml"]):
        done = subprocess.run(
            [sys.executable, "-S", "-m", "hpc.launch", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and done.stdout == ""
        assert re.fullmatch(
            r"error: \w+ is not installed for \S+: .*activate the environment with `\. ./env/activate.sh`\n",
            done.stderr,
        )
    shutil.copytree(ROOT / "hpc", tmp_path / "hpc")
    done = subprocess.run(
        [sys.executable, "-S", "-m", "hpc.launch", "train"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith("pip install hpc-eegdecode\n") and len(done.stderr.splitlines()) == 1


def test_version_is_for_every_verb() -> None:
    assert options.read(["--version"]).version
    assert options.read(["train", "--version"]).version

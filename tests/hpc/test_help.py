"""Help for each verb, from the table of options and the code of the configs; and errors that lead to the setting."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from hpc import config
from hpc.cli import help, options, table
from hpc.codes import USAGE
from hpc.config import plugins, reference, stages
from hpc.errors import ConfigError
from tests.conftest import Launch


@dataclass(frozen=True)
class Base:
    """What all have.

    Parameters
    ----------
    low, high
        The ends.
        Both of them.
    """

    low: float = 0.5
    high: float = 1e-3


@dataclass(frozen=True)
class Small(Base):
    """A small one. It has a second sentence."""

    name: Literal["small"] = "small"
    width: int = 8  # how wide


@dataclass(frozen=True)
class Deep:
    """A deep one (Smith 2018, J. of X)."""

    name: Literal["deep"] = "deep"
    rates: tuple[float, ...] = (1.0, 2.0)
    """One a layer.

    In order."""


@dataclass(frozen=True)
class Group:
    SYNONYMS: ClassVar[dict[str, str]] = {"batch_size": "windows.batch is the batch of all ranks together"}
    must: str  # to be given
    part: Base = field(default_factory=lambda: Base(low=3.0))  # not said itself, but its settings
    model: Small | Deep = field(default_factory=Deep)  # which one
    maybe: Small | None = None  # none unless given


def test_each_field_has_its_type_default_and_sentence() -> None:
    rows = {row.path: row for row in reference.settings(Group)}
    assert list(rows) == ["must", "part.low", "part.high", "model", "maybe"]
    assert rows["must"] == reference.Setting("must", "text", "", "to be given")
    assert rows["part.low"] == reference.Setting("part.low", "number", "3", "The ends. Both of them.")
    assert rows["part.high"].default == "0.001"
    assert rows["model"] == reference.Setting("model", "one of several", "deep", "which one", ("small", "deep"))
    assert rows["maybe"].default == "null"


@pytest.mark.parametrize(
    ("path", "title", "rows"),
    [
        ("model", "model", ["model=small", "model=deep"]),
        ("model.deep", "model.deep", ["model.rates"]),
        ("model.small", "model.small", ["model.low", "model.high", "model.width"]),
        ("part", "part", ["part.low", "part.high"]),
        ("part.low", "part.low", ["part.low"]),
        ("model.deep.rates", "model.deep.rates", ["model.rates"]),
        ("", "", ["must", "part.low", "part.high", "model", "maybe"]),
    ],
)
def test_a_path_leads_to_its_settings(path: str, title: str, rows: list[str]) -> None:
    found, _, below = reference.below(Group, path)
    assert (found, [row.path for row in below]) == (title, rows)


def test_a_choice_is_described_by_its_first_sentence() -> None:
    _, about, rows = reference.below(Group, "model")
    assert about == "One of these, chosen by its name:"
    assert [row.sentence for row in rows] == ["A small one.", "A deep one (Smith 2018, J. of X)."]
    _, about, (rates,) = reference.below(Group, "model.deep")
    assert about == "A deep one (Smith 2018, J. of X)."
    assert rates == reference.Setting("model.rates", "list of numbers", "[1, 2]", "One a layer. In order.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"must": "a", "rates": [1]}, "train has no setting 'rates': it is model.rates$"),
        ({"must": "a", "low": 1}, "train has no setting 'low': it is maybe.low or model.low or part.low$"),
        ({"must": "a", "batch_size": 8}, "train has no setting 'batch_size': windows.batch is the batch of all ranks"),
        ({"must": "a", "pat": 8}, r"train has no setting 'pat'\. Did you mean 'part'"),
    ],
)
def test_an_error_leads_to_the_setting(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(Group, values, "train")


def test_the_choices_of_a_whole_stage_are_said_by_name() -> None:
    rows = reference.below(Small | Deep, "")[2]
    assert [row.path for row in rows] == ["name=small", "name=deep"]


def test_a_path_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="model has no setting 'dep'. Did you mean 'deep'"):
        reference.below(Group, "model.dep")


@pytest.mark.parametrize("verb", [*table.verbs(), *stages.names()])
def test_every_verb_has_help_of_its_own_with_an_example(verb: str) -> None:
    text = help.text(verb)
    assert text.startswith(f"usage: python -m hpc.launch {verb}")
    assert f"  python -m hpc.launch {verb}" in text[text.index("examples:") :]
    assert all(len(line) <= 120 for line in text.splitlines())
    for name in ("--nodes", "--watch", "--faults"):
        fits = options.OPTIONS[name].fits(verb)
        assert (f"  {name} " in text) == fits, (name, "in the help of a verb that takes it, and of no other")
    if verb in stages.names():
        for row in reference.below(stages.schema(stages.load(stages.entry(verb))), "")[2]:
            assert f"  {row.path}" in text


def test_help_of_a_verb_comes_in_any_order_and_without_torch(launch: Launch) -> None:
    text = launch("count", "--help").stdout
    assert launch("--help", "count", "--nodes", "2").stdout == text == launch("count", "-h").stdout
    assert "count.KEY=VALUE" in text and "n=5" in text
    code = "import sys; from hpc.cli import help; help.text('train'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert "there is no stage or verb 'cuont'. Did you mean 'count'" in launch("cuont", "--help", code=USAGE).stderr


def test_settings_are_shown_and_given_as_json(launch: Launch) -> None:
    assert "count " in launch("settings").stdout
    text = launch("settings", "count.rule").stdout
    assert "rule=plain" in text and "rule=squares" in text
    rows = json.loads(launch("settings", "count.rule.squares", "--json").stdout)
    assert [row["path"] for row in rows] == ["rule.power"]
    assert "there is no stage 'cuont'" in launch("settings", "cuont", code=USAGE).stderr
    assert "one stage or path at a time" in launch("settings", "count", "tally", code=USAGE).stderr


@pytest.mark.parametrize(
    ("path", "title", "old", "new"),
    [
        ("train.windows.locked.tmin_s", "train.windows.epochs.tmin_s", "windows: locked", "epochs"),
        ("train.windows=locked", "train.windows.epochs", "windows: locked", "epochs"),
        ("preprocess.steps.montage", "preprocess.steps.set_channels", "steps: montage", "set_channels"),
        ("preprocess.steps.scale.clamp", "preprocess.steps.scale.clip", "steps.scale.clamp", "clip"),
        ("train.trainable.free_at", "train.trainable.unfreeze_at", "trainable.free_at", "unfreeze_at"),
    ],
)
def test_words_of_the_last_version_lead_to_those_of_today(
    path: str, title: str, old: str, new: str, launch: Launch
) -> None:
    done = launch("settings", path)
    assert done.stdout.splitlines()[0] == title
    assert done.stderr == f"note: {old} is called {new} now; the old word works until the next version\n"


def test_a_path_may_be_written_as_on_the_line_of_a_run(launch: Launch) -> None:
    assert launch("settings", "train.model=eegnet").stdout == launch("settings", "train.model.eegnet").stdout
    assert launch("settings", "train.optim.lr=3").stdout == launch("settings", "train.optim.lr").stdout
    error = launch("settings", "model=eegnet", code=USAGE).stderr
    assert "estimate.model.eegnet, train.model.eegnet\n" in error
    error = launch("settings", "windows=locked", code=USAGE).stderr
    assert "note: windows: locked is called epochs now" in error and "train.windows.epochs" in error
    error = launch("settings", "train.objective.mse", code=USAGE).stderr
    assert "objective has no setting 'mse': the mean squared error is objective=regression with" in error


def test_the_folder_of_a_choice_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.forget()
    listed: list[str] = []
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, *words: listed.append(str(self)) or glob(self, *words))
    rows = reference.below(stages.schema(stages.load(stages.entry("train"))), "")[2]
    assert help.page("train") == help.page("train") and rows
    assert listed and len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("word", "instead"), [("cancel", "stop"), ("ls", "status"), ("fit", "train"), ("models", "settings train.model")]
)
def test_what_others_call_it_leads_to_the_verb(word: str, instead: str, launch: Launch) -> None:
    assert f"there is no stage or verb '{word}': say {instead}" in launch(word, code=USAGE).stderr


def test_no_synonym_is_a_verb_itself() -> None:
    assert not options.SYNONYMS.keys() & {*table.verbs(), *stages.names()}

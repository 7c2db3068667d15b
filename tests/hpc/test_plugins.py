"""What installed packages declare is found as importlib.metadata finds it, without importing them."""

import dataclasses
import sys
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import eegdecode.stages
from hpc import config
from hpc.config import plugins, reference, stages
from hpc.config.choices import Choices
from hpc.errors import ConfigError

GROUPS = ("hpc.stages", "hpc.verbs", "hpc.recipes")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with entry points of all kinds, as if it were installed before ours."""
    folder = tmp_path / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[console_scripts]\nmine = mine:main\n\n[hpc.verbs]\n# a comment\nlint = mine.verbs:lint\n"
        "inspect= mine.verbs:inspect\n[hpc.stages]\ntrain =mine.stages:train [extra]\n"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "mine/verbs.py").write_text(
        'def lint(cfg, files, as_json):\n    """Look at files, one by one. Slowly."""\n\n\ndef inspect(cfg): ...\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugins.forget()
    yield tmp_path  # type: ignore[misc]
    plugins.forget()


@pytest.mark.parametrize("group", GROUPS)
def test_it_is_what_importlib_finds(group: str, example: None) -> None:
    theirs = {point.name: point.value for point in reversed(tuple(entry_points(group=group)))}
    assert plugins.points(group) == theirs and theirs


def test_the_first_on_the_path_has_the_name(package: Path) -> None:
    assert plugins.points("hpc.verbs")["inspect"] == "mine.verbs:inspect"
    assert stages.entry("train") == "mine.stages:train"
    assert plugins.points("console_scripts") == {}


def test_a_sentence_is_read_without_importing(package: Path) -> None:
    assert plugins.sentence("mine.verbs:lint") == "Look at files, one by one"
    assert plugins.sentence("mine.verbs:inspect") == plugins.sentence("nowhere:lint") == ""
    assert plugins.sentence("eegdecode.stages:soup") == str(eegdecode.stages.soup.__doc__).rstrip(".")
    assert "mine" not in sys.modules


def test_what_cannot_be_imported_is_named(package: Path) -> None:
    with pytest.raises(ConfigError, match="the stage nowhere:stage cannot be imported: No module named 'nowhere'"):
        stages.load("nowhere:stage")


@dataclass(frozen=True)
class Ours:
    name: Literal["ours"] = "ours"


@dataclass(frozen=True)
class Other:
    name: Literal["other"] = "other"


Choice = Annotated[Ours | Other, Choices("eegdecode.models", package="")]


@dataclass(frozen=True)
class Stage:
    model: Choice = field(default_factory=Ours)
    steps: tuple[Annotated[Ours, Choices("eegdecode.models", package="")], ...] = ()


@pytest.fixture
def model(package: Path) -> Path:
    with open(package / "mine-1.0.dist-info/entry_points.txt", "a") as file:
        file.write("[eegdecode.models]\nmlp = mine_models:MLP\nwrong = mine_models:Wrong\n")
    (package / "mine_models.py").write_text(
        "import dataclasses, typing\n\n\n@dataclasses.dataclass(frozen=True)\nclass MLP:\n"
        '    """Layers. Many."""\n\n    name: typing.Literal["mlp"] = "mlp"\n    width: int = 8  # of each\n\n\n'
        "class Wrong: ...\n"
    )
    plugins.forget()
    return package


def test_a_package_adds_to_what_a_setting_can_be(model: Path) -> None:
    built = config.build(Stage, {"model": {"name": "mlp", "width": 3}, "steps": ["ours", {"name": "mlp"}]}, "train")
    mlp: Any = built.model
    assert (type(mlp).__name__, mlp.width, [step.name for step in built.steps]) == ("MLP", 3, ["ours", "mlp"])
    assert config.plain(built)["model"] == {"name": "mlp", "width": 3}
    assert config.build(Choice, {"name": "mlp"}, "model") == dataclasses.replace(mlp, width=8)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"train.model: 'mlq' is not one .* Did you mean 'mlp'\? There is: ours, other, mlp"
    ):
        config.build(Stage, {"model": "mlq"}, "train")
    with pytest.raises(ConfigError, match=r"train.model has no setting 'widht'. Did you mean 'width'"):
        config.build(Stage, {"model": {"name": "mlp", "widht": 3}}, "train")
    with pytest.raises(ConfigError, match="mine_models:Wrong, of the group eegdecode.models, has to be a data"):
        config.build(Stage, {"model": "wrong"}, "train")


def test_what_a_package_adds_is_in_the_reference(model: Path) -> None:
    entries = (model / "mine-1.0.dist-info/entry_points.txt").read_text().replace("wrong = mine_models:Wrong\n", "")
    (model / "mine-1.0.dist-info/entry_points.txt").write_text(entries)
    plugins.forget()
    rows = {row.path: row for row in reference.settings(Stage)}
    assert rows["model"].choices == ("ours", "other", "mlp") and rows["steps"].choices == ("ours", "mlp")
    _, about, (width,) = reference.below(Stage, "model.mlp")
    assert (about, width.path, width.sentence) == ("Layers. Many.", "model.width", "of each")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def", "mine_models:MLP cannot be imported: SyntaxError: "),
        ("import nowhere_at_all", "mine_models:MLP cannot be imported: No module named 'nowhere_at_all'"),
        (
            "x = 1 / 0",
            r"cannot be imported: ZeroDivisionError: division by zero .*mine_models.py, line 1",
        ),
    ],
)
def test_a_broken_package_is_named_when_it_is_chosen_and_is_in_nobodys_way(
    model: Path, text: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "mine_models", raising=False)
    (model / "mine_models.py").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        config.build(Stage, {"model": "mlp"}, "train")
    assert config.build(Stage, {"model": "other"}, "train").model == Other()
    with pytest.raises(ConfigError, match="'oter' is not one of the choices. Did you mean 'other'"):
        config.build(Stage, {"model": "oter"}, "train")
    with pytest.raises(ConfigError, match="train has no setting 'width'"):
        config.build(Stage, {"width": 3}, "train")


def test_a_package_that_imports_all_its_configs_still_imports_nothing_heavy_for_a_plan(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(package / "mine-1.0.dist-info/entry_points.txt", "a") as file:
        file.write("[eegdecode.models]\nmlp = lab.model:MLP\n[eegdecode.objectives]\nhuber = lab.loss:Huber\n")
    (package / "lab").mkdir()
    (package / "lab/__init__.py").write_text("from lab.loss import Huber\nfrom lab.model import MLP\n")
    (package / "heavy_math.py").write_text("class Base: ...\n")
    for file_name, kind, name in (("model", "MLP", "mlp"), ("loss", "Huber", "huber")):
        (package / f"lab/{file_name}.py").write_text(
            "from dataclasses import dataclass\nfrom typing import Literal\nimport heavy_math\n\n\n"
            f'@dataclass(frozen=True)\nclass {kind}:\n    name: Literal["{name}"] = "{name}"\n\n\n'
            "class Code(heavy_math.Base): ...\n"
        )
    for module in ("lab", "lab.model", "lab.loss", "heavy_math"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    plugins.forget()
    assert config.build(Stage, {"model": "mlp"}, "train").model.name == "mlp"
    assert "lab.loss" in sys.modules and "heavy_math" not in sys.modules
    assert sys.modules["lab.model"].Code.__mro__[1].__module__ == "heavy_math"

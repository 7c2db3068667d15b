"""Words and files become a typed config, or a message that names the nearest right word."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest

from hpc import config, errors
from hpc.cli import options
from hpc.config import stages
from hpc.errors import ConfigError
from hpc.plan import plan
from hpc.rank.context import Input


@dataclass(frozen=True)
class Small:
    name: Literal["small"] = "small"
    width: int = 8


@dataclass(frozen=True)
class Deep:
    name: Literal["deep"] = "deep"
    layers: int = 4
    rate: float = 0.1


@dataclass(frozen=True)
class Search:
    low: float
    high: float = 1.0


@dataclass(frozen=True)
class Start:
    source: Input
    more: tuple[Input, ...] = ()


@dataclass(frozen=True)
class Science:
    data: Input
    lr: float = 1e-3
    loss: Literal["mse", "l1"] = "mse"
    model: Small | Deep = field(default_factory=lambda: Small(width=16))
    bands: tuple[tuple[float, float], ...] = ((1.0, 8.0),)
    steps: tuple[Small | Deep, ...] = ()
    seed: int | None = None
    search: Search | None = None
    quiet: bool = False
    start: Start | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


def build(**values: object) -> Science:
    return config.build(Science, {"data": "x"} | values, "train")


def test_values_get_the_types_of_their_fields() -> None:
    made = build(lr="1e-4", bands=[[1, 4], [8, 12.5]], steps=[{"name": "deep", "layers": 2}, "small"], seed=3)
    assert made.lr == 1e-4
    assert made.bands == ((1.0, 4.0), (8.0, 12.5))
    assert made.steps == (Deep(layers=2), Small())
    assert made.seed == 3


def test_settings_that_may_be_left_out_have_no_name_to_be_chosen_by() -> None:
    assert build(search={"low": 1}).search == Search(1.0)
    assert build().search is build(search=None).search is None
    with pytest.raises(ConfigError, match=r"train.search.low is missing"):
        build(search={})


def test_a_choice_keeps_the_default_settings_until_another_is_named() -> None:
    assert build(model={}).model == Small(width=16)
    assert build(model={"name": "small", "width": 9}).model == Small(width=9)
    assert build(model={"name": "deep"}).model == Deep()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lrr": 1}, r"train has no setting 'lrr'. Did you mean 'lr'\? There is: data, lr"),
        ({"model": {"widht": 1}}, r"train.model has no setting 'widht'. Did you mean 'width'"),
        ({"model": {"name": "deeep"}}, r"train.model: 'deeep' is not one of the choices. Did you mean 'deep'"),
        ({"loss": "ms"}, r"train.loss cannot be 'ms'. Did you mean 'mse'"),
        ({"lr": "fast"}, r"train.lr needs a number, but got 'fast'"),
        ({"lr": True}, r"train.lr needs a number, but got True"),
        ({"seed": 1.5}, r"train.seed needs a whole number, but got 1.5"),
        ({"lr": -1}, r"train: lr must be above 0, got -1.0"),
        ({"quiet": "yes please"}, r"train.quiet needs true or false, but got 'yes please'"),
        ({"bands": 3}, r"train.bands needs a list"),
        ({"bands": [[1, 2, 3]]}, r"train.bands\[0\] needs 2 values, but got 3"),
        ({"steps": [3]}, r"train.steps\[0\] needs settings"),
        ({"model": 3}, r"train.model needs settings"),
    ],
)
def test_nonsense_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**values)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"train.data is missing: .* \(the name of a run, or a path\)"):
        config.build(Science, {}, "train")


def test_plain_values_build_the_same_config_again() -> None:
    made = build(model={"name": "deep", "rate": 0.5}, steps=["small"], bands=[[2, 3]])
    assert config.build(Science, config.plain(made), "train") == made


def test_inputs_are_the_fields_that_name_what_is_read() -> None:
    assert config.inputs(build()) == {"data": "x"}
    made = build(start={"source": "a", "more": ["b", "c"]})
    found = {"data": "x", "start.source": "a", "start.more": "b", "start.more[1]": "c"}
    assert config.inputs(made) == found
    renamed = config.with_inputs(made, {name: ref * 2 for name, ref in found.items()})
    assert renamed == build(data="xx", start={"source": "aa", "more": ["bb", "cc"]})


def test_files_lie_over_those_they_include_and_words_over_files(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("a: {x: 1, y: 1}\nb: ${a.x}\n")
    (tmp_path / "own.yaml").write_text("include: base.yaml\na: {y: 2}\n")
    values = config.apply_words(config.load([tmp_path / "own.yaml"]), ["a.x=3", "c.d=[1, 2]"])
    assert values == {"a": {"x": 3, "y": 2}, "b": 1, "c": {"d": [1, 2]}}


def test_an_include_that_goes_round_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: b.yaml\n")
    (tmp_path / "b.yaml").write_text("include: a.yaml\n")
    with pytest.raises(ConfigError, match="includes itself"):
        config.load([tmp_path / "a.yaml"])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match=r"no config file .*dmo.yaml. Did you mean .*demo.yaml"):
        config.load([tmp_path / "dmo.yaml"])
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="broken.yaml is not YAML"):
        config.load([tmp_path / "broken.yaml"])
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match="latin.yaml is not YAML"):
        config.load([tmp_path / "latin.yaml"])
    (tmp_path / "five.yaml").write_text("include: 5\n")
    with pytest.raises(ConfigError, match="five.yaml: include needs the name of a file"):
        config.load([tmp_path / "five.yaml"])
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match="folder.yaml is a folder: name a .yaml file in it"):
        config.load([tmp_path / "folder.yaml"])
    with pytest.raises(ConfigError, match="holds a list; a config is"):
        config.load([tmp_path / "list.yaml"])


@pytest.mark.parametrize("word", ["lr", "=3", "lr 3", "a;b=3"])
def test_a_word_that_is_no_setting_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="is neither a file.yaml nor a key=value"):
        config.check_words([word])


@pytest.mark.parametrize("text", ["**/{subject}.{ext}", "*run2", "{subject}/*_{run}.set", "a: b: c", "@x", "'a", "%x"])
def test_a_value_that_is_no_yaml_is_text(text: str) -> None:
    assert config.apply_words({"a": {"b": 1}}, [f"a.files={text}"]) == {"a": {"b": 1, "files": text}}
    assert config.apply_words({"c": 3}, [f"files={text}", "d=${c}"]) == {"c": 3, "files": text, "d": 3}


def test_a_list_that_is_no_yaml_says_how_to_quote_it() -> None:
    for word in ("exclude=[*run2]", "exclude=[a, &b, *c]", "steps=[{name: pick]"):
        with pytest.raises(ConfigError, match=r"is not YAML: what begins with \* .* as '.*=\[\"\*run2\"\]'"):
            config.apply_words({}, [word])
    assert config.apply_words({}, ['exclude=["*run2"]']) == {"exclude": ["*run2"]}


PRESETS = {"presets": {"size": {"tiny": {"train": {"lr": 1, "depth": 2}}, "full": {}}}, "train": {"lr": 5, "data": "x"}}


def test_a_preset_of_the_file_is_laid_over_it() -> None:
    assert config.choose(PRESETS, None) == {"train": {"lr": 5, "data": "x"}}
    assert config.choose(PRESETS, "size=tiny") == {"train": {"lr": 1, "depth": 2, "data": "x"}}
    assert config.choose(PRESETS, "size=full") == {"train": {"lr": 5, "data": "x"}}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("siz=tiny", "the file has no preset 'siz'. Did you mean 'size'"),
        ("size=tinny", "size cannot be 'tinny'. Did you mean 'tiny'"),
        ("size", "size cannot be ''"),
    ],
)
def test_a_preset_that_is_not_offered_is_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.choose(PRESETS, word)


@pytest.mark.parametrize(
    ("values", "words", "model"),
    [
        ({}, ["model=b", "model.layers=2"], {"name": "b", "layers": 2}),
        ({}, ["model.layers=2", "model=b"], {"name": "b", "layers": 2}),
        ({"model": {"name": "a", "layers": 9, "width": 3}}, ["model=b", "model.layers=2"], {"name": "b", "layers": 2}),
        ({"model": {"name": "a", "layers": 9}}, ["model.name=b", "model.layers=2"], {"name": "b", "layers": 2}),
        ({"model": {"name": "a", "layers": 9, "width": 3}}, ["model.layers=2"], {"name": "a", "layers": 2, "width": 3}),
        ({"model": {"layers": 9}}, ["model.name=b"], {"name": "b", "layers": 9}),
        ({"model": "b"}, ["model.layers=2"], {"name": "b", "layers": 2}),
        ({"model": {"name": "a", "layers": 9}}, ["model=b"], "b"),
    ],
)
def test_a_choice_said_by_its_name_keeps_its_own_settings_and_no_others(
    values: dict[str, object], words: list[str], model: object
) -> None:
    assert config.apply_words(values, words) == {"model": model}


CHOICES = {
    "train": {"data": "x", "model": {"name": "small", "width": 9}},
    "presets": {
        "how": {
            "word": {"train": {"model": "deep"}},
            "name": {"train": {"model": {"name": "deep", "layers": 2}}},
            "same": {"train": {"model": {"width": 5}}},
        }
    },
}


@pytest.mark.parametrize(
    ("word", "said", "model"),
    [
        (None, [], Small(width=9)),
        ("how=same", [], Small(width=5)),
        ("how=word", [], Deep()),
        ("how=word", ["train.model.layers=3"], Deep(layers=3)),
        ("how=name", [], Deep(layers=2)),
        ("how=name", ["train.model.rate=0.5"], Deep(layers=2, rate=0.5)),
        ("how=name", ["train.model=small"], Small(width=16)),
    ],
)
def test_a_set_may_choose_another_and_leaves_the_settings_of_the_first(
    word: str | None, said: list[str], model: Small | Deep
) -> None:
    values = config.apply_words(config.choose(CHOICES, word), said)
    assert config.build(Science, values["train"], "train").model == model


def test_a_file_may_choose_another_than_the_one_it_includes(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("train: {data: x, lr: '${b}', model: {name: small, width: 9}}\nb: 0.5\n")
    for text in ("{name: deep}", "deep"):
        (tmp_path / "own.yaml").write_text(f"include: base.yaml\ntrain: {{model: {text}}}\n")
        made = config.build(Science, config.load([tmp_path / "own.yaml"])["train"], "train")
        assert (made.model, made.lr) == (Deep(), 0.5)


def test_a_text_may_be_said_to_be_empty() -> None:
    @dataclass(frozen=True)
    class Said:
        target: str = "envelope"

    assert config.build(Said, config.apply_words({}, ["target="]), "train").target == ""


@dataclass(frozen=True)
class Clip:
    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("clamp",)
    name: Literal["clip"] = "clip"
    limit: float = 1.0


@dataclass(frozen=True)
class Other:
    name: Literal["other"] = "other"


@dataclass(frozen=True)
class Renamed:
    FORMER: ClassVar[dict[str, str]] = {"free_at": "unfreeze_at"}
    unfreeze_at: int = 0
    step: Clip | Other = field(default_factory=Other)


@pytest.fixture
def _nothing_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_noticed", set())


@pytest.mark.usefixtures("_nothing_noticed")
def test_a_setting_is_found_by_its_old_name_with_a_notice(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        built = config.build(Renamed, {"free_at": 3, "step": {"name": "clamp", "limit": 2}}, "train")
        assert built == Renamed(3, Clip(limit=2.0))
    assert config.build(Renamed, {"step": "clamp"}, "train").step == Clip()
    assert capsys.readouterr().err.splitlines() == [
        "note: train.free_at is called unfreeze_at now; the old word works until the next version",
        "note: train.step: clamp is called clip now; the old word works until the next version",
    ]
    assert config.plain(built) == {"unfreeze_at": 3, "step": {"name": "clip", "limit": 2.0}}


def test_a_setting_by_both_its_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="train.unfreeze_at is there twice, once by its old name: leave one out"):
        config.build(Renamed, {"free_at": 3, "unfreeze_at": 4}, "train")


@pytest.mark.usefixtures("_nothing_noticed")
def test_presets_may_still_be_called_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.yaml").write_text("sets: {size: {tiny: {train: {lr: 1}}}}\n")
    (tmp_path / "new.yaml").write_text("include: old.yaml\npresets: {size: {huge: {train: {lr: 9}}}}\ntrain: {lr: 3}\n")
    values = config.load([tmp_path / "new.yaml"])
    assert [config.choose(values, f"size={size}")["train"] for size in ("tiny", "huge")] == [{"lr": 1}, {"lr": 9}]
    assert "note: sets: is called presets: now" in capsys.readouterr().err
    args = options.read(["train", "--set", "size=tiny"])
    assert args.preset == "size=tiny"
    assert "note: --set is called --preset now; the old word works until the next version" in capsys.readouterr().err


class WithMethods:
    def check_ranks(self, n_ranks: int) -> None:
        if n_ranks > 2:
            raise ValueError("too many")

    def check_inputs(self, find: Callable[[Input], Path | None]) -> str:
        return f"looked at {find(Input('run-1'))}"


@pytest.mark.usefixtures("_nothing_noticed")
def test_checks_that_are_methods_of_a_config_are_still_asked(capsys: pytest.CaptureFixture[str]) -> None:
    def stage(cfg: WithMethods, ctx: object) -> None: ...

    assert stages.check(stage, WithMethods(), 2, lambda ref: Path(ref)) == "looked at run-1"
    assert "note: the method check_ranks of WithMethods is called @checked_by" in capsys.readouterr().err
    with pytest.raises(ValueError, match="too many"):
        stages.check(stage, WithMethods(), 3, lambda ref: None)
    assert stages.check(stage, object(), 3, lambda ref: None) == ""


class Act(Enum):
    RELU = "relu"
    TANH = "tanh"


@dataclass(frozen=True)
class Loose:
    """Types that configs of research code have."""

    padding: int | str = "same"
    cut: float | Literal["nyquist"] = "nyquist"
    act: Act = Act.TANH
    width: Annotated[int, "units"] = 8
    sizes: tuple[Any, ...] = (1, 2)


def test_a_setting_of_several_plain_types_takes_each_and_an_enum_its_values() -> None:
    assert config.build(Loose, config.plain(Loose()), "train") == Loose()
    built = config.build(Loose, {"padding": 3, "cut": 40, "act": "relu", "width": 9, "sizes": [3]}, "train")
    assert built == Loose(3, 40.0, Act.RELU, 9, (3,)) and isinstance(built.cut, float)
    assert config.plain(built)["act"] == "relu" and config.build(Loose, {"act": "RELU"}, "train").act is Act.RELU
    for values, message in (
        ({"padding": [1]}, r"train.padding needs a whole number or text, but got \[1\]"),
        ({"cut": "high"}, "train.cut needs a number or 'nyquist', but got 'high'"),
        ({"act": "relo"}, "train.act cannot be 'relo'. Did you mean 'relu'"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.build(Loose, values, "train")


@dataclass(frozen=True)
class Watching:
    depth: int = 1
    every: int = 50

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("every",)


@dataclass(frozen=True)
class Watched:
    watch: Watching = field(default_factory=Watching)
    steps: tuple[Watching, ...] = ()


def test_a_setting_that_came_later_gives_no_run_another_name_until_it_is_set() -> None:
    def science(cfg: Watched) -> plan.Science:
        return plan.Science("stage", "mine:stage", config.plain(cfg), {}, unnamed=tuple(config.unnamed(cfg)))

    before = {"watch": {"depth": 1}, "steps": [{"depth": 2}]}
    now = science(Watched(steps=(Watching(depth=2),)))
    assert now.unnamed == ("watch.every", "steps.0.every")
    assert now.name == plan.Science("stage", "mine:stage", before, {}).name
    names = {
        now.name,
        science(Watched(Watching(every=9), (Watching(2),))).name,
        science(Watched(Watching(depth=3))).name,
    }
    assert len(names) == 3

"""The glossary names files, options, settings and code that exist, and every old spelling that still works."""

import importlib
import re
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from hpc.cli import options, table
from hpc.config import stages
from hpc.config.choices import kinds
from tests.conftest import ROOT

GLOSSARY = (ROOT / "docs/glossary.md").read_text()
RENAMED_KEYS = {"sets:": "presets:"}
"""Of a config file as a whole, see hpc/config/files.py."""


def cells(heading: str) -> list[list[str]]:
    """The rows of the tables below a heading, without their two first lines."""
    text = re.split(rf"^#+ {heading}$", GLOSSARY, maxsplit=1, flags=re.MULTILINE)[1]
    text = re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


PLACES = sorted(
    {
        (row[0], place)
        for heading in ("Runs and jobs", "Data", "Training", "Evaluation")
        for row in cells(heading)
        for place in re.findall(r"`([^`]+)`", row[3])
    }
)
RENAMED = [
    tuple(re.findall(r"`([^`]+)`", " ".join(row)))
    for heading in ("Options and settings", "Files", "Names in the code")
    for row in cells(heading)
]


def schemas(path: str) -> list[type[Any]]:
    """Return the dataclasses at `train.optim`; none if the path is a plain setting. KeyError if it does not exist."""
    stage, *names = path.split(".")
    if stage not in stages.names():
        raise KeyError(path)
    here = list(kinds(stages.schema(stages.load(stages.entry(stage)))))
    for name in names:
        having = [kind for kind in here if name in {field.name for field in fields(kind)}]
        hints = [get_type_hints(kind, include_extras=True)[name] for kind in having]
        if not hints:
            raise KeyError(path)
        here = [kind for hint in hints for kind in kinds(hint)]
    return here


def is_setting(path: str) -> bool:
    try:
        schemas(path)
    except KeyError:
        return False
    return True


def is_in_code(path: str) -> bool:
    """Whether `package.module.Class.attribute` can be imported."""
    module, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        module, _, owner = module.rpartition(".")
    try:
        return hasattr(getattr(importlib.import_module(module), owner, None), name)
    except ModuleNotFoundError:
        return False


def exists(place: str) -> bool:
    if place.startswith("--"):
        return place in options.OPTIONS
    if place.endswith(":"):
        return any(re.search(rf"^{place}", file.read_text(), re.MULTILINE) for file in ROOT.glob("configs/recipes/*"))
    if "/" in place:
        return any(ROOT.glob(place))
    if "=" in place:
        path, _, choice = place.partition("=")
        return is_setting(path) and choice in {getattr(kind, "name", None) for kind in schemas(path)}
    if place.startswith(("hpc.", "eegdecode.")):
        return is_in_code(place)
    return place in table.verbs() or is_setting(place)


@pytest.mark.parametrize(("word", "place"), PLACES)
def test_what_the_glossary_points_to_exists(word: str, place: str) -> None:
    assert exists(place), f"{word}: there is no {place}"


def test_what_does_not_exist_is_found_missing() -> None:
    gone = ["--nodez", "hpc/nothing.py", "train.optim.rate", "train.windows=none", "hpc.errors.None", "nothing", "key:"]
    assert [place for place in gone if exists(place)] == []


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_a_new_word_took_the_place_of_the_old_one(old: str, new: str) -> None:
    assert exists(new) != exists(old)


def test_the_words_are_in_order_and_each_row_is_whole() -> None:
    for heading in ("Runs and jobs", "Data", "Training", "Evaluation"):
        rows = cells(heading)
        assert len(rows) > 5
        assert all(len(row) == 4 and row[0] and row[1] and row[3] for row in rows)
        assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=str.lower), heading


def everything(hint: Any, seen: set[type[Any]]) -> set[type[Any]]:
    """All dataclasses of a schema, at any depth."""
    for kind in kinds(hint):
        if kind not in seen:
            seen.add(kind)
            for below in get_type_hints(kind, include_extras=True).values():
                everything(below, seen)
    return seen


def test_every_old_spelling_that_works_is_in_the_glossary() -> None:
    former = dict(options.FORMER) | RENAMED_KEYS
    for stage in stages.names():
        for kind in everything(stages.schema(stages.load(stages.entry(stage))), set()):
            former |= getattr(kind, "FORMER", {})
            former |= {old: kind.name for old in getattr(kind, "FORMER_NAMES", ())}
    listed = {tuple(re.split(r"[.=]", place)[-1] for place in pair) for pair in RENAMED}
    assert set(former.items()) - listed == set()


def test_names_that_contributing_points_to_are_in_the_files_of_their_row() -> None:
    table = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| a")]
    assert len(table) >= 7
    old = {new.rpartition(".")[2]: old.rpartition(".")[2] for old, new in RENAMED}
    for row in table:
        places = [place.replace("NAME", "*") for place in re.findall(r"`([\w./-]+/[\w./-]*|setup\.cfg)`", row)]
        files = [file for place in places for file in ROOT.glob(f"{place}*" if place.endswith("/") else place)]
        text = "".join(file.read_text() for file in files if file.is_file())
        names = set(re.findall(r"`([A-Za-z_]+)(?:\([^`]*)?`", row)) - {"case"}
        lacking = {name for name in names if not re.search(rf"\b({name}|{old.get(name, name)})\b", text)}
        assert places and not lacking, f"{row[:40]}: {lacking}"


CHOSEN = [
    "preprocess.events", "preprocess.steps", "preprocess.targets", "train.model", "train.objective", "train.windows",
    "train.augment", "train.optim.schedule", "train.optim.average",
]  # fmt: skip


@pytest.mark.parametrize("path", CHOSEN)
def test_the_guide_names_all_that_is_chosen_by_name(path: str) -> None:
    guide = "".join(page.read_text() for page in (ROOT / "docs/guide").glob("*.md"))
    names = {kind.name for kind in schemas(path)}
    assert len(names) > 1
    new = dict(tuple(re.split("[.=]", place)[-1] for place in pair) for pair in RENAMED)
    assert {name for name in names if f"`{new.get(name, name)}`" not in guide} == set()

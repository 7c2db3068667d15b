"""docs/reference agrees with the code of the settings; `make reference` writes it."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from hpc.cli import help
from hpc.config import stages
from hpc.config.choices import kinds
from hpc.config.reference import sentences
from tests.conftest import ROOT

FOLDER = ROOT / "docs/reference"


def ours() -> list[str]:
    return [name for name in stages.names() if stages.entry(name).startswith("eegdecode.")]


@pytest.mark.parametrize("stage", ours())
def test_the_page_of_a_stage_is_what_its_code_says(stage: str) -> None:
    assert (FOLDER / f"{stage}.md").read_text() == help.page(stage), "`make reference` writes it anew"


def test_each_stage_has_its_page_and_no_other() -> None:
    written = {path.stem for path in FOLDER.glob("*.md")} - {"index", "python", "verbs"}
    assert sorted(written) == sorted(ours())
    index = (FOLDER / "index.md").read_text()
    assert [stage for stage in ours() if f"({stage}.md)" not in index or f"\n{stage}\n" not in index] == []


def groups(schema: Any, seen: set[Any]) -> Iterator[Any]:
    """Every dataclass of a stage's config."""
    for kind in kinds(schema):
        if kind not in seen:
            seen.add(kind)
            yield kind
            for each in get_type_hints(kind, include_extras=True).values():
                yield from groups(each, seen)


@pytest.mark.parametrize("stage", ours())
def test_every_setting_has_its_sentence(stage: str) -> None:
    missing = [
        f"{kind.__name__}.{field.name}"
        for kind in groups(stages.schema(stages.load(stages.entry(stage))), set())
        for field in fields(kind)
        if field.init and field.name != "name" and not sentences(kind).get(field.name)
    ]
    assert not missing, "a comment behind the field, or its entry under Parameters, is its sentence in the help"

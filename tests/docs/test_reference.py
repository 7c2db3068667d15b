"""docs/reference is what the code says of its settings: `make reference` writes it anew."""

import pytest

from hpc.cli import help
from hpc.config import stages
from tests.conftest import ROOT

FOLDER = ROOT / "docs/reference"


def ours() -> list[str]:
    return [name for name in stages.names() if stages.entry(name).startswith("eegdecode.")]


@pytest.mark.parametrize("stage", ours())
def test_the_page_of_a_stage_is_what_its_code_says(stage: str) -> None:
    assert (FOLDER / f"{stage}.md").read_text() == help.page(stage), "`make reference` writes it anew"


def test_each_stage_has_its_page_and_no_other() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(ours())

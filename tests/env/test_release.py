"""The checklist of a release finds what is missing, and says what to do."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

FILES = ("hpc/__init__.py", "CITATION.cff", "CHANGELOG.md", "setup.cfg", "env/conda/meta.yaml", "docs/upgrading.md")


@pytest.fixture
def release(tmp_path: Path) -> ModuleType:
    """env/release.py, about a copy of what it reads."""
    spec = importlib.util.spec_from_file_location("release", ROOT / "env/release.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    write_changelog(tmp_path, "## 0.2.0 (2026-11-30)\n\n### Highlights\n\n* it runs\n\n## 0.1.0\n\n* first\n")
    module.ROOT = tmp_path  # type: ignore[attr-defined]
    edit(tmp_path, "hpc/__init__.py", r'__version__ = ".+"', '__version__ = "0.2.0"')
    edit(tmp_path, "CITATION.cff", r"date-released: .+", "date-released: 2026-11-30")
    return module


def write_changelog(folder: Path, text: str) -> None:
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n{text}")


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text, n = re.subn(old, new, (folder / name).read_text())
    assert n == 1, (name, old)
    (folder / name).write_text(text)


def test_one_version_stands_everywhere(release: ModuleType, tmp_path: Path) -> None:
    assert release.version() == "0.2.0 of 2026-11-30"
    edit(tmp_path, "env/conda/meta.yaml", r'set version = ".+"', 'set version = "0.1.9"')
    with pytest.raises(release.Missing, match=r"env/conda/meta.yaml has 0.1.9, and hpc/__init__.py has 0.2.0"):
        release.version()


def test_a_release_is_no_longer_unreleased(release: ModuleType, tmp_path: Path) -> None:
    write_changelog(tmp_path, "## Unreleased\n\n* something\n\n## 0.1.0\n")
    with pytest.raises(release.Missing, match="CHANGELOG.md, first section has Unreleased"):
        release.version()
    write_changelog(tmp_path, "## 0.2.0 (2020-01-01)\n\n* something\n")
    with pytest.raises(release.Missing, match=r"## 0.2.0 \(2026-11-30\)"):
        release.version()


def test_its_text_has_what_a_user_wants_to_know_first(release: ModuleType, tmp_path: Path) -> None:
    assert release.notes() == "3 lines, in dist/NOTES.md"
    assert (tmp_path / "dist/NOTES.md").read_text() == "### Highlights\n\n* it runs\n"
    write_changelog(tmp_path, "## 0.2.0 (2026-11-30)\n\n* it runs\n")
    with pytest.raises(release.Missing, match="no `### Highlights`"):
        release.notes()
    write_changelog(tmp_path, "## 0.2.0 (2026-11-30)\n\n### Highlights\n")
    edit(tmp_path, "docs/upgrading.md", "## To 0.2.0", "## To 0.3.0")
    with pytest.raises(release.Missing, match="docs/upgrading.md has no section `## To 0.2.0`"):
        release.notes()


def test_nothing_is_released_that_is_not_committed_or_has_the_tag_of_another_commit(
    release: ModuleType, tmp_path: Path
) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("add", ".")
    with pytest.raises(release.Missing, match=r"not committed: .*CHANGELOG.md"):
        release.commit()
    git("commit", "-m", "one")
    git("tag", "v0.2.0")
    assert len(release.commit()) == 10
    git("commit", "--allow-empty", "-m", "two")
    with pytest.raises(release.Missing, match=r"v0.2.0 is \w+ already, and this is \w+: a new version, then"):
        release.commit()


def test_conda_s_recipe_asks_for_what_pip_asks_for(release: ModuleType, tmp_path: Path) -> None:
    assert release.requirements().endswith(" packages")
    edit(tmp_path, "env/conda/meta.yaml", "    - h5py >=3.11\n", "")
    with pytest.raises(release.Missing, match="differ in h5py>=3.11"):
        release.requirements()


def test_a_command_that_fails_is_named_with_its_last_lines(release: ModuleType) -> None:
    with pytest.raises(release.Missing, match=r"`sh -c echo why; exit 3` gave 3\n    why"):
        release.run("sh", "-c", "echo why; exit 3")


def test_a_line_that_there_is_not_is_refused_and_one_that_is_to_do_makes_the_exit_code(
    release: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main(["--only", "verzion"]) == 2
    assert "there are version, notes, commit" in capsys.readouterr().err
    assert release.main(["--only", "version,notes"]) == 0
    (tmp_path / "docs/upgrading.md").write_text("")
    assert release.main(["--only", "version,notes"]) == 1
    printed = capsys.readouterr().out
    assert "version       ok: 0.2.0 of 2026-11-30" in printed and "notes         MISSING: " in printed
    assert printed.endswith("1 to do, see above\n")


def test_what_the_container_recipes_copy_is_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "env/Dockerfile").read_text(), re.MULTILINE)
    docker = {name for line in copied for name in line.split()}
    section = (ROOT / "env/apptainer.def").read_text().partition("%files\n")[2].partition("\n\n")[0]
    apptainer = {line.split()[0] for line in section.splitlines()}
    assert all((ROOT / name).exists() for name in docker | apptainer)
    assert docker - {"env/constraints-cpu.txt"} == apptainer, "both install the same"


def test_the_pages_of_words_agree() -> None:
    """What a user writes anew is the same in the glossary and in the notes for those who upgrade."""
    glossary = (ROOT / "docs/glossary.md").read_text().partition("## Options and settings")[2].partition("## ")[0]
    former = {old.split(".")[-1].split("=")[-1] for old in re.findall(r"^\| `(.+?)` \| `", glossary, re.MULTILINE)}
    notes = (ROOT / "docs/upgrading.md").read_text()
    assert former and all(f"{word.strip(':')}" in notes for word in former), former

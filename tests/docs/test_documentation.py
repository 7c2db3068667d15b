"""The pages are correct: their commands run, their links lead somewhere, the tree is the tree, the site is built."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, missing_for_slurm
from tests.waiting import LONG_S

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("env/*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = [page for page in PAGES if not {"_build", "_extra", "notebooks"} & set(page.parts)]
TO_READ = ("README.md", "docs/start.md", "docs/guide/", "docs/tutorials/")
"""The pages whose commands run here; those of docs/laptop.md do in tests/slurm/test_ssh.py."""
OWN_PARTS = "docs/tutorials/own-parts.md"
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


def blocks(page: str, kind: str) -> list[tuple[str, str]]:
    """The code blocks of a page, as (the remark in front of it, text)."""
    found = BLOCK.finditer((ROOT / page).read_text())
    return [(block["note"] or "", block["text"]) for block in found if block["kind"] == kind]


def commands(page: str) -> list[tuple[str, str]]:
    return [(note, text) for note, text in blocks(page, "sh") if "not run" not in note]


def with_commands() -> list[str]:
    """README first, as it makes the environment and the demo's runs, then what others come after."""
    names = [name for page in PAGES if (name := str(page.relative_to(ROOT))).startswith(TO_READ) and commands(name)]
    return ["README.md", *(name for name in names if name != "README.md")]


def comes_after(page: str) -> str:
    """The page whose commands make what those of this page begin with; a remark in it says so."""
    said = re.search(r"<!-- after: (\S+) -->", (ROOT / page).read_text())
    return said[1] if said else ""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as git would give it to somebody, with the environment that runs this test."""
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("the commands of the pages use .venv: run this through `make test`")
    subprocess.run([ROOT / "env/setup.sh", "cpu"], check=True)  # up to date, or the clone would change our .venv
    folder = tmp_path_factory.mktemp("clone") / "hpc eegdecode"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A short TMPDIR, for the sockets of a bed; beds that a failed block has left there are ended."""
    folder = Path(tempfile.mkdtemp(prefix="doc"))
    yield folder
    for conf in folder.glob("*/slurm.conf"):
        subprocess.run([sys.executable, ROOT / "env/bed", "stop", conf.parent], check=True)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def have_run() -> set[str]:
    """The pages whose commands have run in the clone."""
    return set()


def run(page: str, clone: Path, tmp: Path, have_run: set[str]) -> str:
    """Run the commands of a page, one after the other, after those of the page that it comes after."""
    if (before := comes_after(page)) and before not in have_run:
        run(before, clone, tmp, have_run)
    script = ["set -e", ". env/activate.sh"]
    for note, text in commands(page):
        if "needs: slurm" not in note or not missing_for_slurm():
            script += ["set -x", text, "{ set +x; } 2>/dev/null"]
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "HPC_", "VIRTUAL_ENV"))
    }
    environ["TMPDIR"] = str(tmp)
    if page == OWN_PARTS:  # what it installs goes into the clone, not into the environment that runs this
        environ["PYTHONPATH"] = str(packages := clone / "packages")
        script.insert(
            0, f'pip() {{ command pip "$@" --no-deps --no-build-isolation --target {shlex.quote(str(packages))}; }}'
        )
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=clone, env=environ, capture_output=True, text=True, timeout=4 * LONG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{page}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    have_run.add(page)
    return done.stdout


@pytest.mark.docs
@pytest.mark.parametrize("page", with_commands())
def test_the_commands_of_a_page_run_one_after_the_other(
    page: str, clone: Path, short_tmp: Path, have_run: set[str]
) -> None:
    if page in have_run:
        return
    said = run(page, clone, short_tmp, have_run)
    if page == "README.md":
        assert (report := re.search(r"report +(\S+/report.html)", said))
        assert (clone / report[1]).stat().st_size > 10_000
        assert re.search(r"\br +0\.\d+ +chance 0\.\d+", said)
    if page == OWN_PARTS:
        assert said.rstrip().endswith("refused"), said[-500:]


@pytest.mark.docs
def test_the_site_is_built_without_a_warning_and_its_notebooks_run(clone: Path) -> None:
    """After the pages: the runs that notebooks open are there by then."""
    rule = re.search(r"^docs: .*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule, "make docs has a line of its own"
    line = rule[1].replace("$(python)", ".venv/bin/python").split()  # make itself would set up the environment
    done = subprocess.run(line, cwd=clone, capture_output=True, text=True, timeout=4 * LONG_S, check=False)
    warned = [line for line in done.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
    assert done.returncode == 0, "\n".join([*warned, done.stdout[-1000:], done.stderr[-3000:]])
    html = clone / "docs/_build/html"
    for page in ("index", "start", "tutorials/student", "reference/verbs", "reference/python", "decisions", "glossary"):
        assert (html / f"{page}.html").is_file(), page
    assert (html / "demo/demo-report.html").stat().st_size > 10_000
    scripts = sorted(clone.glob("docs/gallery/*.py"))
    assert len(scripts) > 4
    for script in scripts:
        assert (html / f"notebooks/{script.stem}.html").is_file()
        assert list(html.glob(f"_downloads/*/{script.stem}.ipynb")), f"{script.name} cannot be downloaded"
        assert (html / f"_images/sphx_glr_{script.stem}_001.png").is_file(), f"{script.name} has no plot"
    elsewhere = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](?:https?:)?//""")
    assert [page.name for page in html.rglob("*.html") if elsewhere.search(page.read_text())] == [], "not offline"


def test_readme_is_short_and_has_the_words_that_people_look_for() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 80
    everything = text + "".join((ROOT / page).read_text() for page in ("docs/start.md", "docs/guide.md"))
    for word in ("epoch", "confusion", "learning rate", "fine-tuning", "hyperparameter", "dataset", "notebook"):
        assert word in text.lower(), word
        assert everything.lower().count(word) > 1, word


def test_the_stage_in_the_guide_is_a_stage() -> None:
    from hpc import config
    from hpc.config import stages

    (text,) = (text for _, text in blocks("docs/guide/extend.md", "python") if "class Count" in text)
    scope: dict[str, object] = {}
    exec(text, scope)
    made = config.build(stages.schema(scope["count"]), {"n": 3}, "count")
    assert made == scope["Count"](n=3)  # type: ignore[operator]
    ((_, ini),) = blocks("docs/guide/extend.md", "ini")
    parsed = configparser.ConfigParser()
    parsed.read_string(ini)
    assert parsed["options.entry_points"]["hpc.stages"].strip() == "count = counting.stages:count"


MUST_BE_GIVEN = {
    "preprocess": {"study": "./my-study"},
    "train": {"data": "./store"},
    "evaluate": {"model": "./trained"},
}
"""Of the sections that pages show, what they leave out."""


def with_yaml() -> list[str]:
    names = [str(page.relative_to(ROOT)) for page in PAGES]
    return [name for name in names if name.startswith(TO_READ) and blocks(name, "yaml")]


@pytest.mark.parametrize("page", with_yaml())
def test_the_configs_of_a_page_have_settings_that_there_are(page: str) -> None:
    import yaml

    from hpc import config
    from hpc.config import stages

    for _, text in blocks(page, "yaml"):
        for stage, section in yaml.safe_load(text).items():
            schema = stages.schema(stages.load(stages.entry(stage)))
            assert config.build(schema, MUST_BE_GIVEN.get(stage, {}) | section, stage)


def test_predictions_are_read_as_the_guide_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eegdecode.evaluation import results
    from eegdecode.evaluation.config import Scoring
    from eegdecode.evaluation.decode import predictions
    from tests.eegdecode.reported import heard

    kept, decoded = tmp_path / "runs/evaluate-x/out/predictions.h5", heard("mel", 1.0)
    kept.parent.mkdir(parents=True)
    predictions.write(kept, decoded)
    monkeypatch.chdir(tmp_path)
    (text,) = (text for _, text in blocks("docs/guide/evaluation.md", "python") if "predictions.read" in text)
    scope: dict[str, object] = {}
    exec(text, scope)
    assert scope["result"] == results.evaluate(decoded, Scoring())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


PLACED = re.compile(r"(?<![\w/.-])((?:hpc|eegdecode|configs|docs|tests|env|bench|slurm)/[\w./*-]+)")
OLD_OR_ELSEWHERE = {"CHANGELOG.md", "LOG.md", "glossary.md"}
IN_A_WHEEL = {"hpc/configs/site", "eegdecode/configs"}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in OLD_OR_ELSEWHERE], ids=lambda page: page.name
)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = {place.rstrip("./") for place in PLACED.findall(page.read_text())}
    named = {place.replace("NAME", "*") for place in named} - IN_A_WHEEL
    assert [place for place in sorted(named) if not any(ROOT.glob(place))] == []


def test_the_citation_names_this_version() -> None:
    import yaml

    import hpc

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == hpc.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


@pytest.mark.parametrize("form", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*_*.yml")), ids=lambda form: form.stem)
def test_a_form_for_issues_has_what_github_requires(form: Path) -> None:
    import yaml

    content = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= content.keys()
    names = [field["id"] for field in content["body"]]
    assert len(set(names)) == len(names)
    assert all(field["attributes"]["label"] for field in content["body"])
    assert {field["type"] for field in content["body"]} <= {"textarea", "input", "checkboxes", "dropdown"}


def test_the_tree_of_rooms_is_the_tree() -> None:
    tree = (ROOT / "docs/explanation/rooms.md").read_text().rsplit("```", 2)[1]
    folders, named = [""], set()
    for line in tree.strip().splitlines():
        name, sentence = line.split(maxsplit=1)
        assert sentence
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth + 1 :] = [folders[depth] + name]
        named.add(folders[depth + 1])
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    for package in ("hpc", "eegdecode"):
        there = {f"{package}/{path.name}" for path in (ROOT / package).glob("[!_]*.py")}
        there |= {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / package).rglob("__init__.py")}
        assert {name for name in named if name.startswith(f"{package}/")} == there
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    at_top = {f"{name.partition('/')[0]}/" for name in tracked.splitlines() if "/" in name and name[0] != "."}
    assert at_top <= named, "a test or a command has left a folder, and it was committed"


def test_every_decision_has_a_number_of_its_own_and_the_five_parts() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [page.name[:4] for page in pages]
    assert numbers == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        parts = ("Context", "Decision", "Alternatives", "Consequences", "Evidence")
        missing = [part for part in parts if f"**{part}.**" not in text]
        assert not missing, f"{page.name} lacks {missing}"

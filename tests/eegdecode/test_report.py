"""The report needs nothing but itself, says what was found in words, and can be read by all."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from eegdecode import plots
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation import results
from eegdecode.evaluation.baselines import lagged_ridge
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.report import report, sections
from eegdecode.training import model_file
from hpc.rank.context import Input
from hpc.runs import products
from hpc.runs.rundir import RunDir, write_json
from tests.eegdecode.reported import NAMES, chain

VOID = {"meta", "br", "path"}


class Page(HTMLParser):
    """The tags of a page in order, and whether each that opens also closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def written(tiny_store: Store, study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report at the end of a chain of runs, of which a stimulus has a name that HTML would trip over."""
    ctx = chain(tmp_path_factory.mktemp("runs"), tiny_store, study)
    outcome = predict.decode([ctx.input(Input("train-c"))], ctx)
    assert outcome is not None
    trained, decoded = outcome
    object.__setattr__(decoded.trials[0], "stimulus", "<b>&.wav")
    decoded = replace(decoded, baselines={"ridge": lagged_ridge.ridge(trained, decoded, Scoring(), ctx)})
    report.write(ctx.out / "report.html", trained, decoded, results.evaluate(decoded, Scoring()))
    return ctx.out / "report.html"


def test_it_needs_nothing_but_itself(written: Path) -> None:
    text = written.read_text()
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|<iframe", text.split("<main>")[0] + text)
    links = [attrs[name] or "" for _, attrs in Page(text).tags for name in ("src", "href") if name in attrs]
    assert links and all(link.startswith(("data:", "#")) for link in links)


def test_its_contents_lead_to_its_sections(written: Path) -> None:
    page = Page(written.read_text())
    sections = [attrs["id"] for attrs in page.all("h2")]
    links = [attrs["href"] for attrs in page.all("a") if "download" not in attrs]
    assert links == [f"#{name}" for name in sections] and len(set(sections)) == len(sections) > 5
    assert [attrs["aria-label"] for attrs in page.all("nav")] == ["Contents"]


def test_it_can_be_read_by_all(written: Path) -> None:
    page = Page(written.read_text())
    assert page.all("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert len(page.all("h1")) == 1
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    pictures = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(pictures) == 4  # subjects, the best and the worst of two trials, learning
    assert all(len(attrs["aria-label"] or "") > 20 for attrs in pictures)
    assert all(attrs.get("aria-hidden") == "true" for attrs in page.all("svg"))
    assert "prefers-color-scheme: dark" in written.read_text()


def test_it_says_what_was_found_in_words(written: Path) -> None:
    text = " ".join(written.read_text().split())
    verdicts = re.findall(r'<p class="verdict"><strong>(.*?)</strong>(.*?)</p>', text)
    (data, why), (network, how), (linear, more) = verdicts
    assert {data, network} <= {"Above chance.", "Not above chance."} and linear == "Cannot be decided."
    assert "Do the data decode? The best decoder on the test set is " in why and "corrected for the choice" in why
    assert re.search(r"On 2 test trials of 2 subjects, r&nbsp;=&nbsp;.*Chance level is", how)
    assert re.search(r"the 95th percentile of the null ", how)
    assert re.search(r"the best linear baseline, ridge, .* over 2 trials, which are too few to tell", more)
    assert "The recordings are synthetic" in text
    assert "The test set has 1 stimul" in text


def test_names_are_text_and_not_markup(written: Path) -> None:
    assert "&lt;b&gt;&amp;.wav" in written.read_text()
    assert "<b>&" not in written.read_text()


def test_it_says_how_it_came_about(written: Path) -> None:
    text = written.read_text()
    rows = re.findall(r'<th scope="row">(\w+-[a-d])</th>' + 4 * "<td[^>]*>(.*?)</td>", text)
    code = "thesis 0123456789 + 1 changed file"
    cost = {"train-c": ("2", "0.50", "2.00")}
    meant = [f"{code}; meaning 1 of {name.partition('-')[0]}" for name in NAMES]
    assert rows == [(name, of, *cost.get(name, ("1", "–", "–"))) for name, of in zip(NAMES, meant, strict=True)]
    assert re.search("Checksum of the 2 recordings of the data: blake2b:[0-9a-f]{32}", text)
    assert "train.model.hidden=4" in text
    assert "/home/somebody" not in text


def test_it_says_what_an_audit_of_the_same_data_has_found(written: Path) -> None:
    trained = model_file.load(written.parents[2] / "train-c" / "out")
    assert "launch audit data=[" in written.read_text()
    for name, inputs, findings in (
        ("audit-x", list(trained.data), [{"what": "leak", "where": "split by run", "sentence": "12 <pieces>"}]),
        ("audit-y", ["other"], [{"what": "copy", "where": "a", "sentence": "of other data"}]),
    ):
        write_json(written.parents[2] / name / "plan.json", {"inputs": dict(enumerate(inputs))})
        products.write_json(written.parents[2] / name / "out" / "audit.json", findings)
    audited = sections.audited(trained)
    assert (audited.run, audited.findings) == ("audit-x", ["leak, split by run: 12 <pieces>"])
    products.write_json(written.parents[2] / "audit-x" / "out" / "audit.json", [])
    assert (sections.audited(trained).run, sections.audited(trained).findings) == ("audit-x", [])
    for by, is_other in (("stimulus", False), ("subject", True)):
        (written.parents[2] / "audit-x" / "config.yaml").write_text(f"split: {{by: {by}}}\n")
        assert sections.audited(trained).is_of_other_split == is_other


def test_a_plan_that_leads_back_ends(tmp_path: Path) -> None:
    """As that of another run in a run's folder does."""
    for name, ref in (("train-a", "soup-b"), ("soup-b", "train-a")):
        write_json(tmp_path / name / "plan.json", {"inputs": {"of": ref, "data": "preprocess-c"}})
    named = [run.name for run in sections.lineage(RunDir(tmp_path / "train-a"))]
    assert named == ["preprocess-c", "soup-b", "preprocess-c", "train-a"]


def test_ticks_are_round_and_few() -> None:
    assert plots.ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert plots.ticks(-0.13, 0.48, 6) == pytest.approx([0, 0.2, 0.4])
    assert plots.ticks(3, 3997, 6) == pytest.approx([1000, 2000, 3000])


def test_a_long_line_is_drawn_with_as_many_points_as_one_sees() -> None:
    x, y = plots.thinned(plots.Line(np.arange(10_001.0), np.ones(10_001), "heard"))
    assert len(x) <= plots.MOST_POINTS
    np.testing.assert_allclose(y, 1)
    assert x[0] == 3

"""One nasty name, planted wherever a name comes from outside: in every page, table and listing it is text."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt

from eegdecode.data.events.bad_spans import Dropped
from eegdecode.data.io.channels.table import Channel
from eegdecode.data.store.dataset import Store
from eegdecode.data.survey import page_data, study_page
from eegdecode.data.survey.table import RecordingRow, StudyTable
from eegdecode.evaluation import audit, compare, leaderboard, live, results
from eegdecode.evaluation import metrics as package
from eegdecode.evaluation.comparison import pairs, ranking
from eegdecode.evaluation.comparison.rows import Row
from eegdecode.evaluation.config import Evaluate, Leaderboard, Published, Scoring
from eegdecode.evaluation.cross_validation import folds
from eegdecode.evaluation.cross_validation import report as folds_report
from eegdecode.evaluation.cross_validation.choice import Chosen
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import Metric
from eegdecode.evaluation.report import export, report
from eegdecode.evaluation.results import Result
from eegdecode.preprocessing import record
from eegdecode.signals import BadSpan, Decisions, Signal, Trial
from eegdecode.training import model_file
from eegdecode.training.model_file import Trained
from eegdecode.training.search import lr_finder
from eegdecode.weights import summary
from hpc import media
from hpc.overview import table as status_table
from hpc.rank.context import Input
from hpc.runs import status
from hpc.runs.rundir import RunDir, write_json
from hpc.search import report as search_report
from tests.conftest import ROOT
from tests.eegdecode import browser
from tests.eegdecode.reported import chain, heard
from tests.eegdecode.test_cross_validation import by_subject
from tests.eegdecode.test_results import decoded as answered

NASTY = "<img src=x onerror=alert(1)>|`$\\x{}&%#_\t\n\x1b[31m\"'\udcff"
PLAIN = "name"
ROOMS = ("eegdecode", "hpc")
PUBLISHED = (Published("theirs", 60.0),)
SHOWN, IN_HTML = media.one_line(NASTY), media.lines(NASTY)


class Skeleton(HTMLParser):
    """All of a page but its text: tags, and attributes with their values, in which the name is left out."""

    def __init__(self, page: str, name: str) -> None:
        super().__init__()
        self.name, self.text = name, ""
        self.tags: list[tuple[object, ...]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *((key, self.plain(value or "")) for key, value in attrs)))

    def plain(self, value: str) -> str:
        """A table to download is judged by its cells, and its file's name by its letters."""
        if re.fullmatch(r"[\w-]+\.csv", value):
            return "a file"
        head, table, quoted = value.partition("data:text/csv;charset=utf-8,")
        if not table:
            return value.replace(self.name, "NAME")
        assert not head and not re.search(r"[<>\"'\s]", quoted)
        rows = list(csv.reader(io.StringIO(unquote(quoted))))
        assert len({len(row) for row in rows}) == 1
        return f"{len(rows)} rows of {len(rows[0])}"

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def here(tiny_store: Store, study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Trained, Store]:
    ctx = chain(tmp_path_factory.mktemp("runs"), tiny_store, study)
    return ctx.run, model_file.load(ctx.run.path.parent / "train-c" / "out"), tiny_store


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return partial(declared, monkeypatch, list(package._ours()))


def declared(patch: pytest.MonkeyPatch, ours: list[Metric], name: str) -> None:
    """A metric of a user's plugin."""
    metric = Metric(name, name, f"{name}.", ("classes", "sequence"), lambda decoded, cfg: 2.0, 0.0, unit=name)
    patch.setattr(package, "_ours", lambda: [*ours, metric])


@pytest.fixture(scope="module")
def plain(here: tuple[RunDir, Trained, Store]) -> dict[str, str]:
    """Every page, with a harmless name."""
    with pytest.MonkeyPatch.context() as patch:
        declared(patch, list(package._ours()), PLAIN)
        return pages(PLAIN, *here)


def result_of(kind: str, name: str) -> tuple[Decoded, Result]:
    """Subjects, stimuli, classes, channels and a baseline of that name, beside others."""
    decoded = answered("classes", 3.0) if kind == "classes" else heard(kind, 0.5)
    trials = tuple(
        replace(each, subject=each.subject.replace("sub-1", name), stimulus=name, recording=name)
        for each in decoded.trials
    )
    classes = (name, *decoded.classes[1:]) if decoded.classes else ()
    baselines = {name: next(iter(decoded.baselines.values()))}
    decoded = replace(decoded, trials=trials, classes=classes, audit=(f"{name}.",), baselines=baselines)
    return decoded, results.evaluate(decoded, Scoring(n_null=100))


def audit_run(folder: Path, trained: Trained, name: str) -> None:
    write_json(folder / "plan.json", {"inputs": dict(enumerate(trained.data))})
    write_json(folder / "out" / "audit.json", [{"what": name, "where": name, "sentence": name}])


def pages(name: str, run: RunDir, trained: Trained, data: Store) -> dict[str, str]:
    run = RunDir(run.path.parent / name)
    channels = (name, *trained.spec.channels[1:])
    spec = replace(
        trained.spec, channels=channels, positions=tuple((0.01 * i, 0.05, 0.05) for i in range(len(channels)))
    )
    trained = replace(trained, config=trained.config | {"target": name}, spec=spec)
    audit_run(run.path.parent / "audit-x", trained, name)
    write_json(run.plan, {"code": [{"root": f"/home/{name}", "commit": name, "modified": []}]})
    of_channels = {channel: index - 2.0 for index, channel in enumerate(channels)}
    written = {}
    for kind in ("classes", "mel", "audio"):
        decoded, result = result_of(kind, name)
        result = replace(result, what=name, channels={"network": of_channels, f"bandpower: {name}, alpha": of_channels})
        written[kind] = report.render(run, trained, decoded, result, [trained])
    unplaced = replace(trained, spec=replace(trained.spec, positions=(), channels=(name, "u1")))
    result = replace(result, channels={"network": {name: 1.0, "u1": -1.0}})
    written["unplaced"] = report.render(run, unplaced, decoded, result)
    subjects = {f"{name} {number}": 0.4 + number / 10 for number in range(4)}
    rows = [
        Row(
            (f"{name} {number}",),
            name,
            name,
            0.4,
            0.0,
            0.01,
            name,
            subjects,
            {"study": [name], "split": split},
            name + at,
        )
        for number, (at, split) in enumerate(
            [("a", {name: name}), ("b", {name: name}), ("c", {name: 1}), ("d", {name: name})]
        )
    ]
    written["compare"] = compare.render(rows, *pairs.compared(rows))
    alike = [row for row in rows if row.model != name + "c"]
    studies = [replace(row, study=f"{name} {study}") for row in alike for study in range(2)]
    written["compare_studies"] = compare.render(
        studies, *pairs.compared(studies), ranking.ranked(studies), pairs.over_studies(studies)
    )
    decoded, _ = result_of("classes", name)
    parts = [replace(fold, name=f"{name} {number}") for number, fold in enumerate(by_subject(decoded, name))]
    several = [Chosen(part.name, name, (trained,), name, 2) for part in parts]
    whole = folds.evaluate(parts, Scoring(n_null=100))
    written["cross_validation"] = folds_report.render(run, Evaluate((Input(name),)), several, parts, whole, f"{name}.")
    boarded = [
        leaderboard.Row(f"{name} {number}", whose, 60.0 + number, 1.0, 50.0, 70.0, 3, 0.01, name, name)
        for number, whose in enumerate((leaderboard.OURS, leaderboard.LINEAR, leaderboard.PUBLISHED))
    ]
    table = Leaderboard(runs=(), title=name, source=name, version=name, date=name, spread=name, published=PUBLISHED)
    metric = replace(package.metrics("classes")["balanced_accuracy"], label=name)
    written["leaderboard"] = leaderboard.render(table, metric, boarded, 50.0, [name])
    written["audit"] = audit.render([audit.Finding("copy", name, name), audit.Finding("leak", name, name)], data)
    written["survey"] = "".join(text for _, text in study_page.pages(name, survey(name), lambda row: looked_at(name)))
    timing = live.summarize(64.0, 4, 8, [np.full(50, 0.001)], 1e-6, 1.5)
    written["stream"] = live.render(run, trained, timing, np.full(50, 1.0), torch.device("cpu"), name)
    written["search"] = search_report._page(searched(name))
    written["lr"] = lr_finder.drawn({"rates": [0.001, 0.01, 0.1], "losses": [3.0, 2.0, 4.0], "lr": 0.01})
    return written


def searched(name: str) -> dict[str, Any]:
    job = {"trial": 0, "steps": None, "score": 0.5, "has_failed": False, "run": name, "settings": name}
    jobs = [job, job | {"trial": 1, "score": 0.4}, job | {"trial": 2, "score": None, "has_failed": True}]
    fold = {"each": name, "jobs": jobs, "best": {"trial": 1, "score": 0.4, "run": name, "settings": name}}
    reported = {name: {"value": 0.5, "of": 2, "chance": 0.1}}
    return {"name": name, "line": name, "stage": name, "metric": name, "lower_is_better": True, "rungs": [],
            "trials": 3, "reported": reported, "folds": [fold]}  # fmt: skip


def looked_at(name: str) -> dict[str, Any]:
    """Page data and decisions with that name wherever a name comes from outside."""
    signal = np.random.default_rng(0).normal(0, 1e-5, (4000, 6)).astype(np.float32)
    stream = Signal(signal, 100.0, (name, "Fp1", "Fp2", "Cz", "O1", "O2")).stream()
    trials = [Trial(1.0 + 2 * number, 1.0, (name, "~b")[number % 2], {name: name}) for number in range(12)]
    component = {
        "index": 0, "decision": "drop", "decided_by": "step", "label": name, "reasons": [name], "variance": 1.0,
        "map": dict.fromkeys(stream.channels, 1.0),
    }  # fmt: skip
    bad = {"name": name, "decision": "interpolated", "reason": name}
    spans = (BadSpan(2.0, 3.0, name, name),)
    decisions = Decisions((bad,), (component,), spans)
    decided = record.of_recording(name, decisions, stream.channels, trials, [Dropped(trials[0], spans)])
    channels = [Channel(each, "eeg", name, name, name, name) for each in stream.channels]
    data = page_data.of(stream, [name], trials, replace(stream, decisions=decisions), prefer=[name])
    return page_data.joined(data, channels, decided)


def survey(name: str) -> StudyTable:
    good = RecordingRow(
        name, name, name, name, {name: 2}, 64.0, 60.0, {name: 3}, (name,), (name,), name, name, name, drawn=name
    )
    return StudyTable((good, replace(good, name=f"{name} 2", run="2"), RecordingRow(name, f"{name} 2", failed=name)))


def test_a_name_is_text_in_every_page(
    here: tuple[RunDir, Trained, Store], plain: dict[str, str], declare: Callable[[str], None]
) -> None:
    declare(NASTY)
    written = {PLAIN: plain, NASTY: pages(NASTY, *here)}
    templates = {path.name.split(".")[0] for room in ROOMS for path in (ROOT / room).rglob("*.html.jinja")}
    frames = {"page", "parts", "plots", "sections", "drawings"}
    assert templates - frames == {
        "report",
        "cross_validation",
        "compare",
        "leaderboard",
        "audit",
        "survey",
        "live",
        "lr_finder",
        "search",
    }, (  # fmt: skip
        "a new page? Test it here"
    )
    for which, page in written[NASTY].items():
        plain, nasty = Skeleton(written[PLAIN][which], PLAIN), Skeleton(page, IN_HTML)
        assert nasty.tags == plain.tags, which
        assert which == "lr" or IN_HTML in nasty.text, f"{which} has no name"
        assert all(letter.isprintable() or letter == "\n" for letter in page.replace("\u00a0", "")), which
        assert page.encode() and "<img src=x" not in page


def test_a_name_is_a_cell_in_the_tables_of_other_documents(declare: Callable[[str], None], tmp_path: Path) -> None:
    declare(NASTY)
    for kind in ("classes", "mel"):
        _, result = result_of(kind, NASTY)
        export.write(tmp_path, replace(result, what=NASTY))
        text, table = (tmp_path / "report.md").read_text(), (tmp_path / "table.tex").read_text()
        assert all(letter.isprintable() or letter == "\n" for letter in text + table)
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        assert {token.type for token in tokens if token.type.startswith("html")} == set()
        inline = [token for token in tokens if token.type == "inline"]
        assert {each.type for token in inline for each in token.children or []} <= {"text", "text_special", "softbreak"}
        shown = ["".join(each.content for each in token.children or []) for token in inline]
        assert shown.count(SHOWN) == 4, "the metric, the baseline in two tables, the subject"
        assert [token.type for token in tokens].count("table_open") == 2
        for part in text.split("\n\n")[2:]:
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in part.strip().splitlines()}) == 1
        bare = re.sub(r"\\[a-z]+\{\}|\\[&%$#_{}]|\{[][*]\}", "", table)
        rows = [line for line in bare.splitlines() if "&" in line]
        assert {line.count("&") for line in rows} == {4} and all(line.endswith(r" \\") for line in rows)
        assert set("\\".join(rows).replace("\\", "")) & set("{}%$#_~^<>|") == set()


def test_a_name_is_a_cell_in_a_survey_and_in_listings(tmp_path: Path) -> None:
    table = survey(NASTY)
    study_page.write(tmp_path, NASTY, table)
    text = (tmp_path / "survey.tsv").read_text()
    head, *lines = text.splitlines()
    assert len(lines) == 3 and {line.count("\t") for line in lines} == {head.count("\t")} == {11}
    assert "\x1b" not in text
    assert len(table.table().splitlines()) == 4 and "\x1b" not in table.table()
    state = status.State("train-a")
    state.name = state.settings = state.text = NASTY
    listing = status_table.text([state], 300)
    assert len(listing.splitlines()) == 3 and all(letter.isprintable() or letter == "\n" for letter in listing)
    assert all(line.isprintable() for line in summary._columns([[NASTY, "1"]]))


def test_a_table_is_beside_its_csv_in_every_page(plain: dict[str, str]) -> None:
    for which, page in plain.items():
        links = re.findall(r'download="[^"]+" href="data:text/csv;charset=utf-8,([^"]+)"', page)
        of_lags = "Lags as CSV" in page
        assert len(links) == page.count("<table>") + of_lags, which
        for link in links:
            cells = [cell for row in csv.reader(io.StringIO(unquote(link))) for cell in row]
            assert "–" not in cells and not any(re.match(r"−\d", cell) for cell in cells), "programs read these numbers"
            assert link in page and len(cells) > 1
    assert any("<table>" in page for page in plain.values())


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: pages are not looked at")
def test_every_page_can_be_used_by_all_and_prints(plain: dict[str, str], tmp_path: Path) -> None:
    """By the rules of axe-core, in light and dark: none is broken whose impact is serious or critical."""
    alike = {"mel", "unplaced", "compare"}  # the same templates as others
    every = {which: page for which, page in plain.items() if which not in alike}
    for which, page in every.items():
        (tmp_path / f"{which}.html").write_text(page.replace("<details", "<details open"))
    (tmp_path / "broken.html").write_text("<html><body><img src='data:,'><p style='color:#eee'>pale</p></body></html>")
    addresses = {which: (tmp_path / f"{which}.html").as_uri() for which in [*every, "broken"]}
    found = browser.audited(addresses, tmp_path / "profile")
    broken = found.pop("broken")
    assert {"image-alt", "html-has-lang", "color-contrast"} <= {rule for rule, _ in broken.light}, (
        "else it proves nothing"
    )
    assert {which: (seen.light, seen.dark) for which, seen in found.items()} == dict.fromkeys(every, ([], []))
    assert {
        which for which, seen in found.items() if seen.printed != ["rgb(255, 255, 255)", "none", "visible"]
    } == set()


def test_no_template_lets_markup_through_and_no_code_makes_any() -> None:
    """Then what is not in a template is escaped, whoever wrote it."""
    templates = "".join(path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.jinja"))
    assert not re.search(r"[<>=]=? *0?\.05|p < \.05", templates), "the level of significance is ALPHA"
    assert not re.search(r"\|\s*safe\b|\bautoescape\b|Markup", templates)
    code = {path: path.read_text() for package in ("hpc", "eegdecode") for path in (ROOT / package).rglob("*.py")}
    assert [
        path.name for path, text in code.items() if re.search(r"</\w+>|Markup\b|import html|from html\b", text)
    ] == []

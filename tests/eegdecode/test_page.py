"""Every kind of report in a real browser: no errors, no requests, playable sounds, legible on any screen."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from eegdecode.data.store.dataset import Store
from eegdecode.evaluation import compare, results
from eegdecode.evaluation.comparison import pairs
from eegdecode.evaluation.comparison.rows import Row
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.report import report
from eegdecode.training import model_file
from tests.eegdecode import browser
from tests.eegdecode.reported import chain, heard
from tests.eegdecode.test_results import decoded as answered

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: pages are not looked at")
N_SOUNDS = {"audio": 6, "mel": 6, "classes": 0}
Render = Callable[[str], str]


@pytest.fixture(scope="module")
def render(tiny_store: Store, study: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    ctx = chain(tmp_path_factory.mktemp("runs"), tiny_store, study)
    trained = model_file.load(ctx.run.path.parent / "train-c" / "out")
    stimuli = tuple(sorted({trial.stimulus for each in tiny_store.recordings for trial in each.trials}))

    @cache
    def rendered(kind: str) -> str:
        decoded: Decoded = answered("classes", 3.0) if kind == "classes" else heard(kind, 0.5, stimuli)
        values = {name: index - 2.0 for index, name in enumerate(trained.spec.channels)}
        result = replace(results.evaluate(decoded, Scoring()), channels={"network": values, "ridge": values})
        return report.render(ctx.run, trained, decoded, result)

    return rendered


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
@pytest.mark.parametrize("kind", sorted(N_SOUNDS))
def test_a_page_is_whole_and_legible_and_plays(
    kind: str, width: int, dark: bool, render: Render, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(render(kind))
    seen = browser.look(tmp_path / "page.html", width, dark, tmp_path / "profile")
    assert seen.errors == []
    assert all(request.startswith("data:") for request in seen.requests)
    assert seen.width == width >= seen.scrolls_to
    assert seen.background == ("rgb(20, 22, 26)" if dark else "rgb(251, 251, 249)")
    assert len(seen.sounds) == N_SOUNDS[kind]
    assert all(sound["ready"] >= 1 and sound["at"] > 0 and 3 < sound["seconds"] < 5 for sound in seen.sounds), seen
    assert len(seen.pictures) == N_SOUNDS[kind] and all(width > 50 for width in seen.pictures)
    assert seen.contrasts[0][0] >= 4.5, seen.contrasts


def test_a_comparison_of_runs_with_long_names_fits_a_phone(tmp_path: Path) -> None:
    subjects = {f"sub-NDARAC{number:06d}": 0.4 for number in range(3)}
    of = {"study": ["preprocess-a"], "split": {"by": "run"}}
    rows = [
        Row((f"evaluate-{name}",), "", "r", 0.4, 0.0, 0.01, "x", subjects, of, f"model.hidden=250 optim.lr={name}")
        for name in "ab"
    ]
    (tmp_path / "page.html").write_text(compare.render(rows, *pairs.compared(rows)))
    seen = browser.look(tmp_path / "page.html", 360, True, tmp_path / "profile")
    assert seen.errors == seen.requests == []
    assert seen.scrolls_to <= 360 and seen.contrasts[0][0] >= 4.5


def test_the_browser_sees_what_is_wrong(tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    page = (
        '<html><head></head><body style="background:#fff"><div style="width:2000px;color:#999">grey</div>'
        '<audio src="data:audio/wav;base64,AAAA"></audio><img src="http://127.0.0.1:9/x.png">'
        "<script>console.error('x'); nothing()</script></body></html>"
    )
    (tmp_path / "page.html").write_text(page)
    seen = browser.look(tmp_path / "page.html", 360, False, tmp_path / "profile")
    errors = " ".join(seen.errors)
    words = "nothing is not defined", "net::ERR_", "'type': 'error'"
    assert all(word in errors for word in words), errors
    assert "http://127.0.0.1:9/x.png" in seen.requests
    assert seen.scrolls_to >= 2000 and seen.contrasts[0][0] < 3 and seen.pictures == [0]
    assert seen.sounds[0]["problem"] and not seen.sounds[0]["ready"]

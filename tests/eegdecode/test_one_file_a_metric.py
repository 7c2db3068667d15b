"""A metric is one file, found without a list; what it declares is all that the results and the report say of it."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eegdecode.evaluation import metrics as package
from eegdecode.evaluation import results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, Kind
from eegdecode.evaluation.metrics import LAST, Headline, Metric, metrics, once
from eegdecode.evaluation.report import export
from hpc.config import plugins
from hpc.errors import ConfigError
from tests.eegdecode.reported import heard, page_of
from tests.eegdecode.test_results import decoded as answered

KINDS: tuple[Kind, ...] = ("sequence", "classes", "retrieval", "values")
IN_ORDER: dict[Kind, str] = {
    "sequence": "r mel_gain_db mcd_db lsd_db mr_stft rank_accuracy match_mismatch spectrum_r spectrum_rank ssim "
    "ssim_rank si_sdr_db like_zero_crossings like_rhythm like_chroma like_energy like_contrast like_perceptual "
    "like_weighted pesq",
    "classes": "balanced_accuracy kappa weighted_f1 auroc",
    "retrieval": "top1 top5 top10 top1_of_200 top5_of_200 rank",
    "values": "r r_pooled nrmse",
}
SCORING = Scoring(n_null=100)
FILE = '''"""The largest error."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring


def score(decoded: Decoded, cfg: Scoring) -> float:
    return float(np.abs(decoded.output - decoded.truth).max())


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return score(decoded, cfg) + np.arange(1.0, 1 + cfg.n_null)


LARGEST_ERROR = Metric(
    "largest_error",
    "Largest error",
    "how far it is off at worst.",
    ("sequence", "classes", "retrieval", "values"),
    score,
    lambda decoded, cfg: 1 + score(decoded, cfg),
    null,
    unit="mV",
    lower_is_better=True,
)
'''


def windows(kind: Kind) -> Decoded:
    return heard("mel", 1.0) if kind == "sequence" else answered(kind, 1.0)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Write a file as if into the folder of the metrics."""
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    names: list[str] = []

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)

    yield write
    for name in names:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)


def declared(name: str = "mine", **more: object) -> Metric:
    return replace(Metric(name, "Mine", "something.", KINDS, lambda decoded, cfg: 2.0, 0.0), **more)  # type: ignore[arg-type]


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> Callable[[Metric], None]:
    """Add a metric to ours."""
    ours = list(package._ours())
    return lambda metric: monkeypatch.setattr(package, "_ours", lambda: [*ours, metric])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_all_that_a_metric_needs(kind: Kind, written: Callable[[str, str], None], tmp_path: Path) -> None:
    before = results.evaluate(windows(kind), SCORING)
    written("largest_error", FILE)
    after = results.evaluate(windows(kind), SCORING)
    figure = after.figures["largest_error"]
    assert figure.chance == figure.value + 1 and figure.p == pytest.approx(1 / 101)
    assert figure.bound == pytest.approx(figure.value + 1 + 0.05 * 99), "the lower end of the null"
    others = {name: each for name, each in after.figures.items() if name != "largest_error"}
    assert others == before.figures and list(after.figures) == [*before.figures, "largest_error"]
    export.write(tmp_path, after)
    for text in ((tmp_path / "report.md").read_text(), json.dumps(after.plain())):
        assert "largest_error" in text
    assert "largest\\_error & " in (tmp_path / "table.tex").read_text()
    page = page_of(after)
    assert "<b>Largest error, mV</b>: how far it is off at worst; the lower, the better." in page
    assert '<th scope="row">Largest error, mV</th>' in page


def test_a_file_without_a_metric_is_refused_and_one_with_a_dash_below_is_what_files_share(
    written: Callable[[str, str], None],
) -> None:
    written("_shared", "raise RuntimeError('not imported')\n")
    assert "r" in metrics("values")
    written("helper", "ANSWER = 42\n")
    with pytest.raises(ConfigError, match=r"metrics\.helper declares no Metric: put what metrics share in"):
        metrics("values")


@pytest.mark.parametrize("kind", KINDS)
def test_ours_are_in_the_order_of_the_report(kind: Kind) -> None:
    ours, known = metrics(kind), IN_ORDER[kind].split()
    assert list(ours)[: len(known)] == known, "what is new comes last, unless it says its place"
    places = [ours[name].order for name in known]
    assert len(set(places)) == len(places) and max(places) < LAST
    null = re.search(
        "</ul> <p> (.*?) p is the share of draws of the null", page_of(results.evaluate(windows(kind), SCORING))
    )
    assert null and "The null" in null[1], "the null of each kind"
    assert "<b>" in null[1] or kind == "classes", "the baselines of each kind; of classes, those that were fitted"


@pytest.mark.parametrize("kind", KINDS)
def test_each_says_in_words_what_it_is(kind: Kind) -> None:
    for name in metrics(kind):
        assert metrics(kind)[name].title and metrics(kind)[name].explanation.endswith(".")
    assert len({metric.title for metric in metrics(kind).values()}) == len(metrics(kind))


def test_units_and_directions_are_said() -> None:
    assert metrics("sequence")["mcd_db"].title == "Mel-cepstral distortion, dB"
    assert metrics("sequence")["mcd_db"].explanation.endswith("mean over frames; the lower, the better.")
    lower = {name for kind in KINDS for name, metric in metrics(kind).items() if metric.lower_is_better}
    assert lower >= {"mcd_db", "nrmse"} and "r" not in lower


@pytest.mark.parametrize("kind", KINDS)
def test_what_decides_the_verdict_can(kind: Kind) -> None:
    result = results.evaluate(windows(kind), SCORING)
    assert metrics(kind)[result.headline].headline is not None
    tested = {name for name, figure in result.figures.items() if figure.p is not None}
    alone = {name for name, metric in metrics(kind).items() if metric.null is not None and metric.headline is None}
    assert tested == (alone | {result.headline}) & set(result.figures)


def test_of_several_nulls_the_largest_p_counts(one_more: Callable[[Metric], None]) -> None:
    low, high = np.zeros(100), np.linspace(0, 4, 100)
    one_more(declared(null=lambda decoded, cfg: np.array([low, high])))
    figure = results.evaluate(answered("values", 1.0), SCORING).figures["mine"]
    assert figure.p == pytest.approx(51 / 101) and figure.bound == pytest.approx(3.8)


def test_what_windows_have_not_is_left_out(one_more: Callable[[Metric], None]) -> None:
    for nothing in (None, np.full(4, np.nan)):
        one_more(declared(score=lambda decoded, cfg, nothing=nothing: nothing))
        result = results.evaluate(answered("values", 1.0), SCORING)
        assert "mine" not in result.figures and "mine" not in result.baselines["linear"]


def test_a_baseline_that_has_none_has_a_dash(one_more: Callable[[Metric], None], tmp_path: Path) -> None:
    one_more(declared(score=lambda decoded, cfg: 2.0 if decoded.baselines else None))
    result = results.evaluate(answered("values", 1.0), SCORING)
    assert result.figures["mine"].value == 2 and "mine" not in result.baselines["linear"]
    assert "| mine | 2.000 | 0.000 | – | – |" in export.markdown(result)
    assert "mine & 2.000 & 0.000 & – & –" in export.latex(result)
    assert page_of(result).count('<th scope="row">Mine</th>') == 1


def test_one_for_each_trial_can_be_of_each_subject(one_more: Callable[[Metric], None]) -> None:
    decoded = heard("mel", 1.0)
    values = np.array([float(trial.subject == "sub-1") for trial in decoded.trials])
    values[0] = np.nan
    one_more(declared(score=lambda decoded, cfg: values, each_subject=True))
    result = results.evaluate(decoded, SCORING)
    assert [row.figures["mine"] for row in result.subjects] == [0, 1]
    assert result.figures["mine"].value == pytest.approx(np.nanmean(values))
    one_more(declared(score=lambda decoded, cfg: values[:3], each_subject=True))
    with pytest.raises(ValueError, match="mine is for each subject, but has 3 values for 10 trials: return"):
        results.evaluate(decoded, SCORING)


def test_a_declaration_that_could_not_work_is_refused() -> None:
    with pytest.raises(ValueError, match=r"metric mine is for the kinds \('series',\): say a tuple of sequence"):
        declared(kinds=("series",))
    with pytest.raises(ValueError, match="metric mine is for the kinds 'values'"):
        declared(kinds="values")
    with pytest.raises(ValueError, match="mine has a headline but no null"):
        declared(headline=Headline(lambda d: "", lambda d, cfg: np.zeros(1), lambda d, cfg: np.zeros((1, 1))))


def test_two_of_one_name_are_refused_unless_they_are_for_other_tasks(one_more: Callable[[Metric], None]) -> None:
    one_more(declared("kappa", kinds=("values",)))
    assert metrics("values")["kappa"].label == "Mine" and metrics("classes")["kappa"].label == "Cohen's kappa"
    one_more(declared("kappa"))
    with pytest.raises(ValueError, match="two metrics kappa for classes: call the one of your package otherwise"):
        metrics("classes")


def test_what_a_package_brings_is_a_metric_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "eegdecode.evaluation.metrics.kappa:KAPPA"
    monkeypatch.setattr(plugins, "points", lambda group: {"its_kappa": where} if group == package.GROUP else {})
    with pytest.raises(ConfigError, match=f"{where}, of the group .*, has to be a Metric whose `name` is 'its_kappa'"):
        metrics("classes")


def test_what_several_need_is_computed_once_for_the_same_windows() -> None:
    calls: list[int] = []

    @once
    def costly(decoded: Decoded, times: int) -> int:
        calls.append(times)
        return len(decoded.trials) * times

    decoded = answered("values", 1.0)
    assert costly(decoded, 2) == costly(decoded, 2) == costly(decoded, 1) * 2 and calls == [2, 1]
    assert costly(decoded.by("linear"), 2) == costly(replace(decoded), 2) and calls == [2, 1, 2, 2]
    results.evaluate(decoded, SCORING)
    assert set(decoded.computed) == {(costly.__wrapped__, (2,), ()), (costly.__wrapped__, (1,), ())}  # type: ignore[attr-defined]

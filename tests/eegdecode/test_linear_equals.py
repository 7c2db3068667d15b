"""Linear decoders are equals: each has its p, interval and difference to the network; the page has three answers."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, precision_recall_fscore_support, roc_auc_score, roc_curve

from eegdecode.evaluation import confounds, results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.report import tables
from eegdecode.evaluation.results import CONFOUNDED, Result
from eegdecode.evaluation.statistics import calibration, paired
from eegdecode.training.validator import auroc
from hpc.templates import say
from tests.eegdecode.reported import page_of

SCORING = Scoring(n_null=200)
NAMES = ("left", "right", "rest")


def answers(network: float, validation: bool = True, n_subjects: int = 8, **linear: float) -> Decoded:
    """Three classes, which each decoder tells apart as clearly as that, in the test set and in the validation set."""
    rng, trials = np.random.default_rng(0), []
    kinds = [rng.permutation(np.arange(30) % 3) for _ in range(n_subjects)]
    truth = np.concatenate(kinds)

    def outputs(effect: float) -> np.ndarray:
        scores = effect * np.eye(3)[truth] + rng.normal(size=(len(truth), 3))
        return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))

    for row, output in enumerate(outputs(network)):
        subject, trial = divmod(row, 30)
        target = np.array([[float(truth[row])]])
        trials.append(DecodedTrial(f"sub-{subject}", "x", target, output[None], f"rec-{subject}", trial, float(trial)))
    effects = {"network": network, **linear}
    on_validation = {name: 0.3 + effect / 10 for name, effect in effects.items()} if validation else {}
    baselines = {name: outputs(effect) for name, effect in linear.items()}
    return Decoded(0.0, tuple(trials), (), "classes", "side", NAMES, baselines, on_validation)


def test_data_that_only_a_linear_decoder_decodes_are_decoded() -> None:
    result = results.evaluate(answers(0.0, riemann=3.0, csp=0.0), SCORING)
    assert (result.data_verdict, result.best) == ("above chance", "riemann")
    assert (result.verdict, result.difference_verdict) == ("not above chance", "worse")
    page = page_of(result)
    data, network, linear = (page.index(each) for each in (">Above chance.<", ">Not above chance.<", ">Worse.<"))
    assert data < network < linear
    assert "<title>" in page and "above chance</title>" in page and "not above chance</title>" not in page
    summary = result.summary()
    assert summary["data"] == "above chance, by riemann" and summary["against_linear"] == "worse, of riemann"


def test_every_baseline_has_its_p_interval_and_difference() -> None:
    result = results.evaluate(answers(3.0, riemann=3.0, csp=0.0), SCORING)
    for name, p_is_small in (("riemann", True), ("csp", False)):
        own = result.baseline_results[name]
        main = own.figures["balanced_accuracy"]
        assert main.p is not None and (main.p < 0.05) == p_is_small and main.bound is not None
        assert main.low is not None and main.high is not None and main.low < main.value < main.high
        assert {each for each, figure in own.figures.items() if figure.p is not None} >= {"kappa", "weighted_f1"}
        assert own.difference.units == "8 subjects" and own.difference.low is not None
    assert (result.baseline_results["csp"].difference.p or 1) < 0.05 and result.baseline_results[
        "csp"
    ].difference.value > 0.3
    assert (
        result.baseline_results["riemann"].difference.p or 0
    ) > 0.05 and result.difference_verdict == "no difference shown"
    by_hand = [row.value - row.baselines["csp"] for row in result.subjects]
    assert result.baseline_results["csp"].difference.value == pytest.approx(np.mean(by_hand))


def test_the_best_decoder_is_chosen_without_the_test_set() -> None:
    """Here the validation set is mistaken; to look at the test set, p has to be corrected for it."""
    decoded = answers(0.0, riemann=3.0, csp=0.0)
    chosen = results.evaluate(replace(decoded, validation={"network": 0.3, "riemann": 0.4, "csp": 0.9}), SCORING)
    assert chosen.best == chosen.best_linear == "csp" and chosen.data_verdict == "not above chance"
    looked = results.evaluate(replace(decoded, validation={}), SCORING)
    assert looked.best == "riemann" and not looked.is_chosen
    assert looked.p_of_data == pytest.approx(3 * (looked.decoders["riemann"].p or 0))
    assert "corrected for the choice among 3" in page_of(looked)


def test_of_few_subjects_decoders_are_compared_by_exchangeable_units() -> None:
    result = results.evaluate(answers(3.0, n_subjects=2, csp=0.0), SCORING)
    difference = result.difference
    assert difference is not None and difference.units == "60 exchangeable units"
    assert difference.p is not None and difference.p < 0.01 and result.difference_verdict == "better"
    own, other = result.decoders["network"].value, result.decoders["csp"].value
    assert difference.value == pytest.approx(own - other), "the mean over units is the difference of the figures"


def test_two_decoders_that_are_alike_differ_in_one_of_twenty_cases() -> None:
    rng = np.random.default_rng(0)
    p = [paired.difference(*rng.normal(size=(2, 12)), "subjects").p or 0 for _ in range(400)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.08
    few = paired.difference(np.ones(5), np.zeros(5), "subjects")
    assert few.p is None and few.value == 1 and few.units == "5 subjects"


def test_a_confound_caps_what_is_not_above_it() -> None:
    decoded = answers(0.8, riemann=4.0)
    sentence = "the recording alone predicts the class with a balanced accuracy of 0.70"
    result = results.evaluate(replace(decoded, confounds={sentence: 0.7}), SCORING)
    assert result.verdict == CONFOUNDED and result.caps("network") == [sentence]
    assert result.data_verdict == "above chance", "riemann has more than that"
    assert f"But {sentence}" in page_of(result)
    free = results.evaluate(replace(decoded, confounds={sentence: 0.35}), SCORING)
    assert free.verdict == "above chance" and "But the recording" not in page_of(free)


def test_predictions_hold_what_the_answers_need(tmp_path: Path) -> None:
    decoded = replace(answers(1.0, riemann=3.0), confounds={"time tells": 0.5})
    predictions.write(tmp_path / "p.h5", decoded)
    again = predictions.read(tmp_path / "p.h5")
    assert again.validation == decoded.validation and again.confounds == decoded.confounds
    assert results.evaluate(again, SCORING) == results.evaluate(decoded, SCORING)


def by_hand(decoded: Decoded) -> tuple[np.ndarray, np.ndarray]:
    return decoded.truth[:, 0].astype(int), np.exp(decoded.output)


def test_figures_of_classes_are_those_of_sklearn() -> None:
    decoded = answers(1.0)
    truth, p = by_hand(decoded)
    precision, recall, f1, n = precision_recall_fscore_support(truth, p.argmax(axis=1))
    for number, each in enumerate(calibration.of_classes(decoded)):
        assert (each.name, each.n_windows) == (NAMES[number], n[number])
        assert (each.precision, each.recall, each.f1) == pytest.approx((precision[number], recall[number], f1[number]))
        own = truth == number
        assert each.auroc == pytest.approx(roc_auc_score(own, p[:, number])) == auroc(p[:, number], own)
        x, y = calibration.roc(p[:, number], own)
        x_of, y_of, _ = roc_curve(own, p[:, number], drop_intermediate=False)
        points = set(zip(x_of.round(9), y_of.round(9), strict=True))
        assert len(x) == calibration.MOST_POINTS and set(zip(x.round(9), y.round(9), strict=True)) <= points
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1) and auc(x, y) == pytest.approx(each.auroc, abs=0.01)


def test_the_calibration_error_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, size=4000)
    truth = (rng.random(4000) > p).astype(float)  # the first class, as often as it is said to be
    calm = windows(np.log(np.stack([p, 1 - p], axis=1)), truth)
    sure = windows(np.log(np.stack([p**0.1, 1 - p**0.1], axis=1)), truth)
    assert calibration.calibration(calm).ece < 0.03
    own = calibration.calibration(sure)
    assert own.ece == pytest.approx(np.mean(p**0.1) - np.mean(truth == 0), abs=0.02) and sum(own.n) == 4000


def windows(outputs: np.ndarray, truth: np.ndarray) -> Decoded:
    rows = enumerate(zip(outputs, truth, strict=True))
    trials = (DecodedTrial("s", "x", np.array([[t]]), output[None], "r", n) for n, (output, t) in rows)
    return Decoded(0.0, tuple(trials), (), "classes", "side", ("a", "b"))


def test_everything_is_in_tables(tmp_path: Path) -> None:
    decoded = answers(1.0, riemann=3.0)
    result = results.evaluate(decoded, SCORING)
    tables.write(tmp_path, result, decoded)
    read = {path.stem: list(csv.DictReader(path.open())) for path in tmp_path.glob("*.csv")}
    assert set(read) == {"figures", "subjects", "classes", "curves", "predictions"}
    main = next(row for row in read["figures"] if (row["decoder"], row["metric"]) == ("riemann", "balanced_accuracy"))
    own = result.baseline_results["riemann"]
    assert float(main["p"]) == pytest.approx(own.figures["balanced_accuracy"].p, rel=1e-6)
    assert float(main["difference_p"]) == pytest.approx(own.difference.p, rel=1e-6)
    assert float(main["validation"]) == pytest.approx(0.6)
    assert len(read["predictions"]) == len(decoded.trials) and len(read["subjects"]) == 8
    share = np.mean([row["true"] == row["riemann"] for row in read["predictions"]])
    assert share == pytest.approx(own.figures["balanced_accuracy"].value, abs=0.01)
    assert {row["curve"] for row in read["curves"]} == {"roc", "reliability"}
    assert {(row["decoder"], row["name"]) for row in read["classes"]} >= {("network", "left"), ("riemann", "rest")}


def test_a_network_that_gives_all_windows_one_class_is_named() -> None:
    decoded = answers(2.0)
    collapsed = decoded.output + np.array([8.0, 0.0, 0.0])
    trials = tuple(replace(each, output=row[None]) for each, row in zip(decoded.trials, collapsed, strict=True))
    assert "One class is predicted for 100% of the test windows, though AUROC is 0.9" in page_of(
        of(replace(decoded, trials=trials))
    )
    assert "One class" not in page_of(of(decoded))
    constant = tuple(replace(each, output=np.array([[8.0, 0.0, 0.0]])) for each in decoded.trials)
    page = page_of(of(replace(decoded, trials=constant)))
    assert "One class is predicted for all of the test windows, and AUROC is 0.50" in page
    assert "have no spread, and say nothing of the data" in page


def test_a_figure_of_a_decoder_is_beside_its_own_chance_level() -> None:
    """That of weighted F1 hangs on how often each class is predicted."""
    result = of(answers(1.0, riemann=3.0))
    own, network = result.baseline_results["riemann"].figures["weighted_f1"], result.figures["weighted_f1"]
    other = replace(own, chance=network.chance + 0.1)
    figures = {**result.baseline_results["riemann"].figures, "weighted_f1": other}
    results_of = {"riemann": replace(result.baseline_results["riemann"], figures=figures)}
    page = page_of(replace(result, baseline_results=results_of))
    assert f"{say(own.value)} (chance {say(other.chance)})" in page
    assert set(re.findall(r"\(chance ([\d.]+)\)", page)) == {say(other.chance)}, "of the others it is the network's"


def of(decoded: Decoded) -> Result:
    return results.evaluate(decoded, SCORING)


def test_sentences_of_the_verdict_are_apart() -> None:
    result = replace(of(answers(1.0, riemann=3.0)), confound="the recording")
    assert result.permuted and " The target goes along with the recording, so" in page_of(result)


def test_labels_that_are_spread_unevenly_are_a_confound() -> None:
    p, accuracy = confounds.uneven(np.repeat([0, 1], 40), ["a"] * 40 + ["b"] * 40)
    assert p < confounds.CONFOUNDED and accuracy == 1
    p, accuracy = confounds.uneven(np.arange(80) % 2, ["a"] * 40 + ["b"] * 40)
    assert p > 0.1 and accuracy == 0.5

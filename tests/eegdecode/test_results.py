"""On planted data every report says above chance, on shuffled ones it says not; and it needs the predictions alone."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eegdecode.evaluation import results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial, Kind
from eegdecode.evaluation.report import export

SUBJECTS, TRIALS, CLASSES = 4, 24, 3


def decoded(kind: Kind, effect: float, seed: int = 0) -> Decoded:
    """What a decoder may give for windows of four subjects, two a trial, whose answers it holds as `effect` says."""
    rng = np.random.default_rng(seed)
    trials = []
    for subject in range(SUBJECTS):
        for trial in range(TRIALS):
            if kind == "classes":
                truth = np.array([[float(trial % CLASSES)]])
                scores = effect * np.eye(CLASSES)[trial % CLASSES]
            elif kind == "retrieval":
                truth = np.random.default_rng(trial).normal(size=(1, 8))
                scores = effect * truth[0]
            else:
                truth = rng.normal(size=(1, 1))
                scores = effect * truth[0]
            for _ in range(2):
                output = (scores + rng.normal(size=len(scores)))[None]
                if kind == "classes":
                    output = output - np.log(np.exp(output).sum())
                trials.append(DecodedTrial(f"sub-{subject}", f"s{trial}", truth, output, f"rec-{subject}", trial, 0.0))
    names = tuple("abc") if kind == "classes" else ()
    windows_ = Decoded(0.0, tuple(trials), ("an audit",), kind, "target", names)
    nothing = np.zeros_like(windows_.output) + rng.normal(size=windows_.output.shape) * 1e-3
    return replace(windows_, baselines={"linear": nothing})


@pytest.mark.parametrize("kind", ["classes", "retrieval", "values"])
@pytest.mark.parametrize(("effect", "verdict"), [(3.0, "above chance"), (0.0, "not above chance")])
def test_the_verdict_is_that_of_what_was_planted(kind: Kind, effect: float, verdict: str) -> None:
    result = results.evaluate(decoded(kind, effect), Scoring())
    assert result.verdict == verdict
    main = result.figures[result.headline]
    assert main.bound is not None and main.bound > main.chance - 0.01
    if effect:
        assert main.value > main.bound and main.low is not None and main.low > main.chance
        assert all(row.p_holm < 0.1 for row in result.subjects)  # a recording of 48 windows has 96 rotations only
    assert abs(result.baselines["linear"][result.headline] - main.chance) < 0.25
    assert [row.n_windows for row in result.subjects] == [2 * TRIALS] * SUBJECTS


@pytest.mark.parametrize("kind", ["classes", "retrieval", "values"])
def test_chance_is_wrong_as_often_as_it_says(kind: Kind) -> None:
    p = [results.evaluate(decoded(kind, 0.0, seed), Scoring(n_null=100)).figures for seed in range(30)]
    small = sum(next(f.p for f in figures.values() if f.p is not None) < 0.1 for figures in p)
    assert small <= 9, "3 are expected; more than 9 come in 1 of 1000 such tests"


def test_a_score_of_each_subject_is_dealt_out_over_subjects() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=12)
    trials = [
        DecodedTrial(
            f"sub-{s:02d}", "x", np.array([[score]]), np.array([[score + rng.normal() * 0.5]]), f"r{s}", t, 0.0
        )
        for s, score in enumerate(scores)
        for t in range(10)
    ]
    result = results.evaluate(Decoded(0.0, tuple(trials), (), "values", "score"), Scoring())
    assert result.verdict == "above chance" and result.figures["r"].value > 0.9
    assert result.of_subjects.startswith("minus the error") and result.figures["r"].low is None
    backwards = [replace(trial, target=-trial.target) for trial in trials]
    assert results.evaluate(Decoded(0.0, tuple(backwards), (), "values", "score"), Scoring()).verdict != "above chance"
    with pytest.raises(ValueError, match="one value per subject needs 3 subjects in the test set at least, got 2"):
        results.evaluate(Decoded(0.0, tuple(trials[:20]), (), "values", "score"), Scoring())


def windows(outputs: np.ndarray, truth: np.ndarray, names: tuple[str, ...] = ()) -> Decoded:
    """[subject, window, feature], one recording a subject, its windows in time."""
    trials = [
        DecodedTrial(f"sub-{s:02d}", "x", truth[s, w][None], outputs[s, w][None], f"rec-{s}", w, float(w))
        for s in range(len(truth))
        for w in range(truth.shape[1])
    ]
    return Decoded(0.0, tuple(trials), (), "classes" if names else "values", "target", names)


def test_who_knows_only_the_mean_of_each_subject_decodes_nothing() -> None:
    rng = np.random.default_rng(0)
    mean = 3 * rng.normal(size=(6, 1, 1))
    result = results.evaluate(windows(*(mean + 0.5 * rng.normal(size=(2, 6, 40, 1)))), Scoring())
    r, pooled = result.figures["r"], result.figures["r_pooled"]
    assert result.verdict == "not above chance" and r.low is not None and r.high is not None and r.low < 0 < r.high
    assert r.value == pytest.approx(np.mean([row.value for row in result.subjects]))
    assert pooled.value > 0.8 and pooled.value == pytest.approx(pooled.chance, abs=0.02)


@pytest.mark.parametrize(("n_windows", "most"), [(60, 10), (6, 10)])
def test_slow_drifts_of_their_own_are_no_decoding(n_windows: int, most: int) -> None:
    """3 of 60 are expected to pass; dealt out window by window, 25 did of drifts."""
    rng, above = np.random.default_rng(0), 0
    for _ in range(60):
        drifts = rng.normal(size=(2, 4, n_windows, 1))
        drifts = drifts.cumsum(axis=2) if n_windows > 8 else drifts
        above += results.evaluate(windows(*drifts), Scoring(n_null=200)).verdict == "above chance"
    assert above <= most


def groups(n_subjects: int, effect: float, seed: int = 0) -> Decoded:
    """Every second subject is a patient, and what is said is alike for all windows of a subject."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(n_subjects) % 2, 20).reshape(n_subjects, 20, 1)
    outputs = effect * (2 * truth - 1) + rng.normal(size=(n_subjects, 1, 1)) + 0.1 * rng.normal(size=truth.shape)
    return windows(np.concatenate([-outputs, outputs], axis=2), truth.astype(float), ("control", "patient"))


def test_a_class_of_each_subject_is_dealt_out_over_subjects() -> None:
    result = results.evaluate(groups(12, 5.0), Scoring())
    assert result.verdict == "above chance" and result.figures["balanced_accuracy"].value == 1
    assert result.of_subjects == "the share of correct windows" and result.figures["balanced_accuracy"].low is None
    above = [
        results.evaluate(groups(12, 0.0, seed), Scoring(n_null=200)).verdict == "above chance" for seed in range(60)
    ]
    assert sum(above) <= 9, "windows of a subject are no independent evidence"


def test_where_nothing_could_be_above_chance_it_is_said() -> None:
    result = results.evaluate(groups(4, 5.0), Scoring())
    assert result.verdict == "cannot be decided"
    assert (result.permuted, result.smallest_p) == ("4 subjects", pytest.approx(1 / 6))
    candidates = decoded("retrieval", 3.0)
    few = replace(candidates, trials=tuple(trial for trial in candidates.trials if trial.trial < 3), baselines={})
    result = results.evaluate(few, Scoring())
    assert result.figures["top1"].p == pytest.approx(1 / 6) and result.verdict == "cannot be decided"
    assert result.permuted == "3 candidates" and results.evaluate(candidates, Scoring()).verdict == "above chance"


def test_hundreds_of_candidates_are_judged_too() -> None:
    wanted = np.random.default_rng(0).normal(size=(250, 4))
    trials = tuple(DecodedTrial("sub-0", f"s{i}", row[None], row[None], "r", i, 0.0) for i, row in enumerate(wanted))
    result = results.evaluate(Decoded(0.0, trials, (), "retrieval", "target"), Scoring())
    assert result.verdict == "above chance"


def test_every_figure_can_be_had_again_from_the_predictions(tmp_path: Path) -> None:
    stored = decoded("classes", 1.0)
    predictions.write(tmp_path / "p.h5", stored)
    again = results.evaluate(predictions.read(tmp_path / "p.h5"), Scoring())
    result = results.evaluate(stored, Scoring())
    assert again == result
    assert json.loads(json.dumps(result.plain()))["verdict"] == "above chance"
    export.write(tmp_path, result)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Above chance") and "| sub-3 | 48 |" in text
    assert "balanced\\_accuracy & " in (tmp_path / "table.tex").read_text()
    assert sum(map(sum, result.confusion)) == SUBJECTS * TRIALS * 2


HOSTILE = "<img src=x onerror=alert(1)> a|b\x1b[31m 100% {x}_\\y"


def test_names_from_outside_are_text_in_markdown_and_latex(tmp_path: Path) -> None:
    stored = decoded("classes", 1.0)
    trials = tuple(replace(trial, subject=trial.subject.replace("sub-3", HOSTILE)) for trial in stored.trials)
    result = results.evaluate(replace(stored, trials=trials), Scoring())
    export.write(tmp_path, replace(result, baselines={HOSTILE: {}}))
    text, table = (tmp_path / "report.md").read_text(), (tmp_path / "table.tex").read_text()
    *_, other, row = text.splitlines()
    row = next(line for line in text.splitlines() if line.startswith(r"| \<img"))
    assert re.sub(r"\\.", "", row).count("|") == re.sub(r"\\.", "", other).count("|") > 3
    assert "\x1b" not in text + table and "<img" not in text.replace(r"\<img", "")
    assert r"100\% \{x\}\_\textbackslash{}y" in table


def test_the_interval_over_subjects_ends_where_the_metric_does() -> None:
    """By Student's t, two people decoded without an error and one at chance would have 1.55 above them."""
    rng = np.random.default_rng(0)
    trials = []
    for subject, share in (("a", 1.0), ("b", 1.0), ("c", 0.5)):
        for number, true in enumerate(rng.permutation(np.repeat([0, 1], 20))):
            right = share == 1.0 or number % 2 == 0
            output = np.eye(2)[true if right else 1 - true]
            trials.append(DecodedTrial(subject, "x", np.array([[true]]), output[None], f"run-{subject}", number))
    decoded_ = Decoded(0.0, tuple(trials), (), "classes", "target", ("l", "r"))
    main = results.evaluate(decoded_, Scoring(n_null=100)).figures["balanced_accuracy"]
    assert main.high == 1.0 and main.low is not None and 0.0 <= main.low < 0.5

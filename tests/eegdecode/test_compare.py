"""Several evaluations on one page, and what is better in pairs."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eegdecode import stages
from eegdecode.data.config import Split
from eegdecode.evaluation import compare, results
from eegdecode.evaluation.comparison import pairs, ranking
from eegdecode.evaluation.comparison.rows import Linear, Row
from eegdecode.evaluation.config import Compare, Scoring
from eegdecode.evaluation.cross_validation import folds
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.statistics import intervals
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.shallow import Shallow
from eegdecode.training.config import Train
from hpc import config
from hpc.config.stages import check
from hpc.rank.context import Context, Input, World
from hpc.runs import products
from hpc.runs.rundir import RunDir, read_json, write_json
from tests.eegdecode.test_cross_validation import by_subject
from tests.eegdecode.test_results import decoded


def evaluated(runs: Path, name: str, values: np.ndarray, label: str = "", **of: object) -> None:
    rows = [{"subject": f"sub-{index:02d}", "value": float(value)} for index, value in enumerate(values)]
    main = {"value": float(values.mean()), "chance": 0.5, "p": 0.005}
    report: dict[str, object] = {
        "headline": "balanced_accuracy",
        "figures": {"balanced_accuracy": main},
        "subjects": rows,
    }
    report["of"] = {"study": ["synthesize-a"], "split": {"by": "run", "seed": 0}} | of
    products.write_json(RunDir(runs / name).out / "report.json", {"verdict": "above chance", **report})
    write_json(RunDir(runs / name).plan, {"label": label, "settings": f"train.seed={name[-1]}"})


def compared(folder: Path, **knobs: object) -> dict[str, object]:
    return stages.compare(Compare(**knobs), Context(World(), RunDir(folder / "compare-x")))  # type: ignore[arg-type]


def test_a_run_that_is_better_in_every_subject_is_found(tmp_path: Path) -> None:
    worse = np.random.default_rng(0).uniform(0.5, 0.7, 10)
    evaluated(tmp_path, "evaluate-a", worse)
    evaluated(tmp_path, "evaluate-b", worse + 0.1)
    evaluated(tmp_path, "evaluate-c", worse + np.random.default_rng(1).normal(size=10) * 0.01)
    metrics = compared(tmp_path, runs=tuple(Input(f"evaluate-{word}") for word in "abc"))
    assert (metrics["evaluations"], metrics["decoders"], "best" in metrics) == (3, 3, False)
    everything = read_json(RunDir(tmp_path / "compare-x").out / "compare.json") or {}
    by_names = {(pair["one"], pair["other"]): pair for pair in everything["pairs"]}
    best = [pair for names, pair in by_names.items() if names[0] == "train.seed=b"]
    assert len(best) == 2 and all(pair["p_holm"] < 0.01 for pair in best)
    (alike,) = (pair for names, pair in by_names.items() if "train.seed=b" not in names)
    assert alike["p_holm"] > 0.05 and alike["n_subjects"] == 10
    text = (RunDir(tmp_path / "compare-x").out / "compare.html").read_text()
    assert "3 evaluations of 3 decoders. 2 of 3 pairs differ over subjects" in text and "train.seed=b" in text
    assert "best is" not in text and "chosen it by its test set" in text


def test_a_sweep_is_compared_by_its_name(tmp_path: Path) -> None:
    for number in range(3):
        evaluated(tmp_path, f"evaluate-{number}", np.array([0.6 + 0.1 * number]), label="three")
    evaluated(tmp_path, "evaluate-9", np.array([0.9]), label="other")
    metrics = compared(tmp_path, named="three")
    assert metrics["evaluations"] == 3 and metrics["balanced_accuracy"] == {"value": pytest.approx(0.7), "chance": 0.5}


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    evaluated(tmp_path, "evaluate-a", np.array([0.6]))
    with pytest.raises(ValueError, match="two finished evaluations at least, got 1$"):
        compared(tmp_path, runs=(Input("evaluate-a"),))
    with pytest.raises(ValueError, match="no finished evaluation has the --name nix"):
        compared(tmp_path, runs=(Input("evaluate-a"),), named="nix")
    evaluated(tmp_path, "evaluate-b", np.array([0.7]), label="one")
    with pytest.raises(ValueError, match="at least, got 1, of which 1 by named=one$"):
        compared(tmp_path, named="one")
    with pytest.raises(ValueError, match="runs to compare must be different ones, but evaluate-a is named twice"):
        compared(tmp_path, runs=(Input("evaluate-a"), Input(str(tmp_path / "evaluate-a" / "out"))))
    (tmp_path / "train-x" / "out").mkdir(parents=True)
    with pytest.raises(ValueError, match="train-x has no report.json: name evaluate runs that have finished"):
        compared(tmp_path, runs=(Input("evaluate-a"), Input("train-x")))
    with pytest.raises(ValueError, match="say which runs to compare"):
        Compare()


def test_one_run_alone_is_refused_before_it_is_submitted() -> None:
    one, two = Input("evaluate-a"), Input("evaluate-b")
    with pytest.raises(ValueError, match="two finished evaluations at least, got evaluate-a alone"):
        check(stages.compare, Compare(runs=(one,)), 1, lambda ref: None)
    for compared_with_others in (Compare(runs=(one, two)), Compare(runs=(one,), named="folds")):
        assert check(stages.compare, compared_with_others, 1, lambda ref: None) == ""


def test_pairs_of_noise_are_told_apart_as_rarely_as_p_says() -> None:
    """Though the better of two stands first: one-sided, it would be twice as often."""
    rng = np.random.default_rng(0)
    draws = [np.sign(d.mean()) * d for d in rng.normal(size=(400, 8))]
    assert 0.02 < np.mean([intervals.two_sided(d) < 0.05 for d in draws]) < 0.08
    assert intervals.two_sided(np.ones(8)) == intervals.two_sided(-np.ones(8)) == 2 / 2**8
    assert intervals.two_sided(np.zeros(8)) == 1


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"study": ["synthesize-b"]}, "they are of synthesize-a, and of synthesize-b"),
        ({"split": {"by": "run", "seed": 1}}, "their test sets differ, as split.seed is 0 and 1"),
    ],
)
def test_subjects_of_other_data_or_splits_are_no_pairs(of: dict[str, object], said: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0.5, 0.7, 6)
    evaluated(tmp_path, "evaluate-a", values)
    evaluated(tmp_path, "evaluate-b", values + 0.1, **of)
    compared(tmp_path, runs=(Input("evaluate-a"), Input("evaluate-b")))
    everything = read_json(RunDir(tmp_path / "compare-x").out / "compare.json") or {}
    assert everything["pairs"] == [] and said in everything["unlike"][0]
    text = (RunDir(tmp_path / "compare-x").out / "compare.html").read_text()
    assert "Not compared in pairs" in text and "No two runs of one study and split" in text


def test_a_report_that_does_not_say_what_it_is_of_makes_no_pairs(tmp_path: Path) -> None:
    for name in ("evaluate-a", "evaluate-b"):
        evaluated(tmp_path, name, np.linspace(0.5, 0.7, 6))
    path = RunDir(tmp_path / "evaluate-b").out / "report.json"
    products.write_json(path, {name: value for name, value in (read_json(path) or {}).items() if name != "of"})
    compared(tmp_path, runs=(Input("evaluate-a"), Input("evaluate-b")))
    (sentence,) = (read_json(RunDir(tmp_path / "compare-x").out / "compare.json") or {})["unlike"]
    assert "the report of evaluate-b does not say which data and split it is of: evaluate it again" in sentence


def test_a_metric_that_is_called_like_markup_is_text_in_the_page(tmp_path: Path) -> None:
    for name in ("evaluate-a", "evaluate-b"):
        evaluated(tmp_path, name, np.linspace(0.5, 0.7, 5))
        path = RunDir(tmp_path / name).out / "report.json"
        report = read_json(path) or {}
        hostile = "<img src=x onerror=alert(1)>"
        products.write_json(
            path, report | {"headline": hostile, "figures": {hostile: report["figures"]["balanced_accuracy"]}}
        )
    compared(tmp_path, runs=(Input("evaluate-a"), Input("evaluate-b")))
    text = (RunDir(tmp_path / "compare-x").out / "compare.html").read_text()
    assert "<img" not in text and "&lt;img src=x onerror=alert(1)&gt;</td>" in text


def of_network(runs: Path, name: str, windows: Decoded, **changed: object) -> Input:
    """A training, and its evaluation with the windows that it decoded."""
    cfg = Train(data=(Input("preprocess-a"),), target="target", split=Split(by="subject", folds=4))
    split = replace(cfg.split, fold=int(str(changed.pop("fold", 0))))
    write_json(RunDir(runs / f"train-{name}").plan, {"stage": "train"})
    write_json(RunDir(runs / f"train-{name}").config, config.plain(replace(cfg, split=split, **changed)))  # type: ignore[arg-type]
    run = RunDir(runs / f"evaluate-{name}")
    predictions.write(run.out / "predictions.h5", windows)
    of = {"study": ["synthesize-a"], "split": asdict(split)}
    products.write_json(run.out / "report.json", results.evaluate(windows, Scoring(n_null=100)).plain() | {"of": of})
    write_json(run.plan, {"label": "cv", "inputs": {"model": f"train-{name}"}})
    write_json(run.config, {"model": [f"train-{name}"], "scoring": {"n_null": 200}})
    return Input(f"evaluate-{name}")


def compared_rows(folder: Path, *runs: str) -> list[dict[str, Any]]:
    compared(folder, runs=tuple(map(Input, runs)))
    rows: list[dict[str, Any]] = (read_json(RunDir(folder / "compare-x").out / "compare.json") or {})["rows"]
    return rows


def linear_of(folder: Path, run: str) -> str:
    """The verdict of its linear decoder, as its report has it."""
    report: Any = read_json(RunDir(folder / run).out / "report.json")
    verdict: str = report["verdicts"]["linear"]
    return verdict


def test_folds_and_seeds_of_a_decoder_are_one_row_and_no_fold_is_the_best(tmp_path: Path) -> None:
    for model, effect in ((EEGNet(), 0.3), (Shallow(), 1.5)):
        for seed in range(2):
            for fold in by_subject(decoded("classes", effect, seed)):
                number = int(fold.name.removeprefix("fold="))
                of_network(tmp_path, f"{model.name}-{number}-{seed}", fold.decoded, fold=number, seed=seed, model=model)
    summary = compared(tmp_path, named="cv")
    assert (summary["evaluations"], summary["decoders"], summary["studies"]) == (16, 2, 1)
    everything = read_json(RunDir(tmp_path / "compare-x").out / "compare.json") or {}
    rows = {row["model"]: row for row in everything["rows"]}
    assert list(rows) == ["shallow", "eegnet", "linear"] and [row["n_folds"] for row in rows.values()] == [4, 4, 4]
    whole = [
        folds.evaluate(
            [fold for seed in range(2) for fold in by_subject(decoded("classes", effect, seed), f"seed={seed}")],
            Scoring(n_null=200),
        )
        for effect in (1.5, 0.3)
    ]
    linear = whole[0].result
    assert rows["linear"]["p"] == pytest.approx(linear.baseline_results["linear"].figures["balanced_accuracy"].p)
    assert rows["linear"]["verdict"] == linear.verdict_of("linear")
    for row, own in zip(rows.values(), whole, strict=False):
        assert row["value"] == pytest.approx(own.result.figures["balanced_accuracy"].value)
        assert (
            row["sd_seeds"] == pytest.approx(own.sd_repetitions)
            and row["p"] == own.result.figures["balanced_accuracy"].p
        )
    (pair,) = (pair for pair in everything["pairs"] if pair["other"] == "eegnet")
    assert (pair["one"], pair["n_subjects"], pair["n_units"]) == ("shallow", 4, 96)
    assert pair["p"] == 2 / 2**4, "four subjects allow no less"
    assert pair["p_units_holm"] < 0.01, "their trials do"
    text = (RunDir(tmp_path / "compare-x").out / "compare.html").read_text()
    assert "16 evaluations of 2 decoders" in text
    assert [each.count('class="ridge"') for each in tracks(text)] == [1, 1, 1], "chance has no ring"
    of_two = compared_rows(tmp_path, "evaluate-shallow-0-0", "evaluate-eegnet-0-0")
    one_fold = next(row for row in of_two if row["is_linear"])
    assert one_fold["p"] is not None and one_fold["verdict"] == linear_of(tmp_path, one_fold["runs"][0])


def test_the_folds_of_one_decoder_are_no_comparison_and_a_missing_fold_is_named(tmp_path: Path) -> None:
    parts = by_subject(decoded("classes", 1.0))
    names = [of_network(tmp_path, f"{k}", fold.decoded, fold=k) for k, fold in enumerate(parts)]
    with pytest.raises(
        ValueError, match=r"folds and seeds of one decoder.*evaluate model=\[train-0,train-1,train-2,train-3\]"
    ):
        compared(tmp_path, runs=tuple(names))
    of_network(tmp_path, "x", parts[0].decoded, model=Shallow())
    with pytest.raises(ValueError, match="of 4 there is no fold=2, fold=3|of 4 there is no fold=2 and fold=3"):
        compared(tmp_path, runs=(*names[:2], Input("evaluate-x")))


def test_the_test_over_units_is_mcnemars_where_classes_are_balanced() -> None:
    """Sign flips of units of one window each are the exact binomial test of those that only one of two gets right."""
    one, other = (replace(decoded("classes", effect, 1), baselines={}) for effect in (1.2, 0.6))
    one, other = (replace(each, trials=each.trials[::2]) for each in (one, other))
    right = [each.output.argmax(axis=1) == each.truth[:, 0] for each in (one, other)]
    first, second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    units = pairs.by_unit(((one,),), ((other,),))
    balanced = [results.evaluate(each, Scoring(n_null=100)).figures["balanced_accuracy"].value for each in (one, other)]
    assert len(units) == 96 and units.sum() == pytest.approx(balanced[0] - balanced[1])
    exact = stats.binomtest(first, first + second).pvalue
    assert intervals.two_sided(units) == pytest.approx(exact, rel=0.25, abs=2e-3)
    assert intervals.two_sided(units, 2**0.5) > intervals.two_sided(units)


def of_studies(effects: dict[str, float], n_studies: int = 6) -> list[Row]:
    """Decoders on studies of other sizes and difficulty."""
    rng, table = np.random.default_rng(1), []
    for study in range(n_studies):
        base = rng.uniform(0.5, 0.8, 5 + study)
        for model, effect in effects.items():
            subjects = {f"sub-{k}": float(v) for k, v in enumerate(base + effect + 0.02 * rng.normal(size=len(base)))}
            of = {"study": [f"synthesize-{study}"], "split": {}}
            mean = float(np.mean(list(subjects.values())))
            table.append(Row((model,), "", "auroc", mean, 0.5, 0.01, "", subjects, of, model, f"study {study}"))
    return table


def test_decoders_have_ranks_over_studies_and_one_p_of_all() -> None:
    table = of_studies({"good": 0.1, "bad": 0.0, "as bad": 0.0})
    ranked = ranking.ranked(table)
    assert ranked is not None and ranked.models[0] == "good" and ranked.mean_ranks[0] == 1 and ranked.p < 0.05
    assert ranked.critical_difference == pytest.approx(2.344 * (3 * 4 / (6 * 6)) ** 0.5, abs=2e-3), "Demšar's q"
    assert ranked.models[1] in [ranked.models[k] for k in ranked.alike(2)]
    over = {(pair.one, pair.other): pair for pair in pairs.over_studies(table)}
    assert over["good", "bad"].p_holm < 0.001 < 0.05 < over["bad", "as bad"].p_holm
    assert (over["good", "bad"].n_studies, over["good", "bad"].n_subjects) == (6, 45) and over["good", "bad"].smd > 1
    assert over["good", "bad"].p_wilcoxon == pytest.approx(2 / 2**6)
    page = " ".join(compare.render(table, *pairs.compared(table), ranked, list(over.values())).split())
    assert "3 decoders on 6 studies" in page and "The critical difference of mean ranks is 1.35" in page
    assert "good" in page and "best" not in page


def test_a_study_that_lacks_a_decoder_is_left_out_of_the_ranks_and_named() -> None:
    table = [row for row in of_studies({"a": 0.1, "b": 0.0, "c": 0.0}) if (row.model, row.study) != ("b", "study 2")]
    ranked = ranking.ranked(table)
    assert ranked is not None and set(ranked.models) == {"a", "b", "c"} and ranked.left_out == ("study 2",)
    assert "Left out, as a study or a decoder is missing there: study 2." in compare.render(table, [], [], ranked)


def test_a_ring_is_a_linear_decoder_as_in_a_report() -> None:
    of = {"study": ["preprocess-a"], "split": {"by": "run"}}
    subjects = {"sub-1": 0.6, "sub-2": 0.7}
    network = Row(("evaluate-a",), "", "r", 0.65, 0.5, 0.01, "x", subjects, of, "eegnet")
    network = replace(network, baselines={"csp": Linear(0.55, subjects), "mdm": Linear(0.6, subjects)})
    linear = replace(network, model="mdm", value=0.6, is_linear=True, baselines={})
    text = compare.render([network, linear], *pairs.compared([network, linear]))
    drawn = [dict(re.findall(r'class="(decoded|ridge|chance)" style="left:([\d.]+)%', each)) for each in tracks(text)]
    assert [set(own) for own in drawn] == [{"decoded", "ridge", "chance"}, {"ridge", "chance"}]
    assert drawn[0]["ridge"] == drawn[1]["ridge"], "beside a network, the best of them"


def tracks(page: str) -> list[str]:
    return re.findall(r'<div class="track">(.*?)</div>', page, re.DOTALL)

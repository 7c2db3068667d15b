"""Several evaluations on one page, and what is better in pairs."""

from pathlib import Path

import numpy as np
import pytest

from eegdecode import stages
from eegdecode.evaluation.comparison import pairs
from eegdecode.evaluation.config import Compare
from hpc.rank.context import Context, Input, World
from hpc.runs import products
from hpc.runs.rundir import RunDir, read_json, write_json


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


def test_pairs_of_noise_are_told_apart_as_rarely_as_p_says() -> None:
    """Though the better of two stands first: one-sided, it would be twice as often."""
    rng = np.random.default_rng(0)
    draws = [np.sign(d.mean()) * d for d in rng.normal(size=(400, 8))]
    assert 0.02 < np.mean([pairs.two_sided(d) < 0.05 for d in draws]) < 0.08
    assert pairs.two_sided(np.ones(8)) == pairs.two_sided(-np.ones(8)) == 2 / 2**8
    assert pairs.two_sided(np.zeros(8)) == 1


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

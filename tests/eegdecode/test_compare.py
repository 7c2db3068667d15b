"""Several evaluations on one page, and what is better in pairs."""

from pathlib import Path

import numpy as np
import pytest

from eegdecode import stages
from eegdecode.stages import Compare
from hpc.context import Context, Input, World
from hpc.rundir import RunDir, read_json, write_json


def evaluated(runs: Path, name: str, values: np.ndarray, label: str = "") -> None:
    rows = [{"subject": f"sub-{index:02d}", "value": float(value)} for index, value in enumerate(values)]
    main = {"value": float(values.mean()), "chance": 0.5, "p": 0.005}
    report = {"headline": "balanced_accuracy", "figures": {"balanced_accuracy": main}, "subjects": rows}
    write_json(RunDir(runs / name).out / "report.json", {"verdict": "above chance", **report})
    write_json(RunDir(runs / name).plan, {"label": label, "settings": f"train.seed={name[-1]}"})


def compared(folder: Path, **knobs: object) -> dict[str, object]:
    return stages.compare(Compare(**knobs), Context(World(), RunDir(folder / "compare-x")))  # type: ignore[arg-type]


def test_a_run_that_is_better_in_every_subject_is_found(tmp_path: Path) -> None:
    worse = np.random.default_rng(0).uniform(0.5, 0.7, 10)
    evaluated(tmp_path, "evaluate-a", worse)
    evaluated(tmp_path, "evaluate-b", worse + 0.1)
    evaluated(tmp_path, "evaluate-c", worse + np.random.default_rng(1).normal(size=10) * 0.01)
    found = compared(tmp_path, runs=tuple(Input(f"evaluate-{word}") for word in "abc"))
    assert (found["runs"], found["best"]) == (3, "evaluate-b")
    everything = read_json(RunDir(tmp_path / "compare-x").out / "compare.json") or {}
    pairs = {(pair["one"], pair["other"]): pair for pair in everything["pairs"]}
    best = [pair for names, pair in pairs.items() if names[0] == "evaluate-b"]
    assert len(best) == 2 and all(pair["p_holm"] < 0.01 for pair in best)
    (alike,) = (pair for names, pair in pairs.items() if "evaluate-b" not in names)
    assert alike["p_holm"] > 0.05 and alike["n_subjects"] == 10
    text = (RunDir(tmp_path / "compare-x").out / "compare.html").read_text()
    assert "3 evaluations" in text and "train.seed=b" in text


def test_a_sweep_is_compared_by_its_name(tmp_path: Path) -> None:
    for fold in range(3):
        evaluated(tmp_path, f"evaluate-{fold}", np.array([0.6 + 0.1 * fold]), label="folds")
    evaluated(tmp_path, "evaluate-9", np.array([0.9]), label="other")
    found = compared(tmp_path, named="folds")
    assert found["runs"] == 3 and found["balanced_accuracy"] == {"value": pytest.approx(0.7), "chance": 0.5}
    assert found["spread"] == pytest.approx(0.1)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    evaluated(tmp_path, "evaluate-a", np.array([0.6]))
    with pytest.raises(ValueError, match="two finished evaluations at least, got 1$"):
        compared(tmp_path, runs=(Input("evaluate-a"),))
    with pytest.raises(ValueError, match="at least, got 1, of which 0 by named=nix$"):
        compared(tmp_path, runs=(Input("evaluate-a"),), named="nix")
    (tmp_path / "train-x" / "out").mkdir(parents=True)
    with pytest.raises(ValueError, match="train-x has no report.json: name evaluate runs that have finished"):
        compared(tmp_path, runs=(Input("evaluate-a"), Input("train-x")))
    with pytest.raises(ValueError, match="say what is to be compared"):
        Compare()

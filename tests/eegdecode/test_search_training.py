"""A search of a training: what it reports is of data that have chosen nothing, and a promoted trial is as one whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegdecode import stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.models.bilstm import BiLSTM
from eegdecode.synth.config import Motor
from eegdecode.synth.study import make_study
from eegdecode.training.config import Optim, Train, Watch
from hpc.launch import main
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir, committed_steps, read_json, read_lines
from hpc.search.report import text as search_text
from tests.conftest import users_environ

FILE = """
preprocess:
  study: {study}
  steps:
    - {{name: pick, names: [C3, C4, Cz, CPz]}}
    - {{name: bandpass, low_hz: 4, high_hz: 30}}
    - {{name: resample, sfreq: 64}}
    - {{name: align}}
    - {{name: clip}}
  targets: [{{name: label}}]
train:
  data: preprocess
  target: stimulus
  model: {{name: lfcnn, latents: 8, kernel: 17, pool: 32, dropout: 0.2}}
  objective: {{name: classification}}
  split: {{by: trial, folds: 3, shared: [subject, stimulus]}}
  windows: {{name: epochs, tmin_s: 0.5, tmax_s: 2.5, batch: 16}}
  optim: {{steps: 160, lr: 3e-2, validate_every: 20, choose_by: balanced_accuracy}}
evaluate: {{model: train, scoring: {{n_null: 100}}}}
"""
SPACE = ("optim.lr=log:2e-2..5e-2", "model.dropout=0..0.3")
LINE = ("search", "train", "c.yaml", *SPACE, "--sampler", "random", "--on", "debug")


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects imagine one hand or the other, 96 trials; a study that any decoder decodes."""
    ctx = Context(World(), RunDir(tmp_path_factory.mktemp("runs") / "study"))
    make_study(Motor(n_subjects=2, n_classes=2, n_trials=24, effect=1.5), ctx)
    (ctx.out / "products.jsonl").unlink(missing_ok=True)  # the list of what is in it: labels are shuffled below
    return ctx.out


def shuffle(study: Path) -> None:
    """Give each trial the label of another one of its run."""
    for number, path in enumerate(sorted(study.rglob("*_events.tsv"))):
        head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
        column = head.index("trial_type")
        order = np.random.default_rng(number).permutation(len(rows))
        labels = [rows[place][column] for place in order]
        shuffled = [[*row[:column], label, *row[column + 1 :]] for row, label in zip(rows, labels, strict=True)]
        path.write_text("\n".join("\t".join(row) for row in [head, *shuffled]) + "\n")


def searched(folder: Path, study: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    (folder / "c.yaml").write_text(FILE.format(study=study))
    assert main([*LINE, *words], users_environ()) == 0
    (path,) = folder.glob("runs/.searches/search-*.json")
    record = read_json(path)
    assert isinstance(record, dict)
    return record


def test_on_shuffled_labels_what_is_reported_is_at_chance_and_on_others_it_is_not(
    hands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = tmp_path / "decoded"
    decoded.mkdir()
    accuracy = searched(decoded, hands, monkeypatch, "--trials", "2")["reported"]["evaluate.balanced_accuracy"]
    assert accuracy["value"] > 0.75

    shuffle(hands)
    record = searched(tmp_path, hands, monkeypatch, "--trials", "3", "--each", "train.split.fold=0..2")
    accuracy = record["reported"]["evaluate.balanced_accuracy"]
    assert accuracy["of"] == 3 and accuracy["chance"] == 0.5
    assert abs(accuracy["value"] - 0.5) < 0.2, "96 trials, each tested once: an SD of .05"
    tested = {path.parent.name for path in tmp_path.glob("runs/evaluate-*/result.json")}
    assert len(tested) == 3 + 1 and len(list(tmp_path.glob("runs/train-*/result.json"))) == 9
    (whole,) = record["together"]
    assert whole["metrics"]["folds"] == 3 and whole["metrics"]["p"] > 0.01, "one p over all folds"
    report = read_json(RunDir(tmp_path / "runs" / whole["run"]).out / "report.json") or {}
    of_folds = report["cross_validation"]["models"]
    assert [each["n_settings"] for each in of_folds] == [3, 3, 3]
    scores = {job["run"]: job["score"] for fold in record["folds"] for job in fold["jobs"]}
    chosen = [scores[run] for each in of_folds for run in each["runs"]]
    assert chosen == [fold["best"]["score"] for fold in record["folds"]], "by the same figure as the search"
    assert "all folds as one result, " in search_text(record)


def test_a_split_cannot_be_searched(hands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(FILE.format(study=hands))
    for word in ("split.seed=0..9", "train.split.fold=0..2"):
        assert main([*LINE[:3], word, "--on", "debug"], users_environ()) == 2
        assert "split says what trials are scored on" in capsys.readouterr().err
    assert main([*LINE, "optim.halving.first_steps=20"], users_environ()) == 2
    assert "optim.halving cannot be used in a search" in capsys.readouterr().err
    assert main([*LINE, "--halving", "30"], users_environ()) == 2
    assert "a multiple of optim.validate_every, which is 20" in capsys.readouterr().err


def test_a_training_that_rests_at_rungs_is_bit_for_bit_the_whole_one(tiny_store: Store, tmp_path: Path) -> None:
    cfg = Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4, dropout=0.3),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=12, warmup_steps=2, validate_every=4),
        watch=Watch(every=1),
    )
    whole, rested = RunDir(tmp_path / "whole"), RunDir(tmp_path / "rested")
    metrics = stages.train(cfg, Context(World(), whole))
    for rung in (4, 8):
        with pytest.raises(Preempted):
            stages.train(cfg, Context(World(), rested, pause_at=rung))
        assert committed_steps(rested.checkpoints)[-1] == rung
        assert "val_loss" in read_lines(rested.metrics)[-1], "the score at the rung is there"
    assert stages.train(cfg, Context(World(), rested, pause_at=12)) == metrics, "the last rung is the end"
    ends = [torch.load(run.out / "model.pt", weights_only=False)["parameters"] for run in (whole, rested)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])

"""Our own stages computed again: a training on another number of ranks, and what differs inside of a store."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from eegdecode import stages
from eegdecode.data.store.dataset import Store
from hpc.config.stages import what_it_leaves
from hpc.replay import values
from hpc.runs import provenance
from hpc.runs.rundir import RunDir
from tests.conftest import Launch

SMALL = (
    "synthesize.n_subjects=2", "synthesize.n_pieces=6", "synthesize.piece_s=[5,6]", "train.optim.steps=4",
    "train.optim.validate_every=2", "train.windows.batch=8", "train.windows.length_s=2", "train.model.dropout=0",
    "train.model.hidden=8", "train.compute.exact=true", "train.compute.shares=2",
)  # fmt: skip


@pytest.mark.ranks
def test_an_exact_training_computed_again_on_two_ranks_is_equal_bit_for_bit(launch: Launch) -> None:
    launch("train", "demo", *SMALL, "--on", "local")
    (run,) = (RunDir(path) for path in launch.runs() if path.name.startswith("train"))
    about = provenance.read(run)
    assert about["environment"]["instructions"] and about["environment"]["threads"]
    assert {ref.partition("-")[0] for ref in about["runs"]} == {"preprocess", "synthesize"}
    done = launch("replay", run.name, "--ranks", "2").stdout
    assert f"{run.name}: equal bit for bit (other ranks: 2, was 1)" in done
    assert "compared: the metrics, 4 lines, 1 checkpoint, 1 product" in done


def test_what_differs_in_a_store_is_named(tiny_store: Store, tmp_path: Path) -> None:
    function = what_it_leaves(stages.preprocess).values
    was = tiny_store.recordings[0].path
    now = tmp_path / was.name
    shutil.copy(was, now)
    assert values.difference(values.read(was, function) or (), values.read(now, function) or ()) is None
    with h5py.File(now, "r+") as file:
        file["signal"][3, 2] += np.float32(1e-7)
    difference = values.difference(values.read(was, function) or (), values.read(now, function) or ())
    assert difference is not None and difference.at == "signal" and 0 < difference.largest < 1e-6


def test_what_differs_in_a_model_is_named(tmp_path: Path) -> None:
    function = what_it_leaves(stages.train).values
    paths = [tmp_path / name for name in ("was.pt", "now.pt")]
    for path, value in zip(paths, (1.0, 2.0), strict=True):
        weights = {"fc.weight": torch.tensor([1.0, value], dtype=torch.bfloat16)}
        torch.save({"step": 3, "parameters": weights}, path)
    difference = values.difference(*(values.read(path, function) or () for path in paths))
    assert difference == ("parameters/fc.weight", "1", "2", 0.5, "parameters/fc.weight")
    assert values.read(tmp_path / "page.svg", function) is None, "nobody reads that"

"""Tests that need a GPU. Skipped, with a reason, if there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu, gpu_faults
from hpc.runs.rundir import RunDir, read_json, read_lines
from tests.conftest import ROOT, Launch
from tests.slurm.test_decoding import prepared, study, train_run

__all__ = ["prepared", "study"]  # fixtures
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here that torch can use"),
]


def test_a_gpu_follows_the_course_of_the_cpu(study: Launch) -> None:
    words = ["train", "tiny.yaml", "model.dropout=0", "optim.steps=10", "--on", "local"]
    study(*words)
    gpu = train_run(study.folder)
    on_gpu = [line["loss"] for line in read_lines(gpu.metrics)]
    assert "on cuda" in gpu.attempt(1).log(0).read_text()
    gpu.path.rename(study.folder / "gpu")
    study.environ |= {"CUDA_VISIBLE_DEVICES": ""}
    study(*words)
    assert [line["loss"] for line in read_lines(train_run(study.folder).metrics)] == pytest.approx(on_gpu, abs=1e-3)


def test_each_gpu_has_a_rank(study: Launch) -> None:
    study("train", "tiny.yaml", "optim.steps=10", "--on", "local")
    plan = read_json(RunDir(train_run(study.folder).path).plan)
    assert plan is not None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    assert plan["resources"]["ranks_per_node"] == (len(visible.split(",")) if visible else torch.cuda.device_count())


def test_faults_of_gpus_are_known() -> None:
    rows = list(gpu_faults.cases("cuda"))
    assert [(what, text) for what, known, text in rows if known is False] == []


def test_what_training_costs_there_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "gpu", "--quick", "--out", str(tmp_path / "figures.json")]
    subprocess.run(command, cwd=ROOT, check=False)  # 1 where a figure falls short
    figures = read_json(tmp_path / "figures.json")
    assert figures is not None
    assert {name: how["state"] for name, how in figures["sections"].items()} == dict.fromkeys(gpu.SECTIONS, "done")

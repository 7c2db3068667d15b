"""The whole batch script of one job on every Slurm profile, as tests/records/sbatch has it: no change goes unseen."""

import os
import shlex
from pathlib import Path

import pytest

from hpc.plan.plan import Plan, Science
from hpc.plan.snapshot import Code
from hpc.site import allocation, profile
from hpc.submit import batch

RECORDS = Path(__file__).parent.parent / "records/sbatch"
SITES = Path(__file__).parent.parent.parent / "configs/site"
ASKED = {
    "bed": allocation.Request(nodes=2),
    "slurm": allocation.Request(nodes=2, gpus=2, mem_gb=16),
    "lem-gpu": allocation.Request(nodes=2, gpus=4, scratch_gb=200, time="12h"),
    "athena": allocation.Request(nodes=2, gpus=8),
    "helios": allocation.Request(nodes=2, gpus=4),
    "lumi": allocation.Request(nodes=8, partition="standard-g"),
    "pcss": allocation.Request(gpus=4),
}
"""What is asked for; elsewhere the profile's defaults on two nodes."""


def text(name: str) -> str:
    """The batch script of a fixed plan; nothing of this machine is in it."""
    where = allocation.load(name)
    asked = ASKED.get(name, allocation.Request(nodes=2, time="4h"))
    resources = allocation.fit(where, allocation.Request(**{**vars(asked), "account": "hpc-x"}))
    science = Science("train", "eegdecode.stages:train", {"seed": 0}, {})
    code = Code("/home/me/hpc", (".",), "0" * 40, (), ())
    plan = Plan(
        science=science,
        sources=(),
        site=where,
        resources=resources,
        code=(code,),
        runs="/scratch/runs",
        cwd="/home/me/study",
        python="/opt/env/bin/python",
    )
    return batch.sbatch_text(plan, {})


def slurm_profiles() -> list[str]:
    return [path.stem for path in sorted(SITES.glob("*.yaml")) if allocation.load(path.stem).kind == "slurm"]


@pytest.mark.parametrize("name", slurm_profiles())
def test_the_batch_script_is_as_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "folders", lambda: [SITES])
    record = RECORDS / f"{name}.sh"
    made = text(name)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(made)
    again = "if that is meant, `UPDATE_GOLDEN=1 pytest tests/hpc/test_golden.py` records it anew; look at the diff"
    assert record.is_file(), f"{record} is not there: {again}"
    assert made == record.read_text(), f"the batch script of {name} has changed: {again}"


def test_there_is_a_record_for_each_slurm_profile_and_no_other() -> None:
    assert sorted(path.stem for path in RECORDS.glob("*.sh")) == slurm_profiles()


@pytest.mark.parametrize("name", slurm_profiles())
def test_a_batch_script_names_each_option_once_and_sets_u_after_the_modules(name: str) -> None:
    lines = (RECORDS / f"{name}.sh").read_text().splitlines()
    options = [line.split("=")[0] for line in lines if line.startswith("#SBATCH")]
    assert len(options) == len(set(options)), "of two equal options Slurm forgets the first"
    assert not any("wckey" in option for option in options)
    assert all(lines.index(line) < lines.index("set -eu") for line in allocation.load(name).prologue)


def test_an_option_that_a_site_does_not_take_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "folders", lambda: [tmp_path])
    own = "kind: slurm\nmem_gb: 1.5\nmax_nodes: 2\ndirectives: {exclusive: '', comment: two words}\n"
    (tmp_path / "own.yaml").write_text(own)
    all_of_it = text("own").splitlines()
    assert "#SBATCH --exclusive" in all_of_it and f"#SBATCH --comment={shlex.quote('two words')}" in all_of_it
    (tmp_path / "own.yaml").write_text(own + "skip: [mem, requeue, op]\n")
    left_out = [line for line in all_of_it if line not in text("own").splitlines()]
    assert left_out == ["#SBATCH --mem=1536M", "#SBATCH --requeue"]

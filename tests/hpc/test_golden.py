"""The whole batch script of one job on every Slurm profile, as tests/records/sbatch has it: no change goes unseen."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from hpc.cli import options
from hpc.errors import ConfigError
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
    asked = ASKED.get(name, allocation.Request(nodes=2, time="4h"))
    return batch.sbatch_text(plan_on(name, allocation.Request(**{**vars(asked), "account": "hpc-x"})), {})


def plan_on(name: str, asked: allocation.Request, **other: str) -> Plan:
    where = allocation.load(name)
    fixed = {"runs": "/scratch/runs", "cwd": "/home/me/study", "python": "/opt/env/bin/python"}
    return Plan(
        science=Science("train", "eegdecode.stages:train", {"seed": 0}, {}),
        sources=(),
        site=where,
        resources=allocation.fit(where, asked),
        code=(Code("/home/me/hpc", (".",), "0" * 40, (), ()),),
        **(fixed | other),  # type: ignore[arg-type]
    )


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


HOSTILE = (
    "x\n#SBATCH --wrap=true", "x\ntouch was-run", "x; touch was-run", "$(touch was-run)", "`touch was-run`",
    "'; touch was-run; '", '"; touch was-run; "', "x\rtouch was-run", "x\x85#SBATCH --wrap=true", "--wrap=true", "x #y",
    "a b --wrap=true", "\\", "%j", "é",
)  # fmt: skip
OPTIONS = {
    "--account": "account", "--partition": "partition", "--stage": "stage", "--comment": "comment",
    "--constraint": "constraint", "--exclude": "exclude", "--mail": "mail-user", "--name": "label",
}  # fmt: skip
FOLDERS = ("cwd", "runs", "PYTHONPATH", "HPC_SECRETS")


def request_of(option: str, word: str) -> tuple[allocation.Request, str]:
    """What is asked for by an option on the line, and the name of the run. Raises ConfigError."""
    word = f"/{word}" if option == "--stage" else word
    args, name = options.read(["train", f"{option}={word}"]), OPTIONS[option]
    if option == "--name":
        return allocation.Request(nodes=2), args.name or ""
    if option in ("--account", "--partition", "--stage"):
        return allocation.Request(nodes=2, **{name: word}), ""  # type: ignore[arg-type]
    return allocation.Request(nodes=2, options={name: word}), ""


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("place", [*OPTIONS, *FOLDERS])
def test_no_word_becomes_a_command_or_an_option_of_its_own(tmp_path: Path, place: str, word: str) -> None:
    """What stands on the line, and the names of folders: each is one value of one option, or refused in a sentence."""
    python, other, environ = tmp_path / "python", dict[str, str](), dict[str, str]()
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o700)
    try:
        request = allocation.Request(nodes=2)
        if place in OPTIONS:
            request, other["label"] = request_of(place, word)
        else:
            (other if place in ("cwd", "runs") else environ)[place] = f"/home/{word}"
        script = batch.sbatch_text(plan_on("bed", request, python=str(python), **other), environ)
    except ConfigError:  # a sentence
        return
    (tmp_path / "job.sbatch").write_text(script)
    head = script.partition("\nset -eu\n")[0]  # sbatch reads options until the first command
    lines = [line for line in head.split("\n") if line.startswith("#SBATCH")]
    assert all(line.startswith("#") for line in head.split("\n") if line), "no command before ours"
    assert [line for line in lines if line.startswith("#SBATCH --wrap")] == []
    assert all(len(shlex.split(line)) == 2 for line in lines), "one option a line"
    done = subprocess.run(["bash", "job.sbatch"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not (tmp_path / "was-run").exists(), done.stderr

"""The command line as a user meets it: fast, helpful, and the same science is the same run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import EXAMPLE, Launch

HEAVY = {"torch", "mne", "submitit", "omegaconf", "h5py", "numpy", "rich"}


def imported_by(*words: str, cwd: Path) -> set[str]:
    """The packages that a command has imported when it ends."""
    code = f"import sys; sys.argv = {['launch', *words]!r}\n" + (
        "import atexit\n"
        "atexit.register(lambda: print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr))\n"
        "import runpy; runpy.run_module('hpc.launch', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("status",)])
def test_help_and_status_import_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    modules = imported_by(*words, cwd=tmp_path)
    assert "hpc" in modules
    assert not modules & HEAVY


def test_a_plan_is_made_without_torch_and_mne(tmp_path: Path) -> None:
    """On a login node with 1 GB of memory: the science's configs must not pull its libraries."""
    modules = imported_by("synthesize", "--dry-run", "--on", "local", cwd=tmp_path)
    assert "eegdecode" in modules
    assert not modules & {"torch", "mne", "h5py", "scipy", "submitit"}


def test_help_names_every_verb_and_exit_code(launch: Launch) -> None:
    text = launch("--help").stdout
    for word in ("pipeline", "status", "logs", "train", "--dry-run", "--nodes", "75 stopped"):
        assert word in text


def test_every_stage_of_the_project_is_in_the_help(launch: Launch) -> None:
    from hpc import stages

    ours = [name for name in stages.names() if stages.entry(name).startswith("eegdecode")]
    line = next(line for line in launch("--help").stdout.splitlines() if "with this project:" in line)
    assert sorted(line.split("project: ")[1].split(", ")) == sorted(ours)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--node", "2"], "there is no option --node. Did you mean '--nodes'"),
        (["stauts"], "there is no stage or verb 'stauts'. Did you mean 'status'"),
        (["count", "nodes=2"], "count has no setting 'nodes'"),
        (["count", "missing.yaml"], "there is no config file missing.yaml"),
        (["count", "--on", "bedd"], "there is no site 'bedd'. Did you mean 'bed'"),
        (["count", "after=count-x"], "make it first with"),
        (["count", "--nodes", "two"], "argument --nodes: invalid int value: 'two'"),
        (["logs"], "logs of which run?"),
        (["status", "nothing"], "there is no run 'nothing'"),
        (["stop"], "stop which run?"),
        (["sweep", "n=1,2"], "sweep what? Say a stage or `pipeline` first"),
        (["resume"], "resume which run?"),
        (["resume", "nothing"], "there is no run 'nothing'"),
        ([], "the following arguments are required: VERB"),
    ],
)
def test_wrong_words_end_with_2_and_one_line_that_helps(launch: Launch, words: list[str], message: str) -> None:
    words = ["count", *words] if words and words[0].startswith("--") else words
    done = launch(*words, code=2)
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_disk_that_takes_nothing_is_named(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = launch("count", "--runs", "file", code=1)
    assert "file/count-" in done.stderr
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_beside_the_code_is_not_copied(launch: Launch, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(EXAMPLE, checkout, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "-C", str(checkout), "init", "-q"], check=True)
    (checkout / "subject.edf").write_text("much")
    (checkout / "password.txt").write_text("secret")
    launch.environ["PYTHONPATH"] = str(checkout)
    launch("count", "n=1")
    (code,) = tmp_path.glob("runs/*/code/checkout")
    copied = {path.name for path in code.rglob("*.*") if path.is_file() and path.suffix != ".pyc"}
    assert copied == {"__init__.py", "stages.py"}


def test_a_dry_run_does_nothing(launch: Launch, tmp_path: Path) -> None:
    text = launch("count", "n=3", "--nodes", "2", "--on", "bed", "--dry-run").stdout
    assert "2 nodes x 2 ranks = 4 ranks, 2 GPUs a node" in text
    assert "#SBATCH --signal=B:USR2@30" in text
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_sections_serves_a_stage_and_the_pipeline(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("count: {n: 4}\ntally: {of: count}\n")
    assert "make it first with" in launch("tally", "study.yaml", code=2).stderr
    text = launch("pipeline", "study.yaml").stdout
    assert "total             10" in text
    assert re.search(r"half +5.000 +chance 0.500", text)
    assert re.search(r"page +runs/tally-\w+/out/page.html", text)
    assert text.count("finished after") == 2
    assert launch("pipeline", "study.yaml").stdout.count("finished before") == 2
    assert launch("tally", "study.yaml", "count.n=4").stdout.count("finished before") == 1


def test_without_a_file_the_default_config_is_read(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/default.yaml").write_text("count: {n: 2}\n")
    assert "from configs/default.yaml" in launch("count", "--dry-run").stdout


def test_debug_runs_in_this_process_and_shows_the_trace(launch: Launch) -> None:
    assert "count 3/3" in launch("count", "n=3", "--on", "debug").stdout
    assert "RuntimeError: told to fail at step 2" in launch("count", "fail_at=2", "--on", "debug", code=1).stderr


def test_ugly_folder_names_do_no_harm(launch: Launch, tmp_path: Path) -> None:
    ugly = "runs of 'Ż' $HOME %j; touch oops"
    launch("count", "n=2", "--runs", ugly)
    assert [path.name for path in tmp_path.iterdir()] == [ugly]


def test_the_ranks_run_the_code_as_it_was_when_launched(launch: Launch, tmp_path: Path) -> None:
    """A package in a git checkout is copied; editing the checkout afterwards changes nothing."""
    checkout = tmp_path / "checkout"
    shutil.copytree(EXAMPLE, checkout, ignore=shutil.ignore_patterns("__pycache__"))
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(checkout), *words], check=True)
    source = checkout / "counting/stages.py"
    source.write_text(source.read_text().replace('"total": total,', '"total": -total,'))
    (checkout / "counting/new.py").write_text("")
    launch.environ["PYTHONPATH"] = str(checkout)
    done = launch("count", "n=3")
    assert "+ 2 changed files" in done.stdout and "total             -6" in done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert "-total" in (run / "code/checkout/counting/stages.py").read_text()
    assert (run / "code/checkout/counting/new.py").exists()
    assert '+    return {"total": -total,' in (run / "code.diff").read_text()
    assert json.loads((run / "plan.json").read_text())["code"][1]["modified"] == [
        "counting/new.py", "counting/stages.py"
    ]  # fmt: skip
    assert os.path.relpath(run / "code", tmp_path).startswith("runs/count-")

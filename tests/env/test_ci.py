"""CI elsewhere calls the same make targets as at home; the front door names them all."""

import configparser
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

PIPELINES = [".github/workflows/ci.yml", ".gitlab-ci.yml"]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def commands(node: object) -> Iterator[str]:
    """What a pipeline runs: `run` of GitHub's steps, `script` and `before_script` of GitLab's jobs."""
    if isinstance(node, list):
        for item in node:
            yield from commands(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("run", "script", "before_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from commands(value)


def make_targets(text: str) -> set[str]:
    return set(re.findall(r"(?:^|&& |; )make ([\w-]+)", text, re.MULTILINE))


def targets_there() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(phony.split())


def test_there_is_no_pipeline_beside_those_that_are_looked_at() -> None:
    workflows = {str(path.relative_to(ROOT)) for path in (ROOT / ".github/workflows").iterdir()}
    assert {*workflows, ".gitlab-ci.yml"} == set(PIPELINES)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_calls_targets_that_there_are(name: str) -> None:
    called = {target for command in commands(read(name)) for target in make_targets(command)}
    assert {"lint", "quick", "test", "wheel"} <= called <= targets_there()


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_tests_on_a_real_slurm_and_on_each_python_that_we_say_we_run_on(name: str) -> None:
    assert {"make test REQUIRE_SLURM=1", "make test-slow REQUIRE_SLURM=1"} <= set(commands(read(name)))
    ours = re.findall(r"Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
    assert re.findall(r'"(3\.\d+)", "(3\.\d+)", "(3\.\d+)"\]', (ROOT / name).read_text()) == [tuple(ours)]


def test_the_lowest_python_is_the_same_everywhere() -> None:
    lowest = min(re.findall(r"Python :: 3\.(\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE), key=int)
    assert SETUP["options"]["python_requires"] == f">=3.{lowest}"
    assert SETUP["mypy"]["python_version"] == f"3.{lowest}"
    assert f'target-version = "py3{lowest}"' in (ROOT / "ruff.toml").read_text()


def test_ci_here_runs_what_the_readme_says_and_wants_a_slurm() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "REQUIRE_SLURM=1 make test" in script
    assert "```sh\nmake test\n```" in (ROOT / "README.md").read_text()


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone where a folder is no package: of two it would leave one out."""
    loose = [path for path in (ROOT / "tests").rglob("test_*.py") if not (path.parent / "__init__.py").exists()]
    names = [path.name for path in loose]
    assert sorted(name for name in {*names} if names.count(name) > 1) == []


def test_the_front_door_names_every_target() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert make_targets(said) == targets_there() - {"help"}


@pytest.mark.parametrize("target", sorted(targets_there()))
def test_every_target_is_a_rule(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_before_a_commit_the_pinned_ruff_looks_and_what_make_lint_has_beside() -> None:
    hooks = read(".pre-commit-config.yaml")["repos"]
    (ruff,) = (repo for repo in hooks if repo["repo"].endswith("/ruff-pre-commit"))
    assert f"ruff=={ruff['rev'].removeprefix('v')}" in (ROOT / "env/constraints-cpu.txt").read_text().split()
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-check", "ruff-format"]
    (local,) = (repo for repo in hooks if repo["repo"] == "local")
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for hook in local["hooks"]:
        assert hook["entry"].replace(".venv", "$(VENV)") in lint
    assert {hook["id"] for hook in local["hooks"]} == {"mypy", "import-linter"}


def test_pre_commit_takes_its_file() -> None:
    if importlib.util.find_spec("pre_commit") is None:
        pytest.skip("pre-commit is not installed: it comes with the extra dev")
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gpu_users_get_the_versions_that_the_tests_run() -> None:
    lists = [(ROOT / f"env/constraints-{kind}.txt").read_text().splitlines() for kind in ("cpu", "cuda")]
    cpu, cuda = ([line for line in text if line and not line.startswith("#")] for text in lists)
    assert cpu == cuda and len(cpu) > 100


class Machine:
    """One with the Pythons that are told, and a checkout whose set-up and make note what is asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        (folder / "env").mkdir(parents=True)
        for script in ("env/each-python",):
            (folder / script).write_text((ROOT / script).read_text())
            (folder / script).chmod(0o755)
        self.command(folder / "env/setup.sh", 'case $PYTHON in *3.12*) exit "${SET_UP_312:-0}" ;; esac')
        (folder / "bin").mkdir()
        for name in ("bash", "dirname", "env"):
            (folder / "bin" / name).symlink_to(f"/usr/bin/{name}")
        self.command(folder / "bin/make", 'echo "$1 in $VENV"; case $VENV in *3.13) exit "${MAKE_313:-0}" ;; esac')

    def command(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def __call__(self, code: int = 0, **environ: str) -> list[str]:
        done = subprocess.run(
            [self.folder / "env/each-python", "quick"],
            env={"PATH": str(self.folder / "bin"), "HOME": str(self.home)} | environ,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "a check out")
    for version in ("3.12.1", "3.13.0"):
        minor = version.rpartition(".")[0]
        machine.command(machine.home / f".pyenv/versions/{version}/bin/python{minor}", "exit 0")
    machine.command(machine.folder / "bin/python3.11", "exit 127")  # a pyenv shim of a version that is not there
    return machine


def test_each_python_that_is_here_is_tried_in_an_environment_of_its_own(machine: Machine) -> None:
    assert machine() == [
        "quick in .venv-3.12",
        "quick in .venv-3.13",
        "Python 3.11  is not here",
        "Python 3.12  make quick passed",
        "Python 3.13  make quick passed",
    ]


def test_a_python_whose_torch_would_bring_cuda_is_left_out_and_a_failure_is_one(machine: Machine) -> None:
    assert machine(SET_UP_312="3")[-2:] == [
        "Python 3.12  left out: its torch comes with CUDA only here, see above",
        "Python 3.13  make quick passed",
    ]
    assert machine(1, MAKE_313="2")[-1] == "Python 3.13  make quick FAILED"
    assert machine(1, SET_UP_312="1")[-2] == "Python 3.12  make quick FAILED"

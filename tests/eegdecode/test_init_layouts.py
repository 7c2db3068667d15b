"""From a folder as it lies to a verdict in two commands, with nothing changed by hand: seven layouts."""

from pathlib import Path

import pytest

from hpc.runs.rundir import RunDir, read_json
from tests.conftest import Launch
from tests.eegdecode.layouts import LAYOUTS

EACH_TIME = ("bids", "mat_struct", "file_a_condition")


@pytest.mark.ranks
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in EACH_TIME else pytest.mark.slow) for name in LAYOUTS]
)
def test_two_commands_lead_from_a_folder_to_a_verdict(name: str, launch: Launch) -> None:
    LAYOUTS[name](launch.folder / name)
    said = launch("init", name).stdout
    assert f"hpc pipeline {name}.yaml --on local" in said
    # One process instead of nine, where it is not the processes that are looked at
    launch("pipeline", f"{name}.yaml", "--on", "local" if name == "bids" else "debug")
    (evaluated,) = (RunDir(run) for run in launch.runs() if run.name.startswith("evaluate"))
    result = read_json(evaluated.result)
    # Of a file a condition whole recordings are what chance may exchange: those of the test subjects are too few
    verdict = "cannot be decided" if name == "file_a_condition" else "above chance"
    assert result["metrics"]["verdict"] == verdict, result
    assert result["metrics"].get("balanced_accuracy", {"value": 1.0})["value"] > 0.9, result
    assert (Path(evaluated.out) / "report.html").is_file()

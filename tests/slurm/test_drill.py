"""The fault matrix: whatever happens, the run ends, with the same parameters as the one that nothing happened to."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.faults import FAULTS
from tests.conftest import Launch
from tests.slurm.test_bed import beds
from tests.slurm.test_decoding import prepared
from tests.slurm.test_faults import bed

__all__ = ["bed", "beds", "prepared"]  # fixtures
pytestmark = pytest.mark.slurm
EVERY = 20
"""Steps from checkpoint to checkpoint."""
ANNOUNCED = ("signal", "term", "controller", "scancel")


@pytest.fixture(scope="module")
def certificate(prepared: Path, bed: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What `drill` says of the real training on two nodes, by fault."""
    words = ["drill", "train", "tiny.yaml", "optim.steps=300", f"optim.checkpoint_every={EVERY}", "--nodes", "2"]
    command = [sys.executable, "-m", "hpc.launch", *words, "--ranks", "1", "--on", "bed", "--hang", "15s"]
    environ = os.environ | bed
    done = subprocess.run(command, cwd=prepared, env=environ, capture_output=True, text=True, timeout=900, check=False)
    places = sorted(prepared.glob("runs/.drill/*/certificate.json"))
    assert places, f"{done.stdout}\n{done.stderr}"
    return {report["fault"]: report for report in json.loads(places[-1].read_text())}


@pytest.mark.parametrize("fault", FAULTS)
def test_under_every_fault_the_run_ends_the_same_to_the_last_bit(
    certificate: dict[str, dict[str, Any]], fault: str
) -> None:
    report = certificate[fault]
    if report["word"] == "not tried" and os.geteuid() != 0:
        pytest.skip(report["text"])
    assert (report["word"], report["same"]) == ("finished", True), report
    lost = 0 if fault in ANNOUNCED or fault == "disk" else 2 * EVERY if fault == "damage" else EVERY
    assert report["redone"] - report["unsavable"] <= lost, report
    assert report["attempts"] == 1 or fault != "disk", "a full disk ends nothing"
    assert report["resumed"] == (fault in ("term", "scancel")), "the others go on by themselves"


@pytest.mark.ranks
def test_the_same_drill_on_this_machine(launch: Launch) -> None:
    words = ["drill", "count", "n=100", "step_s=0.05", "--nodes", "2", "--hang", "5s", "--on", "local"]
    text = launch(*words, "--faults", "signal,term,kill9,supervisor,hang,scancel").stdout
    assert "5 of 5 faults ended in a finished run whose last checkpoint is the same to the last bit" in text
    assert "not tried: there is no Slurm job to cancel" in text

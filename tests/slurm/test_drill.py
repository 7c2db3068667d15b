"""The fault matrix: whatever happens, the run ends, with the same parameters as the one that nothing happened to."""

import json
import os
import shutil
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import pytest

from hpc.drill.faults import FAULTS
from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.conftest import EXAMPLE, Launch
from tests.slurm.test_bed import beds, own_beds, start
from tests.slurm.test_decoding import prepared
from tests.waiting import is_stopped, open_gate, output_of, wait_for

__all__ = ["beds", "prepared"]  # fixtures
pytestmark = pytest.mark.slurm
EVERY = 20
"""Steps from checkpoint to checkpoint."""
ANNOUNCED = ("signal", "term", "controller", "scancel")


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[dict[str, str]]:
    """A kind one: nodes of a strict bed see no disk that is mounted later, and two faults would take minutes there."""
    with own_beds(request, bed_options) as started:
        yield start(started, "--grace", "60")


@pytest.fixture(scope="module")
def certificate(prepared: Path, bed: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What `drill` says of the real training on two nodes, by fault."""
    words = ["drill", "held", "tiny.yaml", "optim.steps=120", "hold_at=90", f"optim.checkpoint_every={EVERY}"]
    layout = ["--nodes", "2", "--ranks", "1", "--on", "bed", "--hang", "15s"]
    launch = Launch(prepared, os.environ | bed | {"PYTHONPATH": str(EXAMPLE)})
    said = drilled(launch, *words, *layout)
    places = sorted(prepared.glob("runs/.drill/*/certificate.json"))
    assert places, said
    return {report["fault"]: report for report in json.loads(places[-1].read_text())}


def drilled(launch: Launch, *words: str) -> str:
    """The output of a drill whose runs are held behind seven tenths of their steps, until their fault has come."""
    drill = launch.start(*words)
    try:
        wait_for(lambda: let_go(launch.folder) or drill.poll() is not None, f"{words} is through", patience_s=7200)
    finally:
        launch.end()
    return output_of(drill)


def let_go(folder: Path) -> None:
    # Not Path.glob: the drill unmounts and renames folders meanwhile
    for plan in map(Path, glob(f"{folder}/runs/.drill/*/*/[ch]*-*/plan.json", include_hidden=True)):
        run, case = RunDir(plan.parent), plan.parent.parent
        if not (run.path / "gate").exists() and (case.name == "undisturbed" or has_felt(run, case)):
            open_gate(run)


def has_felt(run: RunDir, case: Path) -> bool:
    """Its supervisor has more to tell than the start, or a rank stands still, or the disk is full for long."""
    told = len(records.events(run)) > 1 or records.attempts(run)
    pids = [records.heartbeat(run, rank).get("pid", 0) for rank in (0, 1)]
    is_full = case.name.endswith("-disk") and (case / "filler").exists() and shutil.disk_usage(case).free < 2e6
    return bool(told or is_full or any(map(is_stopped, pids)))


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
    words = ["drill", "count", "n=10", "hold_at=7", "--nodes", "2", "--hang", "5s", "--on", "local"]
    text = drilled(launch, *words, "--faults", "signal,term,kill9,supervisor,hang,scancel")
    assert "5 of 5 faults ended in a finished run whose last checkpoint is the same to the last bit" in text
    assert "not tried: there is no Slurm job to cancel" in text

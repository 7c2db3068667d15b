"""A node that is sick before the first step: the run goes on without it."""

import json
import os
from pathlib import Path

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.conftest import ROOT, Launch
from tests.slurm.test_runs import only_run, texts

pytestmark = pytest.mark.slurm


@pytest.fixture
def scratch(launch: Launch, slurm: str) -> Path:
    """The scratch of each node, n1 to n4, on a site of its own: the bed with such disks."""
    launch.environ |= {name: os.environ[name] for name in ("SLURM_CONF", "PATH") if name in os.environ}
    places = launch.folder / "scratch"
    for number in range(1, 5):
        (places / f"n{number}").mkdir(parents=True)
    site = f"{(ROOT / 'configs/site/bed.yaml').read_text()}\nstorage: {{scratch_local: [{places}/$SLURMD_NODENAME]}}\n"
    (launch.folder / "configs/site").mkdir(parents=True)
    (launch.folder / "configs/site/disks.yaml").write_text(site)
    return places


def started_on(run: RunDir) -> set[str]:
    return {heartbeat["host"] for heartbeat in records.all_heartbeats(run).values()}


def test_a_node_whose_scratch_cannot_be_written_to_is_left_before_the_first_step(launch: Launch, scratch: Path) -> None:
    (scratch / "n2").rmdir()
    (scratch / "n2").touch()
    done = launch("count", "n=3", "--nodes", "3", "--ranks", "1", "--on", "disks", "--follow")
    run = only_run(launch.folder)
    why = f"n2 is sick: it cannot write to its scratch {scratch}/n2 (Not a directory)"
    first, second = records.attempts(run)
    assert (first["outcome"], first["node"], first["why"]) == ("sick", "n2", why)
    assert "total             6" in done.stdout and f"{why}; back into the queue" in texts(run)
    assert second["outcome"] == "finished" and started_on(run) == {"n1", "n3", "n4"}
    assert not list(run.attempt(1).path.glob("rank-*")), "no rank was started there"
    said = json.loads(launch("why", run.name, "--json").stdout)
    assert any(why in text for _, text in said["evidence"])

"""A malleable run (--nodes 1-4) on a real Slurm: how many nodes it takes, and what is left of it when one dies."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
import torch

from hpc.runs import records
from hpc.runs.rundir import RunDir, read_lines
from tests.conftest import Launch
from tests.slurm.test_bed import own_beds, start
from tests.slurm.test_decoding import CONFIG, is_held, parameters, train_run
from tests.slurm.test_faults import signal_batch
from tests.slurm.test_runs import attempts, texts, under_way
from tests.waiting import open_gate, output_of

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[dict[str, str]]:
    """A bed for this module alone, whose nodes go down."""
    with own_beds(request, bed_options) as started:
        yield start(started)


@pytest.fixture
def on_bed(launch: Launch, bed: dict[str, str]) -> Iterator[Launch]:
    launch.environ |= bed
    yield launch
    launch.end()
    slurm(launch, "scancel", "--me")
    back_again(launch)


def slurm(launch: Launch, *command: str) -> str:
    done = subprocess.run(command, env=launch.environ, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def back_again(launch: Launch) -> None:
    """All nodes are there and nothing runs on them."""

    def are_idle() -> bool:
        slurm(launch, "scontrol", "update", "NodeName=n[1-4]", "State=RESUME")  # refused for those that are up
        return set(slurm(launch, "sinfo", "-h", "-N", "-o", "%T").split()) == {"idle"}

    launch.wait_for(are_idle, "all nodes are idle")


def goes_down(launch: Launch, node: str) -> None:
    slurm(launch, "scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")


def planned(launch: Launch, *words: str) -> "dict[str, object]":
    plan: dict[str, object] = json.loads(launch(*words, "--on", "bed", "--dry-run", "--json").stdout)[0]["resources"]
    return plan


@pytest.mark.both_slurms
def test_it_waits_for_many_nodes_only_if_it_is_done_first_with_them(on_bed: Launch) -> None:
    """Whatever is not known of its speed: 10 min on one node are less than an hour until the others are free."""
    words = ["count", "n=3", "--nodes", "1-4", "--time", "10m"]
    assert planned(on_bed, *words)["nodes"] == 4, "all are free, and it is done first with all"
    slurm(on_bed, "sbatch", "--nodes=3", "--exclusive", "--time=60", "--wrap=sleep 3600", "--output=/dev/null")
    on_bed.wait_for(lambda: "running" in slurm(on_bed, "squeue", "-h", "-o", "%T").lower(), "three nodes are taken")
    plan = planned(on_bed, *words)
    assert (plan["nodes"], plan["node_counts"]) == (1, [1, 2, 3, 4])
    (note,) = (note for note in plan["notes"] if "is done first" in note)  # type: ignore[attr-defined]
    assert "1 node (starts at once, then 10 min) is done first, sooner than 2 nodes (starts " in note
    assert "its speed is not known: taken to need 10 min on 1 node" in note
    assert "#SBATCH --nodes=1\n" in on_bed(*words, "--on", "bed", "--dry-run").stdout


@pytest.mark.both_slurms
def test_it_goes_on_without_a_node_that_dies_and_grows_at_the_next_requeue(on_bed: Launch) -> None:
    words = ["count", "n=500", "step_s=2", "--nodes", "1-4"]  # 16 min on four nodes: what others take counts
    run, watcher = under_way(on_bed, *words, on="bed")
    job = read_lines(run.submissions)[0]["job"]
    on_bed.wait_for(lambda: records.heartbeat(run, 0).get("done") == 3, "how fast it was is known")
    goes_down(on_bed, "n3")
    on_bed.wait_for(lambda: (run.attempt(2).path / "here-5").exists(), "it goes on with three nodes")
    assert [(line["outcome"], line["node"]) for line in attempts(run)] == [("crashed", "n3")]
    assert "goes on with 3 nodes of 4, n1, n2, n4, in the same job" in texts(run)
    assert slurm(on_bed, "squeue", "-h", "-o", "%i %N") == f"{job} n[1-2,4]"
    assert " 3 of 1-4 " in on_bed("status").stdout
    explained = on_bed("why", run.name).stdout
    assert "1, 2, 3 or 4 nodes; so far 4" in explained
    slurm(on_bed, "scontrol", "update", "NodeName=n3", "State=RESUME")
    on_bed.wait_for(lambda: "idle" in slurm(on_bed, "sinfo", "-h", "-N", "-n", "n3", "-o", "%T"), "n3 is back")
    signal_batch(on_bed, run, "USR2")
    on_bed.wait_for(lambda: (run.attempt(3).path / "here-7").exists(), "it goes on with four nodes")
    assert [line.get("successor") for line in read_lines(run.submissions)] == [False, True]
    assert re.search(r"next on 4 nodes \(starts .*\(measured: \S+ steps/s on 4 nodes; ", texts(run)), texts(run)
    assert [line["from_step"] for line in attempts(run)] == [0, 3]
    on_bed("stop", run.name)
    output_of(watcher)


def test_a_run_that_shrinks_ends_with_the_parameters_of_one_that_does_not(on_bed: Launch) -> None:
    """On four nodes, then on two and on what is chosen then; the other in one process. Bit for bit."""
    (on_bed.folder / "tiny.yaml").write_text(CONFIG)
    on_bed("preprocess", "tiny.yaml", "--on", "local")
    words = ["tiny.yaml", "compute.exact=true", "compute.shares=4", "optim.steps=20"]
    malleable = ["--nodes", "1-4", "--ranks", "1", "--on", "bed", "--follow"]
    watcher = on_bed.start("held", *words, *malleable)
    on_bed.wait_for(lambda: watcher.poll() is not None or is_held(on_bed.folder), "it is held")
    run = RunDir(next(on_bed.folder.glob("runs/held-*")))
    assert json.loads(run.plan.read_text())["resources"]["node_counts"] == [1, 2, 4]
    goes_down(on_bed, "n2")
    on_bed.wait_for(lambda: is_held(on_bed.folder, attempt=2), "it is held on two nodes")
    assert "goes on with 2 nodes of 4, n1, n3, in the same job" in texts(run)
    signal_batch(on_bed, run, "USR2")
    on_bed.wait_for(lambda: len(attempts(run)) == 2, "it goes back into the queue")
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0, out
    plan = on_bed("train", *words, *malleable[:-1], "--dry-run").stdout
    assert "its parameters are equal bit for bit" in plan and "not on 3 nodes: compute.shares=4 is for 1, 2 or" in plan
    on_bed("train", *words, "--on", "local", "--follow")
    for name, value in parameters(train_run(on_bed.folder)).items():
        assert torch.equal(value, parameters(run)[name]), name
    assert sorted({line["ranks"] for line in attempts(run)[:2]}) == [2, 4]

"""How many nodes a malleable run gets: the choice, on what Slurm has really printed."""

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.cli import options, planner
from hpc.cli.drill import run_drill
from hpc.errors import ConfigError
from hpc.media import one_of
from hpc.runs.rundir import RunDir, append_line, write_json
from hpc.site import allocation, profile
from hpc.site.allocation import Request
from hpc.slurm import start_estimate, words
from hpc.slurm.start_estimate import Answer
from hpc.submit import batch
from hpc.supervise import shapes
from hpc.supervise.malleable import Malleable, usable
from hpc.supervise.requeue import Job
from hpc.supervise.shapes import Pace
from tests.hpc.test_supervisor import program

TEST_ONLY = {
    "22.05": {
        1: "sbatch: Job 5 to start at 2026-11-29T16:20:46 using 2 processors on nodes n4 in partition cpu",
        2: "sbatch: Job 6 to start at 2026-11-29T17:20:44 using 4 processors on nodes n[1-2] in partition cpu",
        4: "sbatch: Job 7 to start at 2026-11-29T17:20:44 using 8 processors on nodes n[1-4] in partition cpu",
        5: "allocation failure: Requested node configuration is not available",
    },
    "24.11": {
        1: "sbatch: Job 5 to start at 2026-11-29T16:20:35 using 2 processors on nodes n4 in partition cpu",
        2: "sbatch: Job 6 to start at 2026-11-29T17:20:33 using 4 processors on nodes n[1-2] in partition cpu",
        4: "sbatch: Job 7 to start at 2026-11-29T17:20:33 using 8 processors on nodes n[1-4] in partition cpu",
        5: "allocation failure: Requested node configuration is not available",
    },
}
"""`sbatch --test-only --nodes=N` on a bed where three of four nodes are taken for an hour."""
NOW = words.time_of("2026-11-29T16:20:35") or 0.0


def answers(release: str) -> dict[int, Answer]:
    said = TEST_ONLY[release]
    return {n: start_estimate.read(1 if n == 5 else 0, words.essence(text)) for n, text in said.items()}


def unknown(minutes: float) -> Pace:
    return Pace({}, None, 60 * minutes, 1)


@pytest.mark.parametrize("release", TEST_ONLY)
@pytest.mark.parametrize(("minutes", "nodes"), [(10, 1), (80, 1), (90, 4), (1000, 4)])
def test_more_nodes_are_waited_for_only_if_it_is_done_first_with_them(release: str, minutes: int, nodes: int) -> None:
    """80 min on one node are less than an hour and 25 min on four; 90 min are not."""
    choice = shapes.choose(answers(release), unknown(minutes), NOW)
    assert choice.nodes == nodes, choice.why
    assert "5 nodes: not known, as Slurm says: Requested node configuration" in choice.why
    assert "its speed is not known: taken to need " in choice.why and "1.8 times as fast" in choice.why


def test_what_is_measured_outweighs_what_is_assumed() -> None:
    at_once = {n: Answer(NOW, "n1") for n in (1, 2, 4)}
    assert shapes.choose(at_once, unknown(10), NOW).nodes == 4
    slower_on_four = Pace({1: 1.0, 2: 1.9, 4: 1.7}, 1000, 600.0, 1)
    choice = shapes.choose(at_once, slower_on_four, NOW)
    assert choice.nodes == 2
    assert "measured: 1 steps/s on 1 node, 1.9 steps/s on 2 nodes, 1.7 steps/s on 4 nodes" in choice.why


def test_of_equals_the_fewest_are_taken() -> None:
    assert shapes.choose({n: Answer(NOW, "n1") for n in (4, 2)}, Pace({2: 1.0, 4: 1.0}, 0, 600.0, 2), NOW).nodes == 2


def test_where_slurm_says_nothing_the_fewest_are_taken_and_that_is_said() -> None:
    choice = shapes.choose({n: Answer(silence="not known: no answer within 5 s") for n in (2, 4)}, unknown(10), NOW)
    assert choice == (2, "2 nodes, the fewest: not known: no answer within 5 s")


@pytest.mark.parametrize(
    ("counts", "asked"),
    [([1, 2, 3, 4], [1, 2, 3, 4]), (list(range(1, 65)), [1, 2, 3, 6, 11, 20, 35, 64]), (list(range(8, 17)), None)],
)
def test_slurm_is_asked_about_a_few_numbers_of_many(counts: list[int], asked: "list[int] | None") -> None:
    chosen = shapes.asked_for(counts)
    assert len(chosen) <= shapes.MOST_ASKED and {counts[0], counts[-1]} <= set(chosen) <= set(counts)
    assert asked is None or chosen == asked


def finished(folder: Path, name: str, config: str, per_s: float) -> RunDir:
    run = RunDir(folder / name)
    run.path.mkdir()
    run.config.write_text(config)
    line = {"attempt": 1, "started": 1.0, "outcome": "finished", "ranks": 4, "nodes": 2, "total": 100, "per_s": per_s}
    append_line(run.attempts, line)
    write_json(run.result, {"metrics": {}})
    return run


def test_speed_is_that_of_a_finished_run_with_another_seed_until_it_has_one_of_its_own(tmp_path: Path) -> None:
    resources = {"time_s": 600, "ranks_per_node": 2}
    config = "seed: 3\noptim:\n  lr: 0.1\n"
    finished(tmp_path, "train-other", "seed: 0\noptim:\n  lr: 0.2\n", 9.0)
    like = finished(tmp_path, "train-like", "seed: 0\noptim:\n  lr: 0.1\n", 2.0)
    run = RunDir(tmp_path / "train-new")
    pace = shapes.pace_of(run, resources, 1, config)
    assert (pace.per_s, pace.n_left, pace.of) == ({2: 2.0}, 100, like.name)
    assert pace.seconds(2) == 50.0 and pace.seconds(4) == pytest.approx(50 / 2**0.85)
    assert shapes.pace_of(run, {"time_s": 600, "ranks_per_node": 1}, 1, config).per_s == {}, "other ranks a node"
    run.path.mkdir()
    append_line(run.attempts, {"started": 2.0, "outcome": "stopped", "ranks": 2, "nodes": 1, "total": 80, "per_s": 4.0})
    (run.checkpoints / "step-00000030").mkdir(parents=True)
    write_json(run.checkpoints / "step-00000030/COMMIT", {})
    pace = shapes.pace_of(run, resources, 1, config)
    assert (pace.per_s, pace.n_left, pace.of) == ({1: 4.0}, 50, "")


def test_an_attempt_notes_how_fast_it_was() -> None:
    heartbeat = {"attempt": 2, "from": 10, "done": 30, "total": 100, "began": 5.0, "time": 15.0}
    assert shapes.speed(heartbeat, 2) == {"total": 100, "per_s": 2.0, "done": 30}
    assert shapes.speed(heartbeat, 3) == {}, "none of its ranks has come so far"
    assert shapes.speed(heartbeat | {"done": 10}, 2) == {"total": 100, "per_s": 0.0, "done": 10}


def test_nodes_that_cannot_start_anything_are_left_out() -> None:
    states = ["n1|mixed", "n1|mixed", "n2|down", "n3|allocated*", "n4|draining", "n5|idle"]
    assert usable(["n1", "n2", "n3", "n4", "n5"], states, ["n5"]) == ["n1", "n4"]


@pytest.fixture
def malleable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Malleable:
    """A run in a job of the nodes n1 and n2; n3 and n4 are free. Slurm's commands are a line of shell each."""
    for name, line in {
        "squeue": "echo 'n[1-2]'",
        "scontrol": "printf 'n1\\nn2\\n'",
        "sinfo": f"cat {tmp_path}/states",
        "sbatch": f"echo \"$*\" >> {tmp_path}/asked; echo '{TEST_ONLY['24.11'][1]}' >&2",
    }.items():
        program(tmp_path / name, line)
    (tmp_path / "states").write_text("n1|mixed\nn2|mixed\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    run = RunDir(tmp_path / "count-a")
    run.path.mkdir()
    for path in (run.config, run.script):
        path.write_text("")
    resources = {"nodes": 2, "ranks_per_node": 1, "node_counts": [1, 2, 3, 4], "time_s": 600}
    return Malleable(run, Job("7", 0, 2, 1), resources | {"options": {"exclude": "n9"}})


def asked(malleable: Malleable) -> list[str]:
    return (malleable.run.path.parent / "asked").read_text().splitlines()


def test_at_a_requeue_only_nodes_besides_its_own_are_asked_for(malleable: Malleable) -> None:
    choice = malleable.next([], time.monotonic() + 100, preempted=False)
    assert asked(malleable) == ["--test-only --nodes=1 --exclude=n9,n1,n2", "--test-only --nodes=2 --exclude=n9,n1,n2"]
    assert choice.nodes == 4 and "2 nodes (starts at once, then 6 min)" in choice.why


def test_a_preempted_run_has_no_nodes_of_its_own_to_count_on(malleable: Malleable) -> None:
    malleable.next([], time.monotonic() + 100, preempted=True)
    assert asked(malleable) == [f"--test-only --nodes={n} --exclude=n9" for n in (1, 2, 3, 4)]


def test_it_shrinks_to_a_number_that_it_may_have(malleable: Malleable) -> None:
    assert malleable.shrink([]) == "", "both are there"
    (malleable.run.path.parent / "states").write_text("n1|mixed\nn2|down*\n")
    assert malleable.shrink([]) == "goes on with 1 node of 2, n1, in the same job"
    assert (malleable.resources["nodes"], malleable.resources["on_nodes"]) == (1, ["n1"])
    assert malleable.shrink(["n1"]) == "", "none is left: back into the queue"


def test_a_site_takes_of_a_range_what_it_has() -> None:
    site = replace(profile.load("slurm"), max_nodes=4)
    resources = allocation.fit_range(site, Request(), 2, 9)
    assert (resources.nodes, resources.node_counts) == (2, (2, 3, 4))
    assert "not more than 4 nodes: --nodes must be 1 to 4 on slurm, but got 5" in resources.notes
    assert allocation.sbatch_options(site, resources)["no-kill"] is True
    with pytest.raises(ConfigError, match="--nodes must be 1 to 4 on slurm, but got 5"):
        allocation.fit_range(site, Request(), 5, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4-1", "--nodes needs the fewest first, as 1-4, but got '4-1'"),
        ("0-2", "--nodes needs at least 1 node, as 1-2, but got '0-2'"),
        ("1-", "--nodes needs a whole number, or the fewest and the most, as 1-4, but got '1-'"),
        ("-4", "--nodes needs a whole number, or the fewest and the most, as 1-4, but got '-4'"),
        ("1-2-3", "--nodes needs a whole number, or the fewest and the most, as 1-4, but got '1-2-3'"),
        ("few", "--nodes needs a whole number, but got 'few'"),
    ],
)
def test_what_is_no_range_is_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        options.read(["count", f"--nodes={text}"])
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["count", "--on", "local"],
            "--nodes 1-4 has Slurm choose the number of nodes, and local is no Slurm site: say",
        ),
        (
            ["sweep", "count", "n=1..3", "--on", "slurm"],
            "a sweep is an array, whose jobs have one number of nodes: say",
        ),
        (["drill", "count", "--on", "slurm"], "--nodes 1-4: a drill compares runs on one number of nodes: say one"),
        (["count", "--on", "slurm,lumi"], "--nodes 1-4 and --on slurm,lumi are two choices: name one site, or say one"),
    ],
)
def test_where_the_number_cannot_change_a_range_is_refused(in_folder: Path, words: list[str], message: str) -> None:
    args = options.read([*words, "--nodes", "1-4"])
    with pytest.raises(ConfigError, match=re.escape(message)):
        (run_drill if args.verb == "drill" else planner.make)(args, {})
    assert list(in_folder.iterdir()) == []


@pytest.fixture
def in_folder(example: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plan_says_which_numbers_there_are_and_without_a_slurm_takes_the_fewest(in_folder: Path) -> None:
    (plan,) = planner.make(options.read(["count", "--nodes", "2-4", "--on", "slurm", "--dry-run"]), {})
    text = plan.render()
    assert "layout  2 nodes x 1 rank = 2 ranks, chosen of 2, 3 or 4 nodes\n" in text
    assert "note    2 nodes, the fewest: no Slurm of slurm here that could be asked\n" in text
    assert "exact   batches and their order are the same on any of its numbers of nodes; the stage does not say" in text
    script = batch.sbatch_text(plan, {})
    assert "#SBATCH --no-kill\n" in script and "#SBATCH --nodes=2\n" in script
    (plan,) = planner.make(options.read(["count", "--nodes", "3-3", "--on", "slurm", "--dry-run"]), {})
    assert (plan.resources.nodes, plan.resources.node_counts, plan.exact) == (3, (), "")


def test_the_plan_leaves_out_what_the_ranks_cannot_share(in_folder: Path) -> None:
    sections = "synthesize: {}\npreprocess: {study: synthesize}\ntrain: {data: preprocess, windows: {batch: 8}}\n"
    (in_folder / "study.yaml").write_text(sections)
    words = ["train", "study.yaml", "--nodes", "1-4", "--on", "slurm", "--dry-run"]
    first, *_, plan = planner.make(options.read(words), {})
    assert first.science.stage == "synthesize" and first.resources.node_counts == (1, 2, 3, 4)
    assert plan.resources.node_counts == (1, 2, 4)
    assert any("not on 3 nodes: windows.batch is 8 for all ranks" in note for note in plan.resources.notes)
    words += ["compute.exact=true", "compute.shares=2"]
    *_, plan = planner.make(options.read(words), {})
    assert plan.resources.node_counts == (1, 2) and plan.exact.endswith("its parameters are equal bit for bit")
    with pytest.raises(ConfigError, match="compute.shares=2 is for 1 or 2 ranks, each with 1, 2, 4, 8 … shares, but"):
        planner.make(options.read([*words, "--nodes=3-4"]), {})


def test_lists_of_numbers_are_read_as_they_are_spoken() -> None:
    assert [one_of(each, "node") for each in ([1], [1, 2], [1, 2, 4], list(range(1, 65)))] == [
        "1 node", "1 or 2 nodes", "1, 2 or 4 nodes", "1 to 64 nodes"
    ]  # fmt: skip

"""`why --slow`: which rank or node the others wait for, and in what, by real runs and by noted paces."""

import json
import re
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from hpc.rank import ddp
from hpc.rank.context import BEGUN, Context, World
from hpc.runs import heartbeats, records
from hpc.runs.rundir import RunDir, append_line
from hpc.runs.speed import pace, phases, slow
from hpc.runs.speed.pace import KEPT_RANKS, PHASES, Pace
from hpc.runs.speed.phases import Clock
from hpc.runs.speed.slow import RankPace
from hpc.runs.status import State
from tests.conftest import Launch
from tests.ranks import in_ranks


def state(word: str = "running", nodes: int = 2) -> State:
    running = State("train-k3f9")
    running.word, running.on_slurm, running.nodes = word, True, nodes
    return running


def ranks(*seconds: tuple[float, float, float, float], steps: int = 100, per_node: int = 2) -> list[RankPace]:
    """Ranks that took so many seconds a step in each phase."""
    return [
        RankPace(rank, f"n{1 + rank // per_node}", Pace(steps, [steps * one for one in each]))
        for rank, each in enumerate(seconds)
    ]


EVEN = (0.01, 0.4, 0.02, 0.0)


@pytest.mark.parametrize("phase", ["data", "compute", "save"])
@pytest.mark.ranks
def test_the_slow_rank_of_a_run_is_named_with_what_it_is_slow_in(launch: Launch, phase: str) -> None:
    launch("count", "n=6", f"slow_in={phase}", "slow_s=0.3", "--ranks", "3", "--on", "local")
    (run,) = launch.runs()
    said = launch("why", run.name, "--slow").stdout
    assert f"{phase} bounds it, on rank 2 of " in said
    answer = json.loads(launch("why", run.name, "--slow", "--json").stdout)
    assert answer["bound"] == phase and [each["rank"] for each in answer["ranks"]] == [0, 1, 2]
    of_slow = answer["ranks"][2]
    assert of_slow[phase] >= 0.3 and of_slow[phase] == max(each[phase] for each in answer["ranks"])
    assert min(answer["ranks"], key=lambda each: each["wait"])["rank"] == 2, "the others wait for it"
    assert answer["ranks"][0]["steps"] == 5 and answer["next"] == [], "it is finished"


def test_a_node_whose_ranks_are_all_slow_is_named_and_can_be_left(tmp_path: Path) -> None:
    answer = slow.judge(state(), ranks(EVEN, EVEN, (0.01, 0.9, 0.0, 0.0), (0.01, 0.88, 0.0, 0.0)))
    assert (answer.bound, answer.node) == ("compute", "n2")
    assert "compute bounds it, on n2: a step spends 0.90 s in compute there, and 0.40 s elsewhere" in answer.text
    assert answer.next == [
        "python -m hpc.launch stop train-k3f9 && python -m hpc.launch resume train-k3f9 --exclude n2"
    ]


def test_one_slow_rank_of_a_node_is_no_slow_node() -> None:
    answer = slow.judge(state(), ranks(EVEN, EVEN, EVEN, (0.5, 0.4, 0.0, 0.0)))
    assert answer.bound == "data" and "on rank 3 of n2: a step spends 0.50 s in data there" in answer.text


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [
        ((0.5, 0.1, 0.0, 0.0), "data"),
        (EVEN, "compute"),
        ((0.0, 0.1, 0.5, 0.0), "network"),
        ((0.0, 0.1, 0.0, 0.3), "save"),
    ],
)
def test_where_all_are_alike_the_largest_share_bounds_the_run(
    seconds: tuple[float, float, float, float], bound: str
) -> None:
    answer = slow.judge(state(), ranks(*[seconds] * 4))
    assert (answer.bound, answer.node) == (bound, "") and answer.text.startswith(f"{bound} bounds it: ")
    assert answer.next, "it runs, so something can be done"


def test_small_differences_are_chance() -> None:
    late = (0.01, 0.43, 0.0, 0.0)
    assert slow.who_is_late(ranks(EVEN, EVEN, EVEN, late)) is None
    brief = ranks(*[(0.0, 0.001, 0.001, 0.0)] * 3, (0.0, 0.002, 0.0, 0.0))
    assert slow.who_is_late(brief) is None, "a tenth of a second in all"


def test_one_rank_is_late_for_nobody() -> None:
    answer = slow.judge(state(nodes=1), ranks((0.5, 0.1, 0.0, 0.0)))
    assert answer.bound == "data" and "alike" not in answer.text


def test_a_run_without_figures_says_so(tmp_path: Path) -> None:
    answer = slow.judge(state(), slow.ranks_of(RunDir(tmp_path)))
    assert "no rank has noted how long its steps take" in slow.text(answer) and not answer.bound


def test_of_many_ranks_those_are_shown_that_wait_least() -> None:
    text = slow.text(slow.judge(state(), ranks(*[EVEN] * 19, (0.01, 0.9, 0.0, 0.0), per_node=4)))
    first, *_, last = text[text.index("rank  node") :].splitlines()[1:]
    assert first.split()[:2] == ["19", "n5"] and last == "  and 8 ranks more (--json has them)"


def heartbeat(rank: int, span: Pace, attempt: int = 1, **more: object) -> dict[str, object]:
    beat = {"rank": rank, "time": time.time(), "attempt": attempt, "host": f"n{rank}", "pace": span.to_json()}
    return {**beat, "what": "train", "done": 5, "total": 9, **more}


def test_a_running_run_is_judged_by_its_last_minute_and_an_ended_one_by_all(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    ring = [Pace(10, [0.0, 1.0, 4.0, 0.0]), Pace(5, [5.0, 1.0, 0.0, 0.0])]
    beat = heartbeat(0, Pace(100, [9.0, 50.0, 4.0, 0.0], ring))
    heartbeats.write(run, 0, {0: heartbeats.slot_of(beat)})
    (now,) = slow.ranks_of(run, lately=True)
    assert now.pace.steps == 15 and now.pace.seconds == (5.0, 2.0, 4.0, 0.0)
    kept = {"started": 1.0, "outcome": "finished", "paces": slow.paces_to_keep([beat])}
    append_line(run.attempts, kept)
    run.node(0).unlink()
    (then,) = slow.ranks_of(run)
    assert then.pace.steps == 100 and then.pace.seconds == (9.0, 50.0, 4.0, 0.0) and then.host == "n0"
    assert len(records.attempts(run)) == 1, "the line is as it should be"


def test_paces_of_more_ranks_than_a_line_should_hold_are_not_kept() -> None:
    beats = [heartbeat(rank, Pace(1, [0.0] * 4)) for rank in range(KEPT_RANKS + 1)]
    assert slow.paces_to_keep(beats) == {} and len(slow.paces_to_keep(beats[1:])) == KEPT_RANKS
    assert len(json.dumps(slow.paces_to_keep(beats[1:]))) < 8192


def test_a_slot_without_room_leaves_out_the_oldest_spans() -> None:
    ring = [Pace(10_000 + n, [1234.567] * 4) for n in range(7)]
    beat = heartbeat(0, Pace(10_000, [1234.567] * 4, ring), figures={f"figure {n}": 0.123456789 for n in range(25)})
    read = heartbeats.record_of(heartbeats.slot_of(beat))
    assert read is not None and len(read["figures"]) == 25
    back = pace.of(read)
    assert back is not None and 0 < len(back.ring) < 7 and back.ring[-1].steps == 10_006


@pytest.mark.parametrize(
    "damaged",
    [{}, {"pace": 3}, {"pace": {"steps": 1, "s": [1, 2]}}, {"pace": {"steps": -1, "s": [0] * 4}},
     {"pace": {"steps": 1, "s": [0, 0, 0, "x"]}}, {"pace": {"steps": 1, "s": [0] * 4, "ring": [[1]]}}],
)  # fmt: skip
def test_a_damaged_pace_is_none(damaged: dict[str, object]) -> None:
    assert pace.of(damaged) is None


def test_the_clock_counts_each_second_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(phases.time, "perf_counter", lambda: now[0])
    clock = Clock()
    for name, seconds in (("data", 1.0), ("wait", 2.0), ("save", 4.0)):
        with clock.phase(name):
            now[0] += seconds
            with clock.phase("wait"):
                now[0] += 0.5
        now[0] += 8.0
    whole = clock.pace(3)
    assert whole.seconds == (1.0, 24.0, 3.5, 4.0) and whole.steps == 3
    assert whole.ring[-1].seconds == whole.seconds
    now[0] += 1.0
    assert clock.pace(4).lately.seconds == (1.0, 25.0, 3.5, 4.0), "a span that is over, and the next one"
    for step in range(5, 12):
        now[0] += phases.SPAN_S
        whole = clock.pace(step)
    assert len(whole.ring) == phases.SPANS + 1 and whole.lately.seconds[1] < whole.seconds[1]


def test_a_rank_notes_its_pace_from_its_first_step_on(tmp_path: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path))
    ctx.progress(BEGUN, 0, 0)
    assert pace.of(records.heartbeat(ctx.run, 0)) is None
    ctx.progress("count", 3, 9)
    with ctx.phase("save"):
        time.sleep(0.05)
    ctx.progress("count", 9, 9)
    noted = pace.of(records.heartbeat(ctx.run, 0))
    assert noted is not None and noted.steps == 6 and noted.seconds[PHASES.index("save")] >= 0.05


def _average(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    run = RunDir(folder)
    ctx = Context(World(rank, 2, rank, 2), run)
    ddp.start(ctx)
    model = ddp.wrap(nn.Linear(4, 4), torch.device("cpu"))
    for step in range(4):
        ctx.progress("train", step, 4)
        if rank == 1:
            time.sleep(0.3)
        model(torch.ones(2, 4)).sum().backward()
    ctx.progress("train", 4, 4)
    ddp.barrier()
    ddp.stop()


@pytest.mark.ranks
def test_who_waits_for_gradients_waits_and_does_not_compute(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.attempt(1).path.mkdir(parents=True)
    (tmp_path / "plan.json").write_text("{}")
    in_ranks(_average, 2, tmp_path)
    first, second = slow.ranks_of(run, lately=True)
    assert first.pace.seconds[2] > 0.8 and second.pace.seconds[1] > 0.8
    late = slow.who_is_late([first, second])
    assert late is not None and re.fullmatch("rank 1.*", late.where) and late.phase == "compute"

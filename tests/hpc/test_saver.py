"""Saving runs in parallel with training; a full disk, a late rank and an old attempt do no harm."""

import errno
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

from hpc.checkpoint import checkpoint, saver
from hpc.checkpoint.saver import Saver
from hpc.rank import ddp
from hpc.rank.context import Context, Fenced, Preempted, World
from hpc.runs import records
from hpc.runs.rundir import RunDir, append_line, committed_steps, write_json
from tests.ranks import forked
from tests.waiting import LONG_S, wait_for


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def saver_of(run: RunDir, attempt: int = 1, **options: int) -> Saver:
    return Saver(Context(World(), run, attempt), **options)


class Held:
    """The thread of a saver does nothing until it is let go: a slow disk."""

    def __init__(self, of: Saver) -> None:
        self.go = threading.Event()
        of._thread.submit(self.go.wait)


def test_training_goes_on_while_the_disk_works(run: RunDir) -> None:
    ours = saver_of(run)
    weights = torch.ones(1000)
    slow = Held(ours)
    ours.save(1, {"weights": weights})
    weights.zero_()
    assert committed_steps(run.checkpoints) == []
    slow.go.set()
    ours.close()
    assert checkpoint.load(run.checkpoints, 1)["weights"].sum() == 1000


def test_what_changes_later_is_copied_beside_training(run: RunDir) -> None:
    ours = saver_of(run)
    weights, moments = torch.ones(1000), torch.ones(3_000_000)
    for step in range(1, 6):
        ours.save(step, {"weights": weights, "optimizer": {"moments": moments}}, later=("optimizer",))
        weights += 1  # as a forward pass may
        ours.settle()
        moments += 1
    ours.close()
    found = checkpoint.load(run.checkpoints, 5)
    assert found["weights"].unique().tolist() == found["optimizer"]["moments"].unique().tolist() == [5.0]


def test_who_is_about_to_change_it_waits_for_the_copy(run: RunDir) -> None:
    ours = saver_of(run)
    moments = torch.ones(3_000_000)
    slow = threading.Event()
    for _ in range(os.cpu_count() or 1):
        ours._staging._threads.submit(slow.wait)
    ours.save(1, {"optimizer": moments}, later=("optimizer",))
    assert not slow.is_set()
    threading.Timer(0.2, slow.set).start()
    ours.settle()
    assert slow.is_set()
    ours.close()


def test_a_second_save_waits_for_the_first_and_says_so(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ours = saver_of(run)
    slow = Held(ours)
    ours.save(1, {"value": 1})
    second = threading.Thread(target=ours.save, args=(2, {"value": 2}))
    second.start()
    wait_for(lambda: ours.n_waited, "the second save waits")
    slow.go.set()
    second.join()
    ours.close()
    assert [checkpoint.load(run.checkpoints, step)["value"] for step in (1, 2)] == [1, 2]
    assert "s for the save before to end" in caplog.text


def test_an_error_of_the_thread_is_raised_at_the_next_call(run: RunDir) -> None:
    run.path.mkdir()
    run.checkpoints.write_text("a file where a folder should be")
    ours = saver_of(run)
    ours.save(1, {"value": 1})
    with pytest.raises(OSError, match="checkpoints"):
        ours.save(2, {"value": 2})


def test_without_room_training_goes_on_and_saves_later(
    run: RunDir, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = saver_of(run)
    for step in (1, 2):
        ours.save(step, {"weights": torch.full((1000,), step)})
    ours.close()
    real = os.statvfs(run.checkpoints)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([*real[:3], 0, 0, *real[5:]]))
    with caplog.at_level(logging.ERROR):
        ours.save(3, {"weights": torch.zeros(1000)})
        ours.close()
    assert "ALERT step 3 is not saved: 0.00 GB free" in caplog.text
    assert "the last whole checkpoint is that of step 2" in caplog.text
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000002"], "room was made, half is not left"
    monkeypatch.undo()
    ours.save(4, {"weights": torch.zeros(1000)})
    ours.close()
    assert committed_steps(run.checkpoints) == [2, 4]


def test_the_last_save_waits_for_room_and_is_not_taken_to_hang(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = Context(World(), run, 1)
    ours = Saver(ctx)
    ctx.progress("train", 3, 3)
    before = records.heartbeat(run, 0)["time"]
    run.checkpoints.mkdir(parents=True)
    real, none = os.statvfs(run.checkpoints), (0, 0)
    monkeypatch.setattr(saver, "FULL_S", 0.2)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([*real[:3], *none, *real[5:]]))
    ours.save(3, {"weights": torch.zeros(1000)}, last=True)
    wait_for(lambda: records.heartbeat(run, 0)["time"] > before, "it says that it lives")
    monkeypatch.undo()
    ours.close()
    assert committed_steps(run.checkpoints) == [3]


def test_asked_to_stop_on_a_full_disk_the_last_save_does_not_pass_for_done(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Saver(Context(World(), run, 1, should_stop=lambda: True))
    run.checkpoints.mkdir(parents=True)
    real = os.statvfs(run.checkpoints)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([*real[:3], 0, 0, *real[5:]]))
    ours.save(3, {"weights": torch.zeros(1000)}, last=True)
    with pytest.raises(Preempted):
        ours.close()


FULL = """
import errno, os, sys, torch
from pathlib import Path
from hpc.rank.context import Context, Fenced, World
from hpc.runs.rundir import RunDir, committed_steps
from hpc.checkpoint.saver import Saver
run = RunDir(Path(sys.argv[1]))
plenty = os.statvfs("/")
os.statvfs = lambda path: os.statvfs_result([4096, 4096, *[10**9] * 6, 0, 255])  # a quota does not show in it
ours = Saver(Context(World(), run))
for step in (1, 2, 3):
    ours.save(step, {"weights": torch.full((300_000,), 1.0 * step)})
ours.close()
print(committed_steps(run.checkpoints), sorted(path.name for path in run.checkpoints.iterdir()))
(run.path / "filler").unlink()
ours.save(4, {"weights": torch.zeros(300_000)})
ours.close()
print(committed_steps(run.checkpoints))
"""


def test_a_disk_that_is_full_in_the_middle_of_a_save(tmp_path: Path) -> None:
    """A real disk of 6 MB, of which another program has taken 3: two checkpoints fit, a third does not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=6m tmpfs {disk} && head -c 3000000 /dev/zero > {disk}/filler"
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    try:
        subprocess.run([*namespace, mount], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no file systems of one's own here (unshare)")
    done = subprocess.run(
        [*namespace, f'{mount} && exec "$@"', "sh", sys.executable, "-c", FULL, str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[1, 2] ['step-00000001', 'step-00000002']", "[2, 4]"]
    assert "ALERT step 3 is not saved: No space left on device" in done.stderr


def test_an_attempt_that_is_over_saves_no_more(run: RunDir) -> None:
    zombie = saver_of(run)
    slow = Held(zombie)
    zombie.save(1, {"of": "zombie"})
    run.attempt(2).path.mkdir(parents=True)
    newer = saver_of(run, attempt=2)
    newer.save(1, {"of": "newer"})
    newer.close()
    slow.go.set()
    with pytest.raises(Fenced, match="attempt 1 of run is over: attempt 2 has begun"):
        zombie.save(2, {"of": "zombie"})
    with pytest.raises(Fenced, match="attempt 1 of run is over"):
        saver_of(run)
    assert checkpoint.latest(run.checkpoints) == (1, {"of": "newer"})


def test_the_interval_follows_what_a_save_costs_and_how_often_the_run_fails(run: RunDir) -> None:
    assert saver.interval_s(2.0, 10_000) == 200
    assert saver.interval_s(0.0, 10_000) == 30
    assert saver.interval_s(1000, 86_400) == 1800
    assert saver.mean_between_failures_s([]) == 86_400
    attempts = [{"started": 0, "ended": 3600, "outcome": outcome} for outcome in ("crashed", "stopped", "crashed")]
    assert saver.mean_between_failures_s(attempts) == (86_400 + 3 * 3600) / 3


def test_it_is_time_to_save_when_the_interval_is_over(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(saver.time, "monotonic", lambda: now[0])
    run.path.mkdir()
    append_line(run.attempts, {"started": 0, "ended": 100, "outcome": "crashed"})
    ours = saver_of(run, keep_every=50)
    assert not ours.due(1)
    assert ours.due(50)
    now[0] += 30  # the first save comes early
    assert ours.due(2)
    assert not Saver(Context(World(1, 2), run)).due(2), "the first rank says when"
    ours.save(2, {"value": 1})
    ours.close()
    assert not ours.due(3)
    assert [Saver(Context(World(), run), every=3).due(step) for step in (5, 6)] == [False, True]


def test_a_rank_that_does_not_write_is_named(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saver, "MARKS_S", 0.05)
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        sharded = distribute_tensor(torch.randn(8, 2), init_device_mesh("cpu", (1,)))
        ours = Saver(Context(World(0, 2), run))
        ours.save(1, {"weights": sharded})
        with pytest.raises(TimeoutError, match="no file from rank 1 for the checkpoint of step 1 within"):
            ours.close()
        monkeypatch.undo()
        ours.save(2, {"weights": sharded})
        mark = checkpoint.beside(run.checkpoints, 2, 1) / "state-0001-of-0002.json"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(f'{{"failed": "Disk quota exceeded", "errno": {errno.EDQUOT}, "host": "n7"}}')
        ours.close()  # as a disk that is full: an alert, no error
        assert committed_steps(run.checkpoints) == []
    finally:
        dist.destroy_process_group()


def test_the_marks_of_all_ranks_are_looked_for_at_once(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = run.path / "partial"
    partial.mkdir(parents=True)
    ours = Saver(Context(World(0, 64), run))
    looks: list[int] = []
    real = os.listdir

    def listed(folder: Path) -> list[str]:
        looks.append(len(looks))
        if len(looks) == 3:
            for rank in range(1, 64):
                write_json(partial / f"state-{rank:04d}-of-0064.json", {"bytes": rank, "sha256": "x"})
        return real(folder)

    monkeypatch.setattr(saver.os, "listdir", listed)
    monkeypatch.setattr(Path, "exists", None)
    files = ours._others(partial, 1, 64)
    assert len(looks) == 3 and files["state-0063-of-0064.bin"]["bytes"] == 63


@pytest.mark.ranks
def test_saved_by_two_ranks_in_shards_it_goes_on_on_four_and_on_one(run: RunDir) -> None:
    on_ranks(2, run, first=0, last=2)
    two = checkpoint.load(run.checkpoints, 2)
    assert len(list(checkpoint.at(run.checkpoints, 2).glob("*.bin"))) == 2
    on_ranks(4, run, first=2, last=3)
    four = checkpoint.load(run.checkpoints, 3)
    assert len(list(checkpoint.at(run.checkpoints, 3).glob("*.bin"))) == 4

    network, optimizer = small()  # one process, no process group
    set_model_state_dict(network, two["model"])
    set_optimizer_state_dict(network, optimizer, two["optimizer"])
    train_step(network, optimizer, 2)
    one = {"model": get_model_state_dict(network), "optimizer": get_optimizer_state_dict(network, optimizer)}
    torch.testing.assert_close(four["model"], dict(one["model"]))
    torch.testing.assert_close(four["optimizer"]["state"], one["optimizer"]["state"])


def on_ranks(size: int, run: RunDir, first: int, last: int) -> None:
    ranks = [
        forked().Process(target=one_rank, args=(rank, size, run, first, last), daemon=True) for rank in range(size)
    ]
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(LONG_S)
        assert [rank.exitcode for rank in ranks] == [0] * size
    finally:
        for rank in ranks:
            rank.kill()


def one_rank(rank: int, size: int, run: RunDir, first: int, last: int) -> None:
    ctx = Context(World(rank, size, rank, size), run, attempt=size)
    ddp.start(ctx)
    assert ddp.agree(rank == 1, False) == [True, False]
    network, optimizer = small(init_device_mesh("cpu", (size,)))
    whole = StateDictOptions(full_state_dict=True)
    ours = Saver(ctx)
    if first:
        found = checkpoint.load(run.checkpoints, first)
        set_model_state_dict(network, found["model"], options=whole)
        set_optimizer_state_dict(network, optimizer, found["optimizer"], options=whole)
    for step in range(first, last):
        train_step(network, optimizer, step)
    state: dict[str, Any] = {"model": get_model_state_dict(network)}
    ours.save(last, state | {"optimizer": get_optimizer_state_dict(network, optimizer)})
    ours.close()
    ddp.barrier()
    ddp.stop()
    os._exit(0)


def small(mesh: Any = None) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """7 rows on 4 ranks: shards that are not equal, one layer with fewer rows than ranks."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
    if mesh is not None:
        fully_shard(network[0], mesh=mesh)
        fully_shard(network, mesh=mesh)
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def train_step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """The same batch on each rank, so that its mean over ranks is that of one."""
    generator = torch.Generator().manual_seed(step)
    optimizer.zero_grad()
    network(torch.randn(6, 5, generator=generator)).square().mean().backward()
    optimizer.step()

"""Saving and restoring 25M parameters with AdamW's state (303 MB): ours, torch.save, DCP, and the disk alone.

A step is a sleep: what a host does while its GPU works. After the first, the optimizer changes its state: what ours
copies beside that step has to be there. Deleting and flushing of old files is not timed.
"""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver

from bench.compare import Goal, ratio, show
from hpc.checkpoint import checkpoint
from hpc.checkpoint.saver import Saver
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir

EVERY = 8  # steps from save to save
OURS, TORCH, DCP, DCP_ASYNC, RAW = "ours", "torch.save + fsync", "DCP", "DCP async", "disk alone"
COPY, NONE = "a copy in memory", "no saves"


def run(quick: bool) -> bool:
    logged_to = Path(tempfile.mkdtemp(prefix="bench-checkpoint-"))
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        study = Study(logged_to)
        ok = training_blocked(study, step_s=0.4 if quick else 0.5, n=2 if quick else 7)
        ok &= stopped_to_durable(study, n=5 if quick else 15)
        # Once: a state restored through mmap lives in that file, and writing it anew kills the process
        durable_torch_save(study.state(), study.folder / "torch")
        state_dict_saver.save(study.state(), checkpoint_id=study.folder / "dcp")
        for cold in (False, True):
            ok &= restored(study, n=5 if quick else 15, cold=cold)
        return ok
    finally:
        dist.destroy_process_group()
        shutil.rmtree(logged_to)


class Study:
    """A model with its optimizer, and a folder on the disk that is measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = torch.nn.Sequential(*[torch.nn.Linear(1120, 1120) for _ in range(20)])
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        for parameter in self.model.parameters():
            parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()
        self.run = RunDir(folder / "run")
        self.saver = Saver(Context(World(), self.run), keep=1000)  # place() deletes
        self.step = 0

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def place(self) -> Path:
        """A new name each time; what stood there before is gone, and the disk is at rest."""
        shutil.rmtree(self.folder / "peers", ignore_errors=True)
        (self.folder / "peers").mkdir()
        for old in checkpoint.whole_steps(self.run.checkpoints)[:-1]:
            shutil.rmtree(checkpoint.at(self.run.checkpoints, old))
        os.sync()
        self.step += 1
        return self.folder / "peers" / f"{self.step}"


def training_blocked(study: Study, step_s: float, n: int) -> bool:
    blocked: dict[str, list[float]] = {}

    def steps(name: str, save: Callable[[Path], Callable[[], object]] | None) -> float:
        place = study.place()
        began = time.perf_counter()
        end: Callable[[], object] | None = save(place) if save else None
        waited = time.perf_counter() - began
        for number in range(EVERY):
            time.sleep(step_s)
            if name == OURS and number == 0:
                asked = time.perf_counter()
                study.saver.settle()
                waited += time.perf_counter() - asked
        blocked.setdefault(name, []).append(waited)
        seconds = time.perf_counter() - began
        if end:
            end()
        return seconds

    def ours(place: Path) -> Callable[[], object]:
        study.saver.save(study.step, study.state(), later=("optimizer",))
        return study.saver.close

    def torch_save(place: Path) -> Callable[[], object]:
        durable_torch_save(study.state(), place)
        return lambda: None

    def dcp_async(place: Path) -> Callable[[], object]:
        return state_dict_saver.async_save(study.state(), checkpoint_id=place).result  # type: ignore[union-attr]

    def copied(place: Path) -> Callable[[], object]:
        for there, tensor in zip(copies, tensors, strict=True):
            there.copy_(tensor)
        return lambda: None

    tensors = [
        *study.model.parameters(),
        *(moment for each in study.optimizer.state.values() for moment in each.values()),
    ]
    copies = [torch.zeros_like(tensor) for tensor in tensors]
    saves = {OURS: ours, COPY: copied, TORCH: torch_save, DCP_ASYNC: dcp_async, NONE: None}
    cycles = interleaved({name: partial(steps, name, save) for name, save in saves.items()}, n)
    waits = {name: values[1:] for name, values in blocked.items() if name != NONE}
    goals = {
        "blocked_over_torch_save": Goal(ratio(waits, OURS, TORCH), 0.05),
        "blocked_over_dcp_async": Goal(ratio(waits, OURS, DCP_ASYNC), 1 / 3),
    }
    ok = show("training waits for a save", waits, TORCH, goals)
    loop = {"loop_over_no_saves": Goal(ratio(cycles, OURS, NONE), 1.01)}
    return show(f"{EVERY} steps of {step_s} s and a save", cycles, NONE, loop) and ok


def stopped_to_durable(study: Study, n: int) -> bool:
    def ours() -> float:
        study.place()
        began = time.perf_counter()
        study.saver.save(study.step, study.state())
        study.saver.close()
        return time.perf_counter() - began

    size = sum(path.stat().st_size for path in next(study.run.checkpoints.glob("step-*")).iterdir())
    noise = torch.randint(0, 256, (size,), dtype=torch.uint8).numpy().data

    def raw() -> float:
        place = study.place()
        began = time.perf_counter()
        with open(place, "wb", buffering=0) as file:
            file.write(noise)
            os.fsync(file.fileno())
        return time.perf_counter() - began

    def torch_save() -> float:
        place = study.place()
        began = time.perf_counter()
        durable_torch_save(study.state(), place)
        return time.perf_counter() - began

    def dcp_save() -> float:
        place = study.place()
        began = time.perf_counter()
        state_dict_saver.save(study.state(), checkpoint_id=place)
        return time.perf_counter() - began

    seconds = interleaved({OURS: ours, RAW: raw, TORCH: torch_save, DCP: dcp_save}, n)
    return show(
        "from the wish to stop to a durable checkpoint",
        seconds,
        RAW,
        {"durable_over_disk_alone": Goal(ratio(seconds, OURS, RAW), 1.15)},
    )


def restored(study: Study, n: int, cold: bool) -> bool:
    by_torch, by_dcp = study.folder / "torch", study.folder / "dcp"
    whole = checkpoint.at(study.run.checkpoints, checkpoint.whole_steps(study.run.checkpoints)[-1])
    (ours_file,) = whole.glob("*.bin")

    def take(state: dict[str, Any]) -> None:
        study.model.load_state_dict(state["model"])
        study.optimizer.load_state_dict(state["optimizer"])

    def timed(read: Callable[[], object], *files: Path) -> Callable[[], float]:
        def measure() -> float:
            os.sync()
            for file in files:
                _forget(file) if cold else file.read_bytes()
            began = time.perf_counter()
            read()
            return time.perf_counter() - began

        return measure

    def ours() -> None:
        latest_checkpoint = checkpoint.latest(study.run.checkpoints)
        assert latest_checkpoint is not None
        take(latest_checkpoint[1])

    def dcp_load() -> None:
        state = study.state()
        state_dict_loader.load(state, checkpoint_id=by_dcp)
        take(state)

    in_memory, mapped = "torch.load", "torch.load(mmap), unchecked"
    methods = {
        OURS: timed(ours, ours_file),
        RAW: timed(lambda: ours_file.read_bytes(), ours_file),
        in_memory: timed(lambda: take(torch.load(by_torch, weights_only=True)), by_torch),
        mapped: timed(lambda: take(torch.load(by_torch, weights_only=True, mmap=True)), by_torch),
        DCP: timed(dcp_load, *by_dcp.iterdir()),
    }
    seconds = interleaved(methods, n)
    goal = {f"restore_over_disk_alone{'_cold' if cold else ''}": Goal(ratio(seconds, OURS, RAW), 2)}
    return show(f"restored, {'from the disk' if cold else 'from the page cache'}", seconds, RAW, goal)


def durable_torch_save(state: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def interleaved(methods: Mapping[str, Callable[[], float]], n: int) -> dict[str, list[float]]:
    """What each method says it took, in n rounds of random order, after one that does not count."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(n + 1):
        for name in order.sample(list(methods), len(methods)):
            took = methods[name]()
            if number:
                seconds[name].append(took)
    return seconds


def _forget(file: Path) -> None:
    """Out of the page cache, as on a node that has not read it yet."""
    handle = os.open(file, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)

"""Faults of GPUs, made on purpose: `cases(device)` runs each in a process of its own and prints whether it was known.

Part of `python -m bench gpu`. On the CPU the fault itself is imitated, and all that is ours runs: that the functions
work is tested so (tests/hpc/test_bench.py). What only a GPU can show says `skipped` there.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.rank import signals
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir, write_json
from hpc.supervise import fault_texts, flight_recorder
from hpc.supervise.ranks import Ranks

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Case:
    """A fault, and the function that makes it: it returns the sentence that a user would read, or raises."""

    what: str
    expected: str
    """What the sentence has in it."""
    make: Callable[[str, Path], str]
    n_gpus: int = 0
    """How many GPUs it needs; 0: it can be imitated."""


def none_visible(device: str, folder: Path) -> str:
    """GPUs were asked for, and none is visible: as with a driver that is too old, or a torch for CPUs."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from hpc.rank import ddp

    try:
        return f"computes on {ddp.device(_given(folder, gpus_per_node=1))}"
    except ValueError as error:
        return str(error)


def out_of_memory(device: str, folder: Path) -> str:
    """A batch that does not fit: the setting that is named must fit."""
    import torch
    from torch import nn

    from eegdecode.objectives import Batch
    from eegdecode.training import optim
    from eegdecode.training.config import Compute, Optim, Train
    from eegdecode.training.monitor import memory
    from eegdecode.training.step import Stepper
    from hpc.rank.context import Input

    where, most = torch.device(device), 20 * 1000

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 512)

        def forward(self, signal: torch.Tensor) -> torch.Tensor:
            if where.type == "cpu" and len(signal) * signal.shape[1] > most:
                raise torch.OutOfMemoryError("imitated")
            out: torch.Tensor = self.layer(signal).tanh().square().mean(-1, keepdim=True)
            return out

    if where.type == "cuda":  # three layers of 512 float32 each sample: as much as 20,000 samples take
        total = torch.cuda.get_device_properties(where).total_memory
        torch.cuda.set_per_process_memory_fraction(6 * most * 512 * 4 / total)

    def loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return (model(batch.signal) - batch.target).square().mean(), {}

    network = Network().to(where)
    keys = torch.arange(64, device=where)
    batch = Batch(torch.randn(64, 1000, 8, device=where), torch.randn(64, 1000, 1, device=where), keys, keys)
    accumulate, said = 1, ""
    while True:
        cfg = Train(data=(Input("x"),), optim=Optim(), compute=Compute(accumulate=accumulate))
        stepper = Stepper(cfg.optim, cfg.compute, network, network, loss, optim.adamw(network, cfg.optim), where)
        try:
            memory.try_longest(cfg, Context(World(), RunDir(folder)), stepper, batch, 1000, 1000)
        except ValueError as error:
            if said or "compute.accumulate=" not in str(error):
                return f"refused again: {error}"
            said = str(error)
            accumulate = int(said.partition("compute.accumulate=")[2].split()[0])
            continue
        return said


def device_assert(device: str, folder: Path) -> str:
    """An index out of range in a kernel: the program's fault, on whatever node."""
    import torch

    try:
        values = torch.zeros(4, device=device)[torch.tensor([7], device=device)]
        return f"no error: {values.tolist()}"
    except (RuntimeError, IndexError) as error:
        return f"{fault_texts.verdict(f'{type(error).__name__}: {error}').fault}: {error}"


def reading(device: str, folder: Path) -> str:
    """A rank whose GPU does not end: its stack must show that it waits, and its signal handler must still answer."""
    import torch

    from hpc.rank import ddp

    class Endless:
        def tolist(self) -> list[float]:
            time.sleep(3600)
            return []

    stacks = open(folder / "stacks", "w")  # noqa: SIM115  open until the end
    signals.write_stacks_to(stacks)
    signals.on_stacks(lambda: (folder / "answered").touch())

    def end() -> None:
        deadline, waits = time.monotonic() + PATIENCE_S, False
        while not waits and time.monotonic() < deadline:
            os.kill(os.getpid(), signals.STACKS)
            time.sleep(0.5)
            waits = "hpc/rank/ddp.py" in (folder / "stacks").read_text()
        print(f"its stack shows that it waits: {waits}; it answered: {(folder / 'answered').exists()}", flush=True)
        os._exit(0)

    import threading

    threading.Thread(target=end, daemon=True).start()
    figures: Any = Endless()
    if device != "cpu":
        figures = torch.ones(1, device=device)
        torch.cuda._sleep(1 << 62)
        figures = figures + 1
    ddp.read(figures)
    return "it did not wait"


def same_gpu(device: str, folder: Path) -> str:
    """Two ranks with the same GPU, which NCCL would refuse in its own words."""
    write_json(RunDir(folder).plan, _plan(gpus_per_node=1 if device != "cpu" else 0))
    sentences = list(_ranks(folder, 2, "begin"))
    return sentences[0] if sentences[0] == sentences[1] else " / ".join(sentences)


def nccl_start(device: str, folder: Path) -> str:
    """A rank a GPU: NCCL connects at the start, and says how fast it is."""
    write_json(RunDir(folder).plan, _plan(gpus_per_node=2))
    return next(_ranks(folder, 2, "measure"))


def nccl_hang(device: str, folder: Path) -> str:
    """Rank 1 is elsewhere while rank 0 waits in NCCL: torch's flight recorder must name it."""
    write_json(RunDir(folder).plan, _plan(gpus_per_node=2))
    folder_of = RunDir(folder).attempt(1)
    folder_of.path.mkdir(parents=True, exist_ok=True)
    processes = [_rank(folder, rank, 2, "hang") for rank in range(2)]
    ranks = Ranks.__new__(Ranks)
    ranks.run, ranks.attempt, ranks.folder, ranks.processes = RunDir(folder), 1, folder_of, processes  # type: ignore[assignment]
    ranks.resources, ranks._under_mpiexec = {"nodes": 1, "ranks_per_node": 2}, False
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.0)  # a kernel has no progress that one could look at
        late = flight_recorder.late(ranks._collectives([0, 1])) or ranks.late()
        return f"{late}"
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


CASES = (
    Case("asked for GPUs, none visible", "1 GPU a node were asked for, and torch sees none on", none_visible),
    Case("a batch that does not fit", "with compute.accumulate=", out_of_memory),
    Case("a device-side assert", "program: ", device_assert),
    Case("a GPU that does not end", "it waits: True; it answered: True", reading),
    Case("two ranks, one GPU", "have the same GPU", same_gpu, n_gpus=1),
    Case("NCCL's start", " GB/s a rank", nccl_start, n_gpus=2),
    Case("a hang under NCCL", "it has not entered all_reduce", nccl_hang, n_gpus=2),
)


def cases(device: str, first: int | None = None) -> Iterator[tuple[str, bool | None, str]]:
    """Run each case in a process of its own, as it may end the process or its GPU's context. Yield what it is, whether
    it was known (None: it needs more GPUs), and the sentence. `first`: only so many."""
    import torch

    n_gpus = torch.cuda.device_count() if device != "cpu" else 0
    for number, case in enumerate(CASES[:first]):
        if case.n_gpus > n_gpus:
            yield case.what, None, f"skipped: it needs {case.n_gpus} GPU{'s' if case.n_gpus > 1 else ''}"
            continue
        with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
            command = [sys.executable, "-m", "bench.gpu_faults", str(number), device, folder]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S)
                text = done.stdout.strip() or f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"
            except subprocess.TimeoutExpired:
                text = f"not ended after {2 * PATIENCE_S:.0f} s"
            yield case.what, case.expected in text, text


def _plan(gpus_per_node: int) -> dict[str, Any]:
    """What a rank reads of its plan."""
    resources = {"nodes": 1, "ranks_per_node": 2, "gpus_per_node": gpus_per_node}
    return {"site": {"name": "bench", "kind": "local"}, "resources": resources, "asked": {}}


def _given(folder: Path, gpus_per_node: int) -> Context:
    write_json(RunDir(folder).plan, _plan(gpus_per_node))
    return Context(World(), RunDir(folder), attempt=1, host=os.uname().nodename)


def _rank(folder: Path, rank: int, size: int, act: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench.gpu_faults", "rank", str(rank), str(size), act, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _ranks(folder: Path, size: int, act: str) -> Iterator[str]:
    """Start ranks, and yield what each prints."""
    processes = [_rank(folder, rank, size, act) for rank in range(size)]
    for process in processes:
        try:
            yield process.communicate(timeout=PATIENCE_S)[0].strip()
        finally:
            process.kill()


def _act(rank: int, size: int, act: str, folder: Path) -> None:
    import torch

    from hpc.rank import ddp

    run = RunDir(folder)
    if act == "begin":
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    run.attempt(1).path.mkdir(parents=True, exist_ok=True)
    signals.write_stacks_to(open(run.attempt(1).stacks(rank), "w"))  # noqa: SIM115  open until the end
    ctx = Context(World(rank, size, rank, size), run, attempt=1, host=os.uname().nodename)
    try:
        where = ddp.start(ctx)
    except (ValueError, RuntimeError) as error:
        print(error, flush=True)
        return
    ctx.progress("train", 1, 9)
    if act == "measure":
        print(ddp.measured(ctx, where), flush=True)
        ddp.stop()
    elif act == "hang":
        torch.cuda.synchronize()
        if rank == 1:
            time.sleep(3600)
        summed = ddp.total(torch.ones(1000, device=where))
        (folder / "waiting").touch()
        ddp.read(summed)


def main(words: list[str]) -> int:
    if words[0] == "rank":
        _act(int(words[1]), int(words[2]), words[3], Path(words[4]))
    else:
        number, device, folder = words
        print(CASES[int(number)].make(device, Path(folder)), flush=True)
    sys.stdout.flush()
    os._exit(0)  # a context that has failed, or a kernel that does not end, must not hold the interpreter


if __name__ == "__main__":
    main(sys.argv[1:])

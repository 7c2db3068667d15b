"""What it costs to average gradients over ranks, and when the sum has the same bits: `python -m bench ddp [--quick]`.

Ours against DistributedDataParallel, as it comes and with find_unused_parameters, which keeps its buckets and so makes
restarts exact. Gloo ranks of this machine. The cost is the CPU time of a rank for a forward and a backward pass, which
other programs on the machine disturb least; batches are small, so that it shows.
"""

import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bench.compare import Goal, judged, ratio, show
from eegdecode import models
from eegdecode.models import MODELS
from eegdecode.signals import SignalSpec
from hpc.rank import ddp, gradients, threads
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir

TORCH, UNUSED = "DDP", "DDP, find_unused_parameters"
AUTO, EXACT, LOOSE = "ours, exact=auto", "ours, exact=true", "ours, exact=false"
NAMES = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4")
KNOBS: Mapping[str, dict[str, Any]] = {"eegnet": {}, "bilstm": {}, "conformer": {}, "eegpt": {"variant": "large"}}
COSTED, COSTED_RANKS = ("eegnet", "conformer", "eegpt"), 3  # the fewest whose shares have an order
COMPARED, COMPARED_RANKS = ("eegnet", "bilstm", "conformer"), 4
STEPS, RESTART_AT = 6, 3
Wrap = Callable[[nn.Module, float], nn.Module]


def run(quick: bool) -> bool:
    reached = []
    for name in COSTED:
        n = {"eegpt": 8 if quick else 30}.get(name, 30 if quick else 100)
        of_ranks = _in_ranks(COSTED_RANKS, _costs, name, n)
        seconds = {method: [statistics.mean(each) for each in zip(*(rank[method] for rank in of_ranks), strict=True)]
                   for method in of_ranks[0]}  # fmt: skip
        goal = Goal(ratio(seconds, AUTO, TORCH), 1.02 if name == "eegpt" else 1.1)
        n_m = sum(one.numel() for one in _network(name).parameters()) / 1e6
        title = f"{name}, {n_m:.2f} M parameters, {COSTED_RANKS} ranks: CPU time of a rank"
        reached.append(show(title, seconds, TORCH, {f"{name}_auto_over_ddp": goal}))
    same = _in_ranks(COMPARED_RANKS, _compared)[0]
    words = {True: "EQUAL", False: "DIFFER"}
    print(f"\n{COMPARED_RANKS} ranks, {STEPS} steps; {'restarted after ' + str(RESTART_AT):>44}{'other buckets':>20}")
    for (name, method), (restart, buckets) in same.items():
        print(f"{name:<11}{method:<30}{words[restart]:>22}{words[buckets]:>20}")
    goals = {
        "restarts_equal": [restart for (_, method), (restart, _) in same.items() if method in (AUTO, EXACT, LOOSE)],
        "buckets_equal": [buckets for (_, method), (_, buckets) in same.items() if method in (AUTO, EXACT)],
    }
    equal = judged({name: Goal(sum(each) / len(each), 1.0, at_least=True) for name, each in goals.items()})
    return all(reached) and equal


def _in_ranks(n: int, function: Callable[..., Any], *told: Any) -> list[Any]:
    """Run it on n ranks, processes of their own; return what each gives."""
    with tempfile.TemporaryDirectory(prefix="bench-ddp-") as name:
        (Path(name) / "log").mkdir()
        spawn = multiprocessing.get_context("spawn")
        ranks = [spawn.Process(target=_rank, args=(rank, n, Path(name), function, told)) for rank in range(n)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if codes := [process.exitcode for process in ranks if process.exitcode]:
            raise RuntimeError(f"ranks ended with {codes}: their errors stand above")
        return [torch.load(Path(name) / f"{rank}.pt", weights_only=False) for rank in range(n)]


def _rank(rank: int, n: int, folder: Path, function: Callable[..., Any], told: tuple[Any, ...]) -> None:
    threads.cap(1)
    ddp.start(Context(World(rank, n, rank, n), RunDir(folder), attempt=1))
    torch.save(function(rank, *told), folder / f"{rank}.pt")
    ddp.barrier()
    ddp.stop()
    os._exit(0)  # as a worker does: now and then gloo aborts in an interpreter that shuts down


def _methods() -> dict[str, Wrap]:
    """Each takes a network and the size of the buckets in MB."""

    def ours(exact: bool | None) -> Wrap:
        return lambda network, bucket_mb: gradients.Averaged(network, ddp.in_order(network, exact), bucket_mb)

    return {
        TORCH: lambda network, bucket_mb: DistributedDataParallel(network, bucket_cap_mb=bucket_mb),
        UNUSED: lambda network, bucket_mb: DistributedDataParallel(
            network, bucket_cap_mb=bucket_mb, find_unused_parameters=True
        ),
        AUTO: ours(None),
        EXACT: ours(True),
        LOOSE: ours(False),
    }


def _network(name: str) -> nn.Module:
    sfreq = 256.0 if name == "eegpt" else 128.0
    places = tuple((0.01 * index, 0.02 * (index % 3), 0.1) for index in range(len(NAMES)))
    spec = SignalSpec(NAMES, sfreq, 4, ("a",), 0.0, 256, ("eeg",) * len(NAMES), places)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return models.build(MODELS[name](**KNOBS[name]), spec).train()


def _signal(rank: int, step: int, n: int) -> torch.Tensor:
    return torch.randn(n, 256, len(NAMES), generator=torch.Generator().manual_seed(1000 * step + rank))


def _costs(rank: int, name: str, n_rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of forward and backward passes by method, interleaved."""
    n_windows = 2 if name == "eegpt" else 8
    signal, subject = _signal(rank, 0, n_windows), torch.zeros(n_windows, dtype=torch.long)
    wrapped = {
        method: wrap(_network(name), gradients.BUCKET_MB)
        for method, wrap in _methods().items()
        if method != LOOSE and not (name != "eegpt" and method == EXACT)  # of small models the same as auto
    }
    order = random.Random(0)
    seconds: dict[str, list[float]] = {method: [] for method in wrapped}
    for number in range(n_rounds + 2):
        for method in order.sample(list(wrapped), len(wrapped)):
            wrapped[method].zero_grad()
            ddp.barrier()
            began = time.process_time()
            wrapped[method](signal, subject).square().mean().backward()
            if number > 1:  # the first two make buckets
                seconds[method].append(time.process_time() - began)
    return seconds


def _compared(rank: int) -> dict[tuple[str, str], tuple[bool, bool]]:
    """Return whether parameters are the same after a restart, and with smaller buckets, by model and method."""
    same = {}
    for name in COMPARED:
        for method, wrap in _methods().items():
            whole = _trained(rank, name, wrap)
            parts = _trained(rank, name, wrap, _trained(rank, name, wrap, n_steps=RESTART_AT), first=RESTART_AT)
            others = _trained(rank, name, wrap, bucket_mb=0.01)
            same[name, method] = (_equal(whole, parts), _equal(whole, others))
    return same


def _trained(
    rank: int,
    name: str,
    wrap: Wrap,
    state: tuple[dict[str, Any], dict[str, Any]] | None = None,
    first: int = 0,
    n_steps: int = STEPS,
    bucket_mb: float = gradients.BUCKET_MB,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train; return the state of the network and of the optimizer."""
    network = _network(name)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    if state is not None:
        network.load_state_dict(state[0])
        optimizer.load_state_dict(state[1])
    model = wrap(network, bucket_mb)
    for step in range(first, n_steps):
        torch.manual_seed(1000 * step + rank)
        optimizer.zero_grad()
        model(_signal(rank, step, 4), torch.zeros(4, dtype=torch.long)).square().mean().backward()
        optimizer.step()
    return network.state_dict(), optimizer.state_dict()


def _equal(one: tuple[dict[str, Any], dict[str, Any]], other: tuple[dict[str, Any], dict[str, Any]]) -> bool:
    return all(torch.equal(one[0][name], value) for name, value in other[0].items())

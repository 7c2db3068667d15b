"""What `python -m bench gpu` holds against each other: trainings with several settings, and loops of others.

Each arm is a function that does a step. They take turns on the same GPU.
"""

import copy
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import gpu_peers, loop
from bench.compare import PeerMissing, Peers
from bench.gpu_report import Report
from bench.loop import Case
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.conformer import Conformer
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.eegpt import EEGPT
from eegdecode.models.parts import attention
from eegdecode.objectives import Batch
from eegdecode.training.config import Compute
from eegdecode.training.loop import Training
from eegdecode.training.step import TYPES


class Arm(NamedTuple):
    compute: Mapping[str, Any]
    """Settings of `compute`."""
    bar: float | None = None
    """At most this over the bare loop of the same precision."""


ARMS: Mapping[str, Arm] = {
    "ours": Arm({}, 1.03),
    "ours, data from the host": Arm({"data_on_device": False}, 1.03),
    "ours, bf16": Arm({"precision": "bf16"}, 1.03),
    "ours, compiled, bf16": Arm({"precision": "bf16", "compile": True}),
}
"""Our arms. One more is a line: `"ours, a graph": Arm({"graph": True}),`."""
NOT_IMITATED = ("compile", "graph", "tf32")
"""Settings of `compute` for which an imitated GPU has nothing."""
LIGHTNING, BRAINDECODE = "a loop as Lightning's", "braindecode in a loop as Lightning's"
ROOF = "bf16 matrix product"


@dataclass(frozen=True)
class Size:
    cases: Mapping[str, Case]
    n_rounds: int
    exact_steps: int
    """Steps of the runs that are stopped in the middle."""
    n_workers: int
    """Of the DataLoader in others' loops."""
    side: int
    """Of the matrices, and the square root of the numbers that are copied."""
    exact: Sequence[str]
    """The cases that are stopped in the middle."""
    peers: Sequence[str]
    """The cases that braindecode runs too."""
    n_faults: int | None = None
    """None: all."""
    imitated: bool = False


def _cases(steps: tuple[int, int, int, int]) -> dict[str, Case]:
    e16, e22 = (tuple(f"E{number}" for number in range(n)) for n in (16, 22))
    eegpt = EEGPT(variant="large", spatial_filter=0)
    return {
        "EEGNet": Case(EEGNet(kernel=64), e22, 128.0, 2.0, 64, 1.03, steps[0]),
        "Conformer": Case(Conformer(scale="head"), e22, 250.0, 4.0, 64, 1.03, steps[1]),
        "biLSTM": Case(BiLSTM(), e16, 64.0, 4.0, 64, 1.03, steps[2]),
        "EEGPT": Case(eegpt, loop.EEGPT_CHANNELS, 256.0, 4.0, 32, 1.03, steps[3]),
    }


def _tiny_cases() -> dict[str, Case]:
    """The same networks, no deeper than it takes to run all of their code: each operation is imitated in Python."""
    e4, eegpt = ("E0", "E1", "E2", "E3"), EEGPT(variant="tiny1", spatial_filter=0)
    return {
        "EEGNet": Case(EEGNet(kernel=16), e4, 128.0, 1.0, 2, 1.03, 2),
        "Conformer": Case(Conformer(scale="head", layers=1), e4, 250.0, 1.0, 2, 1.03, 1),
        "biLSTM": Case(BiLSTM(layers=1), e4, 64.0, 0.125, 2, 1.03, 1),
        "EEGPT": Case(eegpt, loop.EEGPT_CHANNELS[:8], 256.0, 1.0, 2, 1.03, 1),
    }


PAIRS, OF_ALL = ("EEGNet", "Conformer", "EEGPT"), ("EEGNet", "Conformer", "biLSTM", "EEGPT")
FULL = Size(_cases((100, 30, 30, 10)), 5, exact_steps=60, n_workers=4, side=8192, exact=OF_ALL, peers=PAIRS)
QUICK = Size(_cases((50, 10, 10, 5)), 3, exact_steps=30, n_workers=4, side=8192, exact=OF_ALL, peers=PAIRS)
TINY = Size(
    _tiny_cases(), 1, exact_steps=4, n_workers=0, side=64, exact=("EEGNet",), peers=("EEGNet",), n_faults=1,
    imitated=True,
)  # fmt: skip

SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}


@dataclass
class Steps:
    """The arms of a case, ready to step."""

    case: Case
    n: dict[str, Callable[[], None]] = field(default_factory=dict)
    """By the name of the arm, what does the steps of a turn."""
    trainings: dict[str, Training] = field(default_factory=dict)
    bytes_of: dict[str, int] = field(default_factory=dict)
    wait_s: dict[str, list[float]] = field(default_factory=dict)
    """By our arms, how long each step waited for its batch."""


def build(
    name: str, size: Size, folder: Path, device: torch.device, report: Report, peers_python: str, undo: ExitStack
) -> Steps:
    """Build all arms of a case. One that cannot be built is a line in the report."""
    case = size.cases[name]
    steps = Steps(case)
    for arm, (compute, _) in ARMS.items():
        if size.imitated and any(compute.get(key) for key in NOT_IMITATED):
            report.add(arm, "not on an imitated GPU")
            continue
        with _reported(arm, report):
            _build_ours(steps, arm, Compute(**compute), folder, device)
            undo.callback(steps.trainings[arm].close)
    if "ours" not in steps.trainings:
        raise RuntimeError("without our own step there is nothing to compare")
    ours = steps.trainings["ours"]
    for precision in ("fp32", "bf16"):
        cast = torch.autocast(device.type, TYPES[precision], enabled=precision != "fp32")
        steps.n[bare(precision)] = partial(_turn, loop.bare_loop(ours, cast), case.n)
    peers: dict[str, Callable[[], Callable[[], None]]] = {
        LIGHTNING: lambda: partial(_turn, _as_lightning(ours, case, size.n_workers, device), case.n),
        BRAINDECODE: lambda: _braindecode(name, case, size, device, peers_python, undo),
    }
    if name not in size.peers:
        del peers[BRAINDECODE]
    for peer, turn in peers.items():
        with _reported(peer, report):
            steps.n[peer] = turn()
    return steps


@contextmanager
def _reported(arm: str, report: Report) -> Iterator[None]:
    """An arm that cannot be built is a line, and the others run: a setting that this version lacks (TypeError), a
    compiler that is missing, too little memory."""
    try:
        yield
    except PeerMissing as missing:
        report.add(arm, str(missing))
    except (RuntimeError, TypeError, ValueError) as error:
        report.add(arm, f"cannot run: {type(error).__name__}: {str(error)[:300]}")


def bare(precision: str) -> str:
    return "a bare loop" if precision == "fp32" else f"a bare loop, {precision}"


def _build_ours(steps: Steps, arm: str, compute: Compute, folder: Path, device: torch.device) -> None:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    training = loop.begin(steps.case, folder, device, compute, run=arm.replace(", ", "-").replace(" ", "-"))
    waits: list[float] = []

    def step() -> None:
        training.advance()
        waits.append(training.batches.wait_s)

    step()
    steps.bytes_of[arm] = torch.cuda.max_memory_allocated(device) - before
    steps.trainings[arm], steps.wait_s[arm] = training, waits
    steps.n[arm] = partial(_turn, step, steps.case.n)


def _turn(step: Callable[[], None], n: int) -> None:
    for _ in range(n):
        step()
    torch.cuda.synchronize()


def _as_lightning(training: Training, case: Case, n_workers: int, device: torch.device) -> Callable[[], None]:
    network, given = copy.deepcopy(training.network), training.batch_of(0)
    training.upcoming = training.batches.at(training.state.step, training.cfg.optim.steps)
    x = torch.randn(gpu_peers.N_BATCHES * case.batch, *given.signal.shape[1:])
    y = given.target.cpu().repeat(gpu_peers.N_BATCHES, *[1] * (given.target.ndim - 1))
    subject, keys = given.subject.clone(), given.rng_key.clone()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return training.objective(network, Batch(x, y, subject, keys))[0]

    return gpu_peers.loop(parameters, loss_of, x, y, case.batch, device, n_workers)


def _braindecode(
    name: str, case: Case, size: Size, device: torch.device, python: str, undo: ExitStack
) -> Callable[[], None]:
    shape = (len(case.channels), round(case.length_s * case.sfreq))
    try:
        step = None if python else gpu_peers.braindecode(name, shape, case.batch, device, size.n_workers)
    except ImportError as error:
        raise PeerMissing(
            f"is not measured, as it cannot be imported here ({error}): name a Python that has it and torch for this "
            "GPU, --peers-python PATH"
        ) from None
    if step is not None:
        return partial(_turn, step, case.n)
    told = {
        "name": name, "shape": shape, "batch": case.batch, "n": case.n, "n_workers": size.n_workers,
        "device": str(device),
    }  # fmt: skip
    peers = Peers(python, "bench.gpu_peers", told, "braindecode")
    undo.callback(peers.close)
    return peers.method("braindecode")


def seconds_of(steps: Steps, n_rounds: int, report: Report) -> dict[str, list[float]]:
    """Return the seconds of a step by arm, in each of the rounds, after one that does not count. A peer that fails is a
    line in the report, and left out."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {arm: [] for arm in steps.n}
    for number in range(n_rounds + 1):
        for waits in steps.wait_s.values() if number == 1 else ():
            waits.clear()
        for arm in order.sample(list(steps.n), len(steps.n)):
            torch.cuda.synchronize()
            began = time.perf_counter()
            try:
                steps.n[arm]()
            except (OSError, RuntimeError) as error:  # a process of its own that has ended, too little memory
                if arm not in (LIGHTNING, BRAINDECODE):
                    raise
                report.add(arm, f"failed: {type(error).__name__}: {str(error)[:300]}")
                del steps.n[arm], seconds[arm]
                continue
            if number:
                seconds[arm].append((time.perf_counter() - began) / steps.case.n)
    return seconds


def busy_s(turn: Callable[[], None], n: int, imitated: bool) -> float | None:
    """Return how long the GPU computes or copies in a step, by the profiler: which slows down the host, and not it.
    None if it saw nothing."""
    kind = torch.profiler.ProfilerActivity.CPU if imitated else torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[kind]) as profiler:
        turn()
    spans = [
        event.time_range
        for event in profiler.events()
        if event.device_type.name == kind.name and not event.is_user_annotation
    ]
    return union((span.start, span.end) for span in spans) / n / 1e6 if spans else None


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length that spans cover together: streams overlap."""
    covered, reached = 0.0, -float("inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


class Work(NamedTuple):
    flops: float
    """Of a step, forward and backward."""
    tokens: float | None
    """Of a window: what attention goes over, all channels and times together; None without attention."""


def work_of(training: Training, case: Case) -> Work:
    """Count what a step computes, on tensors without memory."""
    network = copy.deepcopy(training.network).to("meta")
    x = torch.empty(case.batch, round(case.length_s * case.sfreq), len(case.channels), device="meta")
    seen: list[int] = []
    for module in network.modules():
        if isinstance(module, attention.Attention):
            module.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[0] * given[0].shape[1]))
            break
    with FlopCounterMode(display=False) as counter:
        network(x, torch.zeros(case.batch, dtype=torch.long, device="meta")).square().mean().backward()
    return Work(counter.get_total_flops(), seen[0] / case.batch if seen else None)

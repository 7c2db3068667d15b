"""What a training step costs beyond its mathematics: ours against a bare loop of the same network and optimizer.

The bare loop does forward, loss, backward, clip_grad_norm_ and torch's fused AdamW with one batch, and nothing else.
Both run on one core, in turns, and their time is CPU time of the main thread, which other processes change little.
Between two log points it is counted what our step does with files, and with other ranks besides adding gradients; and
on a GPU, or an imitated one, how often it reads a value there, and how many copies to it block.
"""

import copy
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.utils._python_dispatch import TorchDispatchMode

from bench import spy
from bench.compare import Goal, PeerMissing, judged, processor
from eegdecode.data.config import RandomWindows
from eegdecode.data.store import store
from eegdecode.models import Model, after_steps
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.conformer import Conformer
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.eegpt import EEGPT
from eegdecode.objectives import Batch
from eegdecode.objectives.classification import Classification
from eegdecode.objectives.regression import Regression
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training import loop as training_loop
from eegdecode.training.config import Compute, Optim, Train
from eegdecode.training.loop import Training
from hpc.rank import ddp
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir

EEGPT_CHANNELS = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip
TRIALS, TRIAL_S = 12, 6.0
CPU = torch.device("cpu")
COUNTED_STEPS = 5


class Case(NamedTuple):
    model: Model
    channels: tuple[str, ...]
    sfreq: float
    length_s: float
    batch: int
    bar: float
    n: int
    """Steps in a turn."""


def cases() -> dict[str, Case]:
    e16, e22 = (tuple(f"E{number}" for number in range(n)) for n in (16, 22))
    return {
        "EEGNet, 64 windows": Case(EEGNet(), e16, 128.0, 2.0, 64, 1.03, 10),
        "Conformer, 16 windows": Case(Conformer(scale="head"), e22, 250.0, 4.0, 16, 1.03, 3),
        "biLSTM, 64 windows": Case(BiLSTM(), e16, 64.0, 4.0, 64, 1.03, 3),
        "EEGPT large, 4 windows": Case(EEGPT(spatial_filter=0), EEGPT_CHANNELS, 256.0, 4.0, 4, 1.03, 2),
        "EEGNet, 2 windows": Case(EEGNet(), e16, 128.0, 2.0, 2, 1.10, 50),
        "Conformer, 2 windows": Case(Conformer(scale="head"), e16, 128.0, 2.0, 2, 1.10, 20),
        "biLSTM, 2 windows": Case(BiLSTM(), e16, 64.0, 4.0, 2, 1.10, 20),
    }


def run(quick: bool) -> bool:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    goals: dict[str, Goal] = {}
    print(f"\nms of a step on one core of {processor()}; ratios are medians of turns in the same round")
    print(f"{'':<24}{'bare':>9}{'ours':>9}{'ours / bare':>13}{'files':>8}{'collectives':>13}{'reads':>7}{'copies':>8}")
    try:
        for name, case in cases().items():
            with tempfile.TemporaryDirectory() as folder:
                compared = _compared(case, Path(folder), 6 if quick else 20)
            goals[f"{name}: ours / bare"] = Goal(compared.ratio, case.bar)
            counts = compared.files, compared.collectives, compared.reads, compared.copies
            goals[f"{name}: files, collectives, host reads, blocking copies"] = Goal(sum(counts), 0)
            print(f"{name:<24}{compared.bare_ms:>9.2f}{compared.ours_ms:>9.2f}{compared.ratio:>13.3f}"
                  "{:>8}{:>13}{:>7}{:>8}".format(*counts), flush=True)  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    return judged(goals)


class Compared(NamedTuple):
    bare_ms: float
    ours_ms: float
    ratio: float
    files: int
    collectives: int
    reads: int
    copies: int


def _compared(case: Case, folder: Path, n_rounds: int) -> Compared:
    training = begin(case, folder)
    bare = bare_loop(training)
    methods: dict[str, Callable[[], None]] = {"bare": bare, "ours": training.advance}
    ms: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(n_rounds + 1):
        for name in (("bare", "ours"), ("ours", "bare"))[number % 2]:
            began = time.thread_time()
            for _ in range(case.n):
                methods[name]()
            if number:
                ms[name].append((time.thread_time() - began) / case.n * 1e3)
    ratio = statistics.median(ours / bare for ours, bare in zip(ms["ours"], ms["bare"], strict=True))
    training.close()
    files, collectives = map(len, counted(case, folder / "counted"))
    waits = waited(case, folder / "waited")
    reads, copies = (sum(line.startswith(kind) for line in waits) for kind in ("host_reads", "blocking_copies"))
    bare_ms, ours_ms = (statistics.median(ms[name]) for name in ("bare", "ours"))
    return Compared(bare_ms, ours_ms, ratio, files, collectives, reads, copies)


def begin(
    case: Case, folder: Path, device: torch.device = CPU, compute: Compute | None = None, run: str = "run"
) -> Training:
    """A training that has begun, and whose next validation and checkpoint are far. Its data are those of the folder,
    or made there."""
    cfg = config(case, folder, compute or Compute())
    ctx = Context(World(), RunDir(folder / run))
    data = store.open_store(folder / "store")
    training = Training(cfg, ctx, data, device)
    for _ in training.batches.own.at(0, 40):  # until every recording is open
        pass
    training.resume()
    for _ in range(3):
        training.advance()
    return training


def config(case: Case, folder: Path, compute: Compute, steps: int = 10**6) -> Train:
    """The settings of a training that validates at its end only, of data that are made in the folder if missing."""
    if not (folder / "store").exists():
        _fill(folder / "store", case)
    return Train(
        data=(Input(str(folder / "store")),),
        target="envelope" if isinstance(case.model, BiLSTM) else "side",
        model=case.model,
        objective=Regression() if isinstance(case.model, BiLSTM) else Classification(),
        windows=RandomWindows(length_s=case.length_s, batch=case.batch),
        optim=Optim(steps=steps, warmup_steps=0, validate_every=10**6, checkpoint_every=10**6),
        compute=compute,
    )


def bare_loop(training: Training, precision: AbstractContextManager[object] | None = None) -> Callable[[], None]:
    """A step of a bare loop with a copy of the training's network, and its first batch. `precision`: an autocast."""
    network = copy.deepcopy(training.network)
    batch = Batch(*(column.clone() for column in training.batch_of(0)))
    training.upcoming = training.batches.at(training.state.step, training.cfg.optim.steps)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, fused=True)
    objective = training.objective
    precision = precision or nullcontext()
    norms = after_steps(network)  # EEGNet's weights have a largest norm: that is a part of the network

    def step() -> None:
        optimizer.zero_grad()
        with precision:
            loss, _ = objective(network, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        for act in norms:
            act(0.0)

    for _ in range(3):
        step()
    return step


def _fill(folder: Path, case: Case) -> None:
    """Write recordings of noise."""
    rng = np.random.default_rng(0)
    names = [f"sub-{number}" for number in range(8)]
    trials = tuple(
        Trial(number * TRIAL_S, TRIAL_S, f"trial-{number}", {"side": number % 2}) for number in range(TRIALS)
    )
    store.write_manifest(folder, names)
    n_times = int(TRIALS * TRIAL_S * case.sfreq)
    for name in names:
        signal, envelope = (
            Signal(rng.normal(size=(n_times, len(channels))).astype(np.float32), case.sfreq, channels)
            for channels in (case.channels, ("envelope",))
        )
        targets, values = (
            {"envelope": envelope.stream()},
            {"side": np.array([[n % 2] for n in range(TRIALS)], np.float32)},
        )
        store.write(folder, Recording(name, name, signal.stream(), trials, targets=targets, values=values))
    store.write_index(folder)


# ------------------------------------------------------------------------------------------------------------ counts


def counted(case: Case, folder: Path) -> tuple[list[str], list[str]]:
    """List the file operations, and the collectives besides those of gradients, of five steps between log points."""
    import torch._dynamo  # noqa: F401  any dispatch mode imports it at its first operation, as if the step had

    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        training = begin(case, folder)
        with (
            patch.object(training.log_points, "due", return_value=False),
            patch.object(training_loop, "BEAT_S", math.inf),  # where five steps take longer, a heartbeat is not theirs
            _file_operations() as files,
            Collectives(training) as collectives,
        ):
            for _ in range(COUNTED_STEPS):
                training.advance()
        training.close()
    finally:
        ddp.stop()
    return files, collectives.names


def waited(case: Case, folder: Path) -> list[str]:
    """List the host reads and the blocking copies of five steps between log points, whether the data lie on the GPU or
    come from the host. Of two windows a step, and short ones of an LSTM, which an imitated GPU computes sample by
    sample: how often a step waits depends on neither."""
    case = case._replace(batch=2, length_s=min(case.length_s, 1.0) if isinstance(case.model, BiLSTM) else case.length_s)
    lines: list[str] = []
    with _a_gpu() as device:
        for on_device in (True, False):
            training = begin(case, folder, device, Compute(data_on_device=on_device))
            with patch.object(training.log_points, "due", return_value=False), spy.counting() as counts:
                for _ in range(COUNTED_STEPS):
                    training.advance()
            training.close()
            shutil.rmtree(folder / "run")
            lines += [line for line in counts.where if not line.startswith("waits")]
    return lines


@contextmanager
def _a_gpu() -> Iterator[torch.device]:
    """That of this machine, or an imitated one."""
    if torch.cuda.is_available():
        yield torch.device("cuda", 0)
        return
    try:
        with spy.imitated_cuda() as device:
            yield device
    except spy.NoCompiler as error:
        raise PeerMissing(str(error)) from None


@contextmanager
def _file_operations() -> Iterator[list[str]]:
    """List what this process opens, looks at, renames or removes."""
    seen: list[str] = []
    _LISTS.append(seen)
    looks = {name: _noted(getattr(os, name), name, seen) for name in ("stat", "lstat", "access", "fsync")}
    with ExitStack() as patched:
        for name, look in looks.items():
            patched.enter_context(patch.object(os, name, look))
        yield seen
    _LISTS.remove(seen)


def _noted(function: Callable[..., Any], name: str, seen: list[str]) -> Callable[..., Any]:
    def noting(*args: Any, **options: Any) -> Any:
        seen.append(f"{name} {args}")
        return function(*args, **options)

    return noting


_LISTS: list[list[str]] = []
_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir", "os.truncate")


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _LISTS and event in _EVENTS:
        for seen in _LISTS:
            seen.append(f"{event} {args}")


sys.addaudithook(_hear)


class Collectives(TorchDispatchMode):
    """Lists the collectives outside of the backward pass."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.names: list[str] = []
        self._backward = training.stepper.backward
        self._within = False
        vars(training.stepper)["backward"] = self._counted_backward

    def _counted_backward(self, *args: Any) -> Any:
        self._within = True
        try:
            return self._backward(*args)
        finally:
            self._within = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d" and not self._within:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))

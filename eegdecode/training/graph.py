"""Forward and backward pass as a CUDA graph: recorded once, then replayed, so that the GPU waits for no Python.

A graph reads the batch from tensors of its own, and leaves figures and gradients in the same place each time. All that
Python decides is recorded with it, so what changes from step to step stays outside: the learning rate, clipping, the
optimizer, averages. Dropout may be inside: a graph reads the seed of torch's generator each time it is replayed.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from eegdecode.objectives import Batch
from eegdecode.training import exact
from eegdecode.training.config import Train
from hpc.media import many
from hpc.rank import ddp
from hpc.rank.context import Context
from hpc.runs.rundir import read_json

log = logging.getLogger(__name__)

WARM_UP = 3
"""Steps before recording: libraries choose kernels and make plans in the first, which a graph cannot."""
CHECKED = 2
"""Steps that are done both ways, with other windows and another seed."""
OFF_BY = 0.01
"""How far gradients may be off, as a share of their norm: kernels that add in any order differ by less, a wrong batch
or other dropout by more."""
SINCE = (2, 13)
"""The first version of torch whose generator survives a graph that could not be recorded."""

Figures = dict[str, Tensor]
Result = TypeVar("Result")
Replay = Callable[[], None]


class Recorder(Protocol):
    """What a device has to offer for this."""

    def host_reads(self) -> AbstractContextManager[list[str]]:
        """List where the host waits for the device within the block; the list is filled at its end."""

    def lacking(self, n_bytes: int) -> str:
        """Return a phrase if the memory does not suffice for a graph whose gradients take so many bytes."""

    def record(self, act: Callable[[], Result]) -> tuple[Result, Replay]:
        """Record what `act` asks of the device, without doing it; return its result, and what does it."""


class GraphedGradients:
    """Computes gradients as `gradients` does, after a few batches by replaying it; the figures are valid until the next
    call. Gives up with a sentence, and with the numbers of `gradients`, where that is not possible."""

    def __init__(
        self, gradients: Callable[[Batch], Figures], network: nn.Module, recorder: Recorder, same_bits: bool
    ) -> None:
        self.gradients, self.network, self.recorder, self.same_bits = gradients, network, recorder, same_bits
        self.parameters = list(network.parameters())
        self.has_given_up = False
        self.forget()

    def forget(self) -> None:
        """Record anew, as other parameters are trained from here on."""
        self.n_batches = self.n_checked = 0
        self.batch: Batch | None = None
        self.replay: Replay | None = None
        self.figures: Figures = {}
        self.own_gradients: list[Tensor | None] = []

    def __call__(self, batch: Batch, seed: Callable[[], None]) -> Figures:
        """`seed` has been called already, and seeds dropout for this batch again."""
        if self.has_given_up or not self._takes(batch):
            return self.gradients(batch)
        if self.n_checked == CHECKED:
            return self._replayed(batch)
        self.n_batches += 1
        if self.n_batches < WARM_UP:
            return self.gradients(batch)
        if self.n_batches == WARM_UP:
            return self._observed(batch)
        return self._checked(batch, seed)

    def _takes(self, batch: Batch) -> bool:
        if self.batch is None:  # nothing has been recorded yet
            return True
        return all(own.shape == column.shape for own, column in zip(self.batch, batch, strict=True))

    def _replayed(self, batch: Batch) -> Figures:
        assert self.batch is not None and self.replay is not None
        for own, column in zip(self.batch, batch, strict=True):
            own.copy_(column)
        self.replay()
        self._give(self.own_gradients)
        return self.figures

    def _observed(self, batch: Batch) -> Figures:
        """Find out in an ordinary step what would make a recording fail."""
        with self.recorder.host_reads() as places:
            figures = self.gradients(batch)
        if places:
            self._give_up(f"a step waits for the GPU at {', '.join(dict.fromkeys(places))}")
        elif lacking := self.recorder.lacking(sum(each.nbytes for each in self._gradients() if each is not None)):
            self._give_up(lacking)
        return figures

    def _checked(self, batch: Batch, seed: Callable[[], None]) -> Figures:
        """Do an ordinary step, whose results count; then another one by the graph, to compare."""
        buffers = list(self.network.buffers())
        before = [buffer.clone() for buffer in buffers]
        figures = self.gradients(batch)
        ordinary, after = self._gradients(), [buffer.clone() for buffer in buffers]
        try:
            if self.replay is None:
                self._record(batch)
            _copy(before, buffers)
            seed()
            replayed = self._replayed(batch)
            self._compare((figures, ordinary, after), (replayed, self.own_gradients, buffers))
        except Exception as error:  # noqa: BLE001  whatever a recording stumbles over, an ordinary step does not
            self._give_up(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        finally:
            _copy(after, buffers)
            self._give(ordinary)
        return figures

    def _record(self, batch: Batch) -> None:
        self.batch = Batch(*(column.clone() for column in batch))
        recorded = self.batch
        self.figures, self.replay = self.recorder.record(lambda: self.gradients(recorded))
        self.own_gradients = self._gradients()

    def _compare(self, ordinary: "Step", replayed: "Step") -> None:
        """Count the comparison if it is passed; one with a gradient that is not finite says nothing."""
        if self.same_bits:
            if not _same_bits(ordinary, replayed):
                self._give_up("with it, a step has other bits than without")
                return
        else:
            is_finite, off_by = ddp.read(_off_by(ordinary, replayed))
            if not is_finite:
                return
            if not off_by <= OFF_BY:
                self._give_up(f"gradients are off by {off_by:.2g} of their size")
                return
        self.n_checked += 1
        if self.n_checked == CHECKED:
            log.info("graph: from here on, forward and backward pass are a CUDA graph; two steps were the same with it")

    def _give_up(self, why: str) -> None:
        self.forget()
        self.has_given_up = True
        log.info("graph: steps are done one operation after the other, as %s", why)

    def _gradients(self) -> list[Tensor | None]:
        return [parameter.grad for parameter in self.parameters]

    def _give(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient


Step = tuple[Figures, Sequence[Tensor | None], Sequence[Tensor]]
"""The figures, gradients and buffers after a step."""


def _copy(values: Sequence[Tensor], to: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for value, tensor in zip(values, to, strict=True):
            tensor.copy_(value)


def _pairs(one: Step, other: Step) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    yield from zip(one[1], other[1], strict=True)
    yield from zip(one[2], other[2], strict=True)
    yield one[0]["loss"], other[0]["loss"]


def _same_bits(one: Step, other: Step) -> bool:
    """Whether they are equal to the last bit; NaN equals NaN."""
    return all(
        a is b if a is None or b is None else torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in _pairs(one, other)
    )


def _off_by(one: Step, other: Step) -> Tensor:
    """Return whether the first is finite, and how far the second is off it: the largest of gradients, buffers and the
    loss, each as a share of its size. If one has a gradient where the other has none, infinitely far."""
    shares = []
    for pairs in (zip(one[1], other[1]), zip(one[2], other[2]), [(one[0]["loss"], other[0]["loss"])]):
        size = off = torch.zeros((), dtype=torch.float64, device=one[0]["loss"].device)
        for a, b in pairs:
            if a is None or b is None:
                off = off + (0.0 if a is b else torch.inf)
            else:
                size, off = size + a.double().square().sum(), off + (a.double() - b.double()).square().sum()
        shares.append(torch.stack([size, torch.where(off > 0, off / size, off).sqrt()]))
    sizes, off_by = torch.stack(shares).unbind(1)
    return torch.stack([sizes.isfinite().all().double(), off_by.max()])


# ------------------------------------------------------------------------------------------------------------- whether


def begin(
    cfg: Train,
    ctx: Context,
    gradients: Callable[[Batch], Figures],
    network: nn.Module,
    device: torch.device,
    length: int | None,
) -> GraphedGradients | None:
    """Return what computes gradients by a graph, or log why there is none. `length`: that of all windows."""
    if cfg.compute.graph is False or (cfg.compute.graph == "auto" and device.type == "cpu"):
        return None
    if why := reason_against(cfg, ctx.world.size, device.type, network, length, _last_error(ctx)):
        log.info("graph: steps are done one operation after the other, as %s", why)
        return None
    return GraphedGradients(gradients, network, Cuda(device), cfg.compute.exact is True)


def reason_against(
    cfg: Train, n_ranks: int, device: str, network: nn.Module, length: int | None, last_error: str = ""
) -> str:
    """Return why this training has no graph; empty if it may have one."""
    compute = cfg.compute
    if device != "cuda" or torch.version.cuda is None:  # AMD's are called cuda too
        return "only NVIDIA's GPUs have graphs"
    if (here := tuple(map(int, torch.__version__.split(".")[:2]))) < SINCE:
        return f"it needs torch {'.'.join(map(str, SINCE))}, and this is {'.'.join(map(str, here))}"
    if compute.shard:
        return "compute.shard gathers parameters during a step"
    if n_ranks > 1:
        return f"{many(n_ranks, 'rank')} average gradients during the backward pass"
    if compute.compile:
        return "compute.compile compiles it"
    if cfg.optim.sam is not None or exact.by_shares(cfg.optim, compute):
        return "optim.sam has two passes" if cfg.optim.sam is not None else "compute.exact seeds each portion"
    if length is None:
        return "windows differ in length"
    if cfg.watch.profile is not None:
        return "watch.profile is to show each operation"
    if any(getattr(part, "checkpoint", False) is True for part in network.modules()):
        return "model.checkpoint computes activations again with the same random numbers"
    if any(isinstance(part, nn.RNNBase) and part.dropout for part in network.modules()):
        return "cuDNN's dropout between layers of an LSTM keeps random numbers of its own"
    return _reason_against_auto(cfg, network, last_error) if compute.graph == "auto" else ""


def _reason_against_auto(cfg: Train, network: nn.Module, last_error: str) -> str:
    if cfg.compute.exact is True:
        return "compute.exact=true promises the same bits (compute.graph=true compares them)"
    kinds = [type(cfg.objective), *map(type, network.modules())]
    if others := [kind for kind in kinds if kind.__module__.partition(".")[0] not in ("eegdecode", "torch")]:
        return f"{others[0].__name__} of {others[0].__module__} may do other things in each step (compute.graph=true)"
    if "CUDA" in last_error:
        return f"the last attempt ended with {last_error.strip().partition(chr(10))[0]}"
    return ""


def _last_error(ctx: Context) -> str:
    """Return the error with which this rank's last attempt ended, if it ended with one."""
    report = read_json(ctx.run.attempt(ctx.attempt - 1).error(ctx.world.rank)) if ctx.attempt > 1 else None
    return str(report.get("error", "")) if isinstance(report, dict) else ""


# ---------------------------------------------------------------------------------------------------------------- CUDA


class Cuda:
    """A recorder for NVIDIA's GPUs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @contextmanager
    def host_reads(self) -> Iterator[list[str]]:
        places: list[str] = []
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield places
            finally:
                torch.cuda.set_sync_debug_mode(before)
        for each in seen:
            if "called a synchronizing CUDA operation" in str(each.message):
                places.append(f"{Path(each.filename).name}:{each.lineno}")
            elif "ynchronization debug mode is a prototype" not in str(each.message):
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)

    def lacking(self, n_bytes: int) -> str:
        """A graph keeps what a step needs at most to itself, next to the same for steps of other kinds."""
        held, most = torch.cuda.memory_allocated(self.device), torch.cuda.max_memory_allocated(self.device)
        needed = most - held + n_bytes
        free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device) - held
        if needed <= free:
            return ""
        return f"a graph would take up to {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB of the GPU are free"

    def record(self, act: Callable[[], Result]) -> tuple[Result, Replay]:
        graph, pool, stream = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle(), torch.cuda.current_stream()
        try:
            # thread_local: other threads copy batches and checkpoints meanwhile
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                result = act()
        except Exception:
            # What torch leaves undone after a recording that cannot be ended
            torch.cuda.set_stream(stream)
            with suppress(RuntimeError):  # it has been ended
                torch._C._cuda_endAllocateToPool(self.device.index, pool)
            raise
        return result, graph.replay

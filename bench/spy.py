"""What a step makes the host wait for: reads of a GPU's values, copies that block. On a GPU, or on an imitated one.

    with spy.imitated_cuda() as device:      # leave it out where there is a GPU
        network.to(device)
        with spy.counting() as counts:
            step()
    assert counts.silent, counts.where

`imitated_cuda` makes tensors of the device "cuda:0", whose numbers lie in the memory of the host: torch's C++ and ours
take the paths of a GPU, a tensor of the host that meets one of the device is refused as there, and losses are those of
the CPU. What it cannot show is speed. It wants a C++ compiler, for the streams, events and pinned memory that torch
looks for (imitated_cuda.cpp).
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from bench.streams import DEFAULT, HOST, Streams

CUDA = torch.device("cuda", 0)
SOURCE = Path(__file__).with_name("imitated_cuda.cpp")


@dataclass
class Counts:
    """What the host waited for, and where."""

    host_reads: int = 0
    """Values or shapes that the host needed from the device: each waits until everything before is computed."""
    blocking_copies: int = 0
    """Copies to the device from pageable memory, or that were to be waited for."""
    waits: int = 0
    """Waits for an event, a stream or the whole device; counted with imitated CUDA only."""
    n_ops: int = 0
    thread: int = field(default_factory=threading.get_ident, repr=False)
    where: list[str] = field(default_factory=list)
    """For each of these, what it was and the line of ours that asked for it."""

    @property
    def silent(self) -> bool:
        """Whether no value was read and no copy blocked."""
        return not self.host_reads and not self.blocking_copies

    def add(self, kind: str, what: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.where.append(f"{kind}: {what} at {_caller()}")


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what the operations inside the block make the host wait for; in this thread."""
    counts = Counts()
    with _copies_of_constants_seen(), _Counting(counts):
        _listening.append(counts)
        try:
            yield counts
        finally:
            _listening.remove(counts)


@contextmanager
def _copies_of_constants_seen() -> Iterator[None]:
    """Let `torch.tensor(…, device="cuda")` and `new_tensor` copy where operations are seen, as torch's own fake tensors
    do."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


_listening: list[Counts] = []
_streams: list[Streams] = []


class _Counting(TorchDispatchMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.counts.n_ops += 1
        kind = _waits_for(func, args, kwargs)
        if kind:
            self.counts.add(kind, str(func))
        return func(*args, **kwargs)


READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique_consecutive", "_unique",
         "_unique2", "unique_dim", "bincount", "_linalg_check_errors"}  # fmt: skip
"""Operations whose result, or its shape, the host needs."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


def _waits_for(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return which of the counts an operation belongs to; None if the host goes on at once."""
    name = func._schema.name.removeprefix("aten::")
    if name in ("_to_copy", "copy_"):
        # copy_(to, from, non_blocking) and _to_copy(from, *, device, non_blocking)
        source = args[1] if name == "copy_" else args[0]
        to = args[0].device if name == "copy_" else torch.device(kwargs.get("device") or source.device)
        late = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        if source.device.type == "cpu" and to.type == "cuda" and not (late and source.is_pinned()):
            return "blocking_copies"
        if source.device.type == "cuda" and to.type == "cpu":
            # `.to("cpu", non_blocking=True)` copies to pinned memory by itself
            return None if late and (name == "_to_copy" or args[0].is_pinned()) else "host_reads"
        return None
    if not any(tensor.device.type == "cuda" for tensor in tree_leaves(args) if isinstance(tensor, torch.Tensor)):
        return None
    if name in READS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        return "host_reads"
    if name in INDEXED:
        chosen = [index for index in args[1] if isinstance(index, torch.Tensor)]
        if any(index.dtype in (torch.bool, torch.uint8) for index in chosen):
            return "host_reads"  # it looks how many are chosen
        if any(index.device.type == "cpu" for index in chosen):
            return "blocking_copies"
    return None


def _caller() -> str:
    """Return file and line of the innermost frame that is neither torch's nor here."""
    frame: FrameType | None = sys._getframe(1)
    innermost = ""
    while frame is not None:
        name = frame.f_code.co_filename
        if name != __file__:
            place = f"{Path(name).parent.name}/{Path(name).name}:{frame.f_lineno}"
            if "/torch/" not in name and not name.endswith("/contextlib.py"):
                return place
            innermost = innermost or place
        frame = frame.f_back
    return innermost


class NoCompiler(Exception):
    """No C++ compiler that can compile it, so CUDA cannot be imitated; the message says what was tried."""


@contextmanager
def imitated_cuda(streams: Streams | None = None) -> Iterator[torch.device]:
    """Inside the block, in this thread, "cuda" is a device whose tensors are kept in the memory of the host.

    Gradients are computed in the calling thread. Other threads see torch as it is. Raises NoCompiler. `streams`: copies
    on other streams than the first are done as late as possible, and operations without order are noted there.
    """
    with ExitStack() as undo:
        library = _library()
        if streams is not None:
            _streams.append(streams)
            undo.callback(_streams.remove, streams)
        say = _TOLD(_tell)
        library.imitate(1, say)
        undo.callback(library.imitate, 0, say)
        for name, value in (_ANSWERS | _NOTHING).items():
            undo.enter_context(mock.patch.object(torch.cuda, name, value))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        undo.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        undo.enter_context(torch.autograd.set_multithreading_enabled(False))
        undo.enter_context(_copies_of_constants_seen())
        undo.enter_context(_Imitation())
        yield CUDA


_RECORD, _STREAM_WAITS, _HOST_WAITS_FOR_EVENT, _HOST_WAITS_FOR_STREAM = range(4)
"""What imitated_cuda.cpp tells."""
MEMORY = 80 << 30
"""Bytes of memory that the imitated GPU says are free."""
_ANSWERS: dict[str, Any] = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "synchronize": lambda device=None: _tell(_HOST_WAITS_FOR_STREAM, 0, -1),
    "is_bf16_supported": lambda including_emulation=True: True,
    "mem_get_info": lambda device=None: (MEMORY, MEMORY),
    "get_device_properties": lambda device=None: SimpleNamespace(name="imitated", total_memory=MEMORY, uuid=""),
    "default_generators": (torch.default_generator,),
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
}
_NOTHING: dict[str, Callable[..., Any]] = {
    "memory_allocated": lambda device=None: 0,
    "max_memory_allocated": lambda device=None: 0,
    "reset_peak_memory_stats": lambda device=None: None,
    "empty_cache": lambda: None,
    "get_sync_debug_mode": lambda: 0,
    "set_sync_debug_mode": lambda mode: None,
}
"""Of which an imitated GPU has nothing to say: its memory is the host's, and who waits is counted here."""
_TOLD = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _tell(kind: int, event: int, stream: int) -> None:
    """What imitated_cuda.cpp tells: a stream records or waits for an event, or the host waits."""
    for streams in _streams:
        if kind == _RECORD:
            streams.record(event, stream)
        elif kind == _HOST_WAITS_FOR_STREAM:
            streams.synchronize(None if stream < 0 else stream)
        else:
            streams.wait(event, HOST if kind == _HOST_WAITS_FOR_EVENT else stream)
    for counts in [each for each in _listening if each.thread == threading.get_ident()]:
        if kind in (_HOST_WAITS_FOR_EVENT, _HOST_WAITS_FOR_STREAM):
            counts.add("waits", "an event" if kind == _HOST_WAITS_FOR_EVENT else "a stream")


class OnDevice(torch.Tensor):
    """A tensor of the device whose numbers are those of `on_host`."""

    on_host: torch.Tensor

    @staticmethod
    def __new__(cls, on_host: torch.Tensor) -> "OnDevice":
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls, on_host.size(), strides=on_host.stride(), storage_offset=on_host.storage_offset(),
            dtype=on_host.dtype, layout=on_host.layout, device=CUDA,
        )  # fmt: skip
        made.on_host = on_host
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"OnDevice({self.on_host!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()  # torch refuses it for subclasses

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu() first")
        return self.detach().cpu().numpy()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares a function of its own there
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Imitation(TorchDispatchMode):
    """For operations without a tensor of the device: those that make one."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


BETWEEN = {"_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "set_"}
"""Operations that take tensors of the host and of the device together."""


def _run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Compute on the host, and give back a tensor of the device where a GPU would."""
    name = func._schema.name.removeprefix("aten::")
    if name == "_fused_sdp_choice":
        return 0  # attention as plain products: the fused kernels of a GPU are not here
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    on_device = [each for each in tensors if isinstance(each, OnDevice)]
    if name == "record_stream":
        return None
    if on_device and name not in BETWEEN:
        strangers = [each for each in tensors if not isinstance(each, OnDevice) and each.dim() > 0]
        if strangers:
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, but found at least two, cuda:0 and cpu: "
                f"the one of the host has the shape {tuple(strangers[0].shape)}"
            )
    wanted = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    host_args, host_kwargs = tree_map_only(OnDevice, _on_host, (args, dict(kwargs)))
    if wanted is not None and wanted.type == "cuda":
        host_kwargs["device"] = torch.device("cpu")
        host_kwargs.pop("pin_memory", None)
    if _streams and on_device and _launched(func, args, host_args, kwargs):
        return args[0]
    out = KERNELS.get(name, func)(*host_args, **host_kwargs)
    if name == "copy_":
        return args[0]
    if wanted.type == "cuda" if wanted is not None else bool(on_device):
        out = tree_map_only(torch.Tensor, OnDevice, out)
        return return_and_correct_aliasing(func, args, dict(kwargs), out)
    return out


def _launched(func: Any, args: tuple[Any, ...], host_args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Tell the streams of an operation; whether it is one that is done later: a copy that nobody waits for."""
    reads: list[torch.Tensor] = []
    writes: list[torch.Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        is_write = argument.alias_info is not None and argument.alias_info.is_write
        on_host = [each.on_host for each in tree_leaves(value) if isinstance(each, OnDevice)]
        (writes if is_write else reads).extend(on_host)
    stream = _library().current_stream()
    is_copy = func._schema.name == "aten::copy_" and len(args) > 2 and bool(args[2])
    if not is_copy or stream == DEFAULT:
        for each in _streams:
            each.launch(stream, f"{func} of {_caller()}", reads, writes)
        return False
    to, source = host_args[:2]
    to.fill_(torch.nan if to.is_floating_point() else to.dtype == torch.bool or torch.iinfo(to.dtype).max)
    for each in _streams:
        each.launch(stream, f"{func} of {_caller()}", reads, writes, lambda: to.copy_(source))
    return True


def _on_host(tensor: OnDevice) -> torch.Tensor:
    return tensor.on_host


def _lstm_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    cx: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The kernel of a GPU for a step of an LSTM: hidden state, cell state, and the gates for its backward."""
    biases = [bias for bias in (input_bias, hidden_bias) if bias is not None]
    enter, forget, cell, leave = (input_gates + hidden_gates + sum(biases)).chunk(4, dim=1)
    gates = [enter.sigmoid(), forget.sigmoid(), cell.tanh(), leave.sigmoid()]
    cy = gates[1] * cx + gates[0] * gates[2]
    return gates[3] * cy.tanh(), cy, torch.cat(gates, dim=1)


def _lstm_cell_backward(
    grad_hy: torch.Tensor | None,
    grad_cy: torch.Tensor | None,
    cx: torch.Tensor,
    cy: torch.Tensor,
    gates: torch.Tensor,
    has_bias: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    enter, forget, cell, leave = gates.chunk(4, dim=1)
    of_hy = torch.zeros_like(cy) if grad_hy is None else grad_hy
    of_cy = of_hy * leave * (1 - cy.tanh() ** 2) + (0 if grad_cy is None else grad_cy)
    of_gates = torch.cat(
        [
            of_cy * cell * enter * (1 - enter),
            of_cy * cx * forget * (1 - forget),
            of_cy * enter * (1 - cell**2),
            of_hy * cy.tanh() * leave * (1 - leave),
        ],
        dim=1,
    )
    return of_gates, of_cy * forget, of_gates.sum(dim=0) if has_bias else None


KERNELS: dict[str, Callable[..., Any]] = {
    "_thnn_fused_lstm_cell": _lstm_cell,
    "_thnn_fused_lstm_cell_backward_impl": _lstm_cell_backward,
}
"""Operations that torch has for GPUs only."""

_loaded: list[ctypes.CDLL] = []
_lock = threading.Lock()


def _library() -> ctypes.CDLL:
    """Compile imitated_cuda.cpp, once for each torch, and load it."""
    with _lock:
        if not _loaded:
            _loaded.append(ctypes.CDLL(str(_compiled())))
        return _loaded[0]


def compiler() -> str | None:
    """The C++ compiler that imitated CUDA would take; None if there is none."""
    return os.environ.get("CXX") or next(filter(shutil.which, ("g++", "c++", "clang++")), None)


def _compiled() -> Path:
    cxx = compiler()
    if cxx is None:
        raise NoCompiler("imitated CUDA needs a C++ compiler: install g++, or name one in CXX")
    torch_folder = Path(torch.__file__).parent
    source = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode() + str(torch_folder).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"imitated-cuda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else: delete it, or set TMPDIR to a folder of yours")
    built = folder / f"{source[:16]}.so"
    if not built.exists():
        partial = built.with_suffix(f".{os.getpid()}")
        include = torch_folder / "include"
        done = subprocess.run(
            [
                cxx, "-O0", "-shared", "-fPIC", "-std=c++20", "-w", f"-I{include}",
                f"-I{include / 'torch/csrc/api/include'}", f"-I{sysconfig.get_paths()['include']}", str(SOURCE),
                "-o", str(partial), f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu",
            ],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            partial.unlink(missing_ok=True)
            raise NoCompiler(f"{cxx} cannot compile imitated CUDA ({done.returncode}): {done.stderr or done.stdout}")
        partial.rename(built)
    return built

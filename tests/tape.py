"""A CUDA graph of the CPU, for tests of what records and replays: no Python runs in a replay, results come to lie where
they lay when they were recorded, and what was a number of Python then is the same number ever after."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")
READS = ("_local_scalar_dense", "equal", "nonzero", "is_nonzero")


class Tape:
    """A recorder as eegdecode.training.graph.Cuda is one. Like CUDA, it refuses to record what reads a value."""

    def __init__(self, sees_reads: bool = True, lacks: str = "") -> None:
        self.sees_reads, self.lacks = sees_reads, lacks
        self.n_recorded = self.n_replayed = 0

    @contextmanager
    def host_reads(self) -> Iterator[list[str]]:
        places: list[str] = []
        with _Operations() as seen:
            yield places
        if self.sees_reads:
            places += [name for name, *_ in seen.calls if name in READS]

    def lacking(self, n_bytes: int) -> str:
        return self.lacks

    def record(self, act: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        self.n_recorded += 1
        with _Operations(refuses=True) as tape:
            result = act()

        def replay() -> None:
            self.n_replayed += 1
            with torch._C._AutoDispatchBelowAutograd():
                for _, func, args, kwargs, out, learns in tape.calls:
                    with torch.set_grad_enabled(learns):  # some kernels keep something for the backward pass then
                        again = func(*args, **kwargs)
                    for old, new in zip(_tensors(out), _tensors(again), strict=True):
                        if old.data_ptr() != new.data_ptr():
                            old.copy_(new)

        return result, replay


def _tensors(out: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]


class _Operations(TorchDispatchMode):
    def __init__(self, refuses: bool = False) -> None:
        super().__init__()
        self.refuses = refuses
        self.calls: list[tuple[str, Any, tuple[Any, ...], Mapping[str, Any], Any, bool]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if self.refuses and name in READS:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more lines")
        out = func(*args, **(kwargs or {}))
        self.calls.append((name, func, args, kwargs or {}, out, torch.is_grad_enabled()))
        return out

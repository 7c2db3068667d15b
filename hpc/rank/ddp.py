"""The process group and its collectives. Each function also works in a single process.

Every rank must call the same functions in the same order: never in a branch that ranks could take differently.
"""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import Store as TorchStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from hpc.rank import rendezvous
from hpc.rank.context import STARTING, Backoff, Context
from hpc.runs.rundir import read_json, write_json

RENDEZVOUS_S = 120
COLLECTIVE_S = 1800
BLOCK_B = 64 << 20
"""How many bytes of a checkpoint one collective passes on."""


def device(ctx: Context) -> torch.device:
    """Return the GPU of this rank, or the CPU. A site may show each rank only its own GPU, or all of the node's."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", 0 if torch.cuda.device_count() == 1 else ctx.world.local_rank)


def start(ctx: Context) -> torch.device:
    """Join the process group; return this rank's device. From here on a rank without progress is taken to hang."""
    ctx.progress(STARTING, 0, 0)
    rank_device = device(ctx)
    if rank_device.type == "cuda":
        torch.cuda.set_device(rank_device)
    if ctx.world.size > 1:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if rank_device.type == "cuda" else "gloo",
            store=_meet(ctx),
            rank=ctx.world.rank,
            world_size=ctx.world.size,
            timeout=timedelta(seconds=COLLECTIVE_S),
        )
        ctx.progress(STARTING, 0, 0)
    return rank_device


class Store(TorchStore):
    """torch's own store lets everybody in who reaches its port; this one those alone who have the attempt's secret.

    C++ looks its methods up by name, from any of its threads.
    """

    def __init__(self, client: rendezvous.Client) -> None:
        super().__init__()
        self.client = client

    def _ask(self, what: str, *fields: bytes, timeout: timedelta | None = None) -> list[bytes]:
        return self.client.ask(what, *fields, timeout_s=(timeout or self.timeout).total_seconds())  # type: ignore[attr-defined]

    def clone(self) -> "Store":
        return self  # each thread has a connection of its own

    def set(self, key: str, value: str | bytes) -> None:
        self._ask("set", key.encode(), _bytes(value))

    def multi_set(self, keys: list[str], values: list[str | bytes]) -> None:
        self._ask("set", *(part for key, value in zip(keys, values) for part in (key.encode(), _bytes(value))))

    def get(self, key: str) -> bytes:
        return self._ask("get", key.encode())[0]

    def multi_get(self, keys: list[str]) -> list[bytes]:
        return self._ask("get", *map(str.encode, keys))

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        self._ask("wait", *map(str.encode, keys), timeout=timeout)

    def check(self, keys: list[str]) -> bool:
        return self._ask("check", *map(str.encode, keys)) == [b"yes"]

    def add(self, key: str, amount: int) -> int:
        return int(self._ask("add", key.encode(), str(amount).encode())[0])

    def append(self, key: str, value: str | bytes) -> None:
        self._ask("append", key.encode(), _bytes(value))

    def compare_set(self, key: str, expected: str | bytes, desired: str | bytes) -> bytes:
        return self._ask("swap", key.encode(), _bytes(expected), _bytes(desired))[0]

    def delete_key(self, key: str) -> bool:
        return self._ask("delete", key.encode()) == [b"yes"]

    def num_keys(self) -> int:
        return int(self._ask("count")[0])

    def has_extended_api(self) -> bool:
        return True  # append, multi_get and multi_set

    deleteKey, getNumKeys = delete_key, num_keys  # noqa: N815  what C++ calls them


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


_stores: list[Store] = []
"""C++ calls into the Python object, but does not keep it alive."""


def _meet(ctx: Context) -> Store:
    """Open the store. Rank 0 takes a free port, and writes it with a new secret into the folder of this attempt, for
    nobody else to read: no port is guessed, and no stranger gets in."""
    place = ctx.run.attempt(ctx.attempt).rendezvous
    here = socket.gethostname()
    # HPC_SIZE: the supervisor on this machine has started all ranks itself, whatever it calls nodes
    all_here = ctx.world.local_size == ctx.world.size or "HPC_SIZE" in os.environ
    if all_here and any(name == "lo" for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if ctx.world.is_first:
        host, secret = rendezvous.LOOPBACK if all_here else rendezvous.own_address(os.environ), rendezvous.new_secret()
        server = rendezvous.Server(host, secret)
        write_json(place, {"host": host or here, "port": server.port, "secret": secret}, private=True)
    deadline, wait = time.monotonic() + RENDEZVOUS_S, Backoff(0.05, 1.0)
    while (address := read_json(place)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"rank 0 has not written {place} within {RENDEZVOUS_S} s: did it start? See its log next to that"
            )
        time.sleep(wait())
    at = rendezvous.LOOPBACK if address["host"] == here else address["host"]
    store = Store(rendezvous.Client(at, address["port"], address["secret"], RENDEZVOUS_S))
    _stores.append(store)
    _all_here(ctx, store)
    return store


def _all_here(ctx: Context, store: Store) -> None:
    """Wait for every rank: the process group itself would wait as long as for a collective. The last one to come says
    so, and a rank asks three times, however many they are."""
    names = [f"here-{rank}" for rank in range(ctx.world.size)]
    store.set(names[ctx.world.rank], "")
    if store.add("here", 1) == ctx.world.size:
        store.set("all-here", "")
    try:
        store.wait(["all-here"], timedelta(seconds=RENDEZVOUS_S))
    except TimeoutError:
        missing = [str(rank) for rank, name in enumerate(names) if not store.check([name])]
        raise TimeoutError(
            f"rank {', '.join(missing)} of {ctx.world.size} has not come within {RENDEZVOUS_S} s: see its log, in "
            f"{ctx.run.attempt(ctx.attempt).path}"
        ) from None


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def wrap(model: torch.nn.Module, device: torch.device, shard: bool = False) -> torch.nn.Module:
    """Wrap the model so that gradients are averaged over the ranks. `shard`: parameters, gradients and optimizer state
    are spread over the ranks, and each block is gathered when it is needed (FSDP).

    find_unused_parameters keeps DDP from rebuilding its buckets after the first step of a process. The bucket of a
    gradient decides in which order the ranks' shares are added. So, on three ranks or more, the first step after a
    restart would differ from the same step of a run that was never stopped.
    """
    if not dist.is_initialized():
        return model
    if shard:
        from hpc.rank import fsdp  # takes most of a second to import

        return fsdp.shard(model, device)
    devices = [device] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)
    without_remark(wrapped)
    return wrapped


@contextmanager
def alone(model: torch.nn.Module, really: bool = True) -> Iterator[None]:
    """Keep gradients on their rank inside the block; they are added to those of a later backward pass."""
    if not really or not dist.is_initialized():
        yield
    elif isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        model.set_requires_gradient_sync(False)  # type: ignore[operator]
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)  # type: ignore[operator]


REMARK = b"find_unused_parameters=True was specified in DDP constructor, but did not find any unused parameters"


def without_remark(model: torch.nn.Module) -> None:
    """Remove from the log DDP's remark after the first forward pass without unused parameters, that nobody needed the
    option. Call it again when parameters become trainable.

    The remark is printed by C++ and bypasses Python's warnings. So stderr is held back from the end of the model's own
    forward pass to the end of DDP's. Nothing there waits for another rank, so nothing can deadlock.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    held, handles = ExitStack(), ExitStack()

    def begin(*_: object) -> None:  # in DDP's forward pass; validation calls the model without it
        held.callback(model.module.register_forward_hook(hold).remove)

    def hold(*_: object) -> None:
        held.enter_context(_stderr_without(REMARK))

    def end(*_: object) -> None:
        held.close()
        if model.require_backward_grad_sync:  # with several portions, DDP looks after the last
            handles.close()

    handles.callback(model.register_forward_pre_hook(begin).remove)
    handles.callback(model.register_forward_hook(end, always_call=True).remove)


@contextmanager
def _stderr_without(remark: bytes) -> Iterator[None]:
    """Hold back what is written to stderr, and write it at the end without the lines that contain the remark."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            held.seek(0)
            with open(stderr, "wb") as log:
                log.writelines(line for line in held if remark not in line)


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank; all ranks get the same answer."""
    return agree(flag)[0]


def agree(*flags: bool) -> list[bool]:
    """Return for each flag whether it is set on any rank; all ranks get the same answers, in one collective."""
    if not dist.is_initialized():
        return list(flags)
    # On the CPU, over gloo: no GPU waits for it
    words = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(words, op=dist.ReduceOp.MAX)
    return [bool(word) for word in words.tolist()]


def total(values: torch.Tensor) -> torch.Tensor:
    """Return the sum over ranks, as a new tensor."""
    values = values.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def bytes_of_first(data: bytes | torch.Tensor) -> torch.Tensor:
    """Return the bytes of the first rank on every rank, in host memory; what the others pass does not count."""
    mine = data if isinstance(data, torch.Tensor) else torch.frombuffer(bytearray(data or b" "), dtype=torch.uint8)
    if not dist.is_initialized():
        return mine
    n_bytes = torch.tensor([mine.numel()])
    dist.broadcast(n_bytes, 0)
    shared = mine if rank() == 0 else torch.empty(int(n_bytes), dtype=torch.uint8)
    for begin in range(0, shared.numel(), BLOCK_B):
        dist.broadcast(shared[begin : begin + BLOCK_B], 0)
    return shared


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Gather the rows of all ranks; each rank has equally many. The computation after this may differ between ranks:
    the gradient of a row is the sum over all ranks. `wrap` takes the mean over ranks, so a loss that is a rank's mean
    over its own rows has the gradient of the mean over all rows in one process."""
    if not dist.is_initialized():
        return rows
    gathered: torch.Tensor = _Gathered.apply(rows)
    return gathered


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return total(gradient.contiguous()).chunk(size())[rank()]


def barrier() -> None:
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1))

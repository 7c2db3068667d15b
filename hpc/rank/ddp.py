"""The process group and its collectives. Each function also works in a single process.

Every rank must call the same functions in the same order: never in a branch that ranks could take differently.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import Store as TorchStore  # type: ignore[attr-defined]

from hpc.rank import gradients, rendezvous, signals
from hpc.rank.context import STARTING, Backoff, Context
from hpc.runs import records
from hpc.runs.rundir import write_json
from hpc.runs.speed import phases
from hpc.site import fabric, gpus, gpus_of_ranks
from hpc.site.gpus_of_ranks import Seen

log = logging.getLogger(__name__)

RENDEZVOUS_S = 120
COLLECTIVE_S = 1800
BLOCK_B = 64 << 20
"""How many bytes of a checkpoint one collective passes on."""
MEASURED_B = 64 << 20
"""The bytes of the all_reduce by which the start measures the network between GPUs."""
N_RECORDED = 200
"""How many collectives of each backend a rank writes after a hang."""


def device(ctx: Context) -> torch.device:
    """Return the GPU of this rank, or the CPU if the run was given no GPU. A site may show each rank only its own GPU,
    or all of the node's. Raises ValueError if GPUs were asked for and torch sees none."""
    n_asked, wants_none = gpus_of_ranks.asked(records.plan(ctx.run))
    seen = _seen(ctx, wants_none)
    if n_asked and not seen.n_visible:
        raise ValueError(gpus_of_ranks.none_seen(seen, n_asked))
    return _device(seen)


def seed(number: int, device: torch.device) -> None:
    """Seed what draws without a generator of its own, such as dropout, here and on the device. torch.manual_seed does
    the same for all devices, and formats three stacks to do so, which takes a hundred times as long."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(number)


def start(ctx: Context) -> torch.device:
    """Join the process group; return this rank's device. From here on a rank without progress is taken to hang."""
    ctx.progress(STARTING, 0, 0)
    if ctx.world.size == 1:
        rank_device = device(ctx)
        if rank_device.type == "cuda":
            torch.cuda.set_device(rank_device)
        return rank_device
    plan = records.plan(ctx.run)
    n_asked, wants_none = gpus_of_ranks.asked(plan)
    seen = _seen(ctx, wants_none)
    store = _meet(ctx, plan.get("site", {}).get("fabric", ""))
    _agree_on_devices(ctx, store, seen, n_asked)
    rank_device = _device(seen)
    on_gpu = rank_device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(rank_device)
    _record_collectives(ctx)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=store,
        rank=ctx.world.rank,
        world_size=ctx.world.size,
        timeout=timedelta(seconds=COLLECTIVE_S),
        device_id=rank_device if on_gpu else None,  # NCCL connects now: a fault of the network is not that of a step
    )
    if on_gpu:
        sentence = measured(ctx, rank_device)
        log.info("%s", sentence)
    ctx.progress(STARTING, 0, 0)
    return rank_device


def _seen(ctx: Context, wants_none: bool) -> Seen:
    """Return what torch sees of GPUs here. `wants_none`: the user has asked for none, so they are left alone."""
    n_visible = torch.cuda.device_count() if not wants_none and torch.cuda.is_available() else 0
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else ""
    if hip := getattr(torch.version, "hip", None):
        built_for = f"ROCm {hip}"
    seen = Seen(
        ctx.host or os.uname().nodename,
        ctx.world.local_rank,
        n_visible,
        torch.__version__,
        built_for,
        gpus.driver(),
        gpus.hidden_by(os.environ),
    )
    if not n_visible:
        return seen
    properties = torch.cuda.get_device_properties(seen.index)
    return Seen.from_json(seen.to_json() | {"gpu": properties.name, "uuid": str(getattr(properties, "uuid", ""))})


def _device(seen: Seen) -> torch.device:
    return torch.device("cuda", seen.index) if seen.n_visible else torch.device("cpu")


def _agree_on_devices(ctx: Context, store: "Store", seen: Seen, n_asked: int) -> None:
    """Refuse to begin unless all ranks have a GPU of their own, or none has. Rank 0 decides, before NCCL is asked:
    ranks with other backends than their neighbours' would wait for them for ever."""
    world = ctx.world
    store.set(f"device-{world.rank}", json.dumps(seen.to_json()))
    if world.is_first:
        values = store.multi_get([f"device-{rank}" for rank in range(world.size)])
        everyone = [Seen.from_json(json.loads(value)) for value in values]
        verdicts = [problem and [problem.why, problem.final] for problem in gpus_of_ranks.problems(everyone, n_asked)]
        store.multi_set([f"problem-{rank}" for rank in range(world.size)], [json.dumps(one) for one in verdicts])
    mine = json.loads(store.get(f"problem-{world.rank}"))
    if mine is not None:
        store.set(f"read-{world.rank}", "")
        if world.is_first:  # it keeps the store: the others read theirs before it ends
            store.wait([f"read-{rank}" for rank, problem in enumerate(verdicts) if problem is not None])
        why, is_final = mine
        raise ValueError(why) if is_final else RuntimeError(why)


def measured(ctx: Context, rank_device: torch.device, n_bytes: int = MEASURED_B) -> str:
    """Return how fast the ranks sum: the best of three, after one that connects them."""
    on_gpu = rank_device.type == "cuda"
    values = torch.zeros(n_bytes // 4, device=rank_device)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        dist.all_reduce(values)
        if on_gpu:
            torch.cuda.synchronize(rank_device)
        seconds.append(time.perf_counter() - began)
    library = "gloo"
    if on_gpu:
        name = "RCCL" if getattr(torch.version, "hip", None) else "NCCL"
        library = f"{name} {'.'.join(map(str, torch.cuda.nccl.version()))}"
    world = ctx.world
    return gpus_of_ranks.speed(library, world.size, -(-world.size // world.local_size), n_bytes, min(seconds[1:]))


def _record_collectives(ctx: Context) -> None:
    """Let torch record the last collectives, and write them into the attempt's folder after a hang: in ours, when the
    supervisor asks for stacks, as JSON; in torch's own, a pickle, if NCCL's watchdog ends the process first."""
    folder = ctx.run.attempt(ctx.attempt)
    own, own_file = "TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_TEMP_FILE"
    if not hasattr(torch._C._distributed_c10d, "_dump_fr_trace_json"):
        own, own_file = "TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"  # before torch 2.8
    os.environ.setdefault(own, "2000")
    os.environ.setdefault(own_file, str(folder.path.absolute() / "nccl-"))
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    signals.on_stacks(partial(_write_collectives, folder.collectives(ctx.world.rank)))


def _write_collectives(path: Path) -> None:
    """Write the last collectives that torch has recorded. Called from a thread, while the main one hangs."""
    entries: list[dict[str, Any]] = []
    for name in ("_dump_nccl_trace_json", "_dump_fr_trace_json"):  # NCCL's, where there is NCCL; those of all others
        if dump := getattr(torch._C._distributed_c10d, name, None):
            recorded = json.loads(dump(True, False)).get("entries", [])
            entries += [{key: entry.get(key) for key in RECORDED} for entry in recorded[-N_RECORDED:]]
    write_json(path, {"entries": entries}, durable=False)


RECORDED = (
    "collective_seq_id", "process_group", "profiling_name", "is_p2p", "state", "retired", "input_sizes", "input_dtypes",
)  # fmt: skip
"""What is written of a collective."""


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


def _meet(ctx: Context, site_fabric: str = "") -> Store:
    """Open the store, and choose the network: the site's fabric, if there are several nodes. Rank 0 takes a free port,
    and writes it with a new secret into the folder of this attempt, for nobody else to read: no port is guessed, and no
    stranger gets in."""
    place = ctx.run.attempt(ctx.attempt).rendezvous
    # HPC_SIZE: the supervisor on this machine has started all ranks itself, whatever it calls nodes
    all_here = ctx.world.local_size == ctx.world.size or "HPC_SIZE" in os.environ
    if all_here and any(name == "lo" for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if site_fabric and not all_here:
        for variable, names in fabric.variables(site_fabric, fabric.interfaces()).items():
            os.environ.setdefault(variable, names)
    if ctx.world.is_first:
        host, secret = rendezvous.LOOPBACK if all_here else fabric.own_address(os.environ), rendezvous.new_secret()
        server = rendezvous.Server(host, secret)
        rendezvous.Address(host, server.port, secret).write(place)
    deadline, wait = time.monotonic() + RENDEZVOUS_S, Backoff(0.05, 1.0)
    while (address := rendezvous.Address.read(place)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"rank 0 has not written {place} within {RENDEZVOUS_S} s: did it start? See its log next to that"
            )
        time.sleep(wait())
    store = Store(rendezvous.Client(*address, RENDEZVOUS_S))
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


def deterministic() -> None:
    """Have GPUs compute the same bits each time, or refuse. Call it before the first computation."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # finds bugs, takes time
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def tf32(wanted: bool) -> None:
    """Have NVIDIA's GPUs round the inputs of products in float32 to 10 bits, or not; by itself torch does so in
    convolutions and LSTMs only."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


IN_ORDER_UP_TO_MB = 50.0
"""Larger gradients are added as the network does it fastest, unless `exact` is True."""


def wrap(
    model: torch.nn.Module,
    device: torch.device,
    shard: bool = False,
    exact: bool | None = None,
    half: torch.dtype | None = None,
    in_half: Collection[torch.nn.Module] = (),
) -> torch.nn.Module:
    """Wrap the model so that gradients are averaged over the ranks.

    Parameters
    ----------
    shard
        Parameters, gradients and optimizer state are spread over the ranks, and each block is gathered when it is
        needed (FSDP).
    exact
        Add the shares of the ranks in an order that depends on the number of ranks alone, also on other nodes. None:
        only those of models up to 50 MB, where it costs little.
    half, in_half
        The type in which parameters of these blocks are gathered, if they are sharded: see fsdp.shard.
    """
    if not dist.is_initialized():
        return model
    if shard:
        from hpc.rank import fsdp  # takes most of a second to import

        return fsdp.shard(model, device, half, in_half)
    return gradients.Averaged(model, in_order(model, exact))


def in_order(model: torch.nn.Module, exact: bool | None) -> bool:
    return gradients.size_mb(model) <= IN_ORDER_UP_TO_MB if exact is None else exact


@contextmanager
def alone(model: torch.nn.Module, really: bool = True) -> Iterator[None]:
    """Keep gradients on their rank inside the block; they are added to those of a later backward pass."""
    if not really or not dist.is_initialized():
        yield
    elif isinstance(model, gradients.Averaged):
        model.together = False
        try:
            yield
        finally:
            model.together = True
    else:
        model.set_requires_gradient_sync(False)  # type: ignore[operator]
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)  # type: ignore[operator]


def average(model: torch.nn.Module) -> None:
    """Average the gradients that `alone` kept on their rank, after the last backward pass."""
    if isinstance(model, gradients.Averaged):
        model.average()


def same_statistics(model: torch.nn.Module) -> None:
    """Give the batch norms of all ranks the running statistics of rank 0, which are those that are saved."""
    if dist.is_initialized():
        gradients.broadcast(gradients.statistics(model))


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank; all ranks get the same answer."""
    return agree(flag)[0]


@phases.waiting
def agree(*flags: bool) -> list[bool]:
    """Return for each flag whether it is set on any rank; all ranks get the same answers, in one collective."""
    if not dist.is_initialized():
        return list(flags)
    # On the CPU, over gloo: no GPU waits for it
    words = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(words, op=dist.ReduceOp.MAX)
    return [bool(word) for word in words.tolist()]


@phases.waiting
def of_all_ranks(values: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of each rank, in the order of ranks, on all of them. They are on the host: no GPU waits."""
    if not dist.is_initialized():
        return [values]
    gathered = [torch.empty_like(values) for _ in range(size())]
    dist.all_gather(gathered, values)
    return gathered


@phases.waiting
def total(values: torch.Tensor) -> torch.Tensor:
    """Return the sum over ranks, as a new tensor."""
    values = values.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


@phases.waiting
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
        with phases.CLOCK.phase("wait"):
            dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return total(gradient.contiguous()).chunk(size())[rank()]


def read(figures: torch.Tensor) -> list[float]:
    """Wait until the device has computed these numbers, and return them.

    All of a stage's waiting for a GPU belongs here: with NCCL a collective returns at once, and a rank waits for its
    neighbours where it reads. Its stack then shows this file, so that it is not taken for the rank that hangs.
    """
    numbers: list[float] = figures.tolist()
    return numbers


@phases.waiting
def barrier() -> None:
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1))

"""The file format of a checkpoint: tensors and plain values. Reading it runs no code and verifies every byte.

    8 bytes   "hpcstate"
    8 bytes   the length of the outline, little-endian
    outline   torch.save of {"tree", "pieces"}, then zeros up to a multiple of 65536
    bytes     of the pieces, each from a multiple of 64, then zeros up to a multiple of 65536

`tree` is the state with meta tensors (a shape and a type, no memory) in place of its tensors; only the first rank's
file has it. `pieces` maps the path of each tensor in the tree to the part that this file has, and its position: the
whole tensor, or the shard of this rank. The checksum is the SHA-256 of the SHA-256s of the head and of each 16 MiB of
the bytes, so that several threads can compute it during the write. All parts begin and end at multiples of 65536, so
that they can be written past the page cache (O_DIRECT): this saves a second copy, and leaves the cores to the checksum
and to training.
"""

import errno
import fcntl
import hashlib
import io
import mmap
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from hpc.runs.rundir import Damaged

MAGIC = b"hpcstate"
PAGE = 65536
"""The largest page size in use: file systems want whole pages for O_DIRECT."""
PART = 16 << 20
OWN_MEMORY = 1 << 20
"""Tensors smaller than this, in bytes, get memory of their own: a step counter should not keep a whole file alive."""

Pieces = dict[str, list[tuple[tuple[int, ...], torch.Tensor]]]
"""Maps a path in the tree to pieces: the position of each in the whole tensor, and the piece."""


class HostBuffer:
    """A copy of a state in host memory until it is written. The memory is reused from save to save."""

    def __init__(self) -> None:
        self.memory = torch.empty(0, dtype=torch.uint8)
        self.n_bytes = 0
        self.sharded = False
        self._n_threads = min(4, len(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(self._n_threads)
        self._copying: list[Future[None]] = []
        self._gpu: _GpuCopies | None = None
        self._tree: Any = None
        self._pieces: dict[str, dict[str, Any]] = {}

    def take(self, state: dict[str, Any], is_first: bool, later: Collection[str] = ()) -> None:
        """Copy the tensors; training may change them as soon as this returns, those `later` as soon as `settle` does.
        Of those on a GPU nothing has arrived then: what is asked of the GPU afterwards changes them after the copy.

        A tensor that is sharded over the ranks is copied in part by each rank, any other by the first rank only.
        """
        self._wait()
        tensors: list[tuple[str, torch.Tensor]] = []

        def outline(path: str, tensor: torch.Tensor) -> torch.Tensor:
            tensors.append((path, tensor))
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

        tree = _map(state, "", outline)
        self._tree = tree if is_first else None
        self.sharded = any(_is_sharded(tensor) for _, tensor in tensors)
        self._pieces = {}
        end = 0
        now: list[tuple[int, torch.Tensor]] = []
        deferred: list[tuple[int, torch.Tensor]] = []
        for path, tensor in tensors:
            if not is_first and not _is_sharded(tensor):
                continue
            local, offset = _local(tensor)
            like = torch.empty(local.shape, dtype=local.dtype, device="meta")
            self._pieces[path] = {"begin": end, "offset": offset, "like": like}
            can_wait = path.startswith(tuple(f"[{key!r}]" for key in later))
            (deferred if can_wait else now).append((end, local))
            end = _up(end + local.nbytes, 64)
        self.n_bytes = _up(end, PAGE)
        if self.n_bytes > self.memory.numel():
            self.memory = _host_memory(self.n_bytes)
        self.memory[end : self.n_bytes] = 0

        def copy(parts: Iterable[tuple[int, torch.Tensor]]) -> None:
            for begin, local in parts:
                _view(self.memory, begin, local).copy_(local)

        def copying(parts: list[tuple[int, torch.Tensor]], n: int) -> "list[Future[None]]":
            in_turn = iter(parts)  # each thread takes the next
            return [self._threads.submit(copy, in_turn) for _ in range(min(n, len(parts)))]

        gpu = next((local.device for _, local in (*now, *deferred) if local.is_cuda), None)
        if gpu is not None:
            self._gpu = self._gpu or _GpuCopies(gpu)
            self._gpu.begin(*([(_view(self.memory, *part), part[1]) for part in of if part[1].is_cuda]
                              for of in (now, deferred)))  # fmt: skip
        # In CPU memory several threads copy faster than one; if nobody waits, one leaves the cores to training
        for done in copying([part for part in now if not part[1].is_cuda], self._n_threads):
            done.result()
        self._copying = copying([part for part in deferred if not part[1].is_cuda], 1)

    def settle(self) -> None:
        """Let nothing change before it is copied: wait for copies in CPU memory, and have the GPU wait for its own."""
        for done in self._copying:
            done.result()
        if self._gpu is not None:
            self._gpu.settle()

    def _wait(self) -> None:
        """Wait in any thread until all is in host memory."""
        for done in self._copying:
            done.result()
        if self._gpu is not None:
            self._gpu.wait()

    def write(self, path: Path) -> dict[str, Any]:
        """Write it to a new file and flush that to the disk; return the number of bytes and the checksum."""
        self._wait()
        head = _head({"tree": self._tree, "pieces": self._pieces})
        body = self.memory.numpy().data[: self.n_bytes]
        digests = self._threads.map(
            lambda begin: hashlib.sha256(body[begin : begin + PART]).digest(), range(0, len(body), PART)
        )
        with open(path, "xb", buffering=0) as file:
            _write_through(file, memoryview(head))
            _write_through(file, body)
            os.fsync(file.fileno())
        return {"bytes": len(head) + len(body), "sha256": _checksum(head, list(digests))}


class _GpuCopies:
    """Copies from a GPU to pinned memory on a stream of their own. Training waits for none: the GPU does, before it
    changes what is copied. By torch.accelerator, which is the same for CUDA and ROCm."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.Stream(device)
        self._asked, self._first, self._all = (torch.Event(device) for _ in range(3))
        self._sources: list[torch.Tensor] = []

    def begin(
        self, now: list[tuple[torch.Tensor, torch.Tensor]], later: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        """Copy pairs of (to, from), once what was asked of the GPU so far is done. It changes those of `now` after
        that."""
        computing = torch.accelerator.current_stream(self.device)
        self._asked.record(computing)
        self._stream.wait_event(self._asked)
        torch.accelerator.set_stream(self._stream)
        try:
            for pairs, done in ((now, self._first), (later, self._all)):
                for to, source in pairs:
                    to.copy_(source, non_blocking=True)
                done.record(self._stream)
        finally:
            torch.accelerator.set_stream(computing)
        computing.wait_event(self._first)
        # Memory that is freed is used again in the other stream at once
        self._sources = [source for _, source in (*now, *later)]

    def settle(self) -> None:
        """What is asked of the GPU from here on comes after all copies."""
        torch.accelerator.current_stream(self.device).wait_event(self._all)

    def wait(self) -> None:
        if self._sources:
            self._all.synchronize()
        self._sources = []


@dataclass(frozen=True)
class Contents:
    """The content of a file."""

    path: Path
    tree: Any
    pieces: Pieces
    head: bytes
    body: torch.Tensor
    """The bytes of the pieces, which those share."""


def read(path: Path, n_bytes: int, sha256: str) -> Contents:
    """Read and check a file in one pass, with several threads. Raises Damaged."""
    if not path.is_file():
        raise Damaged(f"{path} is gone")
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size != n_bytes:
            raise Damaged(f"{path} has {size} bytes, but {n_bytes} were written")
        head = file.read(16)
        length = int.from_bytes(head[8:], "little")
        if head[:8] != MAGIC or _up(16 + length, PAGE) > size:
            raise Damaged(f"{path} does not begin as a file of a checkpoint does")
        head += file.read(_up(16 + length, PAGE) - 16)
        # Into memory, not mapped: a page of a file that rotation deletes on another node ends the process that reads it
        data = torch.empty(size - len(head), dtype=torch.uint8)
        body = data.numpy().data

        def read_part(begin: int) -> None:
            part = body[begin : begin + PART]
            at = 0
            while at < len(part):
                n_read = os.preadv(file.fileno(), [part[at:]], len(head) + begin + at)
                if n_read == 0:
                    raise Damaged(f"{path} was cut off while it was read")
                at += n_read

        return received(path, head, data, sha256, read_part)


def received(
    path: Path, head: bytes, data: torch.Tensor, sha256: str, fill: Callable[[int], object] = lambda begin: None
) -> Contents:
    """Check the bytes of a file that another rank has read, or that `fill` reads from that position on. Raises
    Damaged."""
    body = data.numpy().data

    def digest(begin: int) -> bytes:
        fill(begin)
        return hashlib.sha256(body[begin : begin + PART]).digest()

    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        digests = list(pool.map(digest, range(0, len(body), PART)))
    if (checksum := _checksum(head, digests)) != sha256:
        raise Damaged(f"{path} has checksum {checksum[:12]}…, but {sha256[:12]}… was written")
    length = int.from_bytes(head[8:16], "little")
    outline = torch.load(io.BytesIO(head[16 : 16 + length]), weights_only=True)
    pieces: Pieces = {
        name: [(tuple(piece["offset"]), _view(data, piece["begin"], piece["like"]))]
        for name, piece in outline["pieces"].items()
    }
    return Contents(path, outline["tree"], pieces, head, data)


def join(files: Sequence[Contents]) -> dict[str, Any]:
    """Assemble the state with whole tensors, however many ranks wrote it."""

    def whole(path: str, like: torch.Tensor) -> torch.Tensor:
        pieces = [piece for file in files for piece in file.pieces.get(path, ())]
        if len(pieces) == 1 and pieces[0][1].shape == like.shape:
            tensor = pieces[0][1]
            return tensor.clone() if tensor.nbytes < OWN_MEMORY else tensor
        if sum(piece.numel() for _, piece in pieces) < like.numel():
            raise Damaged(f"{files[0].path.parent} lacks a part of {path}")
        full = torch.empty(like.shape, dtype=like.dtype)
        for offset, piece in pieces:
            full[tuple(slice(at, at + n) for at, n in zip(offset, piece.shape, strict=True))] = piece
        return full

    state: dict[str, Any] = _map(files[0].tree, "", whole)
    return state


def _map(value: Any, path: str, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Any:
    """Apply `change` to each tensor of a tree. Refuse here what could not be read back without running code."""
    if isinstance(value, torch.Tensor):
        return change(path, value)
    if isinstance(value, dict):
        return {_map(key, path, change): _map(item, f"{path}[{key!r}]", change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_map(item, f"{path}[{number}]", change) for number, item in enumerate(value))
    # Exactly these types: a numpy float64 is a float too, but is written as code
    if value is not None and type(value) not in (bool, int, float, complex, str, bytes):
        raise TypeError(
            f"state{path} is a {type(value).__module__}.{type(value).__name__}: a checkpoint holds tensors, numbers, "
            "texts, lists, tuples and dicts; turn it into one of these, as with float(…)"
        )
    return value


def _is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor, recognised by its checkpoint method: importing the class takes half a second."""
    return hasattr(tensor, "__create_chunk_list__")


def _local(tensor: Any) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Return this rank's part of a tensor, and its position in the whole tensor."""
    if not _is_sharded(tensor):
        return tensor.detach(), (0,) * tensor.dim()
    (chunk,) = tensor.__create_chunk_list__()
    return tensor.to_local().detach(), tuple(chunk.offsets)


def _view(data: torch.Tensor, begin: int, like: torch.Tensor) -> torch.Tensor:
    """Return the bytes from `begin` on as a tensor of the shape and type of `like`."""
    return data[begin : begin + like.nbytes].view(like.dtype).view(like.shape)


def _head(outline: dict[str, Any]) -> mmap.mmap:
    text = io.BytesIO()
    torch.save(outline, text)
    head = mmap.mmap(-1, _up(16 + text.tell(), PAGE))
    head.write(MAGIC + text.tell().to_bytes(8, "little") + text.getvalue())
    return head


def _host_memory(n_bytes: int) -> torch.Tensor:
    """Allocate page-aligned memory, as O_DIRECT wants it; pinned, so that a GPU copies at the full speed of the bus."""
    if torch.cuda.is_available():
        return torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True)
    return torch.frombuffer(mmap.mmap(-1, n_bytes), dtype=torch.uint8)


def _write_through(file: BinaryIO, view: memoryview) -> None:
    """Write past the page cache, or through it if the file system does not support that."""
    _past_the_cache(file, True)
    while view:
        try:
            view = view[file.write(view[:PART]) :]
        except OSError as error:
            # EINVAL also after a full disk has cut a write short: the next write then reports it. EFAULT where a driver
            # does not let the disk read memory that is pinned for a GPU
            if error.errno not in (errno.EINVAL, errno.EFAULT) or not _past_the_cache(file, False):
                raise


def _past_the_cache(file: BinaryIO, wanted: bool) -> bool:
    """Switch O_DIRECT on or off; return whether that changed anything."""
    now = fcntl.fcntl(file, fcntl.F_GETFL)
    then = now | os.O_DIRECT if wanted else now & ~os.O_DIRECT
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, then)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False  # tmpfs, and others that keep files in memory
    return now != then


def _up(n_bytes: int, multiple: int) -> int:
    return -(-n_bytes // multiple) * multiple


def _checksum(head: bytes | mmap.mmap, digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join([hashlib.sha256(head).digest(), *digests])).hexdigest()


def raw(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor of any type."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()

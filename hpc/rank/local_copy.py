"""A copy of a folder in a node's memory or on its disk: complete and verified, or absent.

    PLACE/hpc-1000/3f9a….lock     exclusive while copying, shared while reading; touched as the copy grows
    PLACE/hpc-1000/.3f9a….tmp/    a copy that is being made
    PLACE/hpc-1000/3f9a…/data/    a copy
    PLACE/hpc-1000/3f9a…/COMMIT   the source, and the size and time of each file

The locks are the kernel's: a killed process releases them.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from hpc.rank.context import Context, Preempted
from hpc.runs.rundir import read_json, write_json

log = logging.getLogger(__name__)

THREADS = 8
BLOCK_B = 1 << 20
POLL_S = 0.2
MEMORY_SHARE = 0.25
DISK_SLACK = 1.2
PROBE_S = 30.0
LONGEST_S = 900.0
"""Half of the time that ranks of other nodes wait for each other (ddp.COLLECTIVE_S); estimated after PROBE_S."""


class NotStaged(Exception):
    """There is no copy; the message gives the reason."""


@dataclass(frozen=True)
class Listing:
    """The content of a folder, listed without reading the files."""

    source: Path
    folders: tuple[str, ...]
    files: dict[str, tuple[int, int, int]]
    """Size, time of the last change in ns, and inode of each file."""

    @classmethod
    def of(cls, source: Path) -> "Listing":
        folders, files = [], {}
        for at, inner, names in os.walk(source, onerror=_raise):
            below = Path(at).relative_to(source)
            for name in inner:
                if Path(at, name).is_symlink():
                    raise NotStaged(f"{Path(at, name)} is a link to a folder, which a copy would lack")
                folders.append(str(below / name))
            for name in names:
                entry = Path(at, name).stat()
                if not stat.S_ISREG(entry.st_mode):
                    raise NotStaged(f"{Path(at, name)} is neither a file nor a folder")
                files[str(below / name)] = (entry.st_size, entry.st_mtime_ns, entry.st_ino)
        return cls(source, tuple(sorted(folders)), dict(sorted(files.items())))

    @property
    def size_b(self) -> int:
        return sum(size for size, _, _ in self.files.values())

    @property
    def name(self) -> str:
        """A hash that changes when any file is replaced."""
        text = json.dumps([str(self.source.resolve()), self.folders, self.files])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Copy:
    """A copy below a folder of ours, which may not exist yet."""

    root: Path
    name: str
    in_memory: bool

    @classmethod
    def below(cls, place: Path, name: str) -> "Copy":
        root = place / f"hpc-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
        entry = root.lstat()
        if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != os.getuid():  # anybody may write to /tmp
            raise NotStaged(f"{root} is not a folder of this user")
        return cls(root, name, _is_memory(root))

    @classmethod
    def of_json(cls, fields: Sequence[str]) -> "Copy":
        """Rebuild the Copy from the output of to_json, possibly in another process."""
        place, name = fields
        return cls.below(Path(place), name)

    def to_json(self) -> list[str]:
        return [str(self.root.parent), self.name]

    @property
    def lock(self) -> Path:
        return self.root / f"{self.name}.lock"

    @property
    def half(self) -> Path:
        return self.root / f".{self.name}.tmp"

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def is_whole(self) -> bool:
        """Whether its files look as they did when they were verified. After a power cut they may hold anything."""
        try:
            commit = read_json(self.folder / "COMMIT")
            return (
                commit is not None
                and commit["boot"] == _boot()
                and all(_look(self.data / name) == file["look"] for name, file in commit["files"].items())
            )
        except (ValueError, TypeError, KeyError, AttributeError):  # no JSON, or not ours
            return False

    def remove(self) -> None:
        """Delete it; the caller must hold the exclusive lock."""
        shutil.rmtree(self.half, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.unlink(missing_ok=True)

    def make(self, listing: Listing, ctx: Context, mem_gb: float | None, lock: int) -> None:
        """Copy, verify and rename; the caller holds the exclusive lock `lock`. Raises NotStaged or Preempted."""
        began = time.monotonic()
        if self.folder.exists():
            log.warning("the copy in %s is damaged, or older than the node's last start: it is made again", self.folder)
            shutil.rmtree(self.folder)
        shutil.rmtree(self.half, ignore_errors=True)
        _make_room(self, listing.size_b, mem_gb)
        try:
            for folder in ("data", *(f"data/{folder}" for folder in listing.folders)):
                (self.half / folder).mkdir(parents=True)
            target = self.half / "data"
            copied = _each(
                listing, ctx, lock, "stage data", lambda name, tell: _copy(listing.source, target, name, tell)
            )
            on_node = _each(listing, ctx, lock, "check data", lambda name, tell: _checksum(target / name, tell))
            if odd := [name for name, crc in copied.items() if on_node[name] != crc]:
                raise NotStaged(f"what was written of {odd[0]} is not what was read")
            if Listing.of(listing.source) != listing:
                raise NotStaged("it was changed while it was copied")
            files = {name: {"look": _look(target / name), "crc32": crc} for name, crc in copied.items()}
            commit = {"source": str(listing.source), "boot": _boot(), "files": files}
            write_json(self.half / "COMMIT", commit)
            self.half.rename(self.folder)
        finally:
            shutil.rmtree(self.half, ignore_errors=True)
        seconds = time.monotonic() - began
        log.info("%s copied to %s: %s in %.1f s", listing.source, self.data, _mb(listing.size_b), seconds)


def lock_file(path: Path, how: int) -> int | None:
    """Open the lock of a copy; return a file descriptor, or None if others hold it. `how`: LOCK_EX or LOCK_SH."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return None
            raise
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # its last user has removed it meanwhile: retry with a new one


def half_copies(place: Path) -> Iterator[tuple[Path, int]]:
    """Yield the half copies of this user that no process makes, each with its lock, which is held: the caller closes
    it."""
    root = place / f"hpc-{os.getuid()}"
    for half in sorted(root.glob(".*.tmp")) if root.is_dir() and root.lstat().st_uid == os.getuid() else []:
        name = half.name.removeprefix(".").removesuffix(".tmp")
        if (lock := lock_file(root / f"{name}.lock", fcntl.LOCK_EX)) is not None:
            yield half, lock


def is_last(lock: int) -> bool:
    """Whether nobody else holds this lock; if so, we hold it exclusively."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _each(
    listing: Listing, ctx: Context, lock: int, what: str, work: Callable[[str, Callable[[int], None]], int]
) -> dict[str, int]:
    """Apply `work` to each file, a few at a time. It reports the bytes done after each block."""
    done_b = dict.fromkeys(listing.files, 0)
    ended = threading.Event()

    def one(name: str) -> int:
        def tell(n_b: int) -> None:
            if ended.is_set():
                raise NotStaged("ended in the middle")
            done_b[name] += n_b

        return work(name, tell)

    largest_first = sorted(listing.files, key=lambda name: -listing.files[name][0])
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            jobs = {name: pool.submit(one, name) for name in largest_first}
            pending, before_b, began = set(jobs.values()), -1, time.monotonic()
            while pending:
                done, pending = wait(pending, POLL_S, FIRST_EXCEPTION)
                for job in done:
                    job.result()  # raises the error of the thread
                if (now_b := sum(done_b.values())) > before_b:  # only then: others wait while it grows
                    before_b = now_b
                    os.utime(lock)
                    ctx.progress(what, now_b // 10**6, max(1, listing.size_b // 10**6))
                took_s = time.monotonic() - began
                if took_s > PROBE_S and (all_s := took_s * listing.size_b / max(1, now_b)) > LONGEST_S:
                    speed = f"{_mb(now_b)} in {took_s:.0f} s"
                    raise NotStaged(
                        f"{speed} means {all_s / 60:.0f} min for all, and {LONGEST_S / 60:.0f} min is the most"
                    )
                if ctx.should_stop():
                    raise Preempted
            return {name: job.result() for name, job in jobs.items()}
        except OSError as error:
            so_far = f"{_mb(sum(done_b.values()))} of {_mb(listing.size_b)}"
            raise NotStaged(f"{error.strerror or error}, after {so_far}") from None
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)


def _copy(source: Path, target: Path, name: str, tell: Callable[[int], None]) -> int:
    """Copy a file; return the checksum of the bytes read."""
    with open(target / name, "xb") as copy:
        return _checksum(source / name, tell, copy.write)


def _checksum(path: Path, tell: Callable[[int], None], write: Callable[[memoryview], object] | None = None) -> int:
    """Compute a CRC-32: it detects accidents, and SHA-256 would take most of the time."""
    crc = 0
    block = memoryview(bytearray(BLOCK_B))
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while n_b := file.readinto(block):
            crc = zlib.crc32(block[:n_b], crc)
            if write:
                write(block[:n_b])
            tell(n_b)
    return crc


def _make_room(copy: Copy, size_b: int, mem_gb: float | None) -> None:
    """Remove copies of killed runs; on a full disk also copies that nobody reads, the oldest first."""
    for path in sorted(copy.root.glob("*.lock"), key=last_change):
        other = Copy(copy.root, path.stem, copy.in_memory)
        if (lock := lock_file(path, fcntl.LOCK_EX)) is None:  # in use; ours too
            continue
        if copy.in_memory or not other.folder.exists() or _free_b(copy.root) < DISK_SLACK * size_b:
            other.remove()
        os.close(lock)
    if copy.in_memory and size_b > MEMORY_SHARE * (most_b := _memory_b(mem_gb)):
        raise NotStaged(f"its {_mb(size_b)} are more than a quarter of the job's memory, {_mb(most_b)}: more --mem")
    if (free_b := _free_b(copy.root)) < DISK_SLACK * size_b:
        raise NotStaged(
            f"it needs {_mb(DISK_SLACK * size_b)} and {_mb(free_b)} are free: more --scratch, where it is asked for"
        )


def _free_b(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _memory_b(mem_gb: float | None) -> int:
    """Return the memory that a job can count on: available on the node, and within its limit."""
    available_kb = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
    limits_b = [int(available_kb) << 10]
    if mem_gb is not None:
        limits_b.append(int(mem_gb * 2**30))
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = Path("/sys/fs/cgroup", "memory" if controllers else "")
        below = top / group.lstrip("/")
        for folder in (below, *below.parents):
            for file in (folder / "memory.max", folder / "memory.limit_in_bytes"):
                if file.is_file() and (text := file.read_text().strip()) != "max":
                    limits_b.append(int(text))
    return min(limits_b)


def _is_memory(folder: Path) -> bool:
    """Whether files in the folder take memory, as in /dev/shm, and on nodes without a disk in /tmp."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == number:
            return kind.split()[0] in ("tmpfs", "ramfs")
    return False


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _look(file: Path) -> list[int] | None:
    """Return the size and last change of a file, or None if it does not exist."""
    try:
        entry = file.stat()
    except FileNotFoundError:
        return None
    return [entry.st_size, entry.st_mtime_ns]


def last_change(path: Path) -> int:
    return (_look(path) or [0, 0])[1]


def _mb(n_b: float) -> str:
    return f"{n_b / 1e6:,.0f} MB" if n_b >= 1e7 else f"{n_b / 1e6:.2g} MB"


def _raise(error: OSError) -> None:
    raise error

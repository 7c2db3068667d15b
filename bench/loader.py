"""How fast random windows come: ours, the limit of memory or storage, torch's DataLoader, braindecode, in one run.

    python -m bench loader [--quick] [--peers-python /path/to/venv/bin/python]

Batches of 64 windows of 1024 samples from 8 recordings. LIMIT: as many windows of an array in memory, copied into one
batch buffer that is used again and again. Peers other than torch and h5py need a python that has them.
"""

import contextlib
import gc
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.compare import Goal, Peers, ratio, rounds, show
from bench.loader_peers import H5Windows, data_loader
from eegdecode.data.config import RandomWindows
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.loader import Loader
from eegdecode.data.loading.ring import Ring
from eegdecode.data.split.splits import Segment
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.signals import Recording, Stream, Trial

SFREQ, LENGTH, BATCH, N_RECORDINGS = 256.0, 1024, 64, 8
LIMIT = "LIMIT"
Method = Callable[[], object]


def run(quick: bool, peers_python: str = "") -> bool:
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ok &= _cold(root, quick)  # first: what is mapped is not dropped from memory
        ok &= _warm(root, quick, peers_python)
        ok &= _wide(root, quick)
        _sweep(root, quick)
    return ok


def _size(quick: bool) -> int:
    return 600_000_000 if quick else 1_200_000_000


class Data:
    """A store, the windows that are drawn from it, and the same amount of data in memory."""

    def __init__(self, folder: Path, n_channels: int, n_bytes: int, int16: bool = False) -> None:
        self.folder, self.n_channels = folder, n_channels
        n_times = n_bytes // N_RECORDINGS // n_channels // (2 if int16 else 4)
        if not folder.exists():
            _write(folder, n_channels, n_times, int16)
        self.store = store.open_store(folder)
        self.draw = drawn(self.store)
        self.paths = [str(stored.path) for stored in self.store.recordings]

    def windows(self, n: int) -> list[tuple[int, int]]:
        """(recording, first sample) of the first n batches."""
        places = self.draw.at(range(n))
        return list(zip(places.recording.tolist(), places.start.tolist(), strict=True))

    def limit(self, n: int, n_buffers: int = 1) -> Method:
        """Windows of memory into one buffer, or several in turn as a ring has to."""
        memory = np.concatenate([stored.signal for stored in self.store.recordings])
        buffers = [np.zeros((BATCH, LENGTH, self.n_channels), memory.dtype) for _ in range(n_buffers)]
        starts = np.random.default_rng(0).integers(0, len(memory) - LENGTH, (n, BATCH)).tolist()

        def gather() -> None:
            for number, batch in enumerate(starts):
                buffer = buffers[number % n_buffers]
                for row, start in enumerate(batch):
                    buffer[row] = memory[start : start + LENGTH]

        return gather


def drawn(opened: Store) -> Draw:
    segments = [Segment(index, trial) for index, stored in enumerate(opened.recordings) for trial in stored.trials]
    return Draw(RandomWindows(length_s=LENGTH / SFREQ, batch=BATCH), segments, opened.recordings, 0)


def _write(folder: Path, n_channels: int, n_times: int, int16: bool) -> None:
    noise = np.random.default_rng(0).standard_normal((8192, n_channels), np.float32)
    names = [f"sub-{number:02d}" for number in range(N_RECORDINGS)]
    channels = tuple(f"E{number}" for number in range(n_channels))

    def read(first: int, stop: int) -> np.ndarray:
        return noise[np.arange(first, stop) % len(noise)]

    store.write_manifest(folder, names)
    for name in names:
        stream = Stream(channels, SFREQ, n_times, read)
        store.write(folder, Recording(name, name, stream, (Trial(0.0, n_times / SFREQ, "all"),)), int16=int16)


def ours(data: Data, n: int, to_torch: bool = True, **knobs: Any) -> Method:
    """n batches, looked at by nobody; made once and used in all rounds, as in training."""
    made = (Loader if to_torch else Ring)(data.store, data.draw, **knobs)

    def iterate() -> None:
        for _ in made.at(0, n):
            pass

    iterate()
    return iterate


def same_for_all(window: np.ndarray, place: int) -> None:
    """A transform that does nothing: what is measured is the way to it and back."""


def _warm(root: Path, quick: bool, peers_python: str) -> bool:
    n = 40 if quick else 100
    data = Data(root / "64", 64, _size(quick))
    halves = Data(root / "64 int16", 64, _size(quick) // 2, int16=True)
    each = {
        LIMIT: (data.limit(n), n),
        "LIMIT, two buffers": (data.limit(n, n_buffers=2), n),
        "ours, 1 thread": (ours(data, n), n),
        "ours, 2 threads": (ours(data, n, threads=2), n),
        "ours, 2 processes and a transform": (ours(data, n, processes=2, transform=same_for_all), n),
        "ours, int16, 2 threads": (ours(halves, n, to_torch=False, threads=2), n),
        "ours, int16, cast on this CPU": (ours(halves, n // 4, threads=2), n // 4),
        "DataLoader(0), h5py": (data_loader(H5Windows(data.paths, data.windows(n // 4), LENGTH), BATCH, 0), n // 4),
        "DataLoader(2), h5py": (data_loader(H5Windows(data.paths, data.windows(n // 4), LENGTH), BATCH, 2), n // 4),
    }
    peers = None
    if peers_python:
        numbers = [data.paths[0], n // 8, BATCH, LENGTH]
        peers = Peers(peers_python, "bench.loader_peers", numbers, "braindecode")
        each |= {name: (peers.method(name), n // 8) for name in peers.names}
    seconds = per_batch(each, 5 if quick else 15)
    if peers:
        peers.close()
    goals = {
        "G1_ours_over_limit": at_least(seconds, LIMIT, "ours, 2 threads", 0.85),
        "G2_processes_over_limit": at_least(seconds, LIMIT, "ours, 2 processes and a transform", 0.75),
        "G2_over_dataloader_2": at_least(seconds, "DataLoader(2), h5py", "ours, 2 processes and a transform", 10),
        "G4_int16_over_limit": at_least(seconds, LIMIT, "ours, int16, 2 threads", 1.4),
    }
    if "braindecode preload, DataLoader(0)" in seconds:
        goals["G1_over_braindecode"] = at_least(seconds, "braindecode preload, DataLoader(0)", "ours, 2 threads", 7)
    else:
        print("braindecode: not installed here; name a python that has it with --peers-python")
    for peer in ("ffcv", "neuralset"):
        there = importlib.util.find_spec(peer) is not None
        print(f"{peer}: {'installed, but there is no method for it here' if there else 'not installed'}")
    return show("64 channels, in memory", seconds, LIMIT, goals)


def _wide(root: Path, quick: bool) -> bool:
    n = 10 if quick else 25
    data = Data(root / "306", 306, 1_000_000_000 if quick else 2_000_000_000)
    windows = H5Windows(data.paths, data.windows(n // 5), LENGTH)
    each = {
        LIMIT: (data.limit(n), n),
        "ours, 1 thread": (ours(data, n), n),
        "ours, 2 threads": (ours(data, n, threads=2), n),
        "DataLoader(2), h5py": (data_loader(windows, BATCH, 2), n // 5),
        "DataLoader(0), h5py": (data_loader(windows, BATCH, 0), n // 5),
    }
    seconds = per_batch(each, 5 if quick else 15)
    goals = {
        "G3_1_thread_over_limit": at_least(seconds, LIMIT, "ours, 1 thread", 0.85),
        "G3_2_threads_over_limit": at_least(seconds, LIMIT, "ours, 2 threads", 1.2),
        "G3_over_dataloader": at_least(seconds, "DataLoader(2), h5py", "ours, 2 threads", 12),
    }
    return show("306 channels, in memory", seconds, LIMIT, goals)


PREAD = "pread, 32 at a time"


def _cold(root: Path, quick: bool) -> bool:
    """Each method finds the files dropped from memory, reads windows that were not read before, and maps anew."""
    n = 16 if quick else 32
    data = Data(root / "64", 64, _size(quick))
    chunked = [_write_chunked(Path(path)) for path in data.paths]
    windows = data.windows(n)

    def loader() -> None:
        opened = store.open_store(data.folder)
        ring = Ring(opened, drawn(opened), threads=2)
        for _ in ring.at(0, n):
            pass
        ring.close()

    def pread() -> None:
        local = store.open_store(data.folder).recordings
        files = [os.open(path, os.O_RDONLY) for path in data.paths]
        buffers = [bytearray(LENGTH * 64 * 4) for _ in range(32)]

        def read(number: int) -> None:
            recording, start = windows[number]
            os.preadv(files[recording], [buffers[number % 32]], local[recording].blocks["signal"].offset + start * 256)

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(read, range(len(windows))))
        for file in files:
            os.close(file)

    def h5py_reads(paths: list[str], which: list[tuple[int, int]]) -> Method:
        def read() -> None:
            reader = H5Windows(paths, which, LENGTH)
            for index in range(len(which)):
                reader[index]

        return read

    del data.store, data.draw  # what is mapped cannot be dropped
    each = {
        PREAD: (pread, n),
        "ours": (loader, n),
        "h5py": (h5py_reads(data.paths, windows), n),
        "h5py, chunks=True": (h5py_reads(chunked, windows[:BATCH]), 1),
    }
    files = [*data.paths, *chunked]
    _drop(files)
    print(f"\nin memory after files were dropped: {max(map(_in_memory, files)):.0%}")
    seconds = per_batch(each, 3 if quick else 7, lambda: _drop(files))
    goals = {
        "G5_ours_over_pread": at_least(seconds, PREAD, "ours", 0.95),
        "G5_over_h5py": at_least(seconds, "h5py", "ours", 1.5),
        "G5_over_chunks": at_least(seconds, "h5py, chunks=True", "ours", 30),
    }
    return show("64 channels, files dropped from memory", seconds, PREAD, goals)


def _drop(paths: list[str]) -> None:
    """Out of the page cache; what is mapped somewhere stays."""
    gc.collect()
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def _in_memory(path: str) -> float:
    """The part of a file that is in the page cache, by 100 looks."""
    with Path(path).open("rb") as file:
        size, found = os.fstat(file.fileno()).st_size, 0
        for look in range(100):
            with contextlib.suppress(BlockingIOError):
                found += os.preadv(file.fileno(), [bytearray(1)], size * look // 100, os.RWF_NOWAIT)
    return found / 100


def _write_chunked(path: Path) -> str:
    """A copy with h5py's own choice of chunks."""
    copy = path.with_suffix(".chunked")
    with h5py.File(path) as original, h5py.File(copy, "w") as file:
        file.create_dataset("signal", data=original["signal"][:], chunks=True)
    with copy.open("rb+") as written:
        os.fsync(written.fileno())
    return str(copy)


def _sweep(root: Path, quick: bool) -> None:
    """D19: how many threads, how many batches in the ring."""
    n = 30 if quick else 60
    data = Data(root / "64", 64, _size(quick))
    threads, slots = (1, 2, 4), (2, 3, 4, 6)
    each: dict[str, tuple[Method, int]] = {LIMIT: (data.limit(n), n)}
    for how in ("threads", "processes"):
        for count in threads[:2] if how == "processes" else threads:
            for ring in slots:
                each[f"{count} {how}, {ring} slots"] = (
                    ours(data, n, True, **{how: count, "slots": ring}),
                    n,
                )
    seconds = per_batch(each, 3 if quick else 7)
    print("\nLIMIT / ours, 64 channels in memory, by batches in the ring")
    print(f"{'':<14}" + "".join(f"{f'{ring} slots':>10}" for ring in slots))
    for how in ("threads", "processes"):
        for count in threads[:2] if how == "processes" else threads:
            row = [ratio(seconds, LIMIT, f"{count} {how}, {ring} slots") for ring in slots]
            print(f"{count} {how:<12}" + "".join(f"{value:>10.2f}" for value in row))


def per_batch(
    each: Mapping[str, tuple[Method, int]], n_rounds: int, before: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of a batch of each method in each round."""
    seconds = rounds({name: method for name, (method, _) in each.items()}, n_rounds, before)
    return {name: [value / each[name][1] for value in values] for name, values in seconds.items()}


def at_least(seconds: Mapping[str, list[float]], slow: str, fast: str, bar: float) -> Goal:
    return Goal(ratio(seconds, slow, fast), bar, at_least=True)

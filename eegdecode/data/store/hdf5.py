"""Write HDF5 files: HDF5 lays the file out in memory, and we write it to the disk ourselves.

HDF5 does not survive a failed write: the handle that it was closing stays half closed, and the process ends in a
segmentation fault instead of with its own exit code (h5py issues 914 and 2160).
"""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from hpc.runs import products

BESIDE = 1 << 20  # bytes; everything besides the arrays
COPIED = 1 << 24  # bytes at a time


def write(path: Path, fill: Callable[["Draft"], object]) -> None:
    """Make a product, complete or not at all. An OSError names it."""

    def put(disk: BinaryIO) -> None:
        # An unbuffered Python file, whose methods are in C: no signal handler can raise in the middle of HDF5
        with open(os.memfd_create(path.name), "r+b", buffering=0) as memory:
            with h5py.File(memory, "w") as file:
                draft = Draft(path, file, disk.fileno())
                fill(draft)
            draft.finish(memory.fileno())

    products.write(path, put)


class Draft:
    """A file that is being filled: small values in `file`, as in h5py; arrays by `room` and `put`."""

    def __init__(self, path: Path, file: h5py.File, disk: int) -> None:
        self.path, self.file = path, file
        self._disk = disk
        self._arrays: list[tuple[int, int]] = []  # first byte and end of each

    def room(self, name: str, shape: tuple[int, ...], dtype: np.dtype | str) -> h5py.Dataset:
        """Reserve the space of an array in the file."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._refuse_limit(n_bytes)
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        dataset = self.file.create_dataset(name, shape, dtype, dcpl=how)
        if n_bytes:
            offset = dataset.id.get_offset()
            self._arrays.append((offset, offset + n_bytes))
        return dataset

    def put(self, dataset: h5py.Dataset, first: int, rows: np.ndarray) -> None:
        """Write rows of an array, starting at `first`."""
        rows = np.ascontiguousarray(rows, dtype=dataset.dtype)
        if rows.size:
            self._write(rows.reshape(-1).view(np.uint8).data, dataset.id.get_offset() + first * rows[0].nbytes)

    def array(self, name: str, rows: np.ndarray) -> None:
        """Write an array that is in memory."""
        self.put(self.room(name, rows.shape, rows.dtype), 0, rows)

    def finish(self, memory: int) -> None:
        """Write to the disk what HDF5 has put around the arrays."""
        end, at = os.fstat(memory).st_size, 0
        for first, stop in [*sorted(self._arrays), (end, end)]:
            while at < first:
                block = os.pread(memory, min(first - at, COPIED), at)
                self._write(memoryview(block), at)
                at += len(block)
            at = stop

    def _write(self, block: memoryview, at: int) -> None:
        try:
            while block:
                n_bytes = os.pwrite(self._disk, block, at)  # less than all of it if the disk is about to be full
                block, at = block[n_bytes:], at + n_bytes
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _refuse_limit(self, n_bytes: int) -> None:
        """Refuse a file that is larger than `ulimit -f` allows; the limit holds for files in memory too."""
        limit, needed = resource.getrlimit(resource.RLIMIT_FSIZE)[0], n_bytes + BESIDE
        needed += sum(stop - first for first, stop in self._arrays)
        if limit != resource.RLIM_INFINITY and needed > limit:
            why = f"a file may have {limit / 1e6:.0f} MB here and {needed / 1e6:.0f} MB needed: raise `ulimit -f`"
            raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)}, {why}", str(self.path))

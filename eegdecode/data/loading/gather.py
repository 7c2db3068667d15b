"""Copy the samples of windows from mapped files into the rows of a batch. Numpy only, from any thread."""

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eegdecode.data.loading.windows import Places
from eegdecode.data.store.dataset import Store

ADVISED = 1 << 17
"""Bytes of one read-ahead request: the kernel shortens a longer one to its own read-ahead."""
WARM = 256
"""After WARM windows in a row that were in memory already, only one of each batch is checked."""
OPEN_FILES = 64


class Gathered(NamedTuple):
    """Windows of one length, in fresh arrays."""

    signal: np.ndarray  # [window, time, channel]
    target: np.ndarray  # [window, time, feature]
    subject: np.ndarray  # [window], an index into the subjects of the store


def gather(store: Store, places: Places, target: str, length: int | None = None, baseline: int = 0) -> Gathered:
    """Copy windows as float32, of `length` samples or as many as the first; the mean of `baseline` samples is
    subtracted."""
    source = Source(store, target)
    length = length or int(places.n_times[0])
    signal = np.empty((len(places.start), length, source.n_channels), np.float32)
    values = np.empty((len(places.start), *source.target_shape(length)), np.float32)
    source.fill(places, signal, values)
    if baseline:
        signal -= _mean_of_start(signal, baseline)
    return Gathered(signal, values, source.subject[places.recording])


def baselines(store: Store, places: Places, baseline: int) -> np.ndarray:
    """Return [window, 1, channel]: what `gather` subtracts as the mean of `baseline` samples."""
    return _mean_of_start(
        gather(store, places._replace(n_times=np.full_like(places.n_times, baseline)), "").signal, baseline
    )


def _mean_of_start(signal: np.ndarray, n: int) -> np.ndarray:
    mean: np.ndarray = signal[:, :n].mean(axis=1, keepdims=True)
    return mean


class Source:
    """The source of windows: the recordings of a store, and one of their targets; "" for none.

    A target is [time, feature] at its own rate, cut at the times of the window, or one row [feature] a trial.
    """

    def __init__(self, store: Store, target: str) -> None:
        self.recordings, self.target = store.recordings, target
        first = store.recordings[0]
        self.n_channels = len(first.channels)
        dtypes = {np.dtype(stored.blocks["signal"].dtype) for stored in store.recordings}
        self.dtype = dtypes.pop() if len(dtypes) == 1 else None
        """The type of the signal in the files; None if they differ, and then they are read as float32."""
        self._signals: list[np.ndarray | None] = [None] * len(store.recordings)  # mapped at first touch
        place = {subject: index for index, subject in enumerate(store.subjects)}
        self.subject = np.array([place[stored.subject] for stored in store.recordings])
        self.per_trial = f"values/{target}" in first.blocks
        self._ratio = 1.0
        self._n_features = 0
        if self.per_trial:
            self._n_features = first.values(target).shape[1]
        elif target:
            self._n_features = first.n_outputs(target)
            self._ratio = first.target_sfreq(target) / first.sfreq

    def target_shape(self, length: int) -> tuple[int, ...]:
        """Return the shape of the target of a window with `length` samples."""
        return (self._n_features,) if self.per_trial else (round(length * self._ratio), self._n_features)

    def fill(self, places: Places, signal: np.ndarray, target: np.ndarray, storage: "StoreFiles | None" = None) -> None:
        """Copy these windows into the rows of a batch. A window that is shorter is repeated from its start."""
        copies: list[tuple[np.ndarray, np.ndarray]] = []
        as_it_lies = signal.dtype == self.dtype
        if as_it_lies and storage is not None and storage.is_cold:
            for out, (recording, _, start, n_times) in zip(signal, _rows(places), strict=True):
                storage.read(recording, start, out[:n_times])
                copies += _wrapped(out, 0, n_times, out)[1:]
        elif as_it_lies:
            for out, (recording, _, start, n_times) in zip(signal, _rows(places), strict=True):
                source = self._signals[recording]
                if source is None:
                    source = self._signals[recording] = self.recordings[recording].signal
                copies += _wrapped(source, start, n_times, out)
        else:
            for out, (recording, _, start, n_times) in zip(signal, _rows(places), strict=True):
                copies += _wrapped(self.recordings[recording].read(start, start + n_times), 0, n_times, out)
        if self.target:
            rows = zip(*(column.tolist() for column in (places.recording, *self.target_spans(places))), strict=True)
            for out, (recording, first, n_values) in zip(target, rows, strict=True):
                stored = self.recordings[recording]
                if self.per_trial:
                    copies.append((out, stored.values(self.target)[first]))
                else:
                    copies += _wrapped(stored.target(self.target), first, n_values, out)
        # With little work between copies, threads seldom contend for the GIL; waking one takes long
        for out, source in copies:
            out[:] = source

    def target_spans(self, places: Places) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row of each window's target and the number of rows: that of the trial, or those from the
        sample nearest in time to the window's first."""
        if self.per_trial:
            return places.trial, np.ones_like(places.trial)
        n_values = np.rint(places.n_times * self._ratio).astype(np.int64)
        first = np.floor(places.start * self._ratio + 0.5).astype(np.int64)
        used, of = np.unique(places.recording, return_inverse=True)
        n_rows = np.array([len(self.recordings[recording].target(self.target)) for recording in used.tolist()])[of]
        missing = first + n_values - n_rows
        if (missing > math.ceil(self._ratio)).any():  # more than rounding explains
            worst = int(missing.argmax())
            name, end = self.recordings[places.recording[worst]].name, first[worst] + n_values[worst]
            raise ValueError(
                f"{self.target} of {name} ends after {n_rows[worst]} samples, but a window needs it up to {end}: make "
                "the target as long as the recording"
            )
        return np.where(missing > 0, np.maximum(n_rows - n_values, 0), first), n_values


def _rows(places: Places) -> Iterator[tuple[int, int, int, int]]:
    return zip(*(column.tolist() for column in places), strict=True)


def _wrapped(source: np.ndarray, start: int, n_times: int, out: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the copies (to, from) that fill `out`: the window, repeated as needed."""
    if len(out) == n_times:
        return [(out, source[start : start + n_times])]
    return [
        (out[first : first + n_times], source[start : start + min(n_times, len(out) - first)])
        for first in range(0, len(out), n_times)
    ]


class StoreFiles:
    """Read-ahead for the files of a store: the kernel is asked for the next windows while training computes.

    Until everything is in the page cache, windows are read instead of copied from a map, as mapping a page at first
    touch costs a third more. After that, the cache is checked only now and then.
    """

    def __init__(self, store: Store) -> None:
        self.recordings = store.recordings
        self._files: OrderedDict[int, _File] = OrderedDict()
        self._warm = 0
        self._lock = threading.Lock()

    @property
    def is_cold(self) -> bool:
        return self._warm < WARM

    def ask(self, places: Places) -> None:
        """Ask the kernel to read these windows ahead."""
        for recording, _, start, n_times in _rows(places if self.is_cold else places.take(slice(1))):
            file, first = self._open(recording), self._offset(recording, start)
            last = self._offset(recording, start + n_times)
            if file.in_memory(first) and file.in_memory(last - 1):
                self._warm += 1
                continue
            self._warm = 0
            for at in range(first, last, ADVISED):
                os.posix_fadvise(file.number, at, min(ADVISED, last - at), os.POSIX_FADV_WILLNEED)

    def read(self, recording: int, start: int, out: np.ndarray) -> None:
        """Read samples of the signal, in the type of the file."""
        file, offset = self._open(recording), self._offset(recording, start)
        if (n_read := os.preadv(file.number, [out.data], offset)) != out.nbytes:
            path = self.recordings[recording].path
            raise ValueError(f"{path} gave {n_read} of {out.nbytes} bytes at {offset}: it is cut off, preprocess again")

    def _offset(self, recording: int, sample: int) -> int:
        block = self.recordings[recording].blocks["signal"]
        return block.offset + sample * (block.n_bytes // block.shape[0])

    def _open(self, recording: int) -> "_File":
        with self._lock:
            if recording not in self._files:
                self.recordings[recording].verify()
                self._files[recording] = _File(self.recordings[recording].path)
            self._files.move_to_end(recording)
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
            return self._files[recording]


class _File:
    """An open file, closed when the last thread has finished with it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)

    def in_memory(self, at: int) -> bool:
        """Whether that byte can be read without waiting. If the file system cannot tell, the answer is no."""
        try:
            return os.preadv(self.number, [bytearray(1)], at, os.RWF_NOWAIT) == 1
        except OSError:
            return False

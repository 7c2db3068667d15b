"""Batches on the device of a rank, from a ring of shared memory; torch's worker processes are limited to 2 GB/s.

A batch is copied during the step before it; layout, type and scale are converted on the device.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.ring import Ring, RingBatch
from eegdecode.data.loading.windows import n_baseline
from eegdecode.data.loading.workers import Transform
from eegdecode.data.store.dataset import Store


def cores(local_size: int = 1) -> int:
    """Return the number of cores for this rank if `local_size` ranks of the node share those of the process; at least
    one."""
    return max(1, len(os.sched_getaffinity(0)) // local_size)


class Loaded(NamedTuple):
    """A batch on the device, valid until the next one is requested."""

    signal: torch.Tensor  # float32 [window, time, channel], or [window, channel, time] with channels_first
    target: torch.Tensor  # [window, time, feature], or [window, feature] for one row a trial
    subject: torch.Tensor  # [window], an index into the subjects of the store


class Loader:
    """The training batches: `for batch in loader.at(step)`, from any step, the same for any number of workers.

    Parameters
    ----------
    store, draw, target, rank, size, threads, processes, slots, transform
        As for Ring.
    device
        The device of the batches.
    channels_first
        [window, channel, time], as most convolutions expect, instead of [window, time, channel].
    """

    def __init__(
        self,
        store: Store,
        draw: Draw | Partners,
        target: str = "",
        *,
        rank: int = 0,
        size: int = 1,
        threads: int = 1,
        processes: int = 0,
        slots: int = 2,
        transform: Transform | None = None,
        device: torch.device | str = "cpu",
        channels_first: bool = False,
    ) -> None:
        self.device, self.channels_first = torch.device(device), channels_first
        self.ring = Ring(
            store,
            draw,
            target,
            rank=rank,
            size=size,
            threads=threads,
            processes=processes,
            slots=slots,
            transform=transform,
        )
        self.wait_s = 0.0
        """The time that the loop waited for the last batch."""
        self._subject = torch.from_numpy(self.ring.source.subject)
        self._scale: torch.Tensor | None = None
        if self.ring.dtype == np.int16:
            scale = np.array([stored.scale for stored in store.recordings], np.float32)
            self._scale = torch.from_numpy(scale[:, None]).to(self.device)
        self._baseline = n_baseline(draw.cfg, store.recordings[0].sfreq)
        self._pinned = self.device.type == "cuda" and _pin(self.ring.memory)

    def at(self, step: int, stop: int | None = None) -> Iterator[Loaded]:
        """Yield the batches of these steps; without `stop`, endlessly."""
        for batch in self.ring.at(step, stop):
            self.wait_s = self.ring.wait_s
            loaded = self._loaded(batch)
            copied = None
            if self._pinned:
                copied = torch.cuda.Event()
                copied.record()
            yield loaded
            if copied is not None:  # before the ring reuses that memory
                copied.synchronize()

    def close(self) -> None:
        self.ring.close()
        if self._pinned:
            _unpin(self.ring.memory)
            self._pinned = False

    def _loaded(self, batch: RingBatch) -> Loaded:
        recording = torch.from_numpy(batch.places.recording)
        signal = torch.from_numpy(batch.signal).to(self.device, non_blocking=self._pinned)
        target = torch.from_numpy(batch.target).to(self.device, non_blocking=self._pinned)
        if self._scale is not None:
            signal = signal * self._scale[recording.to(self.device)]
        if self._baseline:
            signal = signal - signal[:, : self._baseline].mean(dim=1, keepdim=True)
        if self.channels_first:
            signal = signal.transpose(1, 2).contiguous()
        return Loaded(signal, target, self._subject[recording].to(self.device))


def _pin(memory: np.ndarray) -> bool:
    """Pin the ring's memory for the GPU; if that fails, copies are synchronous."""
    return int(torch.cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)) == 0


def _unpin(memory: np.ndarray) -> None:
    torch.cuda.cudart().cudaHostUnregister(memory.ctypes.data)

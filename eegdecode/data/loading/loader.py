"""Batches on the device of a rank, from a ring of shared memory; torch's worker processes are limited to 2 GB/s.

A batch is filled, and copied to a GPU, during the step before it; layout, type and scale are converted on the device.
"""

import os
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from eegdecode.data.loading import transfer
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.ring import Ring
from eegdecode.data.loading.share import PLANNED, Share
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
        As for Ring; on a GPU there is one slot more, from which is copied.
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
        on_gpu = self.device.type == "cuda"
        self.ring = Ring(
            store,
            draw,
            target,
            rank=rank,
            size=size,
            threads=threads,
            processes=processes,
            slots=slots + on_gpu,
            lag=int(on_gpu),
            transform=transform,
            allocate=transfer.pinned_array if on_gpu else None,
        )
        self.wait_s = 0.0
        """The time that the loop waited for the last batch."""
        self._transfer = transfer.Transfer(self.device, self.ring.slot_bytes) if on_gpu else None
        self._rows = DeviceRows(self.ring.share, self.ring.source.subject, self.device)
        self._scale = scale_of(store, self.device) if self.ring.dtype == np.int16 else None
        self._baseline = n_baseline(draw.cfg, store.recordings[0].sfreq)

    def at(self, step: int, stop: int | None = None) -> Iterator[Loaded]:
        """Yield the batches of these steps; without `stop`, endlessly."""
        if self._transfer is not None:
            yield from self._copied_ahead(self._transfer, step, stop)
            return
        for number, batch in enumerate(self.ring.at(step, stop), step):
            self.wait_s = self.ring.wait_s
            yield self._loaded(number, torch.from_numpy(batch.signal), torch.from_numpy(batch.target))

    def close(self) -> None:
        if self._transfer is not None:
            self._transfer.wait()
        self.ring.close()

    def _copied_ahead(self, copies: transfer.Transfer, step: int, stop: int | None) -> Iterator[Loaded]:
        """Copy each batch while the GPU computes with the one before."""
        copies.wait()  # what is under way reads slots that are filled anew
        copies.release_all()  # whoever began at another step is done with its batches
        batches = self.ring.at(step, stop)
        sent: deque[transfer.Sent] = deque()
        number = step
        while True:
            began = time.perf_counter()
            copies.wait(but=1)  # the slot of the batch before the last is filled next
            batch = next(batches, None)
            if batch is not None:
                sent.append(copies.send(batch.signal, batch.target))
            self.wait_s = time.perf_counter() - began
            if not sent:
                return
            if batch is not None and len(sent) == 1:
                continue  # the first: its successor is copied while it is used
            signal, target = copies.arrived(sent[0])
            yield self._loaded(number, signal, target)
            copies.release(sent.popleft())
            number += 1

    def _loaded(self, step: int, signal: torch.Tensor, target: torch.Tensor) -> Loaded:
        recording, subject = self._rows.of(step)
        return Loaded(
            converted(signal, recording, self._scale, self._baseline, self.channels_first),
            target,
            subject,
        )


def scale_of(store: Store, device: torch.device) -> torch.Tensor:
    """Return [recording, 1, channel]: the step of the numbers of int16 signals."""
    scale = np.array([stored.scale for stored in store.recordings], np.float32)
    return torch.from_numpy(scale[:, None]).to(device)


def converted(
    signal: torch.Tensor, recording: torch.Tensor, scale: torch.Tensor | None, baseline: int, channels_first: bool
) -> torch.Tensor:
    """Return the signal of windows as a network takes it, from that of the files."""
    if scale is not None:
        signal = signal * scale[recording]
    if baseline:
        signal = signal - signal[:, :baseline].mean(dim=1, keepdim=True)
    return signal.transpose(1, 2).contiguous() if channels_first else signal


class DeviceRows:
    """Recording and subject of each window on the device: those of many steps are copied at once."""

    def __init__(self, share: Share, subject: np.ndarray, device: torch.device) -> None:
        self.share, self.subject, self.device = share, subject, device
        self._block = -1
        self._of_steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    def of(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        block, within = divmod(step, PLANNED)
        if block != self._block:
            recording = self.share.block(block).recording
            both = np.stack([recording, self.subject[recording]]).reshape(2, PLANNED, -1)
            recordings, subjects = transfer.to_device(both, self.device)
            self._of_steps, self._block = list(zip(recordings, subjects, strict=True)), block
        return self._of_steps[within]

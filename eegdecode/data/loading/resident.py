"""A study that lies on the device as a whole: windows are cut there, and nothing is read or copied between steps.

The batches are those of the ring, bit for bit.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from eegdecode.data.loading import transfer
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.gather import Source
from eegdecode.data.loading.loader import Loaded, converted, scale_of
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.share import PLANNED, Share
from eegdecode.data.loading.windows import Places, n_baseline
from eegdecode.data.store.dataset import Store, Stored

log = logging.getLogger(__name__)

SHARE_OF_FREE = 0.3
"""The share of a GPU's free memory that a study may take by itself: the rest is for the model."""


def resident(
    wanted: bool | Literal["auto"],
    store: Store,
    target: str,
    recordings: Collection[int],
    device: torch.device,
    beat: Callable[[], object] = lambda: None,
) -> "Resident | None":
    """Return these recordings on the device, if that is wanted: for `auto`, on a GPU that has room for them."""
    if not wanted or (wanted == "auto" and device.type == "cpu"):
        return None
    size = n_bytes(store, target, recordings)
    where = "in memory"
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        where = f"on the GPU, which has {free / 1e9:.2f} GB free"
        if wanted == "auto" and size > SHARE_OF_FREE * free:
            log.info("the data take %.2f GB, too much to lie %s: each step copies its batch", size / 1e9, where)
            return None
        if size > free:
            raise ValueError(
                f"compute.data_on_device=true, but the data take {size / 1e9:.2f} GB, and of the GPU's memory "
                f"{free / 1e9:.2f} GB are free: say auto, or preprocess at a lower rate or with preprocess.int16=true"
            )
    log.info("the data, %.2f GB, lie %s: windows are cut there", size / 1e9, where)
    return Resident(store, target, recordings, device, beat)


def n_bytes(store: Store, target: str, recordings: Collection[int]) -> int:
    """Return how much memory these recordings and their target take on a device."""
    source = Source(store, target)
    one_type = source.dtype is not None
    total = 0
    for index in recordings:
        blocks = store.recordings[index].blocks
        signal = blocks["signal"]
        total += signal.n_bytes if one_type else signal.shape[0] * signal.shape[1] * 4
        total += sum(blocks[name].n_bytes for name in (f"values/{target}", f"targets/{target}") if name in blocks)
    return total


class Resident:
    """The recordings of a store, and one of their targets, on a device.

    Parameters
    ----------
    recordings
        The indices of those that are used.
    beat
        Is called after each: reading them may take minutes.
    """

    def __init__(
        self,
        store: Store,
        target: str,
        recordings: Collection[int],
        device: torch.device,
        beat: Callable[[], object] = lambda: None,
    ) -> None:
        self.store, self.device = store, device
        self.source = Source(store, target)
        used = [store.recordings[index] for index in sorted(recordings)]
        is_int16 = self.source.dtype == np.int16
        self.scale = scale_of(store, device) if is_int16 else None
        self._first = np.full(len(store.recordings), -1)
        self._first_value = np.full(len(store.recordings), -1)
        self._first[sorted(recordings)] = _starts([stored.n_times for stored in used])

        def signal_of(stored: Stored) -> np.ndarray:
            return stored.signal if self.source.dtype is not None else stored.read(0, stored.n_times)

        kind = torch.int16 if is_int16 else torch.float32
        shape = sum(stored.n_times for stored in used), self.source.n_channels
        self.signal = torch.empty(shape, dtype=kind, device=device)
        """[sample, channel], recording after recording."""
        _fill(self.signal, map(signal_of, used), beat)
        self.target: torch.Tensor | None = None
        """[sample, feature], or [trial, feature] for one row a trial."""
        if target:
            values = [stored.values(target) if self.source.per_trial else stored.target(target) for stored in used]
            self._first_value[sorted(recordings)] = _starts([len(rows) for rows in values])
            self.target = torch.empty((sum(map(len, values)), values[0].shape[1]), device=device)
            _fill(self.target, values, beat)

    def plan(self, places: Places) -> torch.Tensor:
        """Return [6, window] on the device: what `windows` needs to cut these windows, in one copy."""
        if (self._first[places.recording] < 0).any():
            raise ValueError("a window is of a recording that does not lie on the device")  # of no set of the split
        first, n_times = self._first[places.recording] + places.start, places.n_times
        first_value, n_values = np.zeros_like(first), np.ones_like(first)
        if self.target is not None:
            first_value, n_values = self.source.target_spans(places)
            first_value = first_value + self._first_value[places.recording]
        subject = self.source.subject[places.recording]
        columns = (places.recording, subject, first, n_times, first_value, n_values)
        return transfer.to_device(np.stack([column.astype(np.int64) for column in columns]), self.device)

    def windows(self, plan: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return signal, target, recording and subject of planned windows; a shorter one is repeated from its start."""
        recording, subject, first, n_times, first_value, n_values = plan
        signal = _rows(self.signal, first, n_times, length)
        shape = self.source.target_shape(length)
        if self.target is None:
            target = torch.empty((len(first), *shape), device=self.device)
        elif self.source.per_trial:
            target = self.target[first_value]
        else:
            target = _rows(self.target, first_value, n_values, shape[0])
        return signal, target, recording, subject


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *lengths[:-1]]) if lengths else np.empty(0, np.int64)


def _fill(out: torch.Tensor, arrays: "Iterator[np.ndarray] | Sequence[np.ndarray]", beat: Callable[[], object]) -> None:
    first = 0
    for array in arrays:
        for begin in range(0, len(array), STRETCH):
            stretch = np.array(array[begin : begin + STRETCH])  # from the map into memory
            out[first : first + len(stretch)] = torch.from_numpy(stretch)
            first += len(stretch)
            beat()


STRETCH = 1 << 18
"""Samples that are read at once."""


def _rows(flat: torch.Tensor, first: torch.Tensor, n: torch.Tensor, length: int) -> torch.Tensor:
    """Return [window, row, column]: `length` rows of each window, of whose n the first come again after the last."""
    at = first[:, None] + torch.arange(length, device=flat.device) % n[:, None]
    return flat.index_select(0, at.flatten()).unflatten(0, at.shape)


class ResidentLoader:
    """The batches of a Loader, cut from a Resident."""

    wait_s = 0.0

    def __init__(
        self,
        resident: Resident,
        draw: Draw | Partners,
        *,
        rank: int = 0,
        size: int = 1,
        channels_first: bool = False,
    ) -> None:
        self.resident, self.share, self.channels_first = resident, Share(draw, rank, size), channels_first
        self._baseline = n_baseline(draw.cfg, resident.store.recordings[0].sfreq)
        self._block = -1
        self._plan = torch.empty(0)

    def at(self, step: int, stop: int | None = None) -> Iterator[Loaded]:
        """Yield the batches of these steps; without `stop`, endlessly."""
        while stop is None or step < stop:
            block, within = divmod(step, PLANNED)
            if block != self._block:
                plan = self.resident.plan(self.share.block(block))
                self._plan, self._block = plan.unflatten(1, (PLANNED, -1)), block
            length = self.share.length(self.share.step(step))
            signal, target, recording, subject = self.resident.windows(self._plan[:, within], length)
            scale = self.resident.scale
            yield Loaded(converted(signal, recording, scale, self._baseline, self.channels_first), target, subject)
            step += 1

    def close(self) -> None:
        """There is nothing to end."""

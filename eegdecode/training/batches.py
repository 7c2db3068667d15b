"""The batches that a rank trains on, from any step on."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from eegdecode.data.loading import loader, order, transfer
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.loader import Loader
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.resident import Resident, ResidentLoader
from eegdecode.data.loading.share import PLANNED
from eegdecode.data.store.dataset import Store
from eegdecode.objectives import Batch
from eegdecode.training.augment import Augmentation
from eegdecode.training.config import Train
from hpc.rank.context import Context

FILLING = 4
"""Threads that fill batches: two read as fast as memory allows, and more help if storage is slow."""
NOISE, STATISTICS = 5, 7  # separate the draws of one seed, also from those of eegdecode.data
STATISTICS_WINDOWS = 1024
"""Training windows from which batch norms estimate their statistics before a validation, at least."""


class Batches:
    """This rank's augmented batches from any step on, each window with its random key. `resident`: the data, if they
    lie on the device."""

    def __init__(
        self,
        cfg: Train,
        ctx: Context,
        data: Store,
        draw: Draw,
        augment: Augmentation,
        device: torch.device,
        resident: Resident | None = None,
    ) -> None:
        self.cfg, self.world, self.device, self.augment = cfg, ctx.world, device, augment
        self.data, self.draw, self.resident = data, draw, resident
        partners = Partners(draw, augment.partners, cfg.target, data.recordings) if augment.partners else None
        self.own: Loader | ResidentLoader
        self.others: Loader | ResidentLoader | None
        if resident is not None:
            cut = partial(ResidentLoader, resident, rank=ctx.world.rank, size=ctx.world.size)
            self.own, self.others = cut(draw), cut(partners) if partners else None
        else:
            read = partial(Loader, data, target=cfg.target, rank=ctx.world.rank, size=ctx.world.size, device=device)
            self.own = read(draw, threads=min(loader.cores(ctx.world.local_size), FILLING))
            self.others = read(partners) if partners else None
        self.wait_s = 0.0
        self._block = -1
        self._keys_of_block: tuple[torch.Tensor, ...] = ()

    def at(self, step: int, stop: int | None = None) -> Iterator[Batch]:
        others = self.others.at(step, stop) if self.others else None
        for number, loaded in enumerate(self.own.at(step, stop), step):
            self.wait_s = self.own.wait_s
            batch = Batch(loaded.signal, loaded.target, loaded.subject, self._keys(number))
            partners: list[Batch] = []
            if others is not None:
                columns = [column.tensor_split(len(self.augment.partners)) for column in next(others)]
                partners = [Batch(x, y, subject, batch.rng_key) for x, y, subject in zip(*columns, strict=True)]
            yield self.augment(batch, partners)

    def for_statistics(self) -> Iterator[Batch]:
        """Yield training windows for the statistics of batch norms: the first batches whole, the same on every rank and
        at any step, without augmentation."""
        n = self.cfg.windows.batch
        n_batches = min(-(-STATISTICS_WINDOWS // n), max(1, -(-len(self.draw) // n)))
        loaded: Loader | ResidentLoader
        if self.resident is None:
            loaded = Loader(self.data, self.draw, self.cfg.target, device=self.device)
        else:
            loaded = ResidentLoader(self.resident, self.draw)
        for number, batch in enumerate(loaded.at(0, n_batches)):
            keys = order.key(self.cfg.seed, STATISTICS, number, np.arange(len(batch.signal))).astype(np.int64)
            yield Batch(batch.signal, batch.target, batch.subject, transfer.to_device(keys, self.device))
        loaded.close()

    def _keys(self, step: int) -> torch.Tensor:
        """Return the keys of this rank's windows, from (seed, step, index in the global batch)."""
        block, within = divmod(step, PLANNED)
        if block != self._block:
            n = self.cfg.windows.batch
            steps = np.arange(block * PLANNED, (block + 1) * PLANNED, dtype=np.int64)[:, None]
            places = np.arange(self.world.rank, n, self.world.size, dtype=np.int64) + steps * n
            keys = order.key(self.cfg.seed, NOISE, places).astype(np.int64)
            self._keys_of_block, self._block = transfer.to_device(keys, self.device).unbind(), block
        return self._keys_of_block[within]

    def close(self) -> None:
        self.own.close()
        if self.others is not None:
            self.others.close()

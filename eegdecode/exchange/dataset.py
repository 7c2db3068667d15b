"""Windows of a preprocess run as a data set of torch."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from eegdecode.data.loading.gather import Source
from eegdecode.data.loading.windows import Places
from eegdecode.data.store.dataset import Store
from eegdecode.signals import SignalSpec


class WindowDataset(Dataset[Any]):
    """Pairs (x, y): x is [channel, time]; y the number of a class, [feature], or [feature, time] for a target that
    follows the signal. Without a target, x alone. Its pickle holds no samples, so workers of a DataLoader map the files
    themselves.

    Parameters
    ----------
    spec
        Shapes, channels, rate and classes, as `eegdecode.models.build` takes them.
    metadata
        Of each window its recording, subject, trial, start in seconds, stimulus and labels.
    """

    def __init__(
        self, store: Store, places: Places, target: str, spec: SignalSpec, metadata: list[dict[str, Any]]
    ) -> None:
        self.store, self.places, self.target, self.spec, self.metadata = store, places, target, spec, metadata
        self._source: Source | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if the target is none."""
        return self.spec.classes

    @property
    def subjects(self) -> list[str]:
        """Of each window, as groups of a cross-validation."""
        return [row["subject"] for row in self.metadata]

    def __len__(self) -> int:
        return len(self.places.start)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        if self._source is None:
            self._source = Source(self.store, self.target)
        place = self.places.take(np.array([index]))
        length = int(place.n_times[0])
        signal = np.empty((1, length, self._source.n_channels), np.float32)
        value = np.empty((1, *self._source.target_shape(length)), np.float32)
        self._source.fill(place, signal, value)
        x = torch.from_numpy(np.ascontiguousarray(signal[0].T))
        if not self.target:
            return x
        if self.spec.class_values:
            return x, int(np.searchsorted(self.spec.class_values, value[0, 0]))
        y = value[0] if value.ndim == 2 else np.ascontiguousarray(value[0].T)
        return x, torch.from_numpy(y)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_source": None}

"""Peers of bench/loader.py: torch's DataLoader over h5py; braindecode, by the python that has it, a round at a time."""

import json
import sys
from collections.abc import Callable, Sequence

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class H5Windows(Dataset):
    """Windows as a lab would read them: `dataset[first:last]`, files opened where they are read."""

    def __init__(self, paths: Sequence[str], windows: Sequence[tuple[int, int]], length: int) -> None:
        self.paths, self.windows, self.length = paths, windows, length
        self.opened: dict[int, h5py.Dataset] = {}

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> np.ndarray:
        recording, start = self.windows[index]
        if recording not in self.opened:
            self.opened[recording] = h5py.File(self.paths[recording])["signal"]
        window: np.ndarray = self.opened[recording][start : start + self.length]
        return window


def data_loader(dataset: Dataset, batch: int, n_workers: int, order: Sequence[int] | None = None) -> Callable[[], None]:
    """One epoch; the workers stay."""
    loader: DataLoader = DataLoader(
        dataset, batch, sampler=order, num_workers=n_workers, persistent_workers=n_workers > 0
    )

    def iterate() -> None:
        for _ in loader:
            pass

    return iterate


def braindecode(path: str, n: int, batch: int, length: int) -> dict[str, Callable[[], None]]:
    """Windows of one recording, preloaded, in random order."""
    import mne
    from braindecode.datasets import BaseConcatDataset, RawDataset
    from braindecode.preprocessing import create_fixed_length_windows

    mne.set_log_level("ERROR")
    with h5py.File(path) as file:
        signal = file["signal"][:].T
    info = mne.create_info(len(signal), 256.0, "eeg")
    windows = create_fixed_length_windows(
        BaseConcatDataset([RawDataset(mne.io.RawArray(signal, info))]),
        window_size_samples=length,
        window_stride_samples=length,
        on_last_window="drop",
        preload=True,
    )
    order = np.random.default_rng(0).integers(0, len(windows), n * batch).tolist()
    return {
        f"braindecode preload, DataLoader({workers})": data_loader(windows, batch, workers, order) for workers in (0, 2)
    }


def main() -> None:
    """Say which methods there are, then run the one that each line names."""
    path, n, batch, length = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    methods = braindecode(path, n, batch, length)
    print(json.dumps(list(methods)), flush=True)
    for line in sys.stdin:
        methods[line.strip()]()
        print("done", flush=True)


if __name__ == "__main__":
    main()

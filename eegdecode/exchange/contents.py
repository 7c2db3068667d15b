"""What is in a product of ours, by names, for `hpc replay`, which knows neither HDF5 nor our models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

BLOCK_B = 1 << 26
"""Arrays are read in blocks of rows of about so many bytes."""


def of_product(path: Path) -> Iterator[tuple[str, Any]] | None:
    """Return what is in a file of a run's `out`: arrays, tensors, numbers and texts, each with its name. None for other
    formats. The file has been verified."""
    if path.suffix == ".h5":
        return _of_hdf5(path)
    if path.suffix == ".pt":
        import torch

        return iter(torch.load(path, map_location="cpu", weights_only=True).items())
    return None


def _of_hdf5(path: Path) -> Iterator[tuple[str, Any]]:
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        yield "attributes", {key: str(value) for key, value in sorted(file.attrs.items())}
        for name in names:
            if not isinstance(dataset := file[name], h5py.Dataset):
                continue
            if not dataset.shape or dataset.dtype.kind not in "biufc":
                yield name, _plain(dataset[()])
                continue
            n_rows = max(1, BLOCK_B // max(1, dataset.nbytes // max(1, len(dataset))))
            for first in range(0, len(dataset), n_rows):
                yield f"{name}[{first}:]" if first else name, dataset[first : first + n_rows]


def _plain(value: Any) -> Any:
    """Texts as HDF5 has them, as texts."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value

"""Read and write files of weights in the form of safetensors: the length of a JSON header, the header, the bytes.

    entries, metadata = safetensors.header(file, size)
    tensors, metadata = safetensors.read(path)
    safetensors.write(file, tensors, metadata)

The form is a page long (https://github.com/huggingface/safetensors#format), so that it needs no package here; that one
is what the tests compare with. Torch is imported for values alone.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from eegdecode.data.io import guard

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64",
}  # fmt: skip
LONGEST = 100_000_000
"""Of headers, in bytes; as in the package."""


class Damaged(ValueError):
    """Says why, after the path."""


class Entry(NamedTuple):
    """A tensor in the file."""

    dtype: str
    sizes: tuple[int, ...]
    start: int
    """Where its bytes begin in the file."""

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(math.prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes)))


def header(file: BinaryIO, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of a file of `size` bytes by name, and its metadata."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, LONGEST):
        raise Damaged(f"begins like safetensors, with a header of {length} bytes, but has {size}: it is cut off")
    begin = 8 + length
    try:
        content = json.loads(file.read(length), object_pairs_hook=_each_once)
        metadata = {str(key): str(value) for key, value in dict(content.pop("__metadata__", {})).items()}
        entries, needed, places = {}, begin, []
        for name, entry in content.items():
            sizes, (first, stop) = tuple(entry["shape"]), entry["data_offsets"]
            if not all(type(number) is int and number >= 0 for number in (*sizes, first, stop)):
                raise ValueError(name)
            dtype = DTYPES.get(entry["dtype"], str(entry["dtype"]))
            n_bytes = width(dtype)
            if stop < first or (n_bytes is not None and n_bytes * math.prod(sizes) != stop - first):
                raise ValueError(name)
            entries[name], needed = Entry(dtype, sizes, begin + first), max(needed, begin + stop)
            places.append((first, stop))
        if any(after[0] != before[1] for before, after in pairwise([(0, 0), *sorted(places)])):
            raise ValueError("tensors overlap, or leave bytes between them")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise Damaged(f"has a damaged header ({type(error).__name__})") from None
    if size != needed:
        raise Damaged(
            f"has {size} of {needed} bytes{': it is cut off' if size < needed else ', so some are of no tensor'}"
        )
    return entries, metadata


def width(dtype: str) -> int | None:
    """The bytes of a value; None for a type that is not known."""
    if dtype not in DTYPES.values():
        return None
    return 1 if dtype == "bool" or dtype.startswith("float8") else int("".join(filter(str.isdigit, dtype))) // 8


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) < len(pairs):
        raise ValueError("a name twice")
    return values


def read(path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """All tensors of a file, and its metadata."""
    with guard.open_file(path) as file:
        try:
            entries, metadata = header(file, path.stat().st_size)
        except Damaged as error:
            raise ValueError(f"{path} {error}: fetch it again") from None
        tensors = {}
        for name, entry in entries.items():
            if (n_bytes := width(entry.dtype)) is None:
                raise ValueError(f"{path}: {name} is {entry.dtype}, which is not read here: save it as F32")
            file.seek(entry.start)
            tensors[name] = tensor(file.read(n_bytes * math.prod(entry.sizes)), entry.dtype, entry.sizes)
    return tensors, metadata


def tensor(raw: bytes, dtype: str, sizes: tuple[int, ...]) -> "Tensor":
    """The tensor of these bytes, in order."""
    import torch

    kind = getattr(torch, dtype)
    if not raw:
        return torch.empty(sizes, dtype=kind)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(kind).reshape(sizes)


def write(file: BinaryIO, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts; equal contents are equal bytes. The widest types are first, so that all are aligned."""
    names = {dtype: code for code, dtype in DTYPES.items()}
    entries: dict[str, Any] = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}} if metadata else {}
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    begin = 0
    for name in order:
        value = tensors[name]
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in names or value.layout.__str__() != "torch.strided":
            raise ValueError(f"{name} is {dtype}, {value.layout}, for which safetensors has no type")
        stop = begin + value.numel() * value.element_size()
        entries[name] = {"dtype": names[dtype], "shape": list(value.shape), "data_offsets": [begin, stop]}
        begin = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        file.write(_bytes(tensors[name]))


def _bytes(value: "Tensor") -> bytes | memoryview:
    import torch

    flat = value.detach().cpu().contiguous().reshape(-1)
    if not flat.numel():
        return b""
    array: np.ndarray = flat.view(torch.uint8).numpy()
    return array.data

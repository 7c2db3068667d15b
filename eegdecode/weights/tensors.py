"""Read the tensors of a file of weights by their places in it. No code of the file runs, whoever wrote it.

    file = files.look(path)
    tensors.read(file, ("encoder.weight",))

Only what is asked for is read, so that a file may be larger than the memory. Parts of a zip are checked by checksums.
"""

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import torch

from eegdecode.data.io import guard
from eegdecode.weights.files import Loaded, WeightsFile
from eegdecode.weights.pickles import Placed, Shape, Storage


def read(file: WeightsFile, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """These parameters of the file, or all. Raises ValueError with a sentence about the file."""
    wanted = list(file.shapes if names is None else names)
    if file.path.is_dir():
        return {name: _loaded(file.path, name, file.shapes[name]) for name in wanted}
    storages: dict[int, torch.Tensor] = {}
    tensors = {}
    for path, names_in in _by_file(file, wanted).items():
        try:
            with guard.open_file(path) as opened:
                for name in names_in:
                    tensors[name] = _tensor(path, opened, name, file.shapes[name], storages)
        except zipfile.BadZipFile as error:
            raise guard.Refused(f"{path} is damaged ({guard.reason(error)}): fetch it again") from None
        except (zlib.error, EOFError, RuntimeError) as error:
            raise guard.Refused(f"{path} cannot be read ({guard.reason(error)}): fetch it again") from None
    return {name: tensors[name] for name in wanted}


def _by_file(file: WeightsFile, names: Collection[str]) -> dict[Path, list[str]]:
    """Which of these tensors are in which file: weights may be in several."""
    places: dict[Path, list[str]] = {}
    for name in names:
        shape = file.shapes[name]
        own = shape.storage.path if isinstance(shape, Placed) else None
        places.setdefault(own or file.path, []).append(name)
    return places


def _loaded(path: Path, name: str, shape: Shape) -> torch.Tensor:
    if not isinstance(shape, Loaded):
        raise guard.Refused(f"{path}: {name} is {shape.dtype}, which is no tensor of values")
    value: torch.Tensor = shape.value
    return value


def _tensor(path: Path, file: BinaryIO, name: str, shape: Shape, storages: dict[int, torch.Tensor]) -> torch.Tensor:
    dtype = getattr(torch, shape.dtype, None)
    if not isinstance(shape, Placed) or not isinstance(dtype, torch.dtype) or dtype in QUANTIZED:
        raise guard.Refused(
            f"{path}: {name} is {shape.dtype} in a form that is not read, as quantized and sparse tensors: save it "
            "again as float32"
        )
    if not shape.n_values:
        return torch.empty(shape.sizes, dtype=dtype)
    guard.unpacked(path, name, shape.n_bytes, shape.storage.n_bytes)  # a view may repeat a value as often as it likes
    if id(shape.storage) not in storages:
        storages[id(shape.storage)] = _values(path, file, shape.storage)
    values = storages[id(shape.storage)]
    width = torch.empty(0, dtype=dtype).element_size()
    if len(values) % width:
        raise guard.Refused(f"{path} is damaged: {name} is {shape.dtype} in {len(values)} bytes")
    last = shape.offset + sum((size - 1) * step for size, step in zip(shape.sizes, shape.strides, strict=False))
    is_odd = len(shape.strides) != len(shape.sizes) or min((shape.offset, *shape.strides)) < 0
    if is_odd or last >= len(values) // width:
        raise guard.Refused(f"{path} is damaged: {name} reaches beyond its {len(values)} bytes")
    return values.view(dtype).as_strided(shape.sizes, shape.strides, shape.offset).clone()


QUANTIZED = (torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4)


def _values(path: Path, file: BinaryIO, storage: Storage) -> torch.Tensor:
    """The bytes of a storage."""
    if storage.content is not None:
        content = storage.content
    elif storage.member:
        with zipfile.ZipFile(file) as archive:
            _refuse_big_endian(path, archive, storage.member)
            content = archive.read(storage.member)
    elif storage.start is None:
        raise guard.Refused(f"{path} is damaged: the values of a tensor that it names are not in it: fetch it again")
    else:
        file.seek(storage.start)
        content = file.read(storage.n_bytes)
    if len(content) < storage.n_bytes:
        raise guard.Refused(f"{path} is cut off or damaged: {len(content)} of {storage.n_bytes} bytes: fetch it again")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _refuse_big_endian(path: Path, archive: zipfile.ZipFile, member: str) -> None:
    order = f"{member.rpartition('data/')[0]}byteorder"
    if order in archive.namelist() and archive.read(order) == b"big":
        raise guard.Refused(f"{path} is of a machine with the other order of bytes: save it again on one as this")

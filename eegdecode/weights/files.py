"""Read the names, shapes and types in a file of weights. No code of the file runs, and no values are read (tensors.py).

Formats: torch.save (also before 1.6, TorchScript and pickled modules), safetensors, our checkpoint folders and the
model.pt of a run; and weights in several files with an index, as the Hugging Face hub has them.
"""

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from eegdecode.data.io import guard
from eegdecode.data.io.readers import safetensors
from eegdecode.weights.pickles import BROKEN, Array, Named, Placed, Reader, Shape, Storage, place_storages
from hpc.errors import first_of
from hpc.media import many
from hpc.runs import products

LEGACY = 0x1950A86A20F9469CFC6C
"""The number at the start of files of torch before 1.6."""
DEEPEST = 200
PLACES = ("parameters", "state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "params")
"""Keys of the parameters in files that hold more than them, the most likely first."""
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".pkl")
"""Of files of weights; of several in a folder, the first of these is taken if there is only one of it."""
INDEXES = (".safetensors.index.json", ".bin.index.json")
"""Endings of the index of weights in several files: it says which tensor is in which."""


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights."""

    path: Path
    form: str
    place: str
    """The key of the parameters in the file; empty where the file holds nothing else."""
    shapes: dict[str, Shape]
    """Of the parameters, by name."""
    other_tensors: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Besides the parameters, by key: how many tensors, and how many values."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Plain values next to them: epoch, step, version."""
    code: tuple[str, ...] = ()
    """The names of code that torch.load without weights_only would have run."""
    config: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] | None = None
    """From our own model.pt, as config."""
    input: Mapping[str, Any] | None = None
    """The input recipe that travels with the weights."""


class _Unreadable(Exception):
    """Says why, after the path."""


def look(path: Path) -> WeightsFile:
    """Inspect a file. Raises ValueError with a sentence if it cannot be read."""
    path = _file_of(path)
    if path.is_dir():
        return _checkpoint(path)
    products.verify(path)
    if path.name.endswith(INDEXES):
        return _indexed(path)
    size = path.stat().st_size
    try:
        with guard.open_file(path) as file:
            return _weights_file(path, *_format(file, size)(file, size))
    except _Unreadable as error:
        raise ValueError(f"{path} {error}") from None
    except guard.Refused:
        raise
    except (*BROKEN, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, struct.error, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path} ({size} bytes) is cut off or damaged: {str(error) or type(error).__name__}") from None


def _file_of(path: Path) -> Path:
    """The file to read; for the folder of a run, its model or its last checkpoint."""
    from hpc.runs.rundir import RunDir, committed_steps

    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if not path.is_dir() or (path / "COMMIT").exists():
        return path
    for model in (path / "model.pt", path / "out" / "model.pt"):
        if model.exists():
            return model
        products.refuse_gone(model)
    if (chosen := _weights_in(path)) is not None:
        return chosen
    for folder in (path, RunDir(path).checkpoints):
        if folder.is_dir() and (steps := committed_steps(folder)):
            from hpc.checkpoint import checkpoint

            return checkpoint.at(folder, steps[-1])
    raise ValueError(f"{path} is a folder without a model.pt or a complete checkpoint: give a file in it")


def _weights_in(folder: Path) -> Path | None:
    """The file of weights in a folder that was downloaded, or the index of several."""
    for ending in INDEXES:
        if len(indexes := sorted(folder.glob(f"*{ending}"))) == 1:
            return indexes[0]
    there = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    if len({path.stem for path in there}) > 1:
        names = ", ".join(path.name for path in there)
        raise ValueError(f"{folder} has several files of weights, {names}: give one of them")
    return min(there, key=lambda path: ENDINGS.index(path.suffix), default=None)


# ---- One function a format: its name, the content with a Shape for each tensor, and the code that would have run

Contents = tuple[str, Any, Iterable[str]]


def _format(file: BinaryIO, size: int) -> Callable[[BinaryIO, int], Contents]:
    head = file.read(32)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return _zip
    if head.startswith(b"version https://git-lfs"):
        raise _Unreadable("is a git-lfs pointer, not the file itself: fetch it with git lfs pull")
    if head.startswith(b"hpcstate"):
        raise _Unreadable(f"is one file of a checkpoint: give its folder, {Path(file.name).parent}")
    if head[8:9] == b"{":
        return _safetensors
    if head.startswith(b"\x80"):
        return _pickle
    if not size:
        raise _Unreadable("is empty")
    raise _Unreadable(f"({size} bytes) is neither from torch.save nor safetensors: it begins with {head[:8]!r}")


def _zip(file: BinaryIO, size: int) -> Contents:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise _Unreadable("begins like a file of torch.save, but its end is missing: it is cut off") from None
    guard.archive(Path(file.name))
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    name = next((name for name in sizes if name == "data.pkl" or name.endswith("/data.pkl")), None)
    if name is None:
        raise _Unreadable(f"is a zip, but not from torch.save: it has no data.pkl, but {', '.join(list(sizes)[:5])}")
    folder = name.removesuffix("data.pkl")
    with archive.open(name) as stream:
        reader = Reader(stream, sizes[name])
        tree = reader.load()
    for key, storage in reader.storages.items():
        storage.member = f"{folder}data/{key}"
        n_bytes = sizes.get(storage.member, 0)
        if n_bytes < storage.n_bytes:
            raise _Unreadable(f"is damaged: tensor data {key} has {n_bytes} bytes, needs {storage.n_bytes}")
    script = any(name.startswith(f"{folder}code/") for name in sizes)
    return "TorchScript" if script else "torch.save", tree, reader.code


def _pickle(file: BinaryIO, size: int) -> Contents:
    """A file of torch before 1.6, or any other pickle."""
    reader = Reader(file, size)
    tree = reader.load()
    if tree != LEGACY:
        return "pickle", tree, reader.code
    _version, _system = Reader(file, size).load(), Reader(file, size).load()
    reader = Reader(file, size)
    tree = reader.load()
    place_storages(reader.storages, Reader(file, size).load(), file.tell())
    needed = file.tell() + sum(8 + storage.n_bytes for storage in reader.storages.values())
    if size < needed:
        raise pickle.UnpicklingError(f"{size} of {needed} bytes")
    return "torch.save before 1.6", tree, reader.code


def _safetensors(file: BinaryIO, size: int) -> Contents:
    try:
        entries, metadata = safetensors.header(file, size)
    except safetensors.Damaged as error:
        raise _Unreadable(str(error)) from None
    tree: dict[str, Any] = {**metadata, **_ours(metadata)}
    for name, entry in entries.items():
        tree[name] = placed = Placed(entry.sizes, entry.dtype)
        placed.storage, placed.offset = Storage((placed.n_values,), entry.dtype), 0
        placed.storage.start, placed.strides = entry.start, entry.strides
    return "safetensors", tree, ()


def _indexed(path: Path) -> WeightsFile:
    """The tensors of several files, each from the one that the index says."""
    index = guard.json_object(path)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{path} has no weight_map, which says which tensor is in which file: fetch it again")
    inside = {name: path.parent / name for name in dict.fromkeys(places.values())}
    if odd := [name for name in inside if "/" in name or not name.endswith(ENDINGS)]:
        raise guard.Refused(f"{path} names {first_of(odd, 3)}, but weights are in files beside it: fetch it again")
    if missing := [name for name, part in inside.items() if not part.is_file()]:
        raise ValueError(f"{path} names {first_of(missing, 3)}, which {_is_or_are(missing)} not there: fetch it again")
    parts = {name: look(part) for name, part in inside.items()}
    shapes: dict[str, Shape] = {}
    for tensor, name in places.items():
        if tensor not in parts[name].shapes:
            raise ValueError(f"{path} says that {tensor} is in {name}, which has no such tensor: fetch both again")
        shapes[tensor] = shape = parts[name].shapes[tensor]
        if isinstance(shape, Placed):
            shape.storage.path = inside[name]
    of_index = index.get("metadata")
    metadata = {**(of_index if isinstance(of_index, dict) else {}), **next(iter(parts.values())).metadata}
    code = tuple(sorted({name for part in parts.values() for name in part.code}))
    form = f"{next(iter(parts.values())).form} in {many(len(parts), 'file')}"
    return WeightsFile(path, form, "", shapes, metadata=metadata, code=code)


def _is_or_are(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _ours(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `convert` writes next to the tensors, as JSON."""
    values = {key: metadata[key] for key in ("config", "spec", "input") if key in metadata}
    try:
        return {key: json.loads(text) for key, text in values.items()}
    except (ValueError, RecursionError):
        return {}  # of somebody else, who means something else by these words


def _checkpoint(folder: Path) -> WeightsFile:
    from hpc.checkpoint import checkpoint
    from hpc.runs.rundir import Damaged

    try:
        return _weights_file(folder, "a checkpoint of a run", checkpoint.load_from(folder), ())
    except Damaged as error:
        raise guard.Refused(str(error)) from None
    except _Unreadable as error:
        raise ValueError(f"{folder} {error}") from None


# ---- Which tensors are the parameters


def _weights_file(path: Path, form: str, tree: Any, code: Iterable[str]) -> WeightsFile:
    try:
        tensors = dict(_tensors(tree, (), set()))
    except RecursionError:
        raise _Unreadable(f"is nested more than {DEEPEST} levels deep") from None
    if not tensors:
        raise _Unreadable(f"({form}) holds no tensors")
    if () in tensors:
        raise _Unreadable(f"({form}) holds a tensor without a name: save model.state_dict()")
    tops = {place[0] for place in tensors if len(place) > 1}
    # With tensors at the top level, all of it is one state_dict, unless a part has one of the known keys
    apart = isinstance(tree, Mapping) and (not tops.isdisjoint(PLACES) or all(len(place) > 1 for place in tensors))
    parts: dict[str, dict[str, Shape]] = {}
    for place, shape in tensors.items():
        n = 1 if apart and len(place) > 1 else 0
        parts.setdefault("".join(place[:n]), {})[".".join(place[n:])] = shape
    n_values = {name: sum(shape.n_values for shape in part.values()) for name, part in parts.items()}
    chosen = next((name for name in PLACES if name in parts), max(parts, key=lambda name: n_values[name]))
    top = tree if isinstance(tree, Mapping) else {}
    ours = {name: top[name] if isinstance(top.get(name), Mapping) else None for name in ("config", "spec", "input")}
    is_model = ours["config"] is not None and ours["spec"] is not None
    return WeightsFile(
        path,
        form,
        chosen,
        parts[chosen],
        {name: (len(part), n_values[name]) for name, part in parts.items() if name != chosen},
        {str(name): value for name, value in top.items() if isinstance(value, bool | int | float | str)},
        tuple(sorted(code)),
        ours["config"] if is_model else None,
        ours["spec"] if is_model else None,
        ours["input"],
    )


def _tensors(value: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Shape]]:
    """Every tensor with its keys. Shared values are followed once, so a file cannot be endless."""
    if isinstance(value, Shape):
        yield place, value
    elif isinstance(value, Array):
        yield place, value.shape
    elif hasattr(value, "untyped_storage"):  # a tensor of a checkpoint
        yield place, Loaded.of(value)
    elif isinstance(value, Mapping | list | tuple | Named) and id(value) not in seen:
        if len(place) > DEEPEST:
            raise RecursionError
        seen.add(id(value))
        for name, child in _children(value):
            # The attributes of a pickled module
            inner = place if name in ("_modules", "_parameters", "_buffers") else (*place, name)
            yield from _tensors(child, inner, seen)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), child) for key, child in value.items())
    elif isinstance(value, Named):
        for number, given in enumerate(value.given):
            yield from _children(given) if isinstance(given, Mapping) else [(str(number), given)]
    else:
        yield from ((str(number), child) for number, child in enumerate(value))


class Loaded(Shape):
    """A tensor that is in memory already."""

    value: Any

    @classmethod
    def of(cls, value: Any) -> "Loaded":
        loaded = cls(*shape_of(value))
        loaded.value = value
        return loaded


def shape_of(tensor: Any) -> Shape:
    return Shape(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

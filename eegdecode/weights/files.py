"""Read the names, shapes and types in a file of weights. Tensors are not read, and no code of the file runs.

Formats: torch.save (also before 1.6, TorchScript and pickled modules), safetensors, our checkpoint folders and the
model.pt of a run.
"""

import json
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from eegdecode.weights.pickles import BROKEN, ITEM_BYTES, Array, Named, Reader, Shape, TensorStorage

LEGACY = 0x1950A86A20F9469CFC6C
"""The number at the start of files of torch before 1.6."""
LONGEST_HEADER = 100_000_000
DEEPEST = 200


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights.

    Parameters
    ----------
    path, form
        The file, and the format.
    place
        The key of the parameters in the file; empty where the file holds nothing else.
    shapes
        The shapes of the parameters, by name.
    other_tensors
        Tensors besides the parameters, by key: how many, and how many values.
    metadata
        Plain values next to them: epoch, step, version.
    code
        The names of code that torch.load without weights_only would have run.
    config, spec
        From our own model.pt.
    """

    path: Path
    form: str
    place: str
    shapes: dict[str, Shape]
    other_tensors: dict[str, tuple[int, int]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] | None = None


def look(path: Path) -> WeightsFile:
    """Inspect a file. Raises ValueError with a sentence if it cannot be read."""
    path = _file_of(path)
    if path.is_dir():
        return _checkpoint(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        if head.startswith(b"PK\x03\x04"):
            return _of_zip(path, file)
        if head.startswith(b"version https://git-lfs"):
            raise ValueError(f"{path} is a git-lfs pointer, not the file itself: fetch it with git lfs pull")
        if head.startswith(b"hpcstate"):
            raise ValueError(f"{path} is one file of a checkpoint: give its folder, {path.parent}")
        if len(head) > 8 and head[8:9] == b"{":
            return _of_safetensors(path, file, size)
        if head.startswith(b"\x80"):
            return _of_pickle(path, file, size)
    raise ValueError(
        f"{path} ({size} bytes) is neither from torch.save nor safetensors: it begins with {head[:8]!r}"
        if size
        else f"{path} is empty"
    )


def _file_of(path: Path) -> Path:
    """The file to read; for the folder of a run, its model or its last checkpoint."""
    from hpc.runs.rundir import RunDir, committed_steps

    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if not path.is_dir() or (path / "COMMIT").exists():
        return path
    if (model := path / "model.pt").exists() or (model := path / "out" / "model.pt").exists():
        return model
    for folder in (path, RunDir(path).checkpoints):
        if folder.is_dir() and (steps := committed_steps(folder)):
            from hpc.checkpoint import checkpoint

            return checkpoint.at(folder, steps[-1])
    raise ValueError(f"{path} is a folder without a model.pt or a complete checkpoint: give a file in it")


# ---- One function a format


def _of_zip(path: Path, file: BinaryIO) -> WeightsFile:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise ValueError(f"{path} begins like a file of torch.save, but its end is missing: it is cut off") from None
    with archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        pickles = [name for name in sizes if name == "data.pkl" or name.endswith("/data.pkl")]
        if not pickles:
            raise ValueError(
                f"{path} is a zip, but not from torch.save: it has no data.pkl, but {', '.join(list(sizes)[:5])}"
            )
        folder = pickles[0].removesuffix("data.pkl")
        try:
            with archive.open(pickles[0]) as stream:
                reader = Reader(stream)  # type: ignore[arg-type]
                tree = reader.load()
        except (*BROKEN, zipfile.BadZipFile) as error:
            raise _broken(path, error) from None
        for storage in reader.storages.values():
            has = sizes.get(f"{folder}data/{storage.key}", 0)
            if has < storage.n_values * ITEM_BYTES[storage.dtype]:
                raise ValueError(
                    f"{path} is damaged: tensor data {storage.key} has {has} bytes, "
                    f"needs {storage.n_values * ITEM_BYTES[storage.dtype]}"
                )
    script = any(name.startswith(f"{folder}code/") for name in sizes)
    return _weights_file(path, "TorchScript" if script else "torch.save", tree, reader.code)


def _of_pickle(path: Path, file: BinaryIO, size: int) -> WeightsFile:
    """A file of torch before 1.6, or any other pickle."""
    try:
        tree = Reader(file).load()
        form, code = "pickle", {}
        if tree == LEGACY:
            form = "torch.save before 1.6"
            for _ in ("version", "system"):
                Reader(file).load()
            reader = Reader(file)
            tree, code = reader.load(), reader.code
            _check_legacy(path, reader.storages, file, size)
        else:
            file.seek(0)
            reader = Reader(file)
            tree, code = reader.load(), reader.code
    except BROKEN as error:
        raise _broken(path, error) from None
    return _weights_file(path, form, tree, code)


def _check_legacy(path: Path, storages: Mapping[str, TensorStorage], file: BinaryIO, size: int) -> None:
    pickle.Unpickler.load(Reader(file))  # the order of the storages
    needed = file.tell() + sum(8 + s.n_values * ITEM_BYTES[s.dtype] for s in storages.values())
    if size < needed:
        raise pickle.UnpicklingError(f"{size} of {needed} bytes")


def _of_safetensors(path: Path, file: BinaryIO, size: int) -> WeightsFile:
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, LONGEST_HEADER):
        raise ValueError(
            f"{path} begins like safetensors, with a header of {length} bytes, but has {size}: it is cut off"
        )
    try:
        header = json.loads(file.read(length))
        metadata = dict(header.pop("__metadata__", {}))
        shapes = {
            name: Shape(tuple(entry["shape"]), DTYPES.get(entry["dtype"], entry["dtype"]))
            for name, entry in header.items()
        }
        needed = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} has a damaged header ({type(error).__name__})") from None
    if size < needed:
        raise ValueError(f"{path} has {size} of {needed} bytes: it is cut off")
    return WeightsFile(path, "safetensors", "", shapes, metadata=metadata)


DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def _checkpoint(folder: Path) -> WeightsFile:
    from hpc.checkpoint import checkpoint
    from hpc.checkpoint.format import Damaged

    try:
        tree = checkpoint.load_from(folder)
    except Damaged as error:
        raise ValueError(str(error)) from None
    return _weights_file(folder, "a checkpoint of a run", tree, {})


# ---- Which tensors are the parameters

PLACES = ("parameters", "state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "params")
"""Keys of the parameters in files that hold more than them, the most likely first."""
PLAIN = (bool, int, float, str)


def _weights_file(path: Path, form: str, tree: Any, code: Mapping[str, None]) -> WeightsFile:
    try:
        tensors = dict(_tensors(tree, (), set()))
    except RecursionError:
        raise ValueError(f"{path} is nested more than {DEEPEST} levels deep") from None
    if not tensors:
        raise ValueError(f"{path} ({form}) holds no tensors")
    tops = {place[0] for place in tensors if len(place) > 1}
    # With tensors at the top level, all of it is one state_dict, unless a part has one of the known keys
    apart = isinstance(tree, Mapping) and (not tops.isdisjoint(PLACES) or all(len(place) > 1 for place in tensors))
    parts: dict[str, dict[str, Shape]] = {}
    for place, shape in tensors.items():
        n = 1 if apart and len(place) > 1 else 0
        parts.setdefault("".join(place[:n]), {})[".".join(place[n:])] = shape
    most = max(parts, key=lambda name: sum(shape.n_values for shape in parts[name].values()))
    chosen = next((name for name in PLACES if name in parts), most)
    shapes = parts.pop(chosen)
    ours = chosen == "parameters" and {"config", "spec"} <= set(tree)
    return WeightsFile(
        path,
        form,
        chosen,
        shapes,
        {name: (len(part), sum(shape.n_values for shape in part.values())) for name, part in parts.items()},
        {str(k): v for k, v in tree.items() if isinstance(v, PLAIN)} if isinstance(tree, Mapping) else {},
        tuple(sorted(code)),
        tree["config"] if ours else None,
        tree["spec"] if ours else None,
    )


def _tensors(value: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Shape]]:
    """Every tensor with its keys. Shared values are followed once, so a file cannot be endless."""
    if isinstance(value, Shape):
        yield place, value
    elif isinstance(value, Array):
        yield place, value.shape
    elif hasattr(value, "untyped_storage"):
        yield place, Shape(tuple(value.shape), str(value.dtype).removeprefix("torch."))
    elif isinstance(value, Mapping | list | tuple | Named):
        if id(value) in seen:
            return
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


def _broken(path: Path, error: BaseException) -> ValueError:
    return ValueError(f"{path} ({os.path.getsize(path)} bytes) is cut off or damaged: {error or type(error).__name__}")

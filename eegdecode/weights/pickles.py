"""Unpickle files of weights without running anything in them.

A pickle names the functions that make its objects. No name is looked up here: those that make tensors, arrays and
dictionaries become ours, which keep shapes, types and places in the file, and every other becomes a `Named`, which
keeps what it was given. `eegdecode/weights/tensors.py` reads the values by the places.
Why not torch's own loader: docs/decisions/0034-files-of-weights-are-unpickled-by-names.md.
"""

import io
import math
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError,
    RecursionError, MemoryError,
)  # fmt: skip
"""What unpickling raises on damaged bytes, or on bytes that are not a pickle."""

STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip
LARGEST, MOST_AXES = 1 << 50, 64
"""Of a tensor: values along an axis, and axes."""
NUMPY_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}


class Shape(NamedTuple):
    """The shape and type of a tensor, or of the storage it is a view of."""

    sizes: tuple[int, ...]
    dtype: str

    @property
    def n_values(self) -> int:
        return math.prod(self.sizes)

    @property
    def n_bytes(self) -> int:
        bits = re.search(r"\d+", self.dtype)  # float32, complex64, float8_e4m3fn; but bool
        return self.n_values * (int(bits[0]) // 8 if bits else 1)


class Storage(Shape):
    """Where the values of tensors are: a part of a zip, a place in the file, or in the pickle itself. `path`: the file,
    if it is not the one that was asked for."""

    path: Path | None = None
    member = ""
    start: int | None = None
    content: bytes | None = None


class Placed(Shape):
    """A tensor in a file: its shape, and where in which storage its values are."""

    storage: Storage
    offset: int
    """In values of its type, as the strides."""
    strides: tuple[int, ...]


class Named:
    """Stands for an object that a name in the file would have made."""

    full_name = ""
    given: list[Any]

    def __new__(cls, *given: Any, **by_name: Any) -> "Named":
        instance = super().__new__(cls)
        instance.given = [*given, *by_name.values()]
        return instance

    def __call__(self, *given: Any, **by_name: Any) -> "Named":
        return type(self)(*given, **by_name)

    def append(self, value: Any) -> None:
        self.given.append(value)

    add = __setstate__ = append

    def extend(self, values: Iterable[Any]) -> None:
        self.given.extend(values)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.given.append({key: value})


class Dictionary(dict[Any, Any]):
    """Stands for an OrderedDict; unlike a dict it takes attributes, which torch gives it."""


class Array(Named):
    """Stands for an array of numpy."""

    @property
    def shape(self) -> Shape:
        """From its state: a version, the sizes, the type, the order and the bytes."""
        if len(self.given) < 4:
            return Shape((), "object")
        _, sizes, dtype, in_columns, content = self.given[-1]
        shape = _shape(sizes, _dtype(dtype))
        raw = _bytes(content)
        if shape.dtype == "object" or raw is None:
            return shape
        storage = Storage((shape.n_values,), shape.dtype)
        storage.content = raw
        return _placed(storage, 0, shape.sizes, _strides(shape.sizes, bool(in_columns)))


def _dtype(dtype: Named) -> str:
    """The name of numpy's type, itself a `Named` that was given `f4` or the like."""
    kind, size = str(dtype.given[0])[:1], str(dtype.given[0])[1:]
    if kind == "b":
        return "bool"
    return f"{NUMPY_KINDS[kind]}{8 * int(size)}" if kind in NUMPY_KINDS and size.isdecimal() else "object"


def _bytes(content: Any) -> bytes | None:
    """Bytes; before protocol 3 they are a text of latin-1, to be encoded."""
    if isinstance(content, Named) and content.full_name == "_codecs.encode":
        content = content.given[0]
    if isinstance(content, str):
        return content.encode("latin1")
    return bytes(content) if isinstance(content, bytes) else None


def _strides(sizes: Sequence[int], in_columns: bool = False) -> tuple[int, ...]:
    strides, step = [0] * len(sizes), 1
    for axis in range(len(sizes)) if in_columns else reversed(range(len(sizes))):
        strides[axis] = step
        step *= sizes[axis]
    return tuple(strides)


SCALARS = {"float64": "<d", "float32": "<f", "float16": "<e", "int64": "<q", "int32": "<i", "uint8": "<B", "bool": "<?"}


def _scalar(dtype: Any, content: Any = b"") -> Any:
    """The value of a scalar of numpy, as the best accuracy that a training notes."""
    code, raw = SCALARS.get(_dtype(dtype)), _bytes(content)
    return struct.unpack(code, raw)[0] if code and raw is not None else None


class _Bounded:
    """A file of so many bytes. A pickle may ask for a text of 2^62: reading begins with asking for that memory."""

    def __init__(self, file: IO[bytes], n_bytes: int) -> None:
        self.file, self.n_bytes, self.readline = file, n_bytes, file.readline

    def read(self, n_bytes: int) -> bytes:
        if n_bytes > self.n_bytes:
            raise pickle.UnpicklingError(f"a value of {n_bytes} bytes")
        return self.file.read(n_bytes)


class Reader(pickle._Unpickler):
    """`load()` returns plain values, with a Shape for each tensor. `code` has the names that were not looked up, and
    `storages` what the file must contain."""

    def __init__(self, file: IO[bytes], n_bytes: int, code: dict[str, None] | None = None) -> None:
        super().__init__(_Bounded(file, n_bytes), encoding="latin1")  # for files from Python 2
        self.code = {} if code is None else code
        self.storages: dict[str, Storage] = {}

    def _no_bytearray(self) -> None:
        """Its length is asked for as memory before a byte of it is read; no weights are in one."""
        raise pickle.UnpicklingError("a bytearray")

    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: _no_bytearray}

    def find_class(self, module: str, name: str, /) -> Any:
        full_name = f"{module}.{name}"
        if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
            return STORAGES.get(name, name.removesuffix("Storage").lower())
        if full_name == "torch.storage._load_from_bytes":
            return self._load_from_bytes
        if full_name in MAKERS:
            return MAKERS[full_name]
        if module != "torch" and full_name not in HARMLESS:  # torch.float32 and the like are values
            self.code[full_name] = None
        return type("Named", (Named,), {"full_name": full_name})

    def persistent_load(self, reference: Any, /) -> Any:
        if reference[0] == "module":  # formerly: a class, and its source
            return reference[1]
        _, dtype, key, _, n_values, *_ = reference
        if str(key) not in self.storages:
            self.storages[str(key)] = Storage(*_shape([n_values], str(dtype)))
        return self.storages[str(key)]

    def _load_from_bytes(self, content: bytes) -> Any:
        """The storage of a tensor that was pickled without torch.save: a file of torch before 1.6."""
        file = io.BytesIO(content)
        _magic, _version, _system = (Reader(file, len(content), self.code).load() for _ in range(3))
        reader = Reader(file, len(content), self.code)
        storage = reader.load()
        order = Reader(file, len(content), self.code).load()
        place_storages(reader.storages, order, file.tell())
        for each in reader.storages.values():
            if each.start is not None:
                each.content, each.start = content[each.start : each.start + each.n_bytes], None
        return storage


def place_storages(storages: dict[str, Storage], order: Sequence[Any], begin: int) -> None:
    """Note where in a file of torch before 1.6 each storage is: one after another, each behind its length."""
    for key in order:
        if str(key) in storages:
            storage = storages[str(key)]
            storage.start = begin + 8
            begin += 8 + storage.n_bytes


def _shape(sizes: Iterable[Any], dtype: str) -> Shape:
    whole = tuple(int(size) for size in sizes)
    if not all(0 <= size < LARGEST for size in whole) or len(whole) > MOST_AXES:
        raise pickle.UnpicklingError(f"a tensor of the shape {str(whole)[:60]}")
    return Shape(whole, dtype)


def _placed(storage: Shape, offset: Any, sizes: Iterable[Any], strides: Any = (), dtype: str = "") -> Shape:
    """A tensor of a storage; without one, its shape alone."""
    shape = _shape(sizes, dtype or storage.dtype)
    if not isinstance(storage, Storage):
        return shape
    placed = Placed(*shape)
    placed.storage, placed.offset = storage, int(offset)
    placed.strides = tuple(int(step) for step in strides)
    return placed


def _dtype_of(dtype: Any) -> str:
    return str(dtype.full_name).removeprefix("torch.")


MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": lambda storage, offset, sizes, strides, *_: _placed(
        storage, offset, sizes, strides
    ),
    "torch._utils._rebuild_tensor_v2": lambda storage, offset, sizes, strides, *_: _placed(
        storage, offset, sizes, strides
    ),
    "torch._utils._rebuild_tensor_v3": lambda storage, offset, sizes, strides, grad, hooks, dtype, *_: _placed(
        storage, offset, sizes, strides, _dtype_of(dtype)
    ),
    "torch._utils._rebuild_qtensor": lambda storage, offset, sizes, *_: _shape(sizes, storage.dtype),
    "torch._utils._rebuild_sparse_tensor": lambda layout, parts: _shape(parts[2], parts[1].dtype),
    "torch._utils._rebuild_meta_tensor_no_storage": lambda dtype, sizes, *_: _shape(sizes, _dtype_of(dtype)),
    "torch._utils._rebuild_parameter": lambda value, *_: value,
    "torch._utils._rebuild_parameter_with_state": lambda value, *_: value,
    "torch._tensor._rebuild_from_type_v2": lambda make, kind, given, *_: make(*given),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "torch.Size": tuple,
    "collections.OrderedDict": Dictionary,
    "collections.defaultdict": lambda *_: Dictionary(),
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "builtins.set": tuple,
    "__builtin__.set": tuple,
}
"""Replacements for what makes tensors, arrays and dictionaries."""
HARMLESS = ("numpy.ndarray", "numpy.dtype", "_codecs.encode", "torch.serialization._get_layout")
"""Parts of these that need no replacement."""

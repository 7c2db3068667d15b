"""Read the content of a pickle without running any of it.

A pickle names the functions that make its objects. Here no name is looked up: functions that make tensors, arrays and
dictionaries are replaced by our own, which keep shapes and types, and all others by a `Named`, which keeps its name and
arguments. So nothing is imported, and nothing from the file is called.
"""

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError,
    RecursionError, MemoryError,
)  # fmt: skip
"""What unpickling raises on damaged bytes, or on bytes that are not a pickle."""

ITEM_BYTES = {
    "float64": 8, "int64": 8, "complex64": 8, "complex128": 16, "float32": 4, "int32": 4, "uint32": 4, "uint64": 8,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "int8": 1, "uint8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1,
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip


class Shape(NamedTuple):
    """The shape and type of a tensor."""

    sizes: tuple[int, ...]
    dtype: str

    @property
    def n_values(self) -> int:
        n = 1
        for size in self.sizes:
            n *= size
        return n

    @property
    def n_bytes(self) -> int:
        return self.n_values * ITEM_BYTES.get(self.dtype, 1)


@dataclass(frozen=True)
class TensorStorage:
    """The values of a tensor in the file."""

    key: str
    dtype: str
    n_values: int


class Named:
    """Stands for an object that a name in the file would have made."""

    full_name = ""

    def __new__(cls, *given: Any, **by_name: Any) -> "Named":
        instance = super().__new__(cls)
        instance.given = [*given, *by_name.values()]
        return instance

    def __init__(self, *given: Any, **by_name: Any) -> None:
        self.given: list[Any]

    def __call__(self, *given: Any, **by_name: Any) -> "Named":
        return type(self)(*given, **by_name)

    def __setstate__(self, state: Any) -> None:
        self.given.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.given.append({key: value})

    def append(self, value: Any) -> None:
        self.given.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self.given.extend(values)

    add = append


class Dictionary(dict[Any, Any]):
    """Stands for dictionaries of all kinds."""

    def __init__(self, *given: Any) -> None:
        pairs = given[-1] if given and isinstance(given[-1], list | dict) else ()
        super().__init__(pairs)

    def __setstate__(self, state: Any) -> None:
        """Ignored: the version of torch's OrderedDict."""


class Array:
    """Stands for an array of numpy."""

    shape = Shape((), "object")

    def __init__(self, *given: Any) -> None:
        """The first arguments are empty."""

    def __setstate__(self, state: Any) -> None:
        _, sizes, dtype, *_ = state
        self.shape = _shape(sizes, getattr(dtype, "full_name", "object"))


class ArrayType:
    """Stands for the type of an array's values."""

    def __init__(self, code: Any = "", *given: Any) -> None:
        letter, size = str(code)[:1], str(code)[1:]
        words = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}
        self.full_name = "bool" if letter == "b" else f"{words[letter]}{8 * int(size)}" if letter in words else "object"

    def __setstate__(self, state: Any) -> None:
        """Ignored: the byte order."""


class Reader(pickle.Unpickler):
    """`load()` returns plain values, with a Shape for each tensor. `code` has the names that were not looked up, and
    `storages` what the file must contain."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # for files from Python 2
        self.code: dict[str, None] = {}
        self.storages: dict[str, TensorStorage] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        full_name = f"{module}.{name}"
        if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES:
            return type("Kind", (), {"dtype": STORAGES[name]})
        if full_name in MAKERS:
            return MAKERS[full_name]
        if module != "torch":  # torch.float32 and the like are values
            self.code[full_name] = None
        return type("Named", (Named,), {"full_name": full_name})

    def persistent_load(self, reference: Any, /) -> Any:
        if reference[0] == "module":  # formerly: a class, and its source
            return reference[1]
        _, kind, key, _, n_values, *_ = reference
        storage = TensorStorage(str(key), kind.dtype, int(n_values))
        self.storages[storage.key] = storage
        return storage


def _shape(sizes: Any, dtype: str) -> Shape:
    return Shape(tuple(int(size) for size in sizes), dtype)


def _of_storage(storage: TensorStorage, offset: Any, sizes: Any, *_: Any) -> Shape:
    return _shape(sizes, storage.dtype)


def _with_dtype(
    storage: TensorStorage, offset: Any, sizes: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Shape:
    return _shape(sizes, dtype.full_name.removeprefix("torch."))


def _without_storage(dtype: Any, sizes: Any, *_: Any) -> Shape:
    return _shape(sizes, dtype.full_name.removeprefix("torch."))


def _of_type(make: Any, kind: Any, given: Any, *_: Any) -> Any:
    return make(*given)


def _first(value: Any, *_: Any) -> Any:
    return value


def _encoded(text: str, *_: Any) -> bytes:
    return str(text).encode("latin1")


def _members(members: Any = ()) -> tuple[Any, ...]:
    return tuple(members)


def _sizes(sizes: Any = ()) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


MAKERS: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _of_storage,
    "torch._utils._rebuild_tensor_v2": _of_storage,
    "torch._utils._rebuild_tensor_v3": _with_dtype,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_meta_tensor_no_storage": _without_storage,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": _sizes,
    "collections.OrderedDict": Dictionary,
    "collections.defaultdict": Dictionary,
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "numpy.ndarray": Array,
    "numpy.dtype": ArrayType,
    "_codecs.encode": _encoded,
    "builtins.set": _members,
    "__builtin__.set": _members,
}
"""Replacements for what makes tensors, arrays and dictionaries."""

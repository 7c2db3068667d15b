"""Open HDF5 from outside: nothing but what is in the file itself, and no more than it can hold.

HDF5 can take its samples from any other file: by external storage, external links and virtual datasets. An array that
was promised but never written costs nothing there, and all the memory here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import h5py

from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused

FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
"""Any other may be code that is loaded from wherever HDF5_PLUGIN_PATH says."""
CHUNK_BYTES = 1 << 28
"""HDF5 unpacks a whole chunk to read one of its values."""


@contextmanager
def opened(path: Path, cure: str = "fetch it again") -> Iterator[h5py.File]:
    """The file, for reading. What is raised while it is open is a sentence about the file."""
    guard.regular(path)
    with guard.reading(path, cure), h5py.File(path, "r") as file:
        check(path, file)
        yield file


def check(path: Path, file: h5py.File) -> None:
    """Look at each object once, without following a link."""
    size, n_objects = path.stat().st_size, 0

    def look(name: bytes, link: h5py.h5l.LinkInfo) -> None:
        nonlocal n_objects
        n_objects += 1
        if n_objects > guard.MOST_PARTS:
            raise Refused(f"{path} holds more than {guard.MOST_PARTS} objects")
        if link.type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            raise Refused(f"{path} links to another file ({_text(name)}), which is not read: save the values")
        if link.type == h5py.h5l.TYPE_HARD:
            item = h5py.h5o.open(file.id, name)
            if isinstance(item, h5py.h5d.DatasetID):
                _check_array(path, _text(name), item, size)

    file.id.links.visit(look, info=True)


def _check_array(path: Path, name: str, array: h5py.h5d.DatasetID, size: int) -> None:
    how = array.get_create_plist()
    layout = how.get_layout()
    if layout == h5py.h5d.VIRTUAL or (layout == h5py.h5d.CONTIGUOUS and how.get_external_count()):
        raise Refused(f"{path} takes {name} from other files, which are not read: save the values")
    n_bytes = prod(array.shape) * array.dtype.itemsize if array.shape is not None else 0
    stored = array.get_storage_size()
    guard.promise(path, name, stored, size)
    if layout == h5py.h5d.CHUNKED:
        filters = [how.get_filter(number)[0] for number in range(how.get_nfilters())]
        if others := [number for number in filters if number not in FILTERS]:
            raise Refused(f"{path} needs filter {others[0]} of HDF5 for {name}: save it with gzip, or uncompressed")
        guard.promise(path, f"a chunk of {name}", prod(how.get_chunk()) * array.dtype.itemsize, CHUNK_BYTES)
        guard.unpacked(path, name, n_bytes, stored)
    elif layout == h5py.h5d.CONTIGUOUS:
        guard.promise(path, name, n_bytes, stored)
        guard.promise(path, name, (array.get_offset() or 0) + stored, size)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")

"""Open HDF5 from outside: nothing but what is in the file itself, and no more than it can hold.

HDF5 can take its samples from any other file: by external storage, external links and virtual datasets. An array that
was promised but never written costs nothing there, and all the memory here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

import h5py

from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused

FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
"""Any other may be code that is loaded from wherever HDF5_PLUGIN_PATH says."""
HEAP = b"GCOL\1\0\0\0"
BESIDE = 1 << 26
"""More bytes than there are around the arrays."""
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
    size = path.stat().st_size
    links: list[tuple[bytes, int]] = []

    def note(name: bytes, link: h5py.h5l.LinkInfo) -> bool | None:  # anything but None ends the walk
        links.append((name, link.type))
        return True if len(links) > guard.MOST_PARTS else None

    if file.id.links.visit(note, info=True):
        raise Refused(f"{path} holds more than {guard.MOST_PARTS} objects")
    arrays: list[tuple[int, int]] = []
    for name, kind in links:
        if kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            raise Refused(f"{path} links to another file ({_text(name)}), which is not read: save the values")
        if kind == h5py.h5l.TYPE_HARD:
            item = h5py.h5o.open(file.id, name)
            if isinstance(item, h5py.h5d.DatasetID):
                arrays += _check_array(path, _text(name), item, size)
    _check_texts(path, sorted(arrays), size)


def _check_array(path: Path, name: str, array: h5py.h5d.DatasetID, size: int) -> list[tuple[int, int]]:
    """Its bytes in the file, where they are in one piece."""
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
        return [(array.get_offset(), stored)] if array.get_offset() else []
    return []


def _check_texts(path: Path, arrays: Sequence[tuple[int, int]], size: int) -> None:
    """Texts are in heaps, beside the arrays. HDF5 goes through a heap from item to item, for ever if one has no length.

    https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html: III.E, the global heap.
    """
    gaps, at = [], 0
    for first, n_bytes in [*arrays, (size, 0)]:
        gaps.append((at, max(0, first - at)))
        at = max(at, first + n_bytes)
    if sum(n_bytes for _, n_bytes in gaps) > BESIDE:
        return  # compressed arrays: no text is read of such a file
    with guard.open_file(path) as file:
        for first, n_bytes in gaps:
            file.seek(first)
            _check_heaps(path, file.read(n_bytes))


def _check_heaps(path: Path, content: bytes) -> None:
    start = content.find(HEAP)
    while start >= 0:
        end = start + int.from_bytes(content[start + 8 : start + 16], "little")
        at = start + 16
        while at + 16 <= min(end, len(content)):
            number = int.from_bytes(content[at : at + 2], "little")
            n_bytes = int.from_bytes(content[at + 8 : at + 16], "little")
            step = n_bytes if number == 0 else 16 + -(-n_bytes // 8) * 8  # item 0 is what is free, its header included
            if step < 16 or at + step > end:
                raise Refused(f"{path} is cut off or damaged: its texts do not follow one another")
            at += step
        start = content.find(HEAP, start + 4)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")

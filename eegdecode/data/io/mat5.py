"""Walk through a .mat (or .set) of MATLAB's versions 4 to 7 before it is read: counts have to fit its bytes.

A reader asks for the memory that a header promises. The format:
https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import os
import struct
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused

INT8, UINT32, INT32, MATRIX, COMPRESSED, UTF8 = 1, 6, 5, 14, 15, 16
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
"""Bytes of a value, by the type of an element."""
CELL, STRUCT, OBJECT, CHAR, SPARSE, NUMBERS = 1, 2, 3, 4, 5, range(6, 16)
DEEPEST = 60
BLOCK = 1 << 16


def check(path: Path) -> None:
    """Refuse a file whose header promises what is not there."""
    with guard.open_file(path) as file, guard.reading(path):
        size = os.fstat(file.fileno()).st_size
        head = file.read(128)
        if 0 in head[:4]:
            _check_4(path, file, size)
            return
        order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
        if len(head) < 128 or order is None:
            raise Refused(f"{path} is cut off or damaged: it does not begin as a .mat does; fetch it again")
        while (at := file.tell()) < size:
            tag = file.read(8)
            if len(tag) < 8:
                raise Refused(f"{path} is cut off: it ends within a header, at byte {at}: fetch it again")
            kind, n_bytes = struct.unpack(f"{order}II", tag)
            guard.promise(path, f"a variable at byte {at}", n_bytes, size - at - 8)
            if kind == COMPRESSED:
                _Packed(path, file, n_bytes, order).check()
            elif kind == MATRIX:
                _Matrix(path, _Plain(path, file, n_bytes), order).check(n_bytes)
            else:
                raise Refused(f"{path} has something at byte {at} that is no variable (type {kind}): fetch it again")
            file.seek(at + 8 + n_bytes)


def _check_4(path: Path, file: BinaryIO, size: int) -> None:
    """Version 4: 20 bytes, a name and the values of each matrix; the first number says byte order and type."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(20)
        if len(head) < 20:
            raise Refused(f"{path} is cut off: it ends within a header, at byte {at}: fetch it again")
        order = "<" if struct.unpack("<i", head[:4])[0] in range(5000) else ">"
        kind, n_rows, n_columns, imaginary, name_length = struct.unpack(f"{order}5i", head)
        width = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}.get(kind // 10 % 10)
        if kind not in range(5000) or width is None or kind % 10 > 2 or min(n_rows, n_columns, name_length - 1) < 0:
            raise Refused(f"{path} has a damaged header at byte {at}: fetch it again")
        n_bytes = name_length + n_rows * n_columns * width * (2 if imaginary else 1)
        guard.promise(path, f"a variable at byte {at}", n_bytes, size - at - 20)
        at += 20 + n_bytes


class _Plain:
    """The bytes of an element of the file."""

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int) -> None:
        self.path, self.file, self.left = path, file, n_bytes

    def take(self, n_bytes: int) -> bytes:
        self._spend(n_bytes)
        return self.file.read(n_bytes)

    def skip(self, n_bytes: int) -> None:
        self._spend(n_bytes)
        self.file.seek(n_bytes, os.SEEK_CUR)

    def _spend(self, n_bytes: int) -> None:
        guard.promise(self.path, "a part of a variable", n_bytes, self.left)
        self.left -= n_bytes


class _Packed:
    """A compressed element, unpacked a little at a time and to its checksum, which readers do not look at."""

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int, order: str) -> None:
        self.path, self.file, self.packed, self.order = path, file, n_bytes, order
        self._rest, self._zlib, self._buffer = n_bytes, zlib.decompressobj(), b""
        self.left = 8

    def check(self) -> None:
        kind, n_bytes = struct.unpack(f"{self.order}II", self.take(8))
        if kind != MATRIX:
            raise Refused(f"{self.path} has a compressed part that is no variable (type {kind}): fetch it again")
        guard.unpacked(self.path, "a variable", n_bytes, self.packed)
        self.left = n_bytes
        _Matrix(self.path, self, self.order).check(n_bytes)
        self.skip(self.left)
        if self._block() or not self._zlib.eof:
            raise Refused(f"{self.path} is damaged: a compressed variable does not end where it should; fetch it again")

    def take(self, n_bytes: int) -> bytes:
        guard.promise(self.path, "a part of a variable", n_bytes, self.left)
        self.left -= n_bytes
        parts, lacking = [], n_bytes
        while lacking:
            if not self._buffer and not (block := self._block()):
                raise Refused(f"{self.path} is cut off within a compressed variable: fetch it again")
            self._buffer = self._buffer or block
            parts.append(self._buffer[:lacking])
            self._buffer, lacking = self._buffer[lacking:], lacking - len(parts[-1])
        return b"".join(parts)

    def skip(self, n_bytes: int) -> None:
        while n_bytes > 0:
            n_bytes -= len(self.take(min(n_bytes, BLOCK)))

    def _block(self) -> bytes:
        """The next bytes; none at the end."""
        if self._buffer:
            return self._buffer
        while not self._zlib.eof:
            fed = self._zlib.unconsumed_tail
            if not fed:
                fed = self.file.read(min(self._rest, BLOCK))
                self._rest -= len(fed)
            block = self._zlib.decompress(fed, BLOCK)
            if block or not fed:
                return block
        return b""


class _Matrix:
    """A variable, and those in it."""

    def __init__(self, path: Path, source: _Plain | _Packed, order: str) -> None:
        self.path, self.source, self.order = path, source, order

    def check(self, n_bytes: int, depth: int = 0) -> None:
        """Of a matrix whose tag is behind; ends where it ends."""
        if depth > DEEPEST:
            raise Refused(f"{self.path} has variables nested more than {DEEPEST} deep")
        end = self.source.left - n_bytes
        if n_bytes:
            flags, _ = struct.unpack(f"{self.order}II", self._element((UINT32,), end)[:8].ljust(8, b"\0"))
            kind, imaginary = flags & 0xFF, bool(flags & 0x800)
            if kind in (CELL, STRUCT, OBJECT, CHAR, SPARSE, *NUMBERS):  # others are functions and objects of classes
                shape = self._numbers(end)
                self._element((INT8, UTF8), end)
                self._values(kind, shape, imaginary, end, depth)
        self.source.skip(self.source.left - end)

    def _values(self, kind: int, shape: tuple[int, ...], imaginary: bool, end: int, depth: int) -> None:
        n = prod(shape)
        if len(shape) < 2 or min(shape) < 0:
            raise Refused(f"{self.path} has a variable of the shape {shape}: fetch it again")
        if kind in (CELL, STRUCT, OBJECT):
            fields = 1
            if kind == OBJECT:
                self._element((INT8,), end)
            if kind != CELL:
                (length,) = self._numbers(end)[:1] or (0,)
                names = self._element((INT8, UTF8), end)
                fields = len(names) // length if length > 0 else 0
            guard.promise(self.path, f"{n} cells", 8 * n * fields, self.source.left - end)
            for _ in range(n * fields):
                inner, n_bytes = struct.unpack(f"{self.order}II", self.source.take(8))
                if inner != MATRIX:
                    raise Refused(f"{self.path} has a cell that is no variable (type {inner}): fetch it again")
                guard.promise(self.path, "a cell", n_bytes, self.source.left - end)
                self.check(n_bytes, depth + 1)
        elif kind == SPARSE:
            for _ in range(3 + imaginary):
                self._skip_element(end)
        else:
            for _ in range(1 + imaginary):
                width, n_bytes = self._skip_element(end)
                lengths = range(n, 4 * n + 1) if width == UTF8 else (n * WIDTHS[width],)
                if n_bytes not in lengths and (n_bytes or n > 1):
                    raise Refused(
                        f"{self.path} is damaged: a variable of {' x '.join(map(str, shape))} has {n_bytes} bytes; "
                        "fetch it again"
                    )

    def _numbers(self, end: int) -> tuple[int, ...]:
        raw = self._element((INT32, UINT32), end)
        return struct.unpack(f"{self.order}{len(raw) // 4}i", raw[: len(raw) // 4 * 4])

    def _element(self, kinds: tuple[int, ...], end: int) -> bytes:
        """The content of a small element of one of these types."""
        kind, n_bytes, small = self._tag(end)
        if kind not in kinds:
            raise Refused(f"{self.path} has an element of type {kind} where type {kinds[0]} belongs: fetch it again")
        guard.promise(self.path, "a name or shape", n_bytes, min(self.source.left - end + len(small), 1 << 24))
        if small:
            return small[:n_bytes]
        content = self.source.take(n_bytes)
        self._pad(n_bytes, end)
        return content

    def _skip_element(self, end: int) -> tuple[int, int]:
        """The type and the bytes of an element, which is passed over."""
        kind, n_bytes, small = self._tag(end)
        if kind not in WIDTHS:
            raise Refused(f"{self.path} has values of an unknown type {kind}: fetch it again")
        if not small:
            guard.promise(self.path, "values", n_bytes, self.source.left - end)
            self.source.skip(n_bytes)
            self._pad(n_bytes, end)
        return kind, n_bytes

    def _tag(self, end: int) -> tuple[int, int, bytes]:
        """Type and length; up to four bytes may stand in the tag itself."""
        guard.promise(self.path, "a header", 8, self.source.left - end)
        tag = self.source.take(8)
        kind, n_bytes = struct.unpack(f"{self.order}II", tag)
        if kind >> 16:
            if kind >> 16 > 4:
                raise Refused(f"{self.path} has a damaged header within a variable: fetch it again")
            return kind & 0xFFFF, kind >> 16, tag[4:]
        return kind, n_bytes, b""

    def _pad(self, n_bytes: int, end: int) -> None:
        """To a multiple of 8, which some writers leave out at the end."""
        self.source.skip(min(-n_bytes % 8, self.source.left - end))

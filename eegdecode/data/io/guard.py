"""The gate: each file from outside is opened or checked here, before a library sees it.

A file may be a pipe that never ends, or a few bytes whose header promises a terabyte. What is wrong with it becomes one
`Refused`, whose sentence begins with the file; the recordings next to it go on.
"""

import codecs
import errno
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOWEST_HZ, HIGHEST_HZ = 1e-3, 1e6
"""The rates of anything that is recorded: from a mood every quarter of an hour to the fastest amplifiers."""
TEXT_BYTES = 1 << 28
"""Tables and sidecars are smaller."""
DEFLATED = 1032
"""No byte that deflate wrote stands for more (https://www.zlib.net/zlib_tech.html)."""
RATIO, FREE_BYTES = 200, 1 << 28
"""What is compressed may become so many times larger, or reach so many bytes. Signals become 2 to 10 times larger."""
MOST_PARTS = 1_000_000
"""Parts of a zip, or objects of an HDF5 file."""
KINDS = (
    (stat.S_ISFIFO, "a pipe (FIFO)"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"), (stat.S_ISDIR, "a folder"),
)  # fmt: skip


FULL = (errno.ENOSPC, errno.EDQUOT)
ADVICE = re.compile(
    r"(\.? *If you trust|Weights only load|,? *(set|using|with) `?(allow_pickle|weights_only)|<[\w.]+ object at).*",
    re.DOTALL,
)
"""What libraries say to programmers, and to those who trust a file."""


class Refused(ValueError):
    """A file from outside that is not read. The message begins with the file."""


def open_file(path: Path) -> BinaryIO:
    """Open a regular file. Without O_NONBLOCK, to open a pipe is to wait for its other end."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115  for the caller
    try:
        _check_kind(path, os.fstat(file.fileno()).st_mode)
    except Refused:
        file.close()
        raise
    return file


def regular(path: Path) -> None:
    """Refuse what is there and is no file; of a folder, anything in it."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                regular(Path(folder, name))
    elif path.exists():
        _check_kind(path, path.stat().st_mode)


def _check_kind(path: Path, mode: int) -> None:
    what = next((what for is_kind, what in KINDS if is_kind(mode)), "")
    if what:
        raise Refused(f"{path} is {what}, no file with data: remove it, or put the file there")


def rate(path: Path, hz: float, cure: str = "correct its header, or fetch it again") -> float:
    """The rate, if something can be recorded at it."""
    if not LOWEST_HZ <= hz <= HIGHEST_HZ:  # NaN is not either
        raise Refused(
            f"{path} says a sampling rate of {hz:g} Hz, which is none between {LOWEST_HZ:g} and {HIGHEST_HZ:g}: {cure}"
        )
    return hz


def promise(path: Path, what: str, n_bytes: int, available: int) -> None:
    """Refuse a header that tells of more bytes than there are."""
    if not 0 <= n_bytes <= available:
        raise Refused(
            f"{path} is cut off or damaged: it promises {n_bytes} bytes of {what}, but {available} can be "
            "there; fetch it again"
        )


def unpacked(path: Path, what: str, n_bytes: int, packed: int) -> None:
    """Refuse a bomb: a few bytes that would fill the memory."""
    if n_bytes > max(FREE_BYTES, RATIO * packed) or n_bytes > DEFLATED * (packed + 64):
        raise Refused(
            f"{path} would unpack {packed} bytes of {what} to {n_bytes}, as no recording does: save it uncompressed if "
            "it is one"
        )


@contextmanager
def reading(path: Path, cure: str = "fetch it again") -> Iterator[None]:
    """Whatever a library raises on a file is a sentence about that file. A full disk and the like is not."""
    try:
        yield
    except Refused:
        raise
    except OSError as error:
        if error.filename is not None or error.errno in FULL:
            raise
        raise Refused(f"{path} is cut off or damaged ({reason(error)}): {cure}") from None
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise Refused(f"{path} cannot be read ({reason(error)}): correct it, or {cure}") from None
    except (Exception, MemoryError) as error:  # noqa: BLE001  parsers raise whatever they trip over
        raise Refused(f"{path} is cut off or damaged ({reason(error)}): {cure}") from None


def reason(error: BaseException) -> str:
    """What a library says, in one line, without its name for a bare assertion."""
    text = ADVICE.sub("", " ".join(str(error).split()))[:300]
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text or type(error).__name__


def text(path: Path) -> str:
    """The text of a table or sidecar, in UTF-8. NUL bytes are what a disk leaves that lost power: all is in doubt."""
    with open_file(path) as file:
        promise(path, "text", os.fstat(file.fileno()).st_size, TEXT_BYTES)
        content = file.read()
    if b"\0" in content and not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise Refused(f"{path} has NUL bytes, the first in line {line}: it is damaged; fetch it again")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refused(
            f"{path} is not UTF-8 (byte 0x{content[error.start]:02x} in line {line}): save it as UTF-8 text"
        ) from None


def json_object(path: Path) -> dict[str, object]:
    """The keys and values of a .json sidecar."""
    try:
        values = json.loads(text(path), parse_constant=_no_number)
    except Refused:
        raise
    except RecursionError:
        raise Refused(f"{path} is not valid JSON (nested too deep): correct it") from None
    except ValueError as error:
        raise Refused(f"{path} is not valid JSON ({error}): correct it") from None
    if not isinstance(values, dict):
        raise Refused(f"{path} holds a {type(values).__name__}, but a sidecar is {{key: value}}: correct it")
    return values


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")


def archive(path: Path) -> None:
    """Refuse a zip (.npz, .pt) that is a bomb, or whose parts lie over one another."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as parts:
            entries = parts.infolist()
    if len(entries) > MOST_PARTS:
        raise Refused(f"{path} has {len(entries)} parts, {MOST_PARTS} at most are read")
    promise(path, "parts", sum(entry.compress_size for entry in entries), size)
    for entry in entries:
        unpacked(path, entry.filename, entry.file_size, entry.compress_size)
    unpacked(path, "parts", sum(entry.file_size for entry in entries), size)


def one_line(path: Path, error: BaseException) -> str:
    """A sentence of ours as it is; anything else with the file and its kind, as it may be our own mistake."""
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{path} cannot be used ({type(error).__name__}: {reason(error)})"


def below(folder: Path, name: str, cure: str) -> Path:
    """The file of that name below a folder. A name in somebody's table may not lead out of it: the bytes of other files
    would become targets."""
    if name.startswith("/") or ".." in name.split("/"):
        raise Refused(f"{folder}: a table or a marker of the study names {name!r}, which leads out of it: {cure}")
    return folder / name


def safe_name(name: str) -> str:
    """A name from a table that is one file and one HDF5 array: speed/rate as speed-rate."""
    return re.sub(r"[/\\\0]", "-", name).strip(".") or "unnamed"

"""Reads the file that Weights & Biases writes in a run folder: a log in the format of LevelDB, of protocol buffers."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER = b":W&B"
HEADER_B = 7  # with two bytes of magic and one of version
BLOCK_B = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def chunks(data: bytes) -> Iterator[bytes]:
    """Yield each whole record; the file of a process that was killed may end in the middle of one."""
    if not data.startswith(HEADER):
        return
    at, whole = HEADER_B, b""
    while at + 7 <= len(data):
        left = BLOCK_B - at % BLOCK_B
        if left < 7:  # the end of a block is filled up
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        part = data[at + 7 : at + 7 + length]
        if not FULL <= kind <= LAST or len(part) < length:
            return
        at += 7 + length
        whole = part if kind in (FULL, FIRST) else whole + part
        if kind in (FULL, LAST):
            yield whole


def records(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    for chunk in chunks(path.read_bytes()):
        yield Record.FromString(chunk)


def last_step(path: Path, name: str) -> int:
    """The last step of which it has this figure; 0 if there is none."""
    rows = (record.history for record in records(path) if record.WhichOneof("record_type") == "history")
    return max((row.step.num for row in rows if name in names(row)), default=0)


def is_whole(path: Path) -> bool:
    """Whether the end of the run is in it."""
    return path.exists() and any(record.WhichOneof("record_type") == "exit" for record in records(path))


def names(row: Any) -> set[str]:
    """Of the figures and pictures of a row of the history; of each part of a picture, that of the whole."""
    return {item.key or item.nested_key[0] for item in row.item}

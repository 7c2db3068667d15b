"""Ways in which a file is damaged, or made by somebody who means harm. Each is drawn from a seed, so it comes again."""

import io
import json
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]


def _place(content: bytes, rng: random.Random) -> int:
    """Headers are a small part of a file, and most of what can go wrong: every second place is in the first part."""
    length = max(1, len(content))
    return rng.randrange(min(length, rng.choice((256, 2048, length)))) if rng.random() < 0.5 else rng.randrange(length)


def flips(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        out[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(out)


def zeros(content: bytes, rng: random.Random) -> bytes:
    at, n = _place(content, rng), rng.choice((1, 4, 16, 512, 4096))
    return content[:at] + bytes(len(content[at : at + n])) + content[at + n :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((0, 1, _place(content, rng), max(0, len(content) - rng.randrange(1, 64))))]


def doubled(content: bytes, rng: random.Random) -> bytes:
    at, n = _place(content, rng), rng.choice((8, 64, 512, 4096))
    return content[: at + n] + content[at : at + n] + content[at + n :]


def inserted(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.choice((b"\0", b"\0" * 64, rng.randbytes(rng.randrange(1, 32)))) + content[at:]


def random_bytes(content: bytes, rng: random.Random) -> bytes:
    at, n = _place(content, rng), rng.choice((1, 8, 64))
    return content[:at] + rng.randbytes(len(content[at : at + n])) + content[at + n :]


HUGE = (2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1, -1, -(2**31), 0)


def huge_numbers(content: bytes, rng: random.Random) -> bytes:
    """In binary, at a place where a header may have a number."""
    at = _place(content, rng) // 4 * 4
    order, number = rng.choice("<>"), rng.choice(HUGE)
    packed = struct.pack(f"{order}q", number) if rng.random() < 0.5 else struct.pack(f"{order}I", number % 2**32)
    return content[:at] + packed + content[at + len(packed) :]


def huge_digits(content: bytes, rng: random.Random) -> bytes:
    """Of a number in text: in place, or longer."""
    numbers = list(re.finditer(rb"\d+", content[:8192]))
    if not numbers:
        return flips(content, rng)
    number = rng.choice(numbers)
    n = len(number[0])
    words = (b"9" * n, b"0" * n, (b"-" + b"9" * n)[:n], b"99999999999", b"1e300"[:n], b"1e300", b"inf", b"nan", b"-1")
    return content[: number.start()] + rng.choice(words) + content[number.end() :]


def line_ends(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b"\n", b"\r\n")


def encodings(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return rng.choice(
        (
            text.encode("utf-16"),
            text.encode("utf-16-le"),
            b"\xef\xbb\xbf" + content,
            "µ".join(text).encode("latin-1", "replace"),
        )
    )


BINARY: tuple[Mutation, ...] = (
    flips, flips, flips, zeros, cut, doubled, inserted, random_bytes, huge_numbers, huge_numbers, huge_digits,
    line_ends,
)  # fmt: skip


def cells(content: bytes, rng: random.Random) -> bytes:
    """A tab too many or too few, a line twice or half, a cell that is something else."""
    lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    parts = lines[number].split(b"\t")
    cell = rng.randrange(len(parts))
    match rng.randrange(6):
        case 0:
            parts.insert(cell, b"")
        case 1:
            del parts[cell]
        case 2:
            parts[cell] = rng.choice((b"nan", b"inf", b"-1", b"1e300", b'"', b"\xff", b"9" * 400, b"../../etc", b"a/b"))
        case 3:
            return b"\n".join([*lines[: number + 1], *lines[number:]])
        case 4:
            return b"\n".join([*lines[:number], lines[number][: len(lines[number]) // 2]])
        case 5:
            rng.shuffle(parts)
    return b"\n".join([*lines[:number], b"\t".join(parts), *lines[number + 1 :]])


TEXT: tuple[Mutation, ...] = (
    flips, zeros, cut, doubled, inserted, random_bytes, huge_digits, line_ends, encodings, cells, cells, cells,
)  # fmt: skip

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, float("nan"), float("inf"), 1e308, 2**70, "", "x", "3", [], [1], {}, {"a": 1}, [[]], "\0",
    "../x",
)  # fmt: skip


def _changed(value: Any, rng: random.Random) -> Any:
    """One value somewhere in it is of another type, missing, or new."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value, key=str))
        match rng.randrange(5):
            case 0:
                return {name: each for name, each in value.items() if name != key}
            case 1:
                return value | {key: rng.choice(ODD)}
            case 2:
                return {("x" if name == key else name): each for name, each in value.items()}
            case _:
                return value | {key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.3:
        return str(value)
    return rng.choice(ODD)


def types(content: bytes, rng: random.Random) -> bytes:
    """Of a JSON file, or of one line of a file of JSON lines."""
    if content.lstrip().startswith((b"{", b"[")):
        try:
            return json.dumps(_changed(json.loads(content), rng)).encode()
        except ValueError:
            lines = content.splitlines()
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(_changed(json.loads(lines[at]), rng)).encode()
            return b"\n".join(lines) + b"\n"
    return flips(content, rng)


def nested(content: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"[" * 200_000, b'{"a":' * 100_000, b"9" * 5000, b"[]", b"null", b'"text"', b"3", b"NaN", b""))


JSON: tuple[Mutation, ...] = (
    types,
    types,
    types,
    types,
    flips,
    zeros,
    cut,
    doubled,
    inserted,
    huge_digits,
    encodings,
    nested,
)


def yaml_words(content: bytes, rng: random.Random) -> bytes:
    words = (
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", b"!!python/object/apply:os.system ['true']\n", b"a: [1, 2\n",
        b"? [1]\n: 2\n", b"study: *nothing\n", b"\tstudy: x\n", b"study: ${study}\n", b"study: ${oc.env:HOME}\n",
        b"- 1\n",
        b"study: !!binary x\n", b"study: {{x}}\n", b"a: 1\na: 2\n", b"study: 2001-01-01\n", b"1: 2\n", b"null: 2\n",
        b"steps: [[[[]]]]\n", b"study: " + b"[" * 2000, b"%YAML 9.9\n---\nx: 1\n", b"x: 0x" + b"f" * 400 + b"\n",
    )  # fmt: skip
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines) + 1)
    return b"".join([*lines[:at], rng.choice(words), *lines[at:]])


YAML: tuple[Mutation, ...] = (
    yaml_words,
    yaml_words,
    flips,
    zeros,
    cut,
    doubled,
    inserted,
    huge_digits,
    line_ends,
    encodings,
)


class _Calls:
    def __reduce__(self) -> object:
        import os

        return os.system, ("touch was-run",)


def _pickles(rng: random.Random) -> bytes:
    """Pickles that would run something, or fill the memory, or never end."""
    number = struct.pack("<I", rng.choice((2**31 - 1, 2**32 - 1, 2**27)))
    return rng.choice(
        (
            pickle.dumps(_Calls(), 2),
            pickle.dumps({"parameters": {"w": _Calls()}, "step": 3}, 2),
            b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x001 + 1\x85R.",
            b"\x80\x02(cposix\nsystem\nX\x04\x00\x00\x00trueo.",
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00(K\x02t(K\x01t\x89NtR.",
            b"\x80\x02ctorch\nSize\n(" + b"J\xff\xff\xff\x7f" * 8 + b"t\x85R.",
            b"\x80\x02N" + b"r" + number + b".",
            b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
            b"\x80\x02\x8b" + number + b"\x01.",
            b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
            b"\x80\x02" + b"]" + b"\x85" * 100_000 + b".",
            b"\x80\x02Q.", b"\x80\x02}Q.", b"\x80\x02(X\x07\x00\x00\x00storageK\x01K\x02tQ.",
            b"\x80\x02\x82\x01.", b"\x80\xff.", b".", b"", b"\x80\x02}q\x00h\x05.",
            pickle.dumps([1, 2, 3]), pickle.dumps({"parameters": []}), pickle.dumps("text"), pickle.dumps(10**5000, 2),
            b"\x80\x02" + b"}" * 50_000 + b".",
        )
    )  # fmt: skip


def hostile_pickles(content: bytes, rng: random.Random) -> bytes:
    """Bare, or as the values in the zip that torch writes."""
    made = _pickles(rng)
    if not content.startswith(b"PK") or rng.random() < 0.3:
        return made
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    return _zipped({name: made if name.endswith("data.pkl") else part for name, part in parts.items()})


def bombs(content: bytes, rng: random.Random) -> bytes:
    """A part that is a gigabyte of zeros once it is unpacked; parts that say they are large."""
    if not content.startswith(b"PK"):
        return flips(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    name = rng.choice(sorted(parts))
    if rng.random() < 0.5:
        return _zipped(parts | {name: bytes(1 << 28) + b"end"}, zipfile.ZIP_DEFLATED)
    packed = bytearray(_zipped(parts))
    at = packed.rindex(b"PK\x01\x02")
    struct.pack_into("<I", packed, at + rng.choice((20, 24)), rng.choice((2**31, 2**32 - 2)))
    return bytes(packed)


def _zipped(parts: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return file.getvalue()


WEIGHTS: tuple[Mutation, ...] = (*BINARY, hostile_pickles, hostile_pickles, hostile_pickles, hostile_pickles, bombs)


def draw(kinds: tuple[Mutation, ...], content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A content that differs, and how it was made."""
    for _ in range(20):
        mutation = rng.choice(kinds)
        mutated = mutation(content, rng) if content else b"\0"
        if mutated != content:
            return mutated, mutation.__name__
    return content + b"\0", "inserted"

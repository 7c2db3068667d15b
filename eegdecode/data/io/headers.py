"""Check the headers of EDF, BrainVision, KIT, FIF and CTF against the files. The tests in `damage.DAMAGES`.

Each test takes a file and returns the rest of a sentence that begins with its path, or None.
"""

import codecs
import math
import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from eegdecode.data.io import guard

HEAD_BYTES = 1 << 20
KIT = b"\0\0\0\0\x10\0\0\0"
FIF_BUFFER, FIF_LARGE = 300, 1000
"""The kind of a block of samples, and bytes that nothing beside them happens to have as well."""
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
BINARY = (".edf", ".bdf", ".gdf", ".fif", ".con", ".sqd", ".cnt", ".eeg", ".fdt", ".meg4", ".set", ".mat")


@dataclass(frozen=True)
class File:
    path: Path
    size: int
    head: bytes
    suffix: str

    def beside(self, name: str) -> Path:
        return self.path.parent / name


def look_at(path: Path) -> File | None:
    if not path.exists():
        return None
    suffix = ".fif" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()
    if path.is_dir():
        return File(path, 0, b"", suffix)
    with guard.open_file(path) as file:
        return File(path, path.stat().st_size, file.read(HEAD_BYTES), suffix)


def as_text(file: File) -> str | None:
    """Detect a binary file that some tool treated as text. Its size may be right, if the excess was cut off."""
    return None if file.suffix not in BINARY or file.path.is_dir() else translated(file.head)


def translated(head: bytes) -> str | None:
    """How a binary file was altered as text, from its first megabyte."""
    n_high = len(head) - len(head.translate(None, bytes(range(128, 256))))
    again = "fetch it again, in binary mode"
    if n_high >= 64 and _is_utf8(head):
        n_replaced = head.count(b"\xef\xbf\xbd")
        how = f", and {n_replaced} bytes or more became a replacement mark" if n_replaced > n_high / 6 else ""
        return f"was re-encoded as UTF-8 text on its way{how}: the samples are lost; {again}"
    n_lf, n_cr, n_pairs = head.count(b"\n"), head.count(b"\r"), head.count(b"\r\n")
    if n_lf >= 32 and n_pairs == n_lf and n_cr - n_pairs >= 8:
        return f"had its line feeds translated to CR LF (all {n_lf} of them), as text: the samples are shifted; {again}"
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def edf_rates(path: Path) -> tuple[tuple[str, int], ...]:
    """Label and samples a record of each channel but the annotations, in the order of the header."""
    file = look_at(path)
    header = _edf(file) if file else ""
    if isinstance(header, str):
        return ()
    both = zip(header.labels, header.samples, strict=True)
    return tuple((label, n) for label, n in both if label not in ANNOTATIONS)


@dataclass(frozen=True)
class _Edf:
    n_bytes: int
    n_records: int
    record_s: float
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    record_bytes: int


def _edf(file: File) -> _Edf | str:
    """The header, or a sentence on why it cannot be read."""
    head = file.head
    try:
        n_bytes, n_records, record_s, n = (
            int(head[184:192]),
            int(head[236:244]),
            float(head[244:252]),
            int(head[252:256]),
        )
        # Left- or right-justified, but not in between
        if all(field.startswith(b" ") and field.endswith(b" ") for field in (head[236:244], head[252:256])):
            raise ValueError
        if n < 1 or n_bytes != 256 * (1 + n) or not math.isfinite(record_s) or record_s < 0 or n_records < -1:
            raise ValueError
        labels = tuple(head[256 + 16 * k : 272 + 16 * k].decode("latin-1").strip() for k in range(n))
        sizes = 256 + 216 * n
        samples = tuple(int(head[sizes + 8 * k : sizes + 8 * k + 8]) for k in range(n))
        if len(head) < min(n_bytes, HEAD_BYTES) or min(samples) < 0:
            raise ValueError
    except ValueError:
        if file.size < 256 or (head[252:256].strip().isdigit() and file.size < 256 * (1 + int(head[252:256]))):
            return f"is cut off within its header ({file.size} bytes are there): fetch it again"
        return (
            f"has a shifted header: it says {_text(head[184:192])} header bytes, {_text(head[236:244])} records of "
            f"{_text(head[244:252])} s, {_text(head[252:256])} channels: fetch it again, in binary mode"
        )
    width = 3 if file.suffix == ".bdf" else 2
    return _Edf(n_bytes, n_records, record_s, labels, samples, width * sum(samples))


def _text(field: bytes) -> str:
    return repr(field.decode("ascii", "backslashreplace").strip())


def edf_header(file: File) -> str | None:
    if file.suffix not in (".edf", ".bdf"):
        return None
    header = _edf(file)
    if isinstance(header, str):
        return header
    if all(label in ANNOTATIONS for label in header.labels):
        return "holds annotations only, no signal: open the file it belongs to"
    if header.record_s == 0 or header.record_bytes == 0:
        return f"has records of {header.record_s:g} s and {header.record_bytes} bytes, so no rate: ask for a new export"
    signals = [n for label, n in zip(header.labels, header.samples, strict=True) if label not in ANNOTATIONS]
    if not guard.LOWEST_HZ <= (hz := max(signals) / header.record_s) <= guard.HIGHEST_HZ:
        return f"has records of {header.record_s:g} s, {max(signals)} samples: no recording has a rate of {hz:g} Hz"
    return None


def edf_cut(file: File) -> str | None:
    header = _edf(file) if file.suffix in (".edf", ".bdf") else ""
    if isinstance(header, str) or header.n_records < 0:
        return None
    n_complete = (file.size - header.n_bytes) / header.record_bytes
    if n_complete >= header.n_records:
        return None
    # Not proof by itself: few values have these two bytes in a row
    text = file.head.count(b"\n") > 100 and b"\r\n" not in file.head
    how = " (no CR LF is left in it, so it may have been taken for text on its way)" if text else ""
    return (
        f"is cut off: its header tells of {header.n_records} records of {header.record_s:g} s, "
        f"{n_complete:.1f} are there{how}: fetch it again"
    )


def edf_gaps(file: File) -> str | None:
    """EDF+D may have pauses between its records, which mne would close up silently."""
    header = _edf(file) if file.head[192:197] in (b"EDF+D", b"BDF+D") else ""
    if isinstance(header, str):
        return None
    channels = [k for k, label in enumerate(header.labels) if label in ANNOTATIONS]
    if not channels:
        return None
    width = header.record_bytes // sum(header.samples)
    offset = width * sum(header.samples[: channels[0]])
    length, onsets = width * header.samples[channels[0]], []
    with guard.open_file(file.path) as records:
        for k in range((file.size - header.n_bytes) // header.record_bytes):
            records.seek(header.n_bytes + k * header.record_bytes + offset)
            onset = re.match(rb"([+-][\d.]+)[\x14\x15]", records.read(length))
            if onset:
                onsets.append((k, float(onset[1])))
    jumps = [b for (i, a), (j, b) in pairwise(onsets) if abs(b - a - (j - i) * header.record_s) > 1e-3]
    if not jumps:
        return None
    return (
        f"is a recording with {len(jumps)} pauses (EDF+D), the first before {jumps[0]:g} s: export it without them, "
        "or each piece to a file of its own"
    )


def edf_unfinished(file: File) -> str | None:
    header = _edf(file) if file.suffix in (".edf", ".bdf") else ""
    if isinstance(header, str):
        return None
    n_complete, rest = divmod(file.size - header.n_bytes, header.record_bytes)
    if n_complete == header.n_records and not rest:
        return None
    says = "does not say how long it is" if header.n_records < 0 else f"tells of {header.n_records} records only"
    left = f", the last {rest} bytes are no whole record" if rest else ""
    return f"was not ended properly: its header {says}; the {n_complete} records that are there were taken{left}"


def _vhdr(file: File) -> dict[str, str]:
    if file.suffix not in (".vhdr", ".ahdr"):
        return {}
    text = file.head.decode("latin-1").split("[Comment]")[0]
    fields = dict(re.findall(r"^(\w+)=(.*?)\s*$", text, re.MULTILINE))
    return {key: value.replace("$b", file.path.stem) for key, value in fields.items()}


def vhdr_elsewhere(file: File) -> str | None:
    """Its samples and markers are next to it. In another folder are files of others."""
    names = [fields[key] for fields in [_vhdr(file)] for key in ("DataFile", "MarkerFile") if key in fields]
    if away := [name for name in names if re.search(r"[/\\]|^\.\.?$", name)]:
        return f"names {away[0]!r}, which is not in its folder: put the file next to it, and write its bare name"
    pipes = [name for name in names if file.beside(name).exists() and not file.beside(name).is_file()]
    return f"names {pipes[0]}, which is no file: put the file there" if pipes else None


def vhdr_samples(file: File) -> str | None:
    fields = _vhdr(file)
    samples = fields.get("DataFile")
    if not fields or (samples and file.beside(samples).is_file()):
        return None
    if not samples:
        return "names no DataFile=, so there are no samples: ask for a new export"
    if file.beside(samples).is_symlink():
        return f"needs {samples}, a link to data that were not fetched: git annex get (or datalad get) it"
    alike = [
        p.name for p in sorted(file.path.parent.glob(f"{file.path.stem}.*")) if p.suffix.lower() in (".eeg", ".dat")
    ]
    if alike:
        return f"needs {samples}, which is not there; {alike[0]} is: if it was renamed, write DataFile={alike[0]}"
    return f"needs {samples} for its samples, which is not there: fetch it and put it beside"


def vhdr_markers(file: File) -> str | None:
    markers = _vhdr(file).get("MarkerFile")
    if not markers or file.beside(markers).is_file():
        return None
    return f"names its markers {markers}, which is not there: it was read without; fetch it if you need them"


def vhdr_mismatch(file: File) -> str | None:
    fields = _vhdr(file)
    if not fields:
        return None
    says, named = fields.get("NumberOfChannels", ""), sum(1 for key in fields if re.fullmatch(r"Ch\d+", key))
    # Coordinates are listed as Ch1= too; the dictionary then holds them once
    if not says.isdigit() or int(says) < 1 or (named and named != int(says)):
        return f"says NumberOfChannels={says or 'nothing'} but lists {named} channels: correct the one that is wrong"
    try:
        interval_us = float(fields.get("SamplingInterval", "0"))
    except ValueError:
        interval_us = 0.0
    if not 1e6 / guard.HIGHEST_HZ <= interval_us <= 1e6 / guard.LOWEST_HZ:
        return f"says SamplingInterval={fields.get('SamplingInterval', 'nothing')}, so no rate: write it in µs"
    return None


def vhdr_cut(file: File) -> str | None:
    fields = _vhdr(file)
    widths = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
    width = widths.get(fields.get("BinaryFormat", ""))
    if not width or fields.get("DataFormat", "BINARY").upper() != "BINARY":
        return None
    samples = file.beside(fields["DataFile"])
    size, frame = samples.stat().st_size, width * int(fields["NumberOfChannels"])
    if size % frame == 0 and size:
        damaged = as_text(look_at(samples) or file)
        return f"needs {samples.name}, which {damaged}" if damaged else None
    return (
        f"does not fit {samples.name}: {size} bytes are {size / frame:.2f} samples of {fields['NumberOfChannels']} "
        f"channels in {fields['BinaryFormat']}: it is cut off, or belongs to another header; fetch both again"
    )


def kit_cut(file: File) -> str | None:
    """Every block of the table of contents, 16 bytes each, has to lie within the file."""
    if not file.head.startswith(KIT):
        return None
    (n,) = struct.unpack_from("<i", file.head, 12) if len(file.head) >= 16 else (0,)
    if not 1 < n < 1000 or len(file.head) < 16 * n:
        return f"is cut off within its table of contents ({file.size} bytes are there): fetch it again"
    blocks = [struct.unpack_from("<Iiii", file.head, 16 * k) for k in range(1, n)]
    end = max(offset + size * count for offset, size, _, count in blocks)
    if end <= file.size:
        return None
    return f"is cut off: its table of contents tells of {end} bytes, {file.size} are there: fetch it again"


def kit_averages(file: File) -> str | None:
    if not file.head.startswith(KIT):
        return None
    (conditions,) = struct.unpack_from("<I", file.head, 16 * 8) if len(file.head) >= 16 * 9 else (file.size,)
    (how,) = struct.unpack_from("<i", file.head, conditions) if conditions + 4 <= len(file.head) else (1,)
    what = {2: "averages, as of marker coils", 3: "single trials"}.get(how)
    return f"holds {what}, no continuous recording: open the .con or .sqd of the whole session" if what else None


def fif_cut(file: File) -> str | None:
    """Follow the chain of tags from the first to the last."""
    if file.suffix != ".fif" or file.head.startswith(b"\x1f\x8b"):
        return None
    at, been, before = 0, set(), (0, 0, 0)
    with guard.open_file(file.path) as chain:
        while at not in been:  # in a repaired file, the chain may lead back
            been.add(at)
            chain.seek(at)
            tag = chain.read(16)
            kind, _, size, following = struct.unpack(">iiii", tag) if len(tag) == 16 else (0, 0, 0, 0)
            if len(tag) < 16 or size < 0 or following < -1 or at + 16 + size > file.size:
                return f"is cut off: the block at byte {at} goes beyond its end at {file.size}: fetch it again"
            pair = (before, (at, kind, size))
            if size == before[2] > FIF_LARGE and sum(each[1] == FIF_BUFFER for each in pair) == 1:
                # It would be left out, and what is behind it be too early
                place, other = next(each[:2] for each in pair if each[1] != FIF_BUFFER)
                what = f"the block at byte {place} has the size of samples, and is of kind {other}"
                return f"is damaged: {what}: fetch it again"
            if following == -1:
                return None
            before = pair[1]
            at = following or at + 16 + size
        if _has_directory(chain, file.size):
            return None
    return f"is damaged: its blocks follow one another in a circle, back to byte {at}: fetch it again"


def _has_directory(chain: BinaryIO, size: int) -> bool:
    """Whether a table says where each block is, so that nobody follows the chain."""
    chain.seek(36)
    pointer = chain.read(20)
    kind, _, _, _, at = struct.unpack(">iiiii", pointer) if len(pointer) == 20 else (0,) * 5
    if kind != 101 or not 0 < at <= size - 16:
        return False
    chain.seek(at)
    kind, _, n_bytes, _ = struct.unpack(">iiii", chain.read(16))
    return bool(kind == 102 and 0 < n_bytes <= size - at - 16)


def ctf(file: File) -> str | None:
    if file.suffix != ".ds" or not file.path.is_dir():
        return None
    stem = file.path.stem
    lacking = [f"{stem}{end}" for end in (".meg4", ".res4") if not any(file.path.glob(f"*{end}"))]
    if lacking:
        return f"lacks {' and '.join(lacking)}: fetch the whole folder again, and do not rename what is in it"
    return None

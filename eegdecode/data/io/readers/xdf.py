"""Read .xdf of the Lab Streaming Layer: one stream of signals, and the markers of all others as annotations.

The format: https://github.com/sccn/xdf/wiki/Specifications. Clocks of other computers are brought to that of the
recorder by a line through the measured offsets; a marker lies at the sample that was measured when it was sent, so that
no drift of the amplifier's clock adds up.
"""

import os
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eegdecode.data.config.files import Reading
from eegdecode.data.io import bids, guard
from eegdecode.data.io.channels import units
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import matrices
from eegdecode.data.io.readers.opened import Annotation, Opened
from eegdecode.signals import Kind, Sensor, Stream
from hpc.errors import first_of

HEADER, SAMPLES, CLOCK = 2, 3, 4
TYPES = {
    "float32": "<f4", "double64": "<f8", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "string": "",
}  # fmt: skip
BRAIN_TYPES = ("eeg", "meg", "ecog", "ieeg", "seeg")
PAUSE_S = 1.0  # between two samples; shorter ones are the jitter of a network
OFF_BY = 0.005  # fraction by which a rate may differ from the one that was announced
MOST_CHANNELS, MOST_HEADER = 100_000, 1 << 24
KINDS: dict[str, Kind] = {name.lower(): kind for name, kind in bids.KINDS.items()}


@dataclass
class _Stream:
    """One stream of the file, as its chunks come."""

    name: str
    type: str
    n_channels: int
    rate: float
    dtype: str
    labels: tuple[str, ...]
    units: tuple[str, ...]
    kinds: tuple[str, ...]
    times: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    clock: list[tuple[float, float]] = field(default_factory=list)
    last: float = 0.0

    @property
    def is_signal(self) -> bool:
        return bool(self.dtype) and self.rate > 0 and bool(self.values)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.values)

    def on_recorder(self) -> np.ndarray:
        """The times of its samples on the clock of the recorder."""
        times = np.concatenate(self.times) if self.times else np.empty(0)
        if not self.clock:
            return times
        at, offsets = np.array(self.clock).T
        if len(at) < 3 or np.ptp(at) < 1.0:
            return times + np.median(offsets)
        slope, start = np.polyfit(at - at[0], offsets, 1)
        residual = np.abs(offsets - (slope * (at - at[0]) + start))
        good = residual <= 3 * np.median(residual) + 1e-9  # a measurement that waited in a network is late
        slope, start = np.polyfit(at[good] - at[0], offsets[good], 1)
        return times + slope * (times - at[0]) + start


def read(path: Path, cfg: Reading) -> Opened:
    with guard.open_file(path) as file, guard.reading(path):
        streams = _streams(path, file)
    chosen = _chosen(path, streams, cfg.table.data)
    notes = []
    others = [each for each in streams if each is not chosen]
    if signals := [f"{each.name} ({each.type or 'no type'})" for each in others if each.is_signal]:
        notes.append(f"{chosen.name} was taken; other streams of signals were left out: {first_of(signals)}")
    times = _rising(path, chosen.on_recorder())
    rate, more = _rate(chosen, times)
    data = np.concatenate(chosen.values)
    labels = matrices.unique(cfg.table.channels or chosen.labels)
    if len(labels) != chosen.n_channels:
        raise Refused(
            f"{path}: {chosen.name} has {chosen.n_channels} channels, but {len(labels)} are named: correct it"
        )
    in_file = {name: unit for name, unit in zip(labels, chosen.units, strict=True) if units.parse(unit)}
    if cfg.table.unit:
        in_file = dict.fromkeys(labels, cfg.table.unit)
    known = [units.parse(in_file.get(name, "uV")) for name in labels]
    factors = np.array([each[1] if each else 1.0 for each in known])
    stream = Stream(
        labels, guard.rate(path, rate), len(data),
        lambda first, stop: np.ascontiguousarray(data[first:stop] * factors, dtype=np.float32),
        {name: Sensor(kind) for name, kind in zip(labels, map(_kind, chosen.kinds), strict=True)},
    )  # fmt: skip
    return Opened(stream, _annotations(others, times, rate), (*notes, *more), units=in_file, assumed="uV")


def _kind(type: str) -> Kind:
    return KINDS.get(type.lower(), "misc") if type else "eeg"


def _chosen(path: Path, streams: list[_Stream], wanted: str) -> _Stream:
    signals = [each for each in streams if each.is_signal]
    if wanted:
        signals = [each for each in signals if each.name == wanted]
    elif brain := [each for each in signals if each.type.lower() in BRAIN_TYPES]:
        signals = brain
    if not signals:
        there = first_of([f"{each.name} ({each.type or 'no type'}, {each.rate:g} Hz)" for each in streams]) or "none"
        what = f"stream of signals {wanted}" if wanted else "stream of signals"
        raise Refused(
            f"{path} has no {what} among {there}: {'correct table.data' if wanted else 'look at the recorder'}"
        )
    largest = max(signals, key=lambda each: each.size)
    alike = [each for each in signals if each is not largest and each.size > 0.5 * largest.size]
    if alike and not wanted:
        names = ", ".join(each.name for each in (largest, *alike))
        raise Refused(f"{path} has several streams of signals, {names}: name the one with table.data=…")
    return largest


def _rising(path: Path, times: np.ndarray) -> np.ndarray:
    if not np.isfinite(times).all():
        raise Refused(f"{path} has times that are not numbers: it is damaged; fetch it again")
    return np.maximum.accumulate(times)


def _rate(stream: _Stream, times: np.ndarray) -> tuple[float, list[str]]:
    if len(times) < 2:
        return stream.rate, []
    steps = np.diff(times)
    pauses = steps > max(PAUSE_S, 5 / stream.rate)
    lasted = float(steps[~pauses].sum())
    measured = (~pauses).sum() / lasted if lasted > 0 else stream.rate
    notes = []
    if pauses.any():
        lost = float(steps[pauses].sum())
        notes.append(
            f"{stream.name} has {int(pauses.sum())} pauses, {lost:.1f} s in all: its pieces follow one another"
        )
    if abs(measured - stream.rate) > OFF_BY * stream.rate:
        notes.append(
            f"{stream.name} was announced with {stream.rate:g} Hz, but came with {measured:.4g} Hz: this is used"
        )
        return float(measured), notes
    return stream.rate, notes


def _annotations(others: list[_Stream], times: np.ndarray, rate: float) -> tuple[Annotation, ...]:
    """Markers, as texts or numbers that come now and then, at the samples that were measured at their time."""
    found = []
    for each in others:
        if each.is_signal or not each.times:
            continue
        texts = each.texts or [f"{row[0]:g}" for block in each.values for row in block]
        places = np.interp(each.on_recorder(), times, np.arange(len(times))) if len(times) else np.empty(0)
        inside = (each.on_recorder() >= times[0] - 0.5 / rate) & (each.on_recorder() <= times[-1] + 0.5 / rate)
        found += [
            Annotation(float(place) / rate, 0.0, text.strip())
            for place, text, here in zip(places, texts, inside, strict=True)
            if here and text.strip()
        ]
    return tuple(sorted(found, key=lambda each: each.onset_s))


def _streams(path: Path, file: BinaryIO) -> list[_Stream]:
    size = os.fstat(file.fileno()).st_size
    if file.read(4) != b"XDF:":
        raise Refused(f"{path} does not begin as XDF does: it is something else or damaged; fetch it again")
    streams: dict[int, _Stream] = {}
    for tag, content in _chunks(path, file, size):
        if tag == HEADER:
            streams[_id(path, content)] = _header(path, content[4:])
        elif tag in (SAMPLES, CLOCK) and _id(path, content) not in streams:
            raise Refused(f"{path} has samples of a stream that it does not describe: it is damaged; fetch it again")
        elif tag == SAMPLES:
            _samples(path, streams[_id(path, content)], content[4:])
        elif tag == CLOCK:
            guard.promise(path, "a clock offset", 20, len(content))
            streams[_id(path, content)].clock.append(struct.unpack_from("<dd", content, 4))
    return list(streams.values())


def _chunks(path: Path, file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    while head := file.read(1):
        width = head[0]
        if width not in (1, 4, 8):
            raise Refused(f"{path} is damaged at byte {file.tell() - 1}: no chunk begins there; fetch it again")
        length = int.from_bytes(file.read(width), "little")
        if length < 2:
            raise Refused(f"{path} is damaged at byte {file.tell()}: a chunk of {length} bytes; fetch it again")
        guard.promise(path, f"a chunk at byte {file.tell()}", length, size - file.tell())
        content = file.read(length)
        yield int.from_bytes(content[:2], "little"), content[2:]


def _id(path: Path, content: bytes) -> int:
    guard.promise(path, "the number of a stream", 4, len(content))
    return int.from_bytes(content[:4], "little")


def _header(path: Path, content: bytes) -> _Stream:
    guard.promise(path, "a header", len(content), MOST_HEADER)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise Refused(f"{path} defines entities in a header, which no recorder does: it is not read")
    root = ElementTree.fromstring(content.decode("utf-8"))
    n_channels, rate = int(root.findtext("channel_count", "")), float(root.findtext("nominal_srate", ""))
    dtype = root.findtext("channel_format", "")
    if not 0 < n_channels <= MOST_CHANNELS or dtype not in TYPES or not 0 <= rate <= guard.HIGHEST_HZ:
        raise Refused(
            f"{path} describes a stream of {n_channels} channels at {rate:g} Hz in {dtype or 'no format'}: it is "
            "damaged; fetch it again"
        )
    described = root.findall("./desc/channels/channel")
    told = described if len(described) == n_channels else []
    name = root.findtext("name", "") or "a stream"
    return _Stream(
        name, root.findtext("type", "") or "", n_channels, rate, TYPES[dtype],
        tuple((each.findtext("label", "") or "").strip() or f"ch{k + 1}" for k, each in enumerate(told))
        or tuple(f"ch{k + 1}" for k in range(n_channels)),
        tuple((each.findtext("unit", "") or "").strip() for each in told) or ("",) * n_channels,
        tuple((each.findtext("type", "") or "").strip() for each in told) or ("",) * n_channels,
    )  # fmt: skip


def _samples(path: Path, stream: _Stream, content: bytes) -> None:
    width = content[0] if content else 0
    if width not in (1, 4, 8):
        raise Refused(f"{path} has a chunk of samples without their number: it is damaged; fetch it again")
    n, at = int.from_bytes(content[1 : 1 + width], "little"), 1 + width
    guard.promise(path, "samples", n, len(content) - at)
    if not n:
        return
    stamps = np.full(n, np.nan)
    if not stream.dtype:
        texts, end = _texts(path, stream, content, at, n, stamps)
        stream.texts += texts
    else:
        values, end = _numbers(path, stream, content, at, n, stamps)
        stream.values.append(values)
    if end != len(content):
        raise Refused(f"{path} has a chunk of samples that does not end where it should: it is damaged; fetch it again")
    step = 1 / stream.rate if stream.rate else 0.0
    if np.isnan(stamps).any():  # a sample without a time follows the one before
        for k in range(n):
            stamps[k] = stream.last + step if np.isnan(stamps[k]) else stamps[k]
            stream.last = float(stamps[k])
    stream.last = float(stamps[-1])
    stream.times.append(stamps)


def _numbers(
    path: Path, stream: _Stream, content: bytes, at: int, n: int, stamps: np.ndarray
) -> tuple[np.ndarray, int]:
    """All with a time, all without one, or some with."""
    row = np.dtype((stream.dtype, (stream.n_channels,)))
    for kind in (np.dtype([("n", "u1"), ("t", "<f8"), ("v", row)]), np.dtype([("n", "u1"), ("v", row)])):
        if len(content) - at == n * kind.itemsize:
            rows = np.frombuffer(content, kind, n, at)
            with_time = "t" in (kind.names or ())
            if (rows["n"] == (8 if with_time else 0)).all():
                if with_time:
                    stamps[:] = rows["t"]
                return np.array(rows["v"]), len(content)
    values = np.empty((n, stream.n_channels), stream.dtype)
    for k in range(n):
        at = _stamp(path, content, at, k, stamps)
        guard.promise(path, "a sample", row.itemsize, len(content) - at)
        values[k] = np.frombuffer(content, stream.dtype, stream.n_channels, at)
        at += row.itemsize
    return values, at


def _texts(path: Path, stream: _Stream, content: bytes, at: int, n: int, stamps: np.ndarray) -> tuple[list[str], int]:
    """Of several channels, the words of a sample are joined."""
    texts = []
    for k in range(n):
        at = _stamp(path, content, at, k, stamps)
        words = []
        for _ in range(stream.n_channels):
            guard.promise(path, "a text", 1, len(content) - at)
            width = content[at]
            if width not in (1, 4, 8):
                raise Refused(f"{path} has a marker without its length: it is damaged; fetch it again")
            length = int.from_bytes(content[at + 1 : at + 1 + width], "little")
            at += 1 + width
            guard.promise(path, "a text", length, len(content) - at)
            words.append(content[at : at + length].decode("utf-8", "replace"))
            at += length
        texts.append(" ".join(words))
    return texts, at


def _stamp(path: Path, content: bytes, at: int, k: int, stamps: np.ndarray) -> int:
    guard.promise(path, "a sample", 1, len(content) - at)
    if content[at] == 8:
        guard.promise(path, "a time", 9, len(content) - at)
        (stamps[k],) = struct.unpack_from("<d", content, at + 1)
        return at + 9
    if content[at]:
        raise Refused(f"{path} has a sample with a damaged time: fetch it again")
    return at + 1

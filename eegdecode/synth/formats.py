"""Write the file formats of labs: EEG as EDF, BDF and BrainVision, from volt; sound as WAV, images as PNG."""

import math
import struct
import wave
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eegdecode.signals import Signal
from hpc.runs.rundir import atomic_write

LOWEST, HIGHEST = -32768, 32767
LEVEL_UV = 1000  # the range of an empty channel
EDF_DATE = "01.01.25"  # day.month.year; fixed, so that the same data give the same bytes


def write_edf(path: Path, signal: Signal) -> None:
    """Write European Data Format, https://www.edfplus.info/specs/edf.html: records of 1 s, a range for each channel.

    For a path that ends with .bdf: the format of BioSemi, with 24 bits a sample.
    """
    per_record = int(signal.sfreq)
    if per_record != signal.sfreq or signal.n_times % per_record:
        raise ValueError(
            f"EDF holds whole records of 1 s, but the signal has {signal.n_times} samples at {signal.sfreq} Hz: "
            "cut or pad it to whole seconds, or write BrainVision"
        )
    lowest, highest = _digital_range(path)
    microvolt = signal.data.astype(np.float64).T * 1e6
    # In whole µV, so that the 8 characters of the header hold the range exactly and none is clipped
    ranges = [max(1, math.ceil(np.abs(channel).max())) for channel in microvolt]
    step = 2.0 * np.array(ranges)[:, None] / (highest - lowest)
    digital = np.rint((microvolt + np.array(ranges)[:, None]) / step + lowest).astype("<i4")
    n_records, n_channels = signal.n_times // per_record, signal.n_channels
    records = digital.reshape(n_channels, n_records, per_record).transpose(1, 0, 2)
    width = 3 if path.suffix == ".bdf" else 2
    samples = np.ascontiguousarray(records).view(np.uint8).reshape(-1, 4)[:, :width]
    header = _edf_header(path, signal.channels, ranges, per_record, n_records)
    atomic_write(path, lambda file: file.write(header + samples.tobytes()))


def write_hollow_edf(path: Path, channels: Sequence[str], sfreq: float, n_seconds: int) -> None:
    """Write an EDF of true size as a sparse file of zeros, to test how a study is indexed."""
    header = _edf_header(path, channels, [LEVEL_UV] * len(channels), int(sfreq), n_seconds)

    def write(file: BinaryIO) -> None:
        file.write(header)
        file.truncate(len(header) + 2 * len(channels) * int(sfreq) * n_seconds)

    atomic_write(path, write)


def _digital_range(path: Path) -> tuple[int, int]:
    return (-(2**23), 2**23 - 1) if path.suffix == ".bdf" else (LOWEST, HIGHEST)


def _edf_header(
    path: Path, channels: Sequence[str], ranges_uv: Sequence[int], per_record: int, n_records: int
) -> bytes:
    n_channels = len(channels)
    bdf = path.suffix == ".bdf"
    header = b"\xffBIOSEMI" if bdf else _fields((8, "0"))
    header += _fields((80, "X X X X"), (80, "Startdate X X X X"), (8, EDF_DATE), (8, "00.00.00"))
    header += _fields((8, 256 * (1 + n_channels)), (44, "24BIT" if bdf else ""), (8, n_records), (8, 1))
    header += _fields((4, n_channels))
    lowest, highest = _digital_range(path)
    for width, values in (
        (16, channels),
        (80, ["AgAgCl electrode"] * n_channels),
        (8, ["uV"] * n_channels),
        (8, [-value for value in ranges_uv]),
        (8, ranges_uv),
        (8, [lowest] * n_channels),
        (8, [highest] * n_channels),
        (80, [""] * n_channels),
        (8, [per_record] * n_channels),
        (32, [""] * n_channels),
    ):
        header += _fields(*((width, value) for value in values))
    return header


def _fields(*fields: tuple[int, object]) -> bytes:
    for width, value in fields:
        if len(str(value)) > width:
            raise ValueError(f"EDF gives {width} characters to a field, too few for {value!r}")
    return b"".join(str(value).ljust(width).encode("ascii") for width, value in fields)


def write_brainvision(path: Path, signal: Signal) -> None:
    """Write BrainVision core format 1.0: samples in .eeg, markers in .vmrk; the .vhdr at `path` names both and comes
    last."""
    data, markers = path.with_suffix(".eeg"), path.with_suffix(".vmrk")
    channels = "".join(f"Ch{number}={name},,1,µV\n" for number, name in enumerate(signal.channels, 1))
    atomic_write(data, lambda file: file.write((signal.data.astype(np.float64) * 1e6).astype("<f4").tobytes()))
    atomic_write(markers, lambda file: file.write(MARKERS.format(data=data.name).encode()))
    header = HEADER.format(
        data=data.name,
        markers=markers.name,
        n_channels=signal.n_channels,
        interval_us=f"{1e6 / signal.sfreq:.10g}",
        channels=channels,
    )
    atomic_write(path, lambda file: file.write(header.encode()))


HEADER = """Brain Vision Data Exchange Header File Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={data}
MarkerFile={markers}
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={n_channels}
SamplingInterval={interval_us}

[Binary Infos]
BinaryFormat=IEEE_FLOAT_32

[Channel Infos]
{channels}"""

MARKERS = """Brain Vision Data Exchange Marker File, Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={data}

[Marker Infos]
Mk1=New Segment,,1,1,0,20250101000000000000
"""


def write_wav(path: Path, audio: np.ndarray, audio_hz: int) -> None:
    """Write mono sound with 16 bits, from samples within ±1."""
    samples = np.rint(audio * 32768).clip(LOWEST, HIGHEST).astype("<i2")

    def write(binary: BinaryIO) -> None:
        with wave.open(binary, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(audio_hz)
            file.writeframes(samples.tobytes())

    atomic_write(path, write)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture [row, column, 3] of bytes, https://www.w3.org/TR/png-3."""
    n_rows, n_columns, _ = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in picture.astype(np.uint8))  # each begins with its filter type, none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", n_columns, n_rows, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    atomic_write(path, lambda file: file.write(b"\x89PNG\r\n\x1a\n" + body))


def write_npy(path: Path, array: np.ndarray) -> None:
    atomic_write(path, lambda file: np.save(file, array))

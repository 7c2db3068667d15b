"""Write EEG in the formats labs exchange, EDF (16-bit) and BrainVision (float32), from volt; and sound as WAV."""

import math
import wave
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eegdecode.signals import Signal
from hpc.rundir import atomic_write

LOWEST, HIGHEST = -32768, 32767
EDF_DATE = "01.01.25"  # day.month.year; fixed, so that the same data make the same bytes


def write_edf(path: Path, signal: Signal) -> None:
    """European Data Format, https://www.edfplus.info/specs/edf.html: records of 1 s, a range for each channel."""
    per_record = int(signal.sfreq)
    if per_record != signal.sfreq or signal.n_times % per_record:
        raise ValueError(
            f"EDF holds whole records of 1 s, but the signal has {signal.n_times} samples at {signal.sfreq} Hz: "
            "cut or pad it to whole seconds, or write BrainVision"
        )
    microvolt = signal.data.astype(np.float64).T * 1e6
    # In whole µV, so that the 8 characters of the header hold the range exactly and none is clipped
    ranges = [max(1, math.ceil(np.abs(channel).max())) for channel in microvolt]
    step = 2.0 * np.array(ranges)[:, None] / (HIGHEST - LOWEST)
    digital = np.rint((microvolt + np.array(ranges)[:, None]) / step + LOWEST).astype("<i2")
    n_records, n_channels = signal.n_times // per_record, signal.n_channels
    header = _fields((8, "0"), (80, "X X X X"), (80, "Startdate X X X X"), (8, EDF_DATE), (8, "00.00.00"))
    header += _fields((8, 256 * (1 + n_channels)), (44, ""), (8, n_records), (8, 1), (4, n_channels))
    for width, values in (
        (16, signal.channels),
        (80, ["AgAgCl electrode"] * n_channels),
        (8, ["uV"] * n_channels),
        (8, [-value for value in ranges]),
        (8, ranges),
        (8, [LOWEST] * n_channels),
        (8, [HIGHEST] * n_channels),
        (80, [""] * n_channels),
        (8, [per_record] * n_channels),
        (32, [""] * n_channels),
    ):
        header += _fields(*((width, value) for value in values))
    records = digital.reshape(n_channels, n_records, per_record).transpose(1, 0, 2)
    atomic_write(path, lambda file: file.write(header + records.tobytes()))


def _fields(*fields: tuple[int, object]) -> bytes:
    for width, value in fields:
        if len(str(value)) > width:
            raise ValueError(f"EDF gives {width} characters to a field, too few for {value!r}")
    return b"".join(str(value).ljust(width).encode("ascii") for width, value in fields)


def write_brainvision(path: Path, signal: Signal) -> None:
    """BrainVision core format 1.0: samples in .eeg, markers in .vmrk; the .vhdr at `path` names both, so it is last."""
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
    """Mono, 16 bits, from samples within ±1."""
    samples = np.rint(audio * 32768).clip(LOWEST, HIGHEST).astype("<i2")

    def write(binary: BinaryIO) -> None:
        with wave.open(binary, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(audio_hz)
            file.writeframes(samples.tobytes())

    atomic_write(path, write)

"""Read sound files: WAV and AU of any sample format, a piece at a time; durations come from headers alone."""

import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from eegdecode.data.io import headers
from eegdecode.data.io.recordings import stimulus_file
from eegdecode.signals import Stream

WAV_PCM, WAV_FLOAT, WAV_EXTENSIBLE = 1, 3, 0xFFFE
WAV_TYPES = {(WAV_PCM, 8): "u1", (WAV_PCM, 16): "<i2", (WAV_PCM, 24): "<i3", (WAV_PCM, 32): "<i4"}
WAV_TYPES |= {(WAV_FLOAT, 32): "<f4", (WAV_FLOAT, 64): "<f8"}
SUFFIXES = (".wav", ".au")
UNKNOWN = 0x7FFFF000  # bytes; larger values are placeholders of programs that could not go back to write the length
CHECKED_BYTES = 1 << 20
AU_TYPES = {2: "i1", 3: ">i2", 4: ">i3", 5: ">i4", 6: ">f4", 7: ">f8"}


class Header(NamedTuple):
    sfreq: float
    n_channels: int
    kind: str  # numpy's name of the sample type; i3 is 24 bits, which numpy does not have
    first_byte: int
    n_times: int

    @property
    def duration_s(self) -> float:
        return self.n_times / self.sfreq


def header(path: Path) -> Header:
    """The header of a sound file."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            if start not in (b".snd", b"RIFF"):
                raise ValueError(f"it starts with {start!r}, unlike WAV or AU" if start else "it is empty")
            if damage := headers.translated(start + file.read(CHECKED_BYTES)):
                raise ValueError(f"it {damage}")
            file.seek(4)
            return _au(file) if start == b".snd" else _wav(file)
    except FileNotFoundError:
        raise ValueError(f"there is no sound file {path}: add it") from None
    except (ValueError, struct.error) as error:
        cause = "it is cut off" if isinstance(error, struct.error) else str(error)
        again = f"ffmpeg -i {path.name} {path.stem}.wav makes one that can, next to it"
        if path.suffix.lower() in SUFFIXES:
            again = "fetch it again, or write it as PCM WAV"
        raise ValueError(f"{path} cannot be read as sound ({cause}): {again}") from None


def _wav(file: BinaryIO) -> Header:
    """https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html: chunks, of which two matter."""
    size = os.fstat(file.fileno()).st_size
    file.seek(12)
    form: tuple[int, ...] | None = None
    while True:
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"fmt ":
            content = file.read(length)
            tag, n_channels, rate, _, frame_bytes, bits = form = struct.unpack("<HHIIHH", content[:16])
            if tag == WAV_EXTENSIBLE:
                (tag,) = struct.unpack("<H", content[24:26])
            file.seek(length % 2, os.SEEK_CUR)
        elif name == b"data":
            break
        else:
            file.seek(length + length % 2, os.SEEK_CUR)
    if form is None:
        raise ValueError("its format does not come before its samples")
    if (tag, bits) not in WAV_TYPES or frame_bytes * 8 != bits * n_channels or not rate:
        raise ValueError(f"format {tag} with {bits} bits at {rate} Hz, which is neither PCM nor floats")
    first_byte = file.tell()
    n_times = _n_frames(length, size - first_byte, frame_bytes)
    return Header(rate, n_channels, WAV_TYPES[tag, bits], first_byte, n_times)


def _n_frames(promised: int, available: int, frame_bytes: int) -> int:
    """The samples of each channel, from the bytes that the header promises and those available."""
    if not 0 < promised < UNKNOWN:  # written to a pipe, or by a recorder that was interrupted
        return available // frame_bytes
    if available < promised:
        raise ValueError(f"it is cut off: {available} of {promised} bytes of samples are there")
    return promised // frame_bytes


def _au(file: BinaryIO) -> Header:
    """Sun audio, as in GTZAN: six big-endian numbers, then the samples."""
    first_byte, length, coding, rate, n_channels = struct.unpack(">5I", file.read(20))
    if coding not in AU_TYPES or not rate or not n_channels:
        raise ValueError(f"AU coding {coding} at {rate} Hz, which is neither PCM nor floats")
    available = os.fstat(file.fileno()).st_size - first_byte
    n_times = _n_frames(length, available, n_channels * int(AU_TYPES[coding][-1]))
    return Header(rate, n_channels, AU_TYPES[coding], first_byte, n_times)


def file_of(study: Path, stimulus: str) -> Path:
    """The sound file of a whole stimulus; for a film, the .wav of the same name if there is one."""
    path = stimulus_file(study, stimulus)
    wav = path.with_suffix(".wav")
    return wav if path.suffix.lower() not in SUFFIXES and wav.is_file() else path


def open_sound(path: Path) -> Stream:
    """A sound file as a stream of one channel, within ±1; several channels are averaged."""
    layout = header(path)
    return Stream(
        ("sound",), layout.sfreq, layout.n_times, lambda first, stop: _read(path, layout, first, stop)[:, None]
    )


def read(path: Path) -> tuple[np.ndarray, float]:
    """A sound file as (samples within ±1, Hz); several channels are averaged."""
    opened = open_sound(path)
    return opened.read(0, opened.n_times)[:, 0], opened.sfreq


def _read(path: Path, layout: Header, first: int, stop: int) -> np.ndarray:
    width = int(layout.kind[-1])
    count = max(0, min(stop, layout.n_times) - first) * layout.n_channels
    with open(path, "rb") as file:
        file.seek(layout.first_byte + first * layout.n_channels * width)
        content = file.read(count * width)
    if layout.kind.endswith("i3"):
        # As the upper three bytes of a 32-bit number
        four = np.zeros((count, 4), np.uint8)
        wide = slice(1, 4) if layout.kind[0] == "<" else slice(0, 3)
        four[:, wide] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        samples = four.view(f"{layout.kind[0]}i4")[:, 0] / 2.0**31
    elif layout.kind == "u1":
        samples = (np.frombuffer(content, layout.kind) - 128.0) / 128
    else:
        samples = np.frombuffer(content, layout.kind).astype(np.float64)
        if not np.isfinite(samples).all():
            at_s = (first + int(np.flatnonzero(~np.isfinite(samples))[0]) // layout.n_channels) / layout.sfreq
            raise ValueError(f"{path} has samples that are not numbers (NaN or infinite), the first at {at_s:.3f} s")
        if "i" in layout.kind:
            samples /= 2.0 ** (8 * width - 1)
    return samples.reshape(-1, layout.n_channels).mean(axis=1)


class Piece(NamedTuple):
    """One sound of a collection of sounds."""

    path: Path
    duration_s: float
    genre: str


def durations(files: Iterable[Path]) -> list[Piece]:
    """The durations and genres of sounds, from headers and names: no sample is read."""
    return [Piece(path, header(path).duration_s, genre(path)) for path in files]


def genre(path: Path) -> str:
    """`blues` of `blues.00042.wav`, else the name of the folder, as in `blues/42.wav`."""
    named = re.fullmatch(r"([^\W\d]+)[._-]\d+", path.stem)
    return named[1] if named else path.parent.name

"""Read sound files: WAV, AU and FLAC, a piece at a time, by libsndfile; durations come from headers alone.

libsndfile reads what is left of a file that was cut off, and a NaN as a sample: both are checked here. OGG and the
sound of films are decoded as a whole first: decisions 0035 and 0056.
"""

import mmap
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from eegdecode.data.io import guard, headers
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import decoded
from eegdecode.data.io.recordings import stimulus_file
from eegdecode.signals import Stream

SUFFIXES = (".wav", ".au", ".flac")
DECODED = (*decoded.OGG, *decoded.FILMS)
STARTS = (b"RIFF", b".snd", b"fLaC")
EXACT = ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Types of samples that are the same wherever reading begins; not so those of MP3 and the like, in a WAV too."""
UNKNOWN = 0x7FFFF000  # bytes; larger values are placeholders of programs that could not go back to write the length
CHECKED_BYTES = 1 << 20
MOST_PACKED = 8192
"""Samples a byte: FLAC writes the silence of 65,535 samples in nine bytes."""


class Header(NamedTuple):
    sfreq: float
    n_times: int

    @property
    def duration_s(self) -> float:
        return self.n_times / self.sfreq


def header(path: Path) -> Header:
    """The header of a sound file, or of the sound of a film."""
    if path.suffix.lower() in DECODED:
        path = _whole(path)
    try:
        with guard.open_file(path) as file:
            start = file.read(CHECKED_BYTES)
            if not start.startswith(STARTS):
                raise ValueError(f"it starts with {start[:4]!r}, unlike WAV, AU or FLAC" if start else "it is empty")
            if damage := headers.translated(start):
                raise ValueError(f"it {damage}")
        with _opened(path) as sound:
            if sound.subtype not in EXACT:
                raise ValueError(f"its samples are {sound.subtype}, which is neither PCM nor floats")
            if sound.frames == np.iinfo(np.int64).max:
                raise ValueError("its header does not say how long it is")
            guard.rate(path, sound.samplerate, "write it again, as PCM WAV")
            guard.promise(path, "samples", sound.frames, MOST_PACKED * path.stat().st_size)
            if sound.format == "FLAC" and sound.frames:
                sound.seek(sound.frames - 1)  # raises if the file is cut off
                sound.read(1)
            return Header(sound.samplerate, sound.frames)
    except FileNotFoundError:
        raise Refused(f"there is no sound file {path}: add it") from None
    except Refused:
        raise
    except (ValueError, struct.error, soundfile.LibsndfileError) as error:
        raise _not_sound(path, error) from None


def _whole(path: Path) -> Path:
    if not path.exists():
        raise Refused(f"there is no sound file {path}: add it")
    return decoded.sound(path)


def _not_sound(path: Path, error: Exception) -> Refused:
    cause = str(error)
    if isinstance(error, soundfile.LibsndfileError):
        cause = f"it is cut off or damaged: {error.error_string.removeprefix('Error : ').strip().rstrip('.')}"
    elif isinstance(error, struct.error):
        cause = "it is cut off"
    again = f"ffmpeg -i {path.name} {path.stem}.wav makes one that can, next to it"
    if path.suffix.lower() in SUFFIXES:
        again = "fetch it again, or write it as PCM WAV"
    return Refused(f"{path} cannot be read as sound ({cause}): {again}")


def _opened(path: Path) -> soundfile.SoundFile:
    """The file, if all its samples are there. A length that its writer left at 0 is that of what is there."""
    with guard.open_file(path) as file:
        if file.read(4) == b"fLaC":
            return soundfile.SoundFile(path)
        at, order, promised, available = _length(file)
        if 0 < promised < UNKNOWN and available < promised:
            raise ValueError(f"it is cut off: {available} of {promised} bytes of samples are there")
        if promised or not available:
            return soundfile.SoundFile(path)
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        content[at : at + 4] = struct.pack(f"{order}I", available)
        return soundfile.SoundFile(content)


def _length(file: BinaryIO) -> tuple[int, str, int, int]:
    """Of a WAV or AU: where the number of bytes of samples stands, its byte order, the number, and how many there are.

    https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html: chunks, each with its name and length.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    start, first_byte, length = struct.unpack(">4s2I", file.read(12))
    if start == b".snd":
        return 8, ">", length, size - first_byte
    while True:
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            return file.tell() - 4, "<", length, size - file.tell()
        file.seek(length + length % 2, os.SEEK_CUR)


def file_of(study: Path, stimulus: str) -> Path:
    """The sound file of a whole stimulus; for a film, the .wav, .au or .flac of the same name if there is one."""
    path = stimulus_file(study, stimulus)
    if path.suffix.lower() in SUFFIXES:
        return path
    return next((sound for suffix in SUFFIXES if (sound := path.with_suffix(suffix)).is_file()), path)


def open_sound(path: Path) -> Stream:
    """A sound file as a stream of one channel, within ±1; several channels are averaged."""
    if path.suffix.lower() in DECODED:
        path = _whole(path)
    layout = header(path)
    return Stream(
        ("sound",), layout.sfreq, layout.n_times, lambda first, stop: _read(path, layout, first, stop)[:, None]
    )


def read(path: Path) -> tuple[np.ndarray, float]:
    """A sound file as (samples within ±1, Hz); several channels are averaged."""
    opened = open_sound(path)
    return opened.read(0, opened.n_times)[:, 0], opened.sfreq


def _read(path: Path, layout: Header, first: int, stop: int) -> np.ndarray:
    count = max(0, min(stop, layout.n_times) - first)
    try:
        with _opened(path) as sound:
            sound.seek(min(first, layout.n_times))
            samples = sound.read(count, dtype="float64", always_2d=True)
    except (ValueError, struct.error, soundfile.LibsndfileError) as error:
        raise _not_sound(path, error) from None
    if len(samples) < count:
        raise _not_sound(
            path, ValueError(f"it is cut off: {first + len(samples)} of {layout.n_times} samples are there")
        )
    if not np.isfinite(samples).all():
        at_s = (first + int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])) / layout.sfreq
        raise Refused(f"{path} has samples that are not numbers (NaN or infinite), the first at {at_s:.3f} s")
    return samples.mean(axis=1)


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

"""The sound of OGG files and of films, and the frames of films, decoded once from start to end.

A codec's samples depend on where reading begins (decision 0035), so pieces are read from what was decoded as a whole.
It is in the folder for temporary files, and goes with the process. Films need the package av, the binding of ffmpeg.
"""

import functools
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused

OGG = (".ogg", ".oga")
FILMS = (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".wmv")
PIECE = 1 << 20  # samples
MOST_PER_BYTE = 4096
"""Samples of sound, or pixels of frames, for a byte of the file; more is a bomb."""
FREE = 1 << 26
SYNC_S = 0.001


class Frames(NamedTuple):
    """The frames of a film at a steady rate, [frame, height, width, colour], on disk."""

    pixels: np.ndarray
    fps: float


def sound(path: Path) -> Path:
    """The WAV that the sound of this file was decoded to; time 0 is where the film begins."""
    guard.regular(path)
    return _sound(path, path.stat().st_mtime_ns, os.getpid())


def frames(path: Path, width: int, height: int, grey: bool) -> Frames:
    """The frames of a film in this size. Each shows what a viewer would have seen at that time."""
    guard.regular(path)
    return _frames(path, width, height, grey, path.stat().st_mtime_ns, os.getpid())


@functools.cache
def _scratch(process: int) -> Path:
    # Kept alive with the cache; its own finalizer removes it when the process ends
    folder = tempfile.TemporaryDirectory(prefix="decoded-")
    _FOLDERS.append(folder)
    return Path(folder.name)


_FOLDERS: list[Any] = []


@functools.cache
def _sound(path: Path, written_ns: int, process: int) -> Path:
    descriptor, name = tempfile.mkstemp(".wav", dir=_scratch(process))
    os.close(descriptor)
    most = max(FREE, MOST_PER_BYTE * path.stat().st_size)
    with guard.reading(path, "fetch it again, or write its sound as .wav next to it"):
        (_ogg if path.suffix.lower() in OGG else _film_sound)(path, Path(name), most)
    return Path(name)


def _ogg(path: Path, out: Path, most: int) -> None:
    with guard.open_file(path) as file:
        if file.read(4) != b"OggS":
            raise Refused(f"{path} does not begin as OGG does: it is something else or damaged; fetch it again")
    with soundfile.SoundFile(path) as source:
        guard.rate(path, source.samplerate)
        promised, written = source.frames, 0
        with soundfile.SoundFile(out, "w", source.samplerate, source.channels, "FLOAT") as target:
            while len(block := source.read(PIECE, dtype="float32", always_2d=True)):
                written += len(block)
                guard.promise(path, "samples", written, most)
                target.write(block)
    if written < promised:
        raise Refused(f"{path} is cut off: {written} of {promised} samples are there: fetch it again")


def _film_sound(path: Path, out: Path, most: int) -> None:
    av = _av(path, "sound", f"ffmpeg -i {path.name} {path.stem}.wav makes a .wav next to it, which is enough")
    with _opened(av, path) as film:
        if not film.streams.audio:
            raise Refused(f"{path} has no sound: put a .wav of the same name next to it, or leave out this target")
        track = film.streams.audio[0]
        rate = int(track.rate)
        guard.rate(path, rate)
        begins_s = (film.start_time or 0) / av.time_base
        written = 0
        with soundfile.SoundFile(out, "w", rate, 1, "FLOAT") as target:
            for frame in film.decode(track):
                block = frame.to_ndarray()
                planar = frame.format.is_planar
                block = block.mean(axis=0) if planar else block.reshape(-1, len(frame.layout.channels)).mean(axis=1)
                block = _as_float(block, frame.format.name)
                at = round((float(frame.time or 0.0) - begins_s) * rate)
                if written == 0 and at > SYNC_S * rate:  # its sound begins after its picture
                    guard.promise(path, "silence", at, most)
                    target.write(np.zeros(at, np.float32))
                    written = at
                written += len(block)
                guard.promise(path, "samples", written, most)
                target.write(block)
    if not written:
        raise Refused(f"{path} has no sample of sound: fetch it again")


def _as_float(block: np.ndarray, name: str) -> np.ndarray:
    """Within ±1; ffmpeg has integers of 8, 16 and 32 bits, and floats."""
    bare = name.removesuffix("p")
    scale = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31}.get(bare, 1.0)
    return ((block - (128 if bare == "u8" else 0)) / scale).astype(np.float32)


@functools.cache
def _frames(path: Path, width: int, height: int, grey: bool, written_ns: int, process: int) -> Frames:
    av = _av(path, "frames", "make the features of its frames elsewhere, and give them as a target extra")
    colours = 1 if grey else 3
    most = max(FREE, MOST_PER_BYTE * path.stat().st_size)
    out = _scratch(process) / f"frames-{len(os.listdir(_scratch(process)))}.raw"
    n, size = 0, width * height * colours
    with guard.reading(path, "fetch it again"), _opened(av, path) as film, open(out, "wb") as target:
        track, fps, begins_s = _picture(av, film, path)
        shown = b""
        for frame in film.decode(track):
            pixels = frame.reformat(width, height, "gray" if grey else "rgb24").to_ndarray()
            # Up to the time of this frame, the one before is on the screen: a film may have frames of different lengths
            due = round((float(frame.time or n / fps) - begins_s) * fps)
            guard.promise(path, "frames", max(due, n) * size, most)
            while shown and n < due:
                target.write(shown)
                n += 1
            shown = np.ascontiguousarray(pixels, np.uint8).tobytes()
        if not shown:
            raise Refused(f"{path} has no frame: fetch it again")
        target.write(shown)
        n += 1
    return Frames(np.memmap(out, np.uint8, "r", shape=(n, height, width, colours)), fps)


def frames_at(path: Path, width: int, height: int, rate: float) -> Iterator[np.ndarray]:
    """Yield [height, width, colour] of a film `rate` times a second: what was on the screen at k / rate seconds. None
    but these are kept, so a film of any length needs the memory of one."""
    guard.regular(path)
    av = _av(path, "frames", "make the features of its frames elsewhere, and give them as a target extra")
    with guard.reading(path, "fetch it again"), _opened(av, path) as film:
        track, fps, begins_s = _picture(av, film, path)
        most = max(FREE, int(MOST_A_BYTE * rate) * path.stat().st_size)
        n, number, shown, time_s = 0, 0, None, 0.0
        for frame in film.decode(track):
            time_s = float(frame.time or number / fps) - begins_s
            guard.promise(path, "frames", max(0, math.ceil(time_s * rate)), most)
            while shown is not None and n / rate < time_s - EARLY_S:
                yield np.asarray(shown.reformat(width, height, "rgb24").to_ndarray(), np.uint8)
                n += 1
            shown, number = frame, number + 1
        if shown is None:
            raise Refused(f"{path} has no frame: fetch it again")
        while n / rate < time_s + 1 / fps - EARLY_S:
            yield np.asarray(shown.reformat(width, height, "rgb24").to_ndarray(), np.uint8)
            n += 1


EARLY_S = 1e-4
"""A frame is on the screen from so much before its time, which is rounded."""
MOST_A_BYTE = 1.0
"""Seconds of a film for a byte of it."""


def _picture(av: Any, film: Any, path: Path) -> tuple[Any, float, float]:
    """The track with the picture, its frames a second, and when the film begins in its own time."""
    if not film.streams.video:
        raise Refused(f"{path} has no picture: it is sound alone")
    track = film.streams.video[0]
    fps = float(track.average_rate or track.guessed_rate or 0)
    if not 0.1 <= fps <= 1000:
        raise Refused(f"{path} says {fps:g} frames a second, as no film has: fetch it again")
    return track, fps, (film.start_time or 0) / av.time_base


def _av(path: Path, what: str, otherwise: str) -> Any:
    try:
        av: Any = import_module("av")
    except ImportError:
        raise Refused(
            f"{path} is a film, whose {what} the package av decodes: pip install 'hpc-eegdecode[film]'; or {otherwise}"
        ) from None
    av.logging.set_level(None)
    return av


@contextmanager
def _opened(av: Any, path: Path) -> Iterator[Any]:
    """The film; an error of ffmpeg is a sentence about it."""
    try:
        # Only this file: a playlist may name any other, or an address
        with av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="replace") as film:
            yield film
    except av.error.FFmpegError as error:
        raise Refused(f"{path} is cut off or damaged ({error.strerror}): fetch it again") from None

"""The features of sounds: rows that grow with the sound, with their rate and time, or one vector for each window.

Time is measured, not believed. A network with filters of n samples, steps of s and padding of p gives
floor((N + p - n) / s) + 1 rows for N samples; row k looks at n samples around k s + (n - p - 1) / 2, if it pads both
sides alike. Both numbers follow from the lengths at which there is one row more: their distance is s, and n - p is
where the first row would appear. For wav2vec 2.0: s = 320 and n - p = 400 at 16 kHz, so a row each 20 ms, the first at
12.5 ms.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from scipy import signal as dsp

from eegdecode.data.io import audio
from eegdecode.data.io.guard import Refused
from eegdecode.features.config import Sounds
from eegdecode.features.network import Encoder, pooled
from eegdecode.signals import Stream

TAPS = 10
"""Zero crossings on each side of the filter of scipy.signal.resample_poly."""


@dataclass(frozen=True)
class Clock:
    """When the rows of a network are: row k stands for the second `start_s + k / rate` of the sound."""

    rate: float
    start_s: float
    stride: int = 0
    """Samples from one row to the next; 0 where rows do not grow with the sound."""
    first: int = 0
    """Samples that the first row needs."""
    axis: int = 1
    """The axis of time in the output."""


class SoundFeatures:
    """The features of sounds by one network, and their clock."""

    def __init__(self, encoder: Encoder, cfg: Sounds, beat: Callable[[], None]) -> None:
        self.encoder, self.cfg = encoder, cfg
        self.sfreq = cfg.sfreq
        self._extract = None if encoder.processors is None else encoder.processors.sounds()
        if self._extract is not None:
            self.sfreq = float(getattr(self._extract, "sampling_rate", cfg.sfreq))
        self.clock = self._given() or self._measured(beat)

    def blocks(self, path: Path, beat: Callable[[], None]) -> Iterator[np.ndarray]:
        """[row, feature], a piece at a time. Raises Refused if the sound cannot be read, or is too short."""
        sound = resampled(audio.open_sound(path), self.sfreq)
        if not sound.n_times:
            raise Refused(f"{path} has no sample: fetch it again")
        if self.cfg.window_s:
            yield from self._windows(sound, beat)
            return
        pieces = self._pieces(path, sound.n_times)
        for _, alike in groupby(pieces, key=lambda piece: piece.stop - piece.begin):
            several = list(alike)
            for at in range(0, len(several), self.encoder.cfg.batch):
                beat()
                part = several[at : at + self.encoder.cfg.batch]
                samples = np.stack([sound.read(piece.begin, piece.stop)[:, 0] for piece in part])
                output = self._rows(self._encode(samples))
                for piece, rows in zip(part, output, strict=True):
                    if piece.n_rows and len(rows) != piece.n_rows:
                        raise ValueError(
                            f"{self.encoder.name} gives {len(rows)} rows for {samples.shape[1]} samples of {path}, "
                            f"where {piece.n_rows} were expected from shorter sounds: its rows are not evenly spaced; "
                            "set stimuli.window_s"
                        )
                    if len(rows) < piece.n:
                        raise ValueError(
                            f"{self.encoder.name} gives {len(rows)} rows for {samples.shape[1] / self.sfreq:g} s, but "
                            f"at {self.clock.rate:g} Hz these are {piece.n}: correct stimuli.rate or stimuli.chunk_s"
                        )
                    yield np.asarray(rows[piece.before : piece.before + piece.n])

    def _pieces(self, path: Path, n_times: int) -> list["Piece"]:
        clock, sfreq = self.clock, self.sfreq
        if not clock.stride:  # equally many rows for any sound: each piece has those of its own seconds
            length = round(self.cfg.chunk_s * sfreq)
            begins = range(0, n_times, length)
            ends = [min(begin + length, n_times) for begin in begins]
            rows = [round(end / sfreq * clock.rate) - round(b / sfreq * clock.rate) for b, end in zip(begins, ends)]
            return [Piece(b, end, 0, n, 0) for b, end, n in zip(begins, ends, rows, strict=True) if n]
        if n_times < max(1, clock.first):
            raise Refused(
                f"{path} lasts {n_times / sfreq:.4g} s, but {self.encoder.name} needs {clock.first / sfreq:.4g} s for "
                "a row: leave it out with stimuli.files"
            )
        total = (n_times - clock.first) // clock.stride + 1
        own = max(1, round(self.cfg.chunk_s * clock.rate))
        context = math.ceil(self.cfg.context_s * clock.rate)
        pieces = []
        for row in range(0, total, own):
            stop = min(row + own, total)
            a, b = max(0, row - context), min(total, stop + context)
            begin = a * clock.stride
            end = n_times if b == total else min(n_times, (b - 1) * clock.stride + max(1, clock.first))
            n_rows = (end - begin - clock.first) // clock.stride + 1
            pieces.append(Piece(begin, end, row - a, stop - row, n_rows))
        return pieces

    def _windows(self, sound: Stream, beat: Callable[[], None]) -> Iterator[np.ndarray]:
        length, hop = round(self.cfg.window_s * self.sfreq), self.cfg.hop_s * self.sfreq
        begins = [round(k * hop) for k in range(max(1, 1 + math.floor((sound.n_times - length) / hop)))]
        for at in range(0, len(begins), self.encoder.cfg.batch):
            beat()
            part = begins[at : at + self.encoder.cfg.batch]
            samples = np.zeros((len(part), length), np.float32)
            for row, begin in zip(samples, part, strict=True):  # a sound shorter than a window: silence follows
                piece = sound.read(begin, min(begin + length, sound.n_times))[:, 0]
                row[: len(piece)] = piece
            yield pooled(self.encoder, self._encode(samples), len(part), "windows of sound")

    def _encode(self, samples: np.ndarray) -> torch.Tensor:
        n, n_times = samples.shape
        what = f"{n} x {n_times} samples of sound"
        if self._extract is not None:
            return self.encoder(
                what, **self._extract(list(samples), sampling_rate=round(self.sfreq), return_tensors="pt")
            )
        if self.cfg.normalize:
            mean, std = samples.mean(axis=1, keepdims=True), samples.std(axis=1, keepdims=True)
            samples = (samples - mean) / np.sqrt(std**2 + 1e-7)
        batch = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        output = self.encoder(what, batch[:, None] if self.cfg.mono_axis else batch)
        if output.shape[0] != n:
            raise ValueError(
                f"{self.encoder.name} gives the shape {tuple(output.shape)} for {what}: its first axis has to be the "
                "batch; choose another features.layer"
            )
        return output

    def _rows(self, output: torch.Tensor) -> np.ndarray:
        """[batch, row, feature]."""
        return np.asarray(output.movedim(self.clock.axis, 1).flatten(2) if output.ndim > 2 else output[..., None])

    # ---- The clock

    def _given(self) -> Clock | None:
        cfg = self.cfg
        if cfg.window_s:
            start_s = cfg.window_s / 2 if cfg.start_s is None else cfg.start_s
            return Clock(1 / cfg.hop_s, start_s)
        if cfg.rate:
            return Clock(cfg.rate, 0.5 / cfg.rate if cfg.start_s is None else cfg.start_s)
        return None

    def _measured(self, beat: Callable[[], None]) -> Clock:
        for seconds in (1, 10):
            if clock := self._measured_by(round(seconds * self.sfreq), beat):
                return clock
        shape = tuple(self._shape(round(self.sfreq)))
        raise ValueError(
            f"{self.encoder.name} gives the shape {shape} for 1 s of sound and for 20 s: its output does not grow with "
            "the sound. For a vector a window set stimuli.window_s; if it has rows for a fixed length, as Whisper for "
            "30 s, set stimuli.rate and stimuli.chunk_s"
        )

    def _measured_by(self, n: int, beat: Callable[[], None]) -> Clock | None:
        short, long = self._shape(n), self._shape(2 * n)
        if len(short) != len(long):
            return None
        growing = [axis for axis in range(1, len(short)) if long[axis] - short[axis] > 2]
        if len(growing) > 1:
            raise ValueError(
                f"{self.encoder.name} gives the shapes {tuple(short)} and {tuple(long)} for a sound and one of twice "
                "the length: several axes grow, so that none is time; choose another features.layer"
            )
        if not growing:
            return None
        axis = growing[0]
        fewest, most = short[axis], long[axis]

        def edge(rows: int) -> int:
            """The shortest sound with so many rows."""
            low, high = n, 2 * n
            while high - low > 1:
                beat()
                middle = (low + high) // 2
                low, high = (low, middle) if self._shape(middle)[axis] >= rows else (middle, high)
            return high

        begin, end = edge(fewest + 1), edge(most)
        stride, rest = divmod(end - begin, most - fewest - 1)
        if rest:
            raise ValueError(
                f"{self.encoder.name} gives {most - fewest - 1} rows for {end - begin} samples: they are not evenly "
                "spaced; set stimuli.window_s, or choose another features.layer"
            )
        first = begin - fewest * stride
        start_s = (first - 1) / 2 / self.sfreq if self.cfg.start_s is None else self.cfg.start_s
        return Clock(self.sfreq / stride, start_s, stride, first, axis)

    def _shape(self, n: int) -> torch.Size:
        hiss = np.random.default_rng(0).standard_normal(n) * 0.1
        return self._encode(hiss.astype(np.float32)[None]).shape


@dataclass(frozen=True)
class Piece:
    """Samples that a network gets at once, and which of the rows that it gives are wanted."""

    begin: int
    stop: int
    before: int
    """Rows of context before them."""
    n: int
    n_rows: int
    """Rows that it has to give in all; 0: it is not known."""


def resampled(sound: Stream, sfreq: float) -> Stream:
    """A sound at another rate, by the polyphase filter of scipy, read a piece at a time."""
    ratio = Fraction(sfreq / sound.sfreq).limit_denominator(100_000)
    up, down = ratio.numerator, ratio.denominator
    if up == down:
        return Stream(("sound",), sfreq, sound.n_times, lambda a, b: sound.read(a, b).astype(np.float32))
    margin = TAPS * math.ceil(max(up, down) / up) + 2

    def read(first: int, stop: int) -> np.ndarray:
        begin = max(0, first * down // up - margin) // down * down
        end = min(sound.n_times, math.ceil(stop * down / up) + margin)
        values = dsp.resample_poly(sound.read(begin, end)[:, 0], up, down)
        at = begin // down * up
        return np.asarray(values[first - at : stop - at, None], np.float32)

    return Stream(("sound",), sfreq, math.ceil(sound.n_times * up / down), read)

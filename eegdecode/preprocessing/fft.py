"""One pass for neighbouring filters and a resampling: out = polyphase(irfft(rfft(x) · H1 · H2 · …)).

Blocks are on a fixed grid, each with as much context as the filters reach, so there are no seams. The ends are padded
by odd reflection: a zero-phase filter keeps that symmetry, so all filters at once give what mne gives one by one.
Float64 where it matters: drifts are a thousand times as large as the filtered signal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import scipy.fft
from scipy import signal as dsp

from eegdecode.preprocessing.designs import Filter
from eegdecode.signals import Stream

SHORTEST = 1 << 16  # samples of a block; smaller ones cost overhead
TOGETHER = 4  # channels in one transform: as many as fit into the cache
PERIOD = 64  # least input samples of one row of the polyphase matrix


@dataclass(frozen=True)
class Polyphase:
    """`scipy.signal.resample_poly` with its low-pass as one matrix: a row of inputs gives a row of outputs."""

    up: int
    down: int

    @cached_property
    def reach(self) -> int:
        """Samples to either side that an output depends on."""
        return -(-10 * max(self.up, self.down) // self.up)

    @cached_property
    def repeats(self) -> int:
        """How many shortest common periods are in a row."""
        return -(-max(PERIOD, 2 * self.reach + 1) // self.down)

    @property
    def n_in(self) -> int:
        return self.repeats * self.down

    @property
    def n_out(self) -> int:
        return self.repeats * self.up

    @cached_property
    def matrix(self) -> np.ndarray:
        """[input, output]; input 0 is `reach` samples before output 0."""
        half = 10 * max(self.up, self.down)
        low_pass = dsp.firwin(2 * half + 1, 1 / max(self.up, self.down), window=("kaiser", 5.0)) * self.up
        inputs = (np.arange(self.n_in + 2 * self.reach + 1) - self.reach) * self.up
        away = half + np.arange(self.n_out) * self.down - inputs[:, None]
        return np.where((away >= 0) & (away <= 2 * half), low_pass[away.clip(0, 2 * half)], 0.0)

    def apply(self, data: np.ndarray) -> np.ndarray:
        """From [channel, n_rows + 1, n_in] to [channel, n_rows × n_out]; the last row is context only."""
        n_channels, n_rows, _ = data.shape
        out = data.reshape(-1, self.n_in) @ self.matrix[: self.n_in]
        into = 2 * self.reach + 1
        out[:-1] += data.reshape(-1, self.n_in)[1:, :into] @ self.matrix[self.n_in :]
        return out.reshape(n_channels, n_rows, self.n_out)[:, :-1].reshape(n_channels, -1)


def fraction(before: float, after: float) -> Fraction:
    """The simple fraction that converts one rate to another."""
    return Fraction(after / before).limit_denominator(1000)


def ratio(stream: Stream, sfreq: float) -> Fraction:
    """The fraction that converts the stream to another rate, without drift until its end."""
    simple = fraction(stream.sfreq, sfreq)
    drift_s = abs(float(simple) * stream.sfreq / sfreq - 1) * stream.duration
    if drift_s > 0.1 / sfreq:
        raise ValueError(
            f"resample from {stream.sfreq} to {sfreq} Hz would drift by {1000 * drift_s:.1f} ms until the end: "
            "choose a rate that is a simple fraction of the recording's"
        )
    return simple


def fused(stream: Stream, filters: Sequence[Filter], sfreq: float) -> Stream:
    """The stream after all filters, then resampled."""
    simple = ratio(stream, sfreq)
    done = _Pass(stream, filters, Polyphase(*simple.as_integer_ratio()) if simple != 1 else None)
    return replace(stream, sfreq=sfreq, n_times=done.n_times, read=done.read)


class _Pass:
    def __init__(self, stream: Stream, filters: Sequence[Filter], polyphase: Polyphase | None) -> None:
        self.stream, self.polyphase = stream, polyphase
        self.reach = sum(filter.reach for filter in filters)
        row, self.lead = (polyphase.n_in, polyphase.reach) if polyphase else (1, 0)
        # A quarter of the work is overlap; half of it where a block would not fit into 256 MB
        wanted = max(SHORTEST, self.reach * (8 if 8 * self.reach * stream.n_channels <= 1 << 25 else 4))
        last_needed = -(-(stream.n_times + self.lead) // row)
        self.n_rows = max(1, min((wanted - 2 * self.reach) // row - 1, last_needed))
        self.hop = self.n_rows * row
        self.length = self.hop + (row if polyphase else 0) + 2 * self.reach
        self.n_fft = scipy.fft.next_fast_len(self.length, real=True)
        self.gains = _gains(filters, self.n_fft) if filters else None
        up, down = (polyphase.up, polyphase.down) if polyphase else (1, 1)
        self.n_times = -(-stream.n_times * up // down)
        self.hop_out = self.hop * up // down
        self._before: tuple[int, list[np.ndarray]] = (0, [])
        self._block = (-1, np.empty((0, stream.n_channels), np.float32))

    def read(self, first: int, stop: int) -> np.ndarray:
        out = np.empty((max(0, stop - first), self.stream.n_channels), np.float32)
        while first < stop:
            number, offset = divmod(first, self.hop_out)
            if self._block[0] != number:
                self._block = (number, self._compute(number))
            some = self._block[1][offset : offset + stop - first]
            out[len(out) - (stop - first) :][: len(some)] = some
            first += len(some)
        return out

    def _compute(self, number: int) -> np.ndarray:
        first = number * self.hop - self.lead - self.reach
        parts = self._mirrored(first, first + self.length)
        out = np.empty((self.hop_out, self.stream.n_channels), np.float32)
        for some in (slice(start, start + TOGETHER) for start in range(0, out.shape[1], TOGETHER)):
            out[:, some] = self._resampled(self._filtered([part[:, some] for part in parts])).T
        return out[: self.n_times - number * self.hop_out]

    def _filtered(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """[channel, time], without the context of the filters."""
        if self.gains is None:
            return _side_by_side(parts, self.length)
        spectrum = scipy.fft.rfft(_side_by_side(parts, self.n_fft), axis=1, overwrite_x=True)
        spectrum.view(np.float64)[:] *= self.gains
        whole = scipy.fft.irfft(spectrum, self.n_fft, axis=1, overwrite_x=True)
        return np.ascontiguousarray(whole[:, self.reach : self.length - self.reach])

    def _resampled(self, data: np.ndarray) -> np.ndarray:
        if self.polyphase is None:
            return data
        return self.polyphase.apply(data.reshape(len(data), -1, self.polyphase.n_in))

    def _mirrored(self, first: int, stop: int) -> list[np.ndarray]:
        """Any range, in parts, also beyond the ends: 2 x[0] - x[k] at -k, as far as the signal is long, and zeros
        further out."""
        last = self.stream.n_times - 1
        if first >= 0 and stop <= last + 1:
            return self._read(first, stop)
        low, high = max(0, min(first, 2 * last - stop)), min(last + 1, max(stop, 1 - first))
        inside = np.concatenate(self._read(low, high))
        out = np.zeros((stop - first, inside.shape[1]), inside.dtype)
        here = slice(max(first, 0), min(stop, last + 1))
        if here.start < here.stop:
            out[here.start - first : here.stop - first] = inside[here.start - low : here.stop - low]
        if first < 0:
            away = np.arange(min(-first, last), 0, -1)
            out[-first - len(away) : -first] = 2 * inside[-low] - inside[away - low]
        if stop > last + 1:
            away = np.arange(1, min(stop - last - 1, last) + 1)
            start = last + 1 - first
            out[start : start + len(away)] = 2 * inside[last - low] - inside[last - low - away]
        return [out]

    def _read(self, first: int, stop: int) -> list[np.ndarray]:
        """In parts: samples that the block before has read are not read again."""
        begin, parts = self._before
        end = begin + sum(map(len, parts))
        if begin <= first <= stop <= end:
            return _stretch(parts, first - begin, stop - begin)
        overlap = _stretch(parts, first - begin, end - begin) if begin <= first < end else []
        self._before = (first, [*overlap, self.stream.read(end if overlap else first, stop)])
        return self._before[1]


def _gains(filters: Sequence[Filter], n_fft: int) -> np.ndarray:
    """The gains of all filters together, for the real and the imaginary part of each bin."""
    return np.repeat(np.prod([filter.response(n_fft) for filter in filters], axis=0), 2)


def _stretch(parts: Sequence[np.ndarray], first: int, stop: int) -> list[np.ndarray]:
    """A range of rows from an array in parts."""
    pieces, begin = [], 0
    for part in parts:
        if begin < stop and first < begin + len(part):
            pieces.append(part[max(0, first - begin) : stop - begin])
        begin += len(part)
    return pieces


def _side_by_side(parts: Sequence[np.ndarray], n_times: int) -> np.ndarray:
    """[channel, time] in float64, padded with zeros."""
    out, done = np.empty((parts[0].shape[1], n_times)), 0
    for part in parts:
        out[:, done : done + len(part)] = part.T
        done += len(part)
    out[:, done:] = 0
    return out

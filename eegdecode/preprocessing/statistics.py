"""Statistics of whole streams: quantiles, mean and spread, covariance. Exact, in bounded memory."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eegdecode.signals import Stream, Trial

IN_MEMORY = 1 << 26  # bytes; there may be one process a core
BLOCK_VALUES = 1 << 20


def blocks(stream: Stream, first: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """A range of samples in blocks."""
    end = stream.n_times if stop is None else stop
    step = max(1, BLOCK_VALUES // stream.n_channels)
    for start in range(first, end, step):
        yield np.asarray(stream.read(start, min(start + step, end)), np.float32)


def keep(stream: Stream, scratch: Path | None) -> Stream:
    """The stream, computed now: in memory, or if large in an unnamed file that goes with the process."""
    row = 4 * stream.n_channels
    if row * stream.n_times <= IN_MEMORY:
        data = np.empty((stream.n_times, stream.n_channels), np.float32)
        done = 0
        for block in blocks(stream):
            data[done : done + len(block)] = block
            done += len(block)
        return replace(stream, read=lambda first, stop: data[first:stop])
    file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  stays open while the stream is read
    for block in blocks(stream):
        file.write(np.ascontiguousarray(block).data)  # unlike tofile, it raises when the disk is full
    file.flush()

    def read(first: int, stop: int) -> np.ndarray:
        # Not mapped: mapped pages count as memory of the job
        file.seek(first * row)
        return np.fromfile(file, np.float32, (stop - first) * stream.n_channels).reshape(-1, stream.n_channels)

    return replace(stream, read=read)


def moments(stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel; blocks are combined as in Chan et al. (1979)."""
    n, mean, squares = 0, np.zeros(stream.n_channels), np.zeros(stream.n_channels)
    for block in blocks(stream):
        data = block.astype(np.float64)
        here = data.mean(axis=0)
        data -= here
        away = here - mean
        total = n + len(block)
        squares += np.einsum("tc,tc->c", data, data) + away**2 * (n * len(block) / total)
        mean += away * (len(block) / total)
        n = total
    return mean, np.sqrt(squares / max(n, 1))


def quantiles(stream: Stream, probabilities: Sequence[float]) -> np.ndarray:
    """[probability, channel], equal to np.quantile.

    The bits of floats, read as integers, sort like the floats. So two counting passes find the values at a rank: the
    first counts the upper 16 bits, the second the lower 16 bits of values whose upper bits match.
    """
    place = np.array(probabilities) * (stream.n_times - 1)
    ranks = np.stack([np.floor(place), np.ceil(place)]).astype(np.int64).ravel()
    upper = np.zeros((stream.n_channels, 1 << 16), np.int64)
    for block in blocks(stream):
        for counts, keys in zip(upper, _sortable(block), strict=True):
            counts += np.bincount(keys >> 16, minlength=1 << 16)
    below = np.cumsum(upper, axis=1)
    bins = np.stack([np.searchsorted(row, ranks, "right") for row in below])  # [channel, rank]
    bins_of_channel = [np.unique(row) for row in bins]
    lower = [np.zeros((len(row), 1 << 16), np.int64) for row in bins_of_channel]
    for block in blocks(stream):
        for candidates, counts, keys in zip(bins_of_channel, lower, _sortable(block), strict=True):
            for bin, row in zip(candidates, counts, strict=True):
                row += np.bincount(keys[keys >> 16 == bin] & 0xFFFF, minlength=1 << 16)
    values = np.empty((len(ranks), stream.n_channels))
    for channel, (candidates, counts) in enumerate(zip(bins_of_channel, lower, strict=True)):
        for index, (rank, bin) in enumerate(zip(ranks, bins[channel], strict=True)):
            left = rank - (below[channel, bin] - upper[channel, bin])
            low = np.searchsorted(np.cumsum(counts[np.searchsorted(candidates, bin)]), left, "right")
            values[index, channel] = _float(int(bin) << 16 | int(low))
    under, over = values.reshape(2, len(place), -1)
    return under + (over - under) * (place % 1)[:, None]


def _sortable(block: np.ndarray) -> np.ndarray:
    """[channel, time] uint32 in the order of the floats."""
    bits = np.ascontiguousarray(block.T).view(np.int32)
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).view(np.uint32) ^ np.uint32(0x80000000)


def _float(key: int) -> float:
    bits = key ^ 0x80000000 if key & 0x80000000 else key ^ 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))


def covariance(stream: Stream, trials: Sequence[Trial]) -> np.ndarray:
    """The mean over trials of their second moments; without trials, of the whole stream."""
    spans = [
        (round(trial.start * stream.sfreq), round((trial.start + trial.duration) * stream.sfreq)) for trial in trials
    ] or [(0, stream.n_times)]
    total = np.zeros((stream.n_channels, stream.n_channels))
    for first, stop in spans:
        stop = min(stop, stream.n_times)
        for block in blocks(stream, first, stop):
            data = block.astype(np.float64)
            total += data.T @ data / (stop - first)
    return total / len(spans)

"""Features of sound, computed a block at a time."""

import functools
import math
from collections.abc import Callable

import numpy as np

from eegdecode.signals import Stream

BLOCK_S, MARGIN_S = 60.0, 3.0  # of a block, and of the context around it that avoids seams
CACHED_BLOCKS = 4


def in_blocks(names: tuple[str, ...], sound: Stream, step: int, compute: Callable[[np.ndarray], np.ndarray]) -> Stream:
    """The feature stream of a sound, in blocks on a fixed grid: the numbers do not depend on which pieces are read.

    Row k of the stream is at sample k * step of the sound.
    """
    n_rows, block = math.ceil(sound.n_times / step), math.ceil(BLOCK_S * sound.sfreq / step)
    margin = math.ceil(MARGIN_S * sound.sfreq / step)

    @functools.lru_cache(maxsize=CACHED_BLOCKS)
    def rows(number: int) -> np.ndarray:
        first, stop = number * block, min((number + 1) * block, n_rows)
        since = max(0, first - margin)
        samples = sound.read(since * step, min(sound.n_times, (stop + margin) * step))[:, 0]
        return compute(samples)[first - since : stop - since].astype(np.float32)

    return of_blocks(names, sound.sfreq / step, n_rows, block, rows)


def of_blocks(
    names: tuple[str, ...], sfreq: float, n_rows: int, block: int, rows: Callable[[int], np.ndarray]
) -> Stream:
    """A stream of blocks of so many rows, by their number."""

    def read(first: int, stop: int) -> np.ndarray:
        parts = [
            rows(number)[max(0, first - number * block) : stop - number * block]
            for number in range(first // block, math.ceil(stop / block))
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(names)), np.float32)

    return Stream(names, sfreq, n_rows, read)

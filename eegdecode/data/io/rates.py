"""Bring slower channels to the rate of the others, a piece at a time, with the same result wherever a piece begins."""

from collections.abc import Callable

import numpy as np

HALF = 16  # slow samples to either side that a value depends on


def between(
    read: Callable[[int, int], np.ndarray], n_times: int, ratio: float, steps: np.ndarray
) -> Callable[[int, int], np.ndarray]:
    """Read at the fast rate what has `ratio` as many samples; columns in `steps` are held, the others interpolated."""

    def fast(first: int, stop: int) -> np.ndarray:
        times = np.arange(first, stop) * ratio
        below = np.floor(times + 1e-9).astype(int)
        start = max(0, below[0] - HALF)
        slow = read(start, min(n_times, below[-1] + HALF + 1))
        out = np.zeros((len(times), slow.shape[1]))
        weights = np.zeros(len(times))
        for shift in range(1 - HALF, HALF + 1):
            place = below + shift
            away = times - place
            # A Hann window; the ends are continued by their last value
            weight = np.sinc(away) * np.cos(np.pi * away / (2 * HALF + 2)) ** 2
            out += weight[:, None] * slow[np.clip(place, 0, n_times - 1) - start]
            weights += weight
        out /= weights[:, None]
        out[:, steps] = slow[np.minimum(below, n_times - 1) - start][:, steps]
        return out

    return fast

"""Shuffled order as a function of (seed, place): any process can compute any place of any epoch directly."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ORDER, _CLASS, _WEIGHT, _SUBSET = (
    2,
    3,
    6,
    7,
)  # separate the draws of one seed from each other; 1, 4 and 5 are used elsewhere
_ROUNDS = 10  # with fewer, the orders of 5 or 6 items are not all equally frequent


class Turns(NamedTuple):
    """The items at some places, and how often each was used before."""

    item: np.ndarray
    visit: np.ndarray


class Order:
    """n items, each once an epoch, epoch after epoch: `order[places]` for any places counted from 0.

    Parameters
    ----------
    n, seed
        The number of items, and the seed of the order.
    classes
        The class of each item, as numbers from 0: every class then comes equally often, and so do the items of one
        class.
    weights
        Draw each item in proportion to its weight, instead of once an epoch.
    """

    def __init__(
        self, n: int, seed: int, classes: Sequence[int] | None = None, weights: Sequence[float] | None = None
    ) -> None:
        if n < 1:
            raise ValueError("there is nothing to draw from: no trial is left for training")
        self.n, self.seed = n, seed
        of = np.zeros(n, np.int64) if classes is None else np.asarray(classes)
        self._members = np.argsort(of, kind="stable")
        self._counts = np.bincount(of)
        self._firsts = np.cumsum(self._counts) - self._counts
        self._bounds = None if weights is None else np.cumsum(np.asarray(weights, float))

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.turns(places).item

    def turns(self, places: np.ndarray) -> Turns:
        """Return the items at these places, and how often each was used before; with weights, the places themselves
        instead."""
        places = np.asarray(places, np.int64)
        if self._bounds is not None:
            at = uniform(places, self.seed, _WEIGHT) * self._bounds[-1]
            return Turns(np.minimum(np.searchsorted(self._bounds, at, side="right"), self.n - 1), places)
        block, slot = np.divmod(places, len(self._counts))  # each block has every class once
        chosen = permuted(len(self._counts), slot, key(self.seed, _CLASS, block))
        epoch, place = np.divmod(block, self._counts[chosen])
        within = permuted(self._counts[chosen], place, key(self.seed, _ORDER, chosen, epoch))
        return Turns(self._members[self._firsts[chosen] + within], epoch)


def subset(n: int, fraction: float, seed: int) -> np.ndarray:
    """Return a random subset of n items, at least one, in order; a larger subset contains every smaller one."""
    size = max(1, round(fraction * n))
    return np.sort(permuted(n, np.arange(size), key(seed, _SUBSET)))


def permuted(n: int | np.ndarray, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the places in a shuffle of range(n); each place may have its own n and key.

    A Feistel network on a grid hardly larger than n. Values outside of range(n) go through it again.
    """
    n, places, keys = np.broadcast_arrays(np.asarray(n, np.int64), places, keys)
    width = np.ceil(np.sqrt(n)).astype(np.int64)
    height = -(-n // width)
    out = _rounds(places, width, height, keys)
    while (outside := out >= n).any():
        out[outside] = _rounds(out[outside], width[outside], height[outside], keys[outside])
    return out


def _rounds(places: np.ndarray, width: np.ndarray, height: np.ndarray, keys: np.ndarray) -> np.ndarray:
    row, column = np.divmod(places, width)
    for _ in range(_ROUNDS):
        keys = keys + _GOLDEN
        row = (row + _below(height, _mixed(keys ^ column.astype(np.uint64)))) % height
        column = (column + _below(width, _mixed(keys + row.astype(np.uint64)))) % width
    return row * width + column


def _below(n: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return a number below n from each key: its upper 32 bits as a fraction."""
    return ((keys >> np.uint64(32)) * n.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def uniform(places: np.ndarray, *what: int | np.ndarray) -> np.ndarray:
    """Return a number in [0, 1) for each place."""
    return (key(*what, places) >> np.uint64(11)) * 2.0**-53


def key(*path: int | np.ndarray) -> np.ndarray:
    """Return a hash of 64 bits of all parts of the path."""
    mixed = np.zeros((), np.uint64)
    for part in path:
        mixed = _mixed(mixed + np.asarray(part).astype(np.uint64) + _GOLDEN)
    return mixed


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Mix the bits so that each depends on every other: the finaliser of SplitMix64."""
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))


_GOLDEN, _FIRST, _SECOND = (
    np.array(number, np.uint64) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)

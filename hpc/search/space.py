"""The settings that a search chooses, and their values: `lr=log:1e-4..1e-2`, `dropout=0..0.5`, `layers=1..4`,
`model=eegnet,conformer`. The words are those of `sweep --draws`, and mean the same."""

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from hpc.errors import ConfigError
from hpc.plan import sweep

Combination = tuple[str, ...]
"""A word for each setting, each with one value: what is added to the line of a trial."""
Chance = Callable[..., float]
"""A number in [0, 1), the same whenever it is asked for with the same arguments."""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, on a scale where all parts of it count alike."""

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the scale; a whole number stands for what is rounded to it."""
        half = 0.5 if self.is_whole else 0.0
        return self._scaled(self.low - half), self._scaled(self.high + half)

    def place(self, word: str) -> float:
        """Return where the value of a word is on the scale."""
        return self._scaled(float(word.partition("=")[2]))

    def word(self, place: float) -> str:
        value = math.exp(place) if self.is_log else place
        value = round(value) if self.is_whole else float(f"{value:.4g}")
        return f"{self.key}={min(max(value, self.low), self.high)}"

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value


@dataclass(frozen=True)
class Choice:
    """Values without an order."""

    key: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """The words of the line that have several values."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        keys = [word.partition("=")[0] for word in self.words]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ConfigError(f"{twice[0]} is given twice: several values are one word, {twice[0]}=a,b")

    @functools.cached_property
    def settings(self) -> tuple[Range | Choice, ...]:
        return tuple(map(_setting, self.words))

    @property
    def n_combinations(self) -> float:
        """The number of combinations; infinite where a range has all numbers between its ends."""
        return math.prod(map(sweep.n_values, self.words))

    def drawn(self, seed: int, tried: Collection[Combination]) -> Combination:
        """Return the first combination at random that was not tried yet: with seed 0, those of `sweep --draws`, in
        their order."""
        first = seed * sweep.MOST * sweep.TRIES
        for number in range(first, first + sweep.TRIES * (len(tried) + 1)):
            combination = tuple(sweep.drawn(word, number) for word in self.words)
            if combination not in tried:
                return combination
        return next(each for each in self._all() if each not in tried)

    def _all(self) -> Iterator[Combination]:
        """Yield every combination of a space without ranges of all numbers."""
        values = (
            [f"{each.key}={value}" for value in range(int(each.low), int(each.high) + 1)]
            if isinstance(each, Range)
            else each.words
            for each in self.settings
        )
        return itertools.product(*values)


def _setting(word: str) -> Range | Choice:
    key = word.partition("=")[0]
    ends = sweep.limits(word)
    if ends is None:
        return Choice(key, tuple(sweep.choices(word)))
    low, high, is_log = ends
    return Range(key, low, high, is_log, isinstance(low, int))


def chance(*path: object) -> float:
    bits = hashlib.sha256("\n".join(map(str, path)).encode()).digest()
    return int.from_bytes(bits[:6], "big") / 2**48


def apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words with several values, and those with one."""
    several = [word for word in words if sweep.is_list(word)]
    return several, [word for word in words if word not in several]

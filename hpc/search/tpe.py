"""The tree-structured Parzen estimator (Bergstra et al. 2011), each setting for itself, as in hyperopt and optuna.

Trials are divided into the best few and the rest. Of each, a Parzen estimator gives the density of a setting: l(x) of
the good ones, g(x) of the others. Of some candidates drawn from l, the one with the largest l/g is proposed: that with
the largest expected improvement.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from hpc.search.space import Chance, Choice, Combination, Range, Space

N_RANDOM = 10
"""Trials at random before the first proposal."""
GOOD = 0.1
"""The share of trials that count as good: γ, 0.15 in the paper and 0.1 in optuna."""
MOST_GOOD = 25
N_CANDIDATES = 24
NARROWEST = 100
"""A kernel is at least this part of the range wide, and wider while there are fewer trials."""


def proposed(space: Space, best_first: Sequence[Combination], chance: Chance) -> Combination:
    """Return the combination to try next, given those that were tried, the best first."""
    n_good = min(MOST_GOOD, max(1, math.ceil(GOOD * len(best_first))))
    return tuple(
        _value(
            setting,
            [combination[place] for combination in best_first[:n_good]],
            [combination[place] for combination in best_first[n_good:]],
            partial(chance, setting.key),
        )
        for place, setting in enumerate(space.settings)
    )


def _value(setting: Range | Choice, good: Sequence[str], rest: Sequence[str], chance: Chance) -> str:
    """Return the candidate with the largest l/g."""
    density = _Kernels.of if isinstance(setting, Range) else _Counts.of
    of_good, of_rest = density(setting, good), density(setting, rest)  # type: ignore[arg-type]
    candidates = [of_good.draw(partial(chance, number)) for number in range(N_CANDIDATES)]
    return max(candidates, key=lambda word: of_good.log_of(word) - of_rest.log_of(word))


@dataclass(frozen=True)
class _Kernels:
    """A mixture of Gaussians, one at each value and a wide one for all others, cut off at the ends of the range."""

    range: Range
    kernels: tuple[NormalDist, ...]

    @classmethod
    def of(cls, range: Range, words: Sequence[str]) -> "_Kernels":
        """A kernel is as wide as its value is far from the farther one of its neighbours; the ends are none."""
        low, high = range.ends
        width = high - low
        narrowest = width / min(NARROWEST, len(words) + 2)
        middle = (low + high) / 2
        places = sorted([*map(range.place, words), middle])
        kernels = [
            NormalDist(place, min(width, max(narrowest, place - before, after - place)))
            for before, place, after in zip([places[0], *places], places, [*places[1:], places[-1]])
        ]
        kernels[places.index(middle)] = NormalDist(middle, width)
        return cls(range, tuple(kernels))

    def draw(self, chance: Chance) -> str:
        kernel = self.kernels[int(chance("kernel") * len(self.kernels))]
        low, high = map(kernel.cdf, self.range.ends)
        share = low + chance("place") * (high - low)
        place = kernel.inv_cdf(share) if 0 < share < 1 else kernel.mean
        first, last = self.range.ends
        return self.range.word(min(max(place, first), last))

    def log_of(self, word: str) -> float:
        low, high = self.range.ends
        place = self.range.place(word)
        parts = (kernel.pdf(place) / (kernel.cdf(high) - kernel.cdf(low)) for kernel in self.kernels)
        return math.log(math.fsum(parts) / len(self.kernels))


@dataclass(frozen=True)
class _Counts:
    """How often each value was tried, and once more."""

    words: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, choice: Choice, words: Sequence[str]) -> "_Counts":
        return cls(choice.words, tuple(1 + words.count(word) for word in choice.words))

    def draw(self, chance: Chance) -> str:
        place = chance("place") * sum(self.counts)
        for word, count in zip(self.words, self.counts):
            place -= count
            if place < 0:
                return word
        return self.words[-1]

    def log_of(self, word: str) -> float:
        return math.log(self.counts[self.words.index(word)] / sum(self.counts))

"""Top-k accuracy, a headline of retrieval: how often the right candidate is among the first k.

A hit is the probability of one if ties are broken at random. So a decoder with constant outputs has exactly the chance
level, if each candidate is the right one equally often.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom, rankdata

from eegdecode.evaluation.metrics import Decoded, Headline, Metric, Scoring, once
from eegdecode.evaluation.statistics import grouping, nulls
from eegdecode.evaluation.statistics.retrieval import candidates, similarities


def hits(scores: np.ndarray, truth: np.ndarray, k: int, ways: int | None = None) -> np.ndarray:
    """[query]: the probability that the true candidate is among the first k.

    Of all candidates; or with `ways` of so many, the true one and others drawn at random: the mean over all draws there
    are, which seeded subsets only estimate. From 0 to 1; chance is k / ways.
    """
    true = np.take_along_axis(scores, np.asarray(truth)[:, None], axis=1)
    better, tied = (scores > true).sum(axis=1), (scores == true).sum(axis=1) - 1
    return _probability(better, tied, scores.shape[1], k, ways)


def hits_of_all(scores: np.ndarray, k: int, ways: int | None = None) -> np.ndarray:
    """[query, candidate]: what `hits` would say if it were the true one, for nulls that shuffle the candidates."""
    better = rankdata(-scores, "min", axis=1).astype(int) - 1
    tied = rankdata(-scores, "max", axis=1).astype(int) - 1 - better
    return _probability(better, tied, scores.shape[1], k, ways)


def _probability(better: np.ndarray, tied: np.ndarray, n: int, k: int, ways: int | None) -> np.ndarray:
    """The true one is at a random position among its ties; of the others before it, some are drawn."""
    ways = n if ways is None else ways
    if not 1 <= k <= ways <= n:
        raise ValueError(f"top {k} of {ways} needs at least {ways} candidates and k from 1 to {ways}, got {n}")
    before = np.arange(n)
    among_first = hypergeom.cdf(k - 1, n - 1, before, ways - 1) if ways < n else (before < k).astype(float)
    total = np.concatenate([[0.0], np.cumsum(among_first)])
    return (total[better + tied + 1] - total[better]) / (tied + 1)


@dataclass(frozen=True)
class Top:
    """Among the first k of all candidates, or of so many."""

    k: int
    ways: int | None = None

    def score(self, decoded: Decoded, cfg: Scoring) -> float | None:
        n = len(candidates(decoded)[0])
        if n <= (self.k if self.ways is None else self.ways):
            return None
        return float(_hits(decoded, self).mean())

    def chance(self, decoded: Decoded, cfg: Scoring) -> float:
        return self.k / (len(candidates(decoded)[0]) if self.ways is None else self.ways)

    def null(self, decoded: Decoded, cfg: Scoring) -> np.ndarray:
        return _dealt(decoded, self, cfg)[0]

    def what(self, decoded: Decoded) -> str:
        n = len(candidates(decoded)[0])
        return f"how often the right one of {n} candidates is among the first {self.k}"

    def by_subject(self, decoded: Decoded, cfg: Scoring) -> np.ndarray:
        return grouping.by_subject(grouping.numbers(decoded)[0], _hits(decoded, self)[None])[0]

    def by_unit(self, decoded: Decoded, cfg: Scoring) -> tuple[np.ndarray, str]:
        """A candidate that was shown more often counts as much more."""
        own, right = candidates(decoded)[1], _hits(decoded, self)
        sums = np.bincount(own, right)
        return len(sums) / len(own) * sums, "candidates"

    def null_by_subject(self, decoded: Decoded, cfg: Scoring) -> np.ndarray:
        return _dealt(decoded, self, cfg)[1]

    def metric(self, how: str, decides: bool = False) -> Metric:
        name, label = f"top{self.k}", f"Top {self.k}"
        if self.ways is not None:
            name, label = f"{name}_of_{self.ways}", f"{label} of {self.ways}"
        null = self.null if decides else None
        headline = None
        if decides:
            headline = Headline(
                self.what,
                self.by_subject,
                self.null_by_subject,
                permuted=permuted,
                by_unit=self.by_unit,
                ends=(0.0, 1.0),
            )
        order = self.k if self.ways is None else 20 + self.k  # behind those of all candidates
        return Metric(name, label, how, ("retrieval",), self.score, self.chance, null, headline=headline, order=order)


def permuted(decoded: Decoded) -> nulls.Permuted:
    if _drifts(decoded):
        recordings = grouping.trials_in_time(decoded)[1]
        what = "recordings, in which trials that follow each other have like candidates"
        return nulls.Permuted(f"{len(recordings)} {what}", 1 / nulls.n_slides(recordings, candidates(decoded)[1]))
    return nulls.Permuted.all_of(len(candidates(decoded)[0]), "candidates")


@once
def _drifts(decoded: Decoded) -> bool:
    """Whether trials that follow each other have candidates that are more alike than in a random order, as in blocks of
    a category; then a drift of the signal is decoded too."""
    return nulls.neighbours_are_alike(decoded.truth, grouping.trials_in_time(decoded)[1])


@once
def _hits(decoded: Decoded, top: Top) -> np.ndarray:
    return hits(similarities(decoded), candidates(decoded)[1], top.k, top.ways)


@once
def _dealt(decoded: Decoded, top: Top, cfg: Scoring) -> tuple[np.ndarray, np.ndarray]:
    """With other true candidates, the mean over windows [draw], and over those of each subject [draw, subject]."""
    table, own = hits_of_all(similarities(decoded), top.k, top.ways), candidates(decoded)[1]
    if _drifts(decoded):
        first, recordings = grouping.trials_in_time(decoded)
        dealt = table[np.arange(len(own)), own[nulls.slid(recordings, own, cfg.n_null, cfg.seed)[:, first]]]
    else:
        dealt = nulls.pieces_dealt(table, own, cfg.n_null, cfg.seed)
    return dealt.mean(axis=1), grouping.by_subject(grouping.numbers(decoded)[0], dealt)


TOP_1 = Top(1).metric("how often the right candidate is most similar to the output, by the cosine.", decides=True)
TOP_5 = Top(5).metric("how often it is among the first five.", decides=True)
TOP_10 = Top(10).metric("how often it is among the first ten.")
TOP_1_OF_200 = Top(1, 200).metric("the same as top 1 among 200 candidates, the right one and 199 random ones.")
TOP_5_OF_200 = Top(5, 200).metric("the same as top 5 among 200 candidates.")

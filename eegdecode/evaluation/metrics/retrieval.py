"""Top-k retrieval accuracy, for decoders whose output is compared with the targets of all candidates.

A hit is the probability of one if ties are broken at random. So a decoder with constant outputs has exactly the chance
level.
"""

import numpy as np
from scipy.stats import hypergeom, rankdata


def distinct(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Candidates [candidate, feature], and which is the true one of each row.

    A picture that was shown ten times is one candidate: as ten, nine right answers would count as wrong.
    """
    candidates, truth = np.unique(targets, axis=0, return_inverse=True)
    return candidates, truth.reshape(-1)


def cosine(outputs: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """[query, feature] and [candidate, feature] -> [query, candidate], from -1 to 1; 0 for a vector of zeros."""
    outputs, candidates = (np.asarray(x, np.float64) for x in (outputs, candidates))
    outputs, candidates = (
        x / np.where((length := np.linalg.norm(x, axis=1, keepdims=True)) > 0, length, np.inf)
        for x in (outputs, candidates)
    )
    return outputs @ candidates.T


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


def chance(n_candidates: int, k: int, ways: int | None = None) -> float:
    return k / (n_candidates if ways is None else ways)


def _probability(better: np.ndarray, tied: np.ndarray, n: int, k: int, ways: int | None) -> np.ndarray:
    """The true one is at a random position among its ties; of the others before it, some are drawn."""
    ways = n if ways is None else ways
    if not 1 <= k <= ways <= n:
        raise ValueError(f"top {k} of {ways} needs at least {ways} candidates and k from 1 to {ways}, got {n}")
    before = np.arange(n)
    among_first = hypergeom.cdf(k - 1, n - 1, before, ways - 1) if ways < n else (before < k).astype(float)
    total = np.concatenate([[0.0], np.cumsum(among_first)])
    return (total[better + tied + 1] - total[better]) / (tied + 1)

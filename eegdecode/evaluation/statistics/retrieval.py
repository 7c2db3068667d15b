"""Retrieval: the output for each window is compared with the targets of all candidates, by the cosine."""

import numpy as np

from eegdecode.evaluation.decode.predictions import Decoded, once


@once
def candidates(decoded: Decoded) -> tuple[np.ndarray, np.ndarray]:
    """The different targets of the test set [candidate, feature], and which is the true one of each window."""
    every, own = distinct(decoded.truth)
    if len(every) < 3:
        raise ValueError(
            f"retrieval needs 3 different targets in the test set at least, got {len(every)}: split otherwise"
        )
    return every, own


@once
def similarities(decoded: Decoded) -> np.ndarray:
    """[window, candidate]"""
    return cosine(decoded.output, candidates(decoded)[0])


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

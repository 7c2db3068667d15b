"""Fréchet distance of two sets of vectors, as of a network's features of generated and true images (FID, Heusel 2017).

0 for equal means and covariances. It depends on the network and on the number of vectors, and agrees only loosely with
human judgement (2206.10935): do not compare it across set-ups.
"""

import numpy as np


def frechet(mean: np.ndarray, covariance: np.ndarray, mean_: np.ndarray, covariance_: np.ndarray) -> float:
    """Between two Gaussians: |difference of means|² + tr(A + B - 2 (A^½ B A^½)^½)."""
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariance_ @ root)
    spread = np.trace(covariance) + np.trace(covariance_) - 2 * np.sqrt(np.maximum(shared, 0)).sum()
    return float(np.sum((mean - mean_) ** 2) + max(spread, 0.0))  # rounding makes it a little less than 0


def frechet_of(one: np.ndarray, other: np.ndarray) -> float:
    """Between two sets of vectors, [vector, feature] each. Few vectors make it too large: take as many of both."""
    if min(len(one), len(other)) < 2:
        raise ValueError(f"a covariance needs at least 2 vectors, got {len(one)} and {len(other)}")
    (mean, covariance), (mean_, covariance_) = (
        (x.mean(axis=0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])) for x in (one, other)
    )
    return frechet(mean, covariance, mean_, covariance_)

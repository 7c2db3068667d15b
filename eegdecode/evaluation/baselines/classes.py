"""What the decoders of classes share."""

import numpy as np

RANK = 1e-9
"""Of the largest eigenvalue: below, a direction was taken out, as by a reference, an interpolation or an ICA. What is
left there is the rounding of float32, which MNE's own estimate of the rank takes for signal."""
CHUNK = 256
"""Windows that are computed on at once."""


def two_or_more(y: np.ndarray) -> np.ndarray:
    """The classes that occur."""
    occur = np.unique(y)
    if len(occur) < 2:
        raise ValueError(f"two classes are needed in the training set, got {len(occur)}")
    return occur


def spanned(x: np.ndarray, most: int | None = None) -> np.ndarray:
    """An orthonormal basis [source, channel] of what windows [window, channel, time] of mean 0 span; at most so many
    sources, those with the largest variance."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), CHUNK):
        part = np.asarray(x[first : first + CHUNK], np.float64)
        total += np.tensordot(part, part, axes=([0, 2], [0, 2]))
    values, vectors = np.linalg.eigh(total)
    if not values[-1] > 0:
        raise ValueError("the signals of the training set are constant")
    n = min(int((values > RANK * values[-1]).sum()), most or len(values))
    return np.ascontiguousarray(vectors[:, -n:].T)


def of_all_classes(log_probabilities: np.ndarray, occur: np.ndarray, n_classes: int) -> np.ndarray:
    """Columns of the classes that occurred -> columns of all."""
    filled = np.full((len(log_probabilities), n_classes), float(np.log(np.finfo(np.float32).tiny)))
    filled[:, occur] = np.maximum(log_probabilities, filled[:, occur])
    return filled

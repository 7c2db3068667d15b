"""Structural similarity of pictures (Wang 2004), batched, in the two conventions that people publish. Numpy only.

skimage   7 × 7 uniform windows with the covariance of a sample: what scikit-image does unless told otherwise.
wang      11 × 11 Gaussian windows of sigma 1.5 with the covariance of a population: the paper.

Both are means over the windows that lie within the picture; torchmetrics takes those over a mirrored edge too, so it
differs from either. From -1 to 1, and 1 for identical ones. Chance is high, as two spectrograms resemble each other
anyhow: set what shuffled trials give beside it.
"""

from itertools import pairwise
from typing import Literal

import numpy as np

Mode = Literal["skimage", "wang"]
K1, K2 = 0.01, 0.03
OUTPUTS = 48  # of a filter as one matrix: more would be zeros mostly, fewer waste the caches
PAIRS_BYTES = 1 << 20  # of products in one go: what stays in a cache


def ssim(one: np.ndarray, other: np.ndarray, data_range: float, mode: Mode = "skimage") -> np.ndarray:
    """[..., row, column] twice -> [...], picture by picture; batches broadcast.

    `data_range` is how far the values can lie apart, and the same for all that are to be compared.
    """
    ones, others = np.broadcast_arrays(np.asarray(one, np.float64), np.asarray(other, np.float64))
    batch, shape = ones.shape[:-2], ones.shape[-2:]
    ones, others = ones.reshape(-1, *shape), others.reshape(-1, *shape)
    windows = _Windows(mode, shape, data_range)
    similarities = np.empty(len(ones))
    for some in _chunks(len(ones), (4 * shape[0], shape[1])):
        similarities[some] = windows.paired(ones[some], others[some])
    return similarities.reshape(batch)


def ssim_of_all(ones: np.ndarray, others: np.ndarray, data_range: float, mode: Mode = "skimage") -> np.ndarray:
    """Each with each, [n, row, column] and [m, row, column] -> [n, m].

    Means and variances are of a picture, not of a pair, so that a pair costs one filter instead of five.
    """
    ones, others = np.asarray(ones, np.float64), np.asarray(others, np.float64)
    shape = ones.shape[1:]
    if others.shape[1:] != shape:
        raise ValueError(f"pictures of {shape} and of {others.shape[1:]} cannot be compared: bring them to one size")
    windows = _Windows(mode, shape, data_range)
    about, about_others = windows.statistics(ones), windows.statistics(others)
    similarities = np.empty((len(ones), len(others)))
    for columns in _chunks(len(others), shape):
        together = min(len(others), columns.stop) - columns.start
        for rows in _chunks(len(ones), (together * shape[0], shape[1])):
            similarities[rows, columns] = windows.crossed(
                ones[rows, None], others[columns], about[:, rows, None], about_others[:, columns]
            )
    return similarities


def _chunks(n: int, shape: tuple[int, ...]) -> list[slice]:
    step = max(1, PAIRS_BYTES // (8 * shape[0] * shape[1]))
    return [slice(first, first + step) for first in range(0, n, step)]


class _Windows:
    """The windows of pictures of one size, and buffers: fresh memory for each chunk takes as long as the sums do."""

    def __init__(self, mode: Mode, shape: tuple[int, ...], data_range: float) -> None:
        if mode == "skimage":
            weights, self.unbiased = np.full(7, 1 / 7), 49 / 48
        elif mode == "wang":
            weights, self.unbiased = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2), 1.0
            weights /= weights.sum()
        else:
            raise ValueError(f"SSIM has the modes skimage and wang, but got {mode!r} instead")
        if min(shape) < len(weights):
            raise ValueError(
                f"a picture of {shape[0]} × {shape[1]} is smaller than a window of {mode}, {len(weights)} × "
                f"{len(weights)}: take longer or finer spectrograms{', or mode skimage' if mode == 'wang' else ''}"
            )
        if not data_range > 0:
            raise ValueError(f"data_range is how far values can lie apart, above 0, got {data_range}")
        self.c1, self.c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2  # so that flat places are no 0 / 0
        self.rows, self.columns = (_bands(n, weights) for n in shape)
        self._buffers: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def statistics(self, pictures: np.ndarray) -> np.ndarray:
        """[picture, row, column] -> mean and variance of each window, [2, picture, row, column]."""
        mean = self._filtered(pictures).copy()
        return np.stack([mean, self.unbiased * (self._filtered(pictures * pictures) - mean * mean)])

    def crossed(self, ones: np.ndarray, others: np.ndarray, about: np.ndarray, about_others: np.ndarray) -> np.ndarray:
        """Of pairs, from the pictures and their statistics."""
        (mean, variance), (mean_, variance_) = about, about_others
        shape = np.broadcast_shapes(ones.shape, others.shape)
        products = self._filtered(np.multiply(ones, others, out=self._buffer("crossed", shape)))
        both = np.multiply(mean, mean_, out=self._buffer("both", products.shape))
        squares = np.add(mean * mean, mean_ * mean_, out=self._buffer("squares", products.shape))
        variances = np.add(variance, variance_, out=self._buffer("variances", products.shape))
        return self._similarity(products, both, squares, variances)

    def paired(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Of pairs whose pictures appear once: of their variances only the sum is needed."""
        four = self._buffer("paired", (4, *ones.shape))
        np.multiply(ones, others, out=four[2])
        np.multiply(ones, ones, out=four[3])
        four[3] += np.multiply(others, others, out=four[0])
        four[0], four[1] = ones, others
        mean, mean_, products, variances = self._filtered(four)
        both = np.multiply(mean, mean_, out=self._buffer("both", mean.shape))
        mean *= mean
        mean_ *= mean_
        mean += mean_
        variances -= mean
        variances *= self.unbiased
        return self._similarity(products, both, mean, variances)

    def _similarity(
        self, products: np.ndarray, both: np.ndarray, squares: np.ndarray, variances: np.ndarray
    ) -> np.ndarray:
        """From the windows' means of products, products of means, sums of squared means and of variances."""
        products -= both
        products *= 2 * self.unbiased
        products += self.c2
        both *= 2
        both += self.c1
        products *= both
        squares += self.c1
        variances += self.c2
        squares *= variances
        products /= squares
        return products.mean(axis=(-2, -1))

    def _filtered(self, pictures: np.ndarray) -> np.ndarray:
        """The windows' means along one axis and then the other, in a buffer: as products with matrices, so small that
        BLAS takes one thread, as on a busy machine its threads wait for each other ten times as long as they work."""
        *batch, _, width = pictures.shape
        along = self._buffer("along", (*batch, self.rows[-1][0].stop, width))
        for some, inputs, matrix in self.rows:
            np.matmul(matrix, pictures[..., inputs, :], out=along[..., some, :])
        both = self._buffer("filtered", (*along.shape[:-1], self.columns[-1][0].stop))
        for some, inputs, matrix in self.columns:
            np.matmul(along[..., inputs], matrix.T, out=both[..., some])
        return both

    def _buffer(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if (name, shape) not in self._buffers:
            self._buffers[name, shape] = np.empty(shape)
        return self._buffers[name, shape]


def _bands(n: int, weights: np.ndarray) -> list[tuple[slice, slice, np.ndarray]]:
    """Along an axis of n inputs: some outputs, the inputs they see, and the matrix between."""
    size, n_outputs = len(weights), n - len(weights) + 1
    edges = np.linspace(0, n_outputs, -(-n_outputs // OUTPUTS) + 1).astype(int).tolist()
    bands = []
    for first, stop in pairwise(edges):
        matrix = np.zeros((stop - first, stop - first + size - 1))
        for output in range(stop - first):
            matrix[output, output : output + size] = weights
        bands.append((slice(first, stop), slice(first, stop + size - 1), matrix))
    return bands

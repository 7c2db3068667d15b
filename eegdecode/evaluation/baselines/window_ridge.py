"""Ridge regression from windows, averaged to a few instants, to vectors: the baseline for embeddings and numbers.

baseline = WindowRidge.fit(x, y, x_val, y_val)
baseline.decode(x)                  [window, feature]
"""

from dataclasses import dataclass

import numpy as np

PENALTIES = np.logspace(-4, 4, 17)  # in units of the mean eigenvalue, so that they mean the same for any data
N_INSTANTS = 16  # of a window


@dataclass(frozen=True)
class WindowRidge:
    """A linear map [instant and channel, feature] between centred inputs and outputs."""

    x_mean: np.ndarray
    y_mean: np.ndarray
    weights: np.ndarray
    penalty: float

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray) -> "WindowRidge":
        """Fit windows [window, time, channel] to vectors [window, feature]. The penalty is the one with the lowest mean
        squared error on the validation set."""
        inputs, y = downsampled(x), np.asarray(y, np.float64)
        x_mean, y_mean = inputs.mean(axis=0), y.mean(axis=0)
        inputs = inputs - x_mean
        values, vectors = np.linalg.eigh(inputs.T @ inputs)
        shared = vectors.T @ (inputs.T @ (y - y_mean))
        val_inputs, val_targets = (downsampled(x_val) - x_mean) @ vectors, y_val - y_mean
        floor = np.finfo(np.float64).tiny  # channels that are all 0 have nothing to penalise

        def weights(penalty: float) -> np.ndarray:
            return shared / np.maximum(values + penalty * values.mean(), floor)[:, None]

        errors = [np.mean((val_inputs @ weights(penalty) - val_targets) ** 2) for penalty in PENALTIES]
        chosen = float(PENALTIES[int(np.argmin(errors))])
        return cls(x_mean, y_mean, vectors @ weights(chosen), chosen)

    def decode(self, x: np.ndarray) -> np.ndarray:
        return (downsampled(x) - self.x_mean) @ self.weights + self.y_mean


def downsampled(x: np.ndarray) -> np.ndarray:
    """[window, time, channel] -> [window, instant and channel]: means over stretches of about equal length."""
    edges = np.linspace(0, x.shape[1], min(N_INSTANTS, x.shape[1]) + 1).astype(int)
    sums = np.add.reduceat(np.asarray(x, np.float64), edges[:-1], axis=1)
    return (sums / np.diff(edges)[:, None]).reshape(len(x), -1)

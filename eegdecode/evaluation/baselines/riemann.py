"""Covariances in the tangent space of their Riemannian mean, then logistic regression: a baseline for any classes.

    baseline = Riemann.fit(x, y)
    baseline.log_probabilities(x)       [window, class]

`Covariances` with shrinkage and `TangentSpace` of pyriemann, in the frequencies that preprocessing has left: what MOABB
calls Tangent Space LR (Barachant 2013).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from eegdecode.evaluation.baselines.classes import RANK, of_all_classes, spanned, two_or_more

MOST_SOURCES = 64  # time grows with their cube, and the tangent space has as many dimensions as half their square


@dataclass(frozen=True)
class Riemann:
    """The space that the channels span, [source, channel], and the pipeline of scikit-learn behind it."""

    space: np.ndarray
    pipeline: Any
    n_classes: int

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, n_classes: int | None = None) -> "Riemann":
        """From windows [window, time, channel] and classes [window]; rare classes count as much as frequent ones."""
        from pyriemann.estimation import Covariances
        from pyriemann.tangentspace import TangentSpace
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        occur = two_or_more(y)
        centred = _centred(x)
        space = spanned(centred, MOST_SOURCES)
        sources = space @ centred
        pipeline = make_pipeline(
            Covariances("oas"),
            FunctionTransformer(partial(_floored, variance=RANK * float(sources[:, -1].var()))),
            TangentSpace("riemann"),
            LogisticRegression(class_weight="balanced", max_iter=1000),
        )
        pipeline.fit(sources, y)
        return cls(space, pipeline, int(occur.max()) + 1 if n_classes is None else n_classes)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """[window, class]; a class that did not occur in training has a very small one."""
        log_p = self.pipeline.predict_log_proba(self.space @ _centred(x))
        return of_all_classes(log_p, self.pipeline.classes_, self.n_classes)


def _centred(x: np.ndarray) -> np.ndarray:
    """[window, time, channel] -> [window, channel, time], without the mean of each window."""
    x = np.asarray(x, np.float64).swapaxes(1, 2)
    return x - x.mean(axis=2, keepdims=True)


def _floored(covariances: np.ndarray, variance: float) -> np.ndarray:
    """A window in which nothing was recorded has a logarithm then too."""
    return covariances + variance * np.eye(covariances.shape[-1])

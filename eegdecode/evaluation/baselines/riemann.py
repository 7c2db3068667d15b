"""Covariances on their manifold: two baselines for any classes.

    baseline = Riemann.fit(x, y)
    baseline.log_probabilities(x)       [window, class]

`Covariances` with shrinkage, then `TangentSpace` and logistic regression, or `MDM`, the nearest mean, all of pyriemann
and in the frequencies that preprocessing has left: what MOABB calls Tangent Space LR and MDM (Barachant 2012, 2013).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from eegdecode.evaluation.baselines.classes import (
    RANK,
    HeldOut,
    fitted,
    logistic,
    of_all_classes,
    spanned,
    two_or_more,
)

MOST_SOURCES = 64  # time grows with their cube, and the tangent space has as many dimensions as half their square
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Riemann:
    """The space that the channels span, [source, channel], and the pipeline of scikit-learn behind it."""

    space: np.ndarray
    pipeline: Any
    n_classes: int

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, n_classes: int | None = None, held_out: HeldOut | None = None
    ) -> "Riemann":
        """From windows [window, time, channel] and classes [window]; rare classes count as much as frequent ones."""
        from pyriemann.tangentspace import TangentSpace
        from sklearn.pipeline import make_pipeline

        occur, space, covariances = _prepared(x, y)
        tangent = make_pipeline(*covariances, TangentSpace("riemann"))
        features = tangent.fit_transform(space @ centred(x), y)
        classifiers = logistic(held_out)
        classifier = fitted(classifiers, features, y, held_out, lambda other: tangent.transform(space @ centred(other)))
        pipeline = make_pipeline(*tangent, classifier)
        return cls(space, pipeline, int(occur.max()) + 1 if n_classes is None else n_classes)

    @classmethod
    def nearest_mean(cls, x: np.ndarray, y: np.ndarray, n_classes: int | None = None) -> "Riemann":
        """As `fit`, by the distances from the mean of each class. There is nothing to be chosen."""
        from pyriemann.classification import MDM
        from sklearn.pipeline import make_pipeline

        occur, space, covariances = _prepared(x, y)
        pipeline = make_pipeline(*covariances, MDM("riemann")).fit(space @ centred(x), y)
        return cls(space, pipeline, int(occur.max()) + 1 if n_classes is None else n_classes)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """[window, class]; a class that did not occur in training has a very small one."""
        probabilities = np.maximum(self.pipeline.predict_proba(self.space @ centred(x)), TINY)
        return of_all_classes(np.log(probabilities), self.pipeline.classes_, self.n_classes)


def _prepared(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
    """The classes that occur, the space of the signals, and the covariances in it."""
    from pyriemann.estimation import Covariances
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    occur, signals = two_or_more(y), centred(x)
    space = spanned(signals, MOST_SOURCES)
    floor = RANK * float((space[-1] @ signals).var())
    return occur, space, make_pipeline(Covariances("oas"), FunctionTransformer(partial(_floored, variance=floor)))


def centred(x: np.ndarray) -> np.ndarray:
    """[window, time, channel] -> [window, channel, time], without the mean of each window."""
    x = np.asarray(x, np.float64).swapaxes(1, 2)
    return x - x.mean(axis=2, keepdims=True)


def _floored(covariances: np.ndarray, variance: float) -> np.ndarray:
    """A window in which nothing was recorded has a logarithm then too."""
    return covariances + variance * np.eye(covariances.shape[-1])

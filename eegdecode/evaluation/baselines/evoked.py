"""Evoked responses: two baselines for windows that are locked to an event.

    baseline = Evoked.fit(x, y)         or Xdawn.fit
    baseline.log_probabilities(x)       [window, class]

Evoked is a regularised LDA on the means of each channel over stretches of time (Blankertz 2011). Xdawn is the
covariance of a window with the mean responses of each class, both seen through the xDAWN filters of the class, in a
tangent space with logistic regression: `XdawnCovariances` of pyriemann (Rivet 2009, Barachant 2014).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from eegdecode.evaluation.baselines.classes import HeldOut, fitted, lda, logistic, of_all_classes, spanned, two_or_more
from eegdecode.evaluation.baselines.riemann import MOST_SOURCES, TINY, centred
from eegdecode.evaluation.baselines.window_ridge import downsampled

MOST_CLASSES = 16
"""Xdawn has filters for each class; of more classes it would have too many."""
MOST_FILTERS = 4  # of a class, pyriemann's number


@dataclass(frozen=True)
class Evoked:
    """The space that the channels span, [source, channel], and the LDA on the means of stretches."""

    space: np.ndarray
    classifier: Any
    n_classes: int

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, n_classes: int | None = None, held_out: HeldOut | None = None
    ) -> "Evoked":
        """From windows [window, time, channel] and classes [window]; rare classes count as much as frequent ones."""
        occur = two_or_more(y)
        space = spanned(centred(x), MOST_SOURCES)
        classifier = fitted(
            lda(len(occur), held_out), downsampled(x @ space.T), y, held_out, lambda other: downsampled(other @ space.T)
        )
        return cls(space, classifier, int(occur.max()) + 1 if n_classes is None else n_classes)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """[window, class]; a class that did not occur in training has a very small one."""
        log_p = self.classifier.predict_log_proba(downsampled(x @ self.space.T))
        return of_all_classes(log_p, self.classifier.classes_, self.n_classes)


@dataclass(frozen=True)
class Xdawn:
    """The space that the channels span, [source, channel], and the pipeline of scikit-learn behind it."""

    space: np.ndarray
    pipeline: Any
    n_classes: int

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, n_classes: int | None = None, held_out: HeldOut | None = None
    ) -> "Xdawn":
        """From windows [window, time, channel] and classes [window]; rare classes count as much as frequent ones."""
        from pyriemann.estimation import XdawnCovariances
        from pyriemann.tangentspace import TangentSpace
        from sklearn.pipeline import make_pipeline

        occur = two_or_more(y)
        if len(occur) > MOST_CLASSES:
            raise ValueError(f"it has filters for each of {MOST_CLASSES} classes at most, got {len(occur)}")
        signals = centred(x)
        space = spanned(signals, MOST_SOURCES)
        n_filters = max(1, min(MOST_FILTERS, len(space), MOST_CLASSES // len(occur)))
        tangent = make_pipeline(
            XdawnCovariances(n_filters, estimator="oas", xdawn_estimator="oas"), TangentSpace("riemann")
        )
        features = tangent.fit_transform(space @ signals, y)
        classifiers = logistic(held_out)
        classifier = fitted(classifiers, features, y, held_out, lambda other: tangent.transform(space @ centred(other)))
        pipeline = make_pipeline(*tangent, classifier)
        return cls(space, pipeline, int(occur.max()) + 1 if n_classes is None else n_classes)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """[window, class]; a class that did not occur in training has a very small one."""
        probabilities = np.maximum(self.pipeline.predict_proba(self.space @ centred(x)), TINY)
        return of_all_classes(np.log(probabilities), self.pipeline.classes_, self.n_classes)

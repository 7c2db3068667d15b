"""Average the outputs of several models, evenly or weighted by how sure each model is. Numpy only."""

from typing import Literal

import numpy as np

Weigh = Literal["mean", "confidence", "entropy"]


def together(outputs: np.ndarray, weigh: Weigh, are_classes: bool) -> np.ndarray:
    """[model, window, …] -> [window, …]. Outputs of classes are log probabilities, [model, window, class]."""
    refuse_unsure(weigh, len(outputs), are_classes)
    if not are_classes:
        return outputs.mean(axis=0)
    probabilities = np.exp(outputs)
    mixed = (weights(probabilities, weigh)[:, :, None] * probabilities).sum(axis=0)
    return np.log(np.maximum(mixed, np.finfo(np.float32).tiny))


def refuse_unsure(weigh: Weigh, n_models: int, are_classes: bool) -> None:
    if weigh != "mean" and n_models > 1 and not are_classes:
        raise ValueError(f"weigh={weigh} needs to know how sure a model is, as only classifiers do: say weigh=mean")


def weights(probabilities: np.ndarray, weigh: Weigh) -> np.ndarray:
    """[model, window, class] -> weights [model, window] with sum 1 over models: equal; by the probability of the
    likeliest class above chance; or by how far the entropy is below that of a uniform distribution. Equal if all are
    uniform."""
    n_classes = probabilities.shape[2]
    if weigh == "mean":
        sure = np.ones(probabilities.shape[:2])
    elif weigh == "confidence":
        sure = probabilities.max(axis=2) - 1 / n_classes
    else:
        entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(axis=2)
        sure = 1 - entropy / np.log(n_classes)
    sure = np.maximum(sure, 0)
    total = sure.sum(axis=0, keepdims=True)
    known = total > 1e-6
    return np.where(known, sure / np.where(known, total, 1), 1 / len(probabilities))

"""A metric: how it is computed, and its chance level and null beside it."""

import numpy as np

from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics.results import ExtraMetric


def score(decoded: Decoded) -> float:
    return float(np.mean([np.mean(np.sign(each.output) == np.sign(each.target)) for each in decoded.trials]))


def null(decoded: Decoded, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).binomial(len(decoded.trials), 0.5, n) / len(decoded.trials)


SIGN = ExtraMetric("Same sign", "the share of samples whose sign is right.", ("sequence",), score, lambda _: 0.5, null)

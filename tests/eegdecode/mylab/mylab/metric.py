"""A metric: its function, with its label, chance level and null."""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring


def score(decoded: Decoded, cfg: Scoring) -> float:
    return float(np.mean([np.mean(np.sign(each.output) == np.sign(each.target)) for each in decoded.trials]))


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    n_trials = len(decoded.trials)
    return np.random.default_rng(cfg.seed).binomial(n_trials, 0.5, cfg.n_null) / n_trials


SIGN = Metric(
    "mylab_sign", "Same sign", "the share of samples whose sign is right.", ("sequence",), score, chance=0.5, null=null
)

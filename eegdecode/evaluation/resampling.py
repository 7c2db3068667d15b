"""How a figure depends on which subjects are tested: the test subjects drawn again, with replacement.

The windows of a subject stay together, since they are alike. For balanced accuracy the confusion matrices of the drawn
subjects are added up, so that a subject with one class counts too; for others their own figures are averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import Metric
from eegdecode.evaluation.metrics.balanced_accuracy import balanced_accuracy
from eegdecode.evaluation.statistics.confusion import confusion, predicted, truth
from eegdecode.evaluation.statistics.nulls import draws

SUBJECTS = 11  # separates these draws from others of the same seed
FEWEST = 3
"""Subjects: of fewer, too few samples can be drawn."""


def over_subjects(decoded: Sequence[Decoded], metric: Metric, n_draws: int, seed: int = 0) -> np.ndarray:
    """The figure for each draw of as many subjects, [draw]; empty for fewer than three. `decoded`: of several runs, as
    the folds of a cross-validation."""
    names = sorted({trial.subject for each in decoded for trial in each.trials})
    if len(names) < FEWEST:
        return np.empty(0)
    drawn = draws(seed, SUBJECTS).integers(0, len(names), (n_draws, len(names)))
    if metric.name == "balanced_accuracy":
        of_subject = _confusions(decoded, {name: number for number, name in enumerate(names)})
        return balanced_accuracy(of_subject[drawn].sum(axis=1))
    figures = by_subject(decoded, metric)
    own = np.array([figures.get(name, np.nan) for name in names])
    return np.nanmean(own[drawn], axis=1)


def by_subject(decoded: Sequence[Decoded], metric: Metric) -> dict[str, float]:
    """The figure of each subject, the mean over the runs that tested it."""
    figures: dict[str, list[float]] = {}
    for each in decoded:
        for name in sorted({trial.subject for trial in each.trials}):
            figures.setdefault(name, []).append(_of_subject(each, name, metric))
    return {name: float(np.mean(values)) for name, values in sorted(figures.items())}


def _of_subject(decoded: Decoded, name: str, metric: Metric) -> float:
    if metric.headline is not None:
        order = sorted({trial.subject for trial in decoded.trials})
        return float(metric.headline.by_subject(decoded, Scoring())[order.index(name)])
    own = replace(decoded, trials=tuple(trial for trial in decoded.trials if trial.subject == name), baselines={})
    score = metric.score(own, Scoring())
    return float("nan") if score is None else float(np.nanmean(score))


def _confusions(decoded: Sequence[Decoded], numbers: Mapping[str, int]) -> np.ndarray:
    """[subject, true class, predicted class]."""
    n_classes = decoded[0].output.shape[1]
    counts = np.zeros((len(numbers), n_classes, n_classes), np.int64)
    for each in decoded:
        subjects = np.array([numbers[trial.subject] for trial in each.trials])
        true, answers = truth(each), predicted(each)
        for number in np.unique(subjects):
            mine = subjects == number
            counts[number] += confusion(true[mine], answers[mine], n_classes)
    return counts

"""Pearson's r of numbers, the headline of values: over the windows of each subject, the mean over subjects.

Its null draws the target of each recording anew, so that it drifts as much. If each subject has one value, as a score
of a questionnaire, it is r over subjects, and subjects are permuted, not windows.
"""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Headline, Metric, Scoring, once
from eegdecode.evaluation.statistics import grouping, nulls
from eegdecode.evaluation.statistics.correlation import correlation


def score(decoded: Decoded, cfg: Scoring) -> float:
    if grouping.is_of_people(decoded):
        output, truth = _means(decoded)
        return float(correlation(output, truth).mean())
    return float(by_subject(decoded, cfg).mean())


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    if grouping.is_of_people(decoded):
        output, truth = _means(decoded)
        return correlation(output[None], truth[_orders(decoded, cfg)]).mean(axis=-1)
    return null_by_subject(decoded, cfg).mean(axis=1)


def what(decoded: Decoded) -> str:
    if not grouping.is_of_people(decoded):
        return "Pearson's r over the test windows of a subject, the mean over subjects"
    return "Pearson's r over subjects"


def permuted(decoded: Decoded) -> nulls.Permuted | None:
    return nulls.Permuted.all_of(len(_means(decoded)[0]), "subjects") if grouping.is_of_people(decoded) else None


def by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    """r over the subject's windows; of subjects who have one value each, minus the error of the mean output, in
    standard deviations."""
    if grouping.is_of_people(decoded):
        output, truth = _means(decoded)
        return -np.abs(output - truth).mean(axis=1) / _spread(decoded)
    (subjects, _), output, truth = grouping.numbers(decoded), decoded.output, decoded.truth
    each = (subjects == number for number in range(int(subjects.max()) + 1))
    return np.array([float(correlation(output[own], truth[own]).mean()) for own in each])


@once
def null_by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    if grouping.is_of_people(decoded):
        output, truth = _means(decoded)
        return -np.abs(output[None] - truth[_orders(decoded, cfg)]).mean(axis=2) / _spread(decoded)
    (subjects, _), output, truth = grouping.numbers(decoded), decoded.output, decoded.truth
    recordings, null = grouping.in_time(decoded), []
    for number in range(int(subjects.max()) + 1):
        own = [each for each in recordings if subjects[each[0]] == number]
        null.append(nulls.correlations_dealt(output, truth, own, cfg.n_null, cfg.seed + number))
    return np.array(null).T


@once
def _means(decoded: Decoded) -> tuple[np.ndarray, np.ndarray]:
    """The mean output of each subject, and its value [subject, feature]."""
    subjects, _ = grouping.numbers(decoded)
    truth = grouping.by_subject(subjects, decoded.truth.T).T
    if len(truth) < 3:
        raise ValueError(f"one value per subject needs 3 subjects in the test set at least, got {len(truth)}")
    return grouping.by_subject(subjects, decoded.output.T).T, truth


def _orders(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return nulls.orders(len(_means(decoded)[1]), cfg.n_null, cfg.seed)


def _spread(decoded: Decoded) -> float:
    return float(decoded.truth.std()) or 1.0


R = Metric(
    "r",
    "r",
    "Pearson's correlation of decoded and true: 1 is perfect, 0 unrelated.",
    ("values",),
    score,
    0.0,
    null,
    headline=Headline(
        what,
        by_subject,
        null_by_subject,
        lambda decoded: "minus the error, in standard deviations" if grouping.is_of_people(decoded) else "",
        permuted,
        ends=(-1.0, 1.0),
    ),
    order=0,
)

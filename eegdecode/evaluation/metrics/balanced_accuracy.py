"""Balanced accuracy, the headline of classes: the mean recall. Its null permutes the classes among exchangeable units:
trials, blocks, recordings, or subjects if each has one class, as patients and controls.
"""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Headline, Metric, Scoring, once
from eegdecode.evaluation.statistics import grouping, nulls
from eegdecode.evaluation.statistics.confusion import confusion, confusion_of, dealt, predicted, truth


def balanced_accuracy(confusions: np.ndarray) -> np.ndarray:
    """The mean recall over the classes that occur. From 0 to 1; chance is 1 / their number."""
    occur = confusions.sum(axis=-1)
    recall = np.diagonal(confusions, axis1=-2, axis2=-1) / np.maximum(occur, 1)
    return recall.sum(axis=-1) / (occur > 0).sum(axis=-1)


def score(decoded: Decoded, cfg: Scoring) -> float:
    return float(balanced_accuracy(confusion_of(decoded)))


def chance(decoded: Decoded, cfg: Scoring) -> float:
    return 1 / len(np.unique(truth(decoded)))


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return balanced_accuracy(dealt(decoded, cfg))


def what(decoded: Decoded) -> str:
    if not grouping.is_of_people(decoded):
        return "the mean recall over classes"
    return "the mean recall over classes, of which each subject has one"


def permuted(decoded: Decoded) -> nulls.Permuted:
    units = grouping.units(decoded)
    return nulls.Permuted(str(units), units.smallest_p, units.confound)


def by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    """Balanced accuracy; of subjects who have one class each, the share of windows that are classified correctly."""
    if grouping.is_of_people(decoded):
        own = _class_of_each(decoded)
        return _shares(decoded)[own, np.arange(len(own))]
    n_classes, true, answers = decoded.output.shape[1], truth(decoded), predicted(decoded)
    of_each = (confusion(true[mine], answers[mine], n_classes) for mine in _windows_of_each(decoded))
    return np.array([float(balanced_accuracy(each)) for each in of_each])


def by_unit(decoded: Decoded, cfg: Scoring) -> tuple[np.ndarray, str]:
    """What each exchangeable unit adds: a window that is right counts by how rare its class is."""
    true, unit = truth(decoded), np.unique(grouping.units(decoded).of, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(true)
    right = (predicted(decoded) == true) / (np.count_nonzero(counts) * counts[true])
    sums = np.bincount(unit, right)
    return len(sums) * sums, "exchangeable units"


def null_by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    """With the classes permuted among the units of the subject; or with the class of another subject."""
    if grouping.is_of_people(decoded):
        own = _class_of_each(decoded)
        others = own[nulls.permutations(len(own), cfg.n_null, cfg.seed)]
        return _shares(decoded)[others, np.arange(len(own))]
    n_classes, true, answers = decoded.output.shape[1], truth(decoded), predicted(decoded)
    units = grouping.units(decoded)
    of_each = [
        nulls.confusions_dealt(
            true[mine],
            answers[mine],
            n_classes,
            cfg.n_null,
            cfg.seed + number,
            units.of[mine],
            units.within[mine],
            exactly=False,  # as many draws for each subject
        )
        for number, mine in enumerate(_windows_of_each(decoded))
    ]
    return np.array([balanced_accuracy(each) for each in of_each]).T


def _windows_of_each(decoded: Decoded) -> list[np.ndarray]:
    subjects, _ = grouping.numbers(decoded)
    return [subjects == number for number in range(int(subjects.max()) + 1)]


def _class_of_each(decoded: Decoded) -> np.ndarray:
    """[subject]: the class that all of its windows have."""
    subjects, _ = grouping.numbers(decoded)
    return truth(decoded)[np.unique(subjects, return_index=True)[1]]


@once
def _shares(decoded: Decoded) -> np.ndarray:
    """[class, subject]: the share of the subject's windows that are classified so."""
    subjects, _ = grouping.numbers(decoded)
    return grouping.by_subject(subjects, np.eye(decoded.output.shape[1])[predicted(decoded)].T)


BALANCED_ACCURACY = Metric(
    "balanced_accuracy",
    "Balanced accuracy",
    "the share of windows classified correctly, the mean over classes.",
    ("classes",),
    score,
    chance,
    null,
    headline=Headline(
        what,
        by_subject,
        null_by_subject,
        lambda decoded: "the share of correct windows" if grouping.is_of_people(decoded) else "",
        permuted,
        by_unit,
        ends=(0.0, 1.0),
    ),
    order=0,
)

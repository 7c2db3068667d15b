"""What else than the brain may tell the classes of a test set: recording, subject or time, copies, sounds in channels.

    of_labels(data, target)                         for the audit, over all trials
    of(trained, decoded, data, parts, findings)     for an evaluation: what caps its headline, and how high each reaches

A confound caps what is not above the balanced accuracy of a decoder that knows it alone: the commonest class of its
recording in the training set, say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from eegdecode.data.split.splits import Splits
from eegdecode.data.store.dataset import Store, Stored
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.statistics.confusion import truth
from eegdecode.training.model_file import Trained

CONFOUNDED = 1e-4
"""Largest p at which classes are confounded with recordings."""
HALF = "half of the recording"
WHATS = ("recording", "subject", HALF)
REACHES = " predicts the class with a balanced accuracy of "


@dataclass(frozen=True)
class Confound:
    """`accuracy`: the share of the trials in which the commonest class of its recording, say, is the right one."""

    what: str
    p: float
    accuracy: float


def of_labels(data: Store, target: str) -> Iterator[Confound]:
    classes = np.concatenate([stored.values(target)[:, 0] for stored in data.recordings])
    if len(np.unique(classes)) < 2 or len(np.unique(classes)) > len(classes) / 2:
        return
    for what in WHATS:
        p, accuracy = uneven(classes, [name for stored in data.recordings for name in _names(what, stored)])
        if p < CONFOUNDED:
            yield Confound(what, p, accuracy)


def _names(what: str, stored: Stored) -> list[str]:
    """[trial]"""
    if what != HALF:
        return [stored.name if what == "recording" else stored.subject] * len(stored.trials)
    starts = np.array([trial.start for trial in stored.trials])
    return np.where(starts > np.median(starts), "later", "earlier").tolist() if len(starts) else []


def uneven(classes: np.ndarray, names: Sequence[str]) -> tuple[float, float]:
    """p of a permutation test that classes are spread evenly over names; and the share of trials in which the commonest
    class of the name is the right one."""
    _, of_class = np.unique(classes, return_inverse=True)
    _, of_name = np.unique(np.array(names), return_inverse=True)
    if of_name.max() == 0:
        return 1.0, 0.0

    def table(order: np.ndarray) -> np.ndarray:
        counts = np.zeros((of_name.max() + 1, of_class.max() + 1))
        np.add.at(counts, (of_name, of_class[order]), 1)
        return counts

    def chi2(counts: np.ndarray) -> float:
        expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
        return float(((counts - expected) ** 2 / np.maximum(expected, 1e-12)).sum())

    own = table(np.arange(len(classes)))
    rng = np.random.default_rng(0)
    null = np.array([chi2(table(rng.permutation(len(classes)))) for _ in range(200)])
    # Smaller p than 200 permutations can give, by a gamma distribution with their mean and variance
    shape, scale = null.mean() ** 2 / null.var(), null.var() / null.mean()
    return float(stats.gamma.sf(chi2(own), shape, scale=scale)), float(own.max(axis=1).sum() / own.sum())


def of(
    trained: Trained, decoded: Decoded, data: Store, parts: Splits, findings: Iterable[Mapping[str, str]]
) -> dict[str, float]:
    """Sentences, and the balanced accuracy that each confound reaches by itself. `findings`: those of an audit of the
    same data; copies and sounds among them reach anything."""
    reached: dict[str, float] = {}
    if decoded.kind == "classes":
        for each in of_labels(data, trained.target):
            reach = _alone(each.what, trained.target, decoded, data, parts)
            if reach > 1 / len(decoded.classes):
                reached[f"the {each.what} alone{REACHES}{reach:.2f}"] = reach
    in_training = {data.recordings[each.recording].name for each in (*parts.train, *parts.val)}
    in_test = {trial.recording for trial in decoded.trials}
    follows = [f"channel {channel} follows {trained.target} " for channel in trained.spec.channels]
    for finding in findings:
        names = set(finding["where"].split(" and "))
        is_copy = finding["what"] == "copy" and names & in_training and names & in_test
        is_sound = finding["what"] == "sound" and any(words in finding["sentence"] for words in follows)
        if is_copy or is_sound:
            reached[f"{finding['where']}: {finding['sentence']}"] = 1.0
    return reached


def of_folds(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The confounds of a cross-validation: what each reaches in the mean over the folds that have it."""
    several: dict[str, list[float]] = {}
    for own in folds:
        for sentence, reach in own.items():
            several.setdefault(sentence.partition(REACHES)[0], []).append(reach)
    numbered = {sentence.partition(REACHES)[0] for own in folds for sentence in own if REACHES in sentence}
    means = {what: float(np.mean(reached)) for what, reached in several.items()}
    return {f"{what}{REACHES}{mean:.2f}" if what in numbered else what: mean for what, mean in means.items()}


def _alone(what: str, target: str, decoded: Decoded, data: Store, parts: Splits) -> float:
    """The balanced accuracy on the test set of the commonest class of each name in the training set, in which classes
    count alike. A name that is not there tells nothing."""
    kinds = np.unique(np.concatenate([stored.values(target)[:, 0] for stored in data.recordings]))
    names = {stored.name: _names(what, stored) for stored in data.recordings}
    counts: dict[str, np.ndarray] = {}
    for recording in sorted({segment.recording for segment in parts.train}):
        stored = data.recordings[recording]
        place = {trial: row for row, trial in enumerate(stored.trials)}
        own = np.searchsorted(kinds, stored.values(target)[:, 0])
        for row in (place[segment.trial] for segment in parts.train if segment.recording == recording):
            counts.setdefault(names[stored.name][row], np.zeros(len(kinds)))[own[row]] += 1
    of_class = np.maximum(sum(counts.values(), np.zeros(len(kinds))), 1)
    commonest = {name: int((own / of_class).argmax()) for name, own in counts.items()}
    true = truth(decoded)
    answers = np.array([commonest.get(names[each.recording][each.trial], -1) for each in decoded.trials])
    guessed = np.where(answers < 0, 1 / len(kinds), answers == true)
    return float(np.mean([guessed[true == each].mean() for each in np.unique(true)]))

"""What was found, beside chance, baselines, and how sure one may be over subjects; and how it is found of windows that
have one answer each: classes, embeddings to be retrieved, numbers. What follows a signal in time is in metrics.py.

    found = judge(decoded, scoring)         decoded.baselines say what simpler decoders make of the same windows
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import factorial, prod
from typing import Any

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import correlation, grouping, intervals, nulls, retrieval
from eegdecode.evaluation.metrics.classes import Tally, balanced_accuracy, kappa, weighted_f1
from eegdecode.evaluation.metrics.classes import confusion as confusion_of

ALPHA = 0.05


@dataclass(frozen=True)
class Measured:
    """A figure, what chance gives, what 95 % of draws in which nothing can be decoded stay below, and the share of them
    that reach it; and where the mean over subjects lies, from low to high, in 95 of 100 studies."""

    value: float
    chance: float
    bound: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def is_above_chance(self) -> bool:
        return self.p is not None and self.p < ALPHA


@dataclass(frozen=True)
class OfTrials:
    """A figure of each trial [trial], NaN for those that have none; what chance gives; and the mean over trials where
    nothing is decoded [null]."""

    value: np.ndarray
    chance: float
    null: np.ndarray | None = None

    def measured(self) -> Measured:
        value = float(np.nanmean(self.value))
        if self.null is None:
            return Measured(value, self.chance)
        return Measured(
            value, self.chance, float(np.quantile(self.null, 1 - ALPHA)), float(nulls.p_value(value, self.null))
        )


@dataclass(frozen=True)
class OfSubject:
    """`bound`: what 95 % of draws stay below in which nothing of this subject can be decoded."""

    subject: str
    n_windows: int
    value: float
    p: float
    p_holm: float  # corrected for that there are many subjects
    baselines: Mapping[str, float]
    bound: float
    figures: Mapping[str, float] = field(default_factory=dict)  # others, where each subject has its own


@dataclass(frozen=True)
class Findings:
    """`headline` names the figure that decides; `figures` and `baselines` have it, and others."""

    kind: str
    headline: str
    what: str
    figures: Mapping[str, Measured]
    baselines: Mapping[str, Mapping[str, float]]
    subjects: tuple[OfSubject, ...]
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    channels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What each channel is to the network, and to a baseline: see relevance.py."""
    of_subjects: str = ""
    """What the figure of each subject is, where it is not the headline."""

    @property
    def verdict(self) -> str:
        return "above chance" if self.figures[self.headline].is_above_chance else "not above chance"

    def summary(self) -> dict[str, object]:
        """What the stage returns."""
        said: dict[str, object] = {
            name: {"value": figure.value, "chance": figure.chance} for name, figure in self.figures.items()
        }
        for name, figures in self.baselines.items():
            said[f"{self.headline}_{name}"] = figures[self.headline]
        return {**said, "p": self.figures[self.headline].p, "verdict": self.verdict}

    def plain(self) -> dict[str, Any]:
        return {"verdict": self.verdict, **asdict(self)}


def judge(decoded: Decoded, cfg: Scoring) -> Findings:
    return {"classes": _classes, "retrieval": _retrieval, "values": _values}[decoded.kind](decoded, cfg)


Figures = dict[str, float]


def _classes(decoded: Decoded, cfg: Scoring) -> Findings:
    truth, n = decoded.truth[:, 0].astype(np.int64), len(decoded.classes)
    subjects, trials = grouping.numbers(decoded)
    if grouping.is_one_each(truth, subjects):
        return _classes_of_people(decoded, cfg, subjects)

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        """Balanced accuracy of each subject, and of each with classes dealt out anew within it [null, subject]."""
        said = of.output.argmax(axis=1)
        own, null = [], []
        for number in range(int(subjects.max()) + 1):
            mine = subjects == number
            own.append(float(balanced_accuracy(confusion_of(truth[mine], said[mine], n))))
            dealt = nulls.confusions_dealt(truth[mine], said[mine], n, cfg.n_null, cfg.seed + number, trials[mine])
            null.append(balanced_accuracy(dealt))
        return np.array(own), np.array(null).T

    said = decoded.output.argmax(axis=1)
    dealt = nulls.confusions_dealt(truth, said, n, cfg.n_null, cfg.seed, trials, subjects)
    what = "the share that is right, the mean over classes"
    return _found(decoded, "balanced_accuracy", what, _told, *_chance_of_classes(truth, dealt), scores)


def _told(of: Decoded) -> Figures:
    tally = Tally.of(of.truth[:, 0].astype(np.int64), of.output)
    counts = tally.confusion
    return {
        "balanced_accuracy": float(balanced_accuracy(counts)),
        "kappa": float(kappa(counts)),
        "weighted_f1": float(weighted_f1(counts)),
        "auroc": tally.auroc,
    }


def _chance_of_classes(truth: np.ndarray, dealt: np.ndarray) -> tuple[Figures, np.ndarray]:
    """Of each figure, and balanced accuracy of each draw, from confusions where nothing can be told."""
    chances = {"kappa": 0.0, "auroc": 0.5, "weighted_f1": float(weighted_f1(dealt).mean())}
    return chances | {"balanced_accuracy": 1 / len(np.unique(truth))}, balanced_accuracy(dealt)


def _classes_of_people(decoded: Decoded, cfg: Scoring, subjects: np.ndarray) -> Findings:
    """Where each subject has one class, as patients and controls: subjects, not windows, are what is dealt out."""
    truth = decoded.truth[:, 0].astype(np.int64)
    own = truth[np.unique(subjects, return_index=True)[1]]
    dealt = own[nulls.permutations(len(own), cfg.n_null, cfg.seed)]
    said = decoded.output.argmax(axis=1)
    confusions = nulls.confusions_dealt(truth, said, len(decoded.classes), cfg.n_null, cfg.seed, subjects)

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        """The share of each subject's windows that is right, and that are told as the class it was dealt."""
        shares = grouping.by_subject(subjects, np.eye(len(decoded.classes))[of.output.argmax(axis=1)].T)
        return shares[own, np.arange(len(own))], shares[dealt, np.arange(len(own))]

    what = "the share that is right, the mean over classes, of which each subject has one"
    counts = np.bincount(own)
    orders = factorial(len(own)) // prod(factorial(int(count)) for count in counts)
    what += _least(orders, f"{len(own)} subjects")
    found = _found(decoded, "balanced_accuracy", what, _told, *_chance_of_classes(truth, confusions), scores)
    return _of_subjects(found, "the share that is right")


def _retrieval(decoded: Decoded, cfg: Scoring) -> Findings:
    candidates, own = retrieval.distinct(decoded.truth)
    n = len(candidates)
    if n < 3:
        raise ValueError(f"retrieval needs 3 different targets in the test part at least, got {n}: split otherwise")
    ways: dict[str, tuple[int, int | None]] = {f"top{k}": (k, None) for k in (1, 5, 10) if k < n}
    if n > 200:
        ways |= {"top1_of_200": (1, 200), "top5_of_200": (5, 200)}
    headline = "top5" if "top5" in ways and n >= 20 else "top1"
    subjects, _ = grouping.numbers(decoded)

    def figures(of: Decoded) -> Figures:
        scores = retrieval.cosine(of.output, candidates)
        found = {name: float(retrieval.hits(scores, own, k, among).mean()) for name, (k, among) in ways.items()}
        true = scores[np.arange(len(own)), own][:, None]
        rank = ((scores < true).sum(axis=1) + 0.5 * ((scores == true).sum(axis=1) - 1)) / (n - 1)
        return found | {"rank": float(rank.mean())}

    def hits(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        k, among = ways[headline]
        table = retrieval.hits_of_all(retrieval.cosine(of.output, candidates), k, among)
        return table[np.arange(len(own)), own], nulls.pieces_dealt(table, own, cfg.n_null, cfg.seed)

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        value, null = hits(of)
        return grouping.by_subject(subjects, value[None])[0], grouping.by_subject(subjects, null)

    chances = {name: retrieval.chance(n, k, among) for name, (k, among) in ways.items()} | {"rank": 0.5}
    null = hits(decoded)[1].mean(axis=1)
    what = f"how often the right one of {n} candidates is among the first {ways[headline][0]}"
    what += _least(factorial(n), f"{n} candidates")
    return _found(decoded, headline, what, figures, chances, null, scores)


def _values(decoded: Decoded, cfg: Scoring) -> Findings:
    subjects, _ = grouping.numbers(decoded)
    truth = decoded.truth
    if grouping.is_one_each(truth, subjects):
        return _scores_of_people(decoded, cfg, subjects)
    recordings = grouping.in_time(decoded)

    def figures(of: Decoded) -> Figures:
        return {
            "r": float(of_each(of).mean()),
            "r_pooled": float(correlation.correlation(of.output, truth).mean()),
            "nrmse": float(np.mean(correlation.nrmse(of.output, truth))),
        }

    def of_each(of: Decoded) -> np.ndarray:
        each = (subjects == number for number in range(int(subjects.max()) + 1))
        return np.array([float(correlation.correlation(of.output[own], truth[own]).mean()) for own in each])

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        null = []
        for number in range(int(subjects.max()) + 1):
            own = [each for each in recordings if subjects[each[0]] == number]
            null.append(nulls.correlations_dealt(of.output, truth, own, cfg.n_null, cfg.seed + number))
        return of_each(of), np.array(null).T

    null = scores(decoded)[1].mean(axis=1)
    # Who knows the mean of each recording, and nothing else
    means = np.empty(truth.shape)
    for each in recordings:
        means[each] = truth[each].mean(axis=0)
    told = np.sum(correlation.unit(decoded.output) * (means - means.mean(axis=0)), axis=0)
    pooled = float(np.mean(told / np.linalg.norm(truth - truth.mean(axis=0), axis=0)))
    what = "Pearson's r over the test windows of a subject, the mean over subjects"
    return _found(decoded, "r", what, figures, {"r": 0.0, "r_pooled": pooled, "nrmse": 1.0}, null, scores)


def _scores_of_people(decoded: Decoded, cfg: Scoring, subjects: np.ndarray) -> Findings:
    """Where each subject has one value, as a score of a questionnaire: subjects, not windows, are what is dealt out."""
    truth = grouping.by_subject(subjects, decoded.truth.T).T
    if len(truth) < 3:
        raise ValueError(f"a value of each subject needs 3 of them in the test part at least, got {len(truth)}")
    order = nulls.permutations(len(truth), cfg.n_null, cfg.seed)

    def figures(of: Decoded) -> Figures:
        said = grouping.by_subject(subjects, of.output.T).T
        return {
            "r": float(correlation.correlation(said, truth).mean()),
            "nrmse": float(np.mean(correlation.nrmse(of.output, decoded.truth))),
        }

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        """How far from its subject's value what was decoded lies, as less of an error than the mean's is more."""
        spread = decoded.truth.std() or 1.0
        error = np.abs(grouping.by_subject(subjects, of.output.T).T - truth).mean(axis=1) / spread
        return -error, -np.abs(grouping.by_subject(subjects, of.output.T).T[None] - truth[order]).mean(axis=2) / spread

    null = correlation.correlation(grouping.by_subject(subjects, decoded.output.T).T[None], truth[order]).mean(axis=-1)
    what = "Pearson's r over subjects" + _least(factorial(len(truth)), f"{len(truth)} subjects")
    found = _found(decoded, "r", what, figures, {"r": 0.0, "nrmse": 1.0}, null, scores)
    return _of_subjects(found, "minus the error, in standard deviations")


def _found(
    decoded: Decoded,
    headline: str,
    what: str,
    figures: Callable[[Decoded], Figures],
    chances: Mapping[str, float],
    null: np.ndarray,
    scores: Callable[[Decoded], tuple[np.ndarray, np.ndarray]],
) -> Findings:
    """Everything together, from what differs between the kinds."""
    own = figures(decoded)
    by_subject, null_by_subject = scores(decoded)
    low, high = (float(edge) for edge in intervals.of_mean(by_subject))
    measured = {name: Measured(value, chances[name]) for name, value in own.items()}
    measured[headline] = Measured(
        own[headline],
        chances[headline],
        float(np.quantile(null, 1 - ALPHA)),
        float(nulls.p_value(own[headline], null)),
        None if np.isnan(low) else low,
        None if np.isnan(high) else high,
    )
    p, bounds = nulls.p_value(by_subject, null_by_subject), np.quantile(null_by_subject, 1 - ALPHA, axis=0)
    others = {name: decoded.by(name) for name in decoded.baselines}
    beside = {name: scores(other)[0] for name, other in others.items()}
    names = sorted({trial.subject for trial in decoded.trials})
    counts = [sum(trial.subject == name for trial in decoded.trials) for name in names]
    of_subjects = tuple(
        OfSubject(
            name,
            n,
            float(by_subject[i]),
            float(p[i]),
            float(holm),
            {other: float(values[i]) for other, values in beside.items()},
            float(bounds[i]),
        )
        for i, (name, n, holm) in enumerate(zip(names, counts, intervals.holm(p), strict=True))
    )
    return Findings(
        decoded.kind,
        headline,
        what,
        measured,
        {name: figures(other) for name, other in others.items()},
        of_subjects,
        decoded.classes,
        _confusion(decoded) if decoded.kind == "classes" else (),
    )


def _confusion(decoded: Decoded) -> tuple[tuple[int, ...], ...]:
    truth, said = decoded.truth[:, 0].astype(np.int64), decoded.output.argmax(axis=1)
    return tuple(tuple(map(int, row)) for row in confusion_of(truth, said, len(decoded.classes)))


def _least(orders: int, of: str) -> str:
    """What is to be said where nothing could be above chance, as there are so few orders to deal things out in."""
    if orders > 1 / ALPHA:
        return ""
    return f"; of {of} p cannot be less than {1 / orders:.2g}, so this can never be above chance"


def _of_subjects(found: Findings, what: str) -> Findings:
    """With another figure of each subject than the headline, of which an interval over subjects says nothing."""
    main = replace(found.figures[found.headline], low=None, high=None)
    return replace(found, figures={**found.figures, found.headline: main}, of_subjects=what)

"""The result of an evaluation: metrics with chance level, null, confidence intervals over subjects, and baselines.

    result = evaluate(decoded, scoring)     for windows with one target each: classes, embeddings, numbers

`decoded.baselines` has the outputs of simpler decoders for the same windows. Time courses are in time_courses.py.
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
from hpc.config import plugins

ALPHA = 0.05


@dataclass(frozen=True)
class Metric:
    """The value of a metric, its chance level, the 95th percentile of the null (`bound`), p, and the 95 % confidence
    interval of the mean over subjects, from low to high."""

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
class TrialMetric:
    """A metric of each trial [trial], NaN for trials without one; its chance level; and the null of the mean over
    trials [null]."""

    value: np.ndarray
    chance: float
    null: np.ndarray | None = None

    def metric(self) -> Metric:
        value = float(np.nanmean(self.value))
        if self.null is None:
            return Metric(value, self.chance)
        return Metric(
            value, self.chance, float(np.quantile(self.null, 1 - ALPHA)), float(nulls.p_value(value, self.null))
        )


@dataclass(frozen=True)
class SubjectResult:
    """`bound`: the 95th percentile of the null of this subject."""

    subject: str
    n_windows: int
    value: float
    p: float
    p_holm: float  # corrected for the number of subjects
    baselines: Mapping[str, float]
    bound: float
    figures: Mapping[str, float] = field(default_factory=dict)  # others, where each subject has its own


@dataclass(frozen=True)
class Result:
    """`headline` names the metric that decides the verdict; `figures` and `baselines` have it, and others."""

    kind: str
    headline: str
    what: str
    figures: Mapping[str, Metric]
    baselines: Mapping[str, Mapping[str, float]]
    subjects: tuple[SubjectResult, ...]
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    channels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The importance of each channel for the network, and for a baseline: see relevance.py."""
    of_subjects: str = ""
    """What the metric of each subject is, if not the headline."""

    @property
    def verdict(self) -> str:
        return "above chance" if self.figures[self.headline].is_above_chance else "not above chance"

    def summary(self) -> dict[str, object]:
        """What the stage returns: the metrics, p and the verdict."""
        values: dict[str, object] = {
            name: {"value": figure.value, "chance": figure.chance} for name, figure in self.figures.items()
        }
        for name, figures in self.baselines.items():
            values[f"{self.headline}_{name}"] = figures[self.headline]
        return {**values, "p": self.figures[self.headline].p, "verdict": self.verdict}

    def plain(self) -> dict[str, Any]:
        return {"verdict": self.verdict, **asdict(self)}


@dataclass(frozen=True)
class ExtraMetric:
    """A metric that another package brings, by an entry point of the group eegdecode.metrics.

    Parameters
    ----------
    label, how
        Its name in the report, with its unit, and how it is computed.
    kinds
        The tasks that it is for: sequence, classes, retrieval, values.
    score
        Its value, from what was decoded: larger is better.
    chance
        Its chance level for these data.
    null
        Its null, if it is to have a p: (decoded, number of draws, seed) -> [draw].
    """

    label: str
    how: str
    kinds: tuple[str, ...]
    score: Callable[[Decoded], float]
    chance: Callable[[Decoded], float]
    null: Callable[[Decoded, int, int], np.ndarray] | None = None


def extra_metrics(kind: str) -> dict[str, ExtraMetric]:
    """Those of installed packages for that kind of task, by name."""
    loaded = {name: plugins.load(where) for name, where in plugins.points("eegdecode.metrics").items()}
    return {name: metric for name, metric in loaded.items() if kind in metric.kinds}


def with_extra(result: Result, decoded: Decoded, cfg: Scoring) -> Result:
    """The result with the metrics of installed packages, for the baselines too."""
    figures = dict(result.figures)
    baselines = {name: dict(of_baseline) for name, of_baseline in result.baselines.items()}
    for name, extra in extra_metrics(decoded.kind).items():
        if name in figures:
            raise ValueError(f"a package brings the metric {name}, but there is one of that name: call it otherwise")
        value = float(extra.score(decoded))
        figures[name] = Metric(value, float(extra.chance(decoded)))
        if extra.null is not None:
            null = extra.null(decoded, cfg.n_null, cfg.seed)
            bound, p = float(np.quantile(null, 1 - ALPHA)), float(nulls.p_value(value, null))
            figures[name] = replace(figures[name], bound=bound, p=p)
        for baseline, of_baseline in baselines.items():
            of_baseline[name] = float(extra.score(decoded.by(baseline)))
    return replace(result, figures=figures, baselines=baselines)


def evaluate(decoded: Decoded, cfg: Scoring) -> Result:
    return {"classes": _classes, "retrieval": _retrieval, "values": _values}[decoded.kind](decoded, cfg)


Figures = dict[str, float]


def _classes(decoded: Decoded, cfg: Scoring) -> Result:
    truth, n = decoded.truth[:, 0].astype(np.int64), len(decoded.classes)
    subjects, trials = grouping.numbers(decoded)
    if grouping.is_one_each(truth, subjects):
        return _classes_of_people(decoded, cfg, subjects)

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        """Balanced accuracy of each subject, and its null with classes permuted within the subject [null, subject]."""
        predicted = of.output.argmax(axis=1)
        own, null = [], []
        for number in range(int(subjects.max()) + 1):
            mine = subjects == number
            own.append(float(balanced_accuracy(confusion_of(truth[mine], predicted[mine], n))))
            dealt = nulls.confusions_dealt(truth[mine], predicted[mine], n, cfg.n_null, cfg.seed + number, trials[mine])
            null.append(balanced_accuracy(dealt))
        return np.array(own), np.array(null).T

    predicted = decoded.output.argmax(axis=1)
    dealt = nulls.confusions_dealt(truth, predicted, n, cfg.n_null, cfg.seed, trials, subjects)
    what = "the mean recall over classes"
    return _result(decoded, "balanced_accuracy", what, _class_figures, *_chance_of_classes(truth, dealt), scores)


def _class_figures(of: Decoded) -> Figures:
    tally = Tally.of(of.truth[:, 0].astype(np.int64), of.output)
    counts = tally.confusion
    return {
        "balanced_accuracy": float(balanced_accuracy(counts)),
        "kappa": float(kappa(counts)),
        "weighted_f1": float(weighted_f1(counts)),
        "auroc": tally.auroc,
    }


def _chance_of_classes(truth: np.ndarray, dealt: np.ndarray) -> tuple[Figures, np.ndarray]:
    """The chance level of each metric, and the balanced accuracy of each draw, from permuted confusion matrices."""
    chances = {"kappa": 0.0, "auroc": 0.5, "weighted_f1": float(weighted_f1(dealt).mean())}
    return chances | {"balanced_accuracy": 1 / len(np.unique(truth))}, balanced_accuracy(dealt)


def _classes_of_people(decoded: Decoded, cfg: Scoring, subjects: np.ndarray) -> Result:
    """If each subject has one class, as patients and controls, subjects are permuted, not windows."""
    truth = decoded.truth[:, 0].astype(np.int64)
    own = truth[np.unique(subjects, return_index=True)[1]]
    dealt = own[nulls.permutations(len(own), cfg.n_null, cfg.seed)]
    predicted = decoded.output.argmax(axis=1)
    confusions = nulls.confusions_dealt(truth, predicted, len(decoded.classes), cfg.n_null, cfg.seed, subjects)

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        """The share of each subject's windows that are classified correctly, and as its permuted class."""
        shares = grouping.by_subject(subjects, np.eye(len(decoded.classes))[of.output.argmax(axis=1)].T)
        return shares[own, np.arange(len(own))], shares[dealt, np.arange(len(own))]

    what = "the mean recall over classes, of which each subject has one"
    counts = np.bincount(own)
    orders = factorial(len(own)) // prod(factorial(int(count)) for count in counts)
    what += _fewest_orders_note(orders, f"{len(own)} subjects")
    result = _result(decoded, "balanced_accuracy", what, _class_figures, *_chance_of_classes(truth, confusions), scores)
    return _with_subject_figure(result, "the share of correct windows")


def _retrieval(decoded: Decoded, cfg: Scoring) -> Result:
    candidates, own = retrieval.distinct(decoded.truth)
    n = len(candidates)
    if n < 3:
        raise ValueError(f"retrieval needs 3 different targets in the test set at least, got {n}: split otherwise")
    ways: dict[str, tuple[int, int | None]] = {f"top{k}": (k, None) for k in (1, 5, 10) if k < n}
    if n > 200:
        ways |= {"top1_of_200": (1, 200), "top5_of_200": (5, 200)}
    headline = "top5" if "top5" in ways and n >= 20 else "top1"
    subjects, _ = grouping.numbers(decoded)

    def figures(of: Decoded) -> Figures:
        scores = retrieval.cosine(of.output, candidates)
        hit_rates = {name: float(retrieval.hits(scores, own, k, among).mean()) for name, (k, among) in ways.items()}
        true = scores[np.arange(len(own)), own][:, None]
        rank = ((scores < true).sum(axis=1) + 0.5 * ((scores == true).sum(axis=1) - 1)) / (n - 1)
        return hit_rates | {"rank": float(rank.mean())}

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
    what += _fewest_orders_note(factorial(n), f"{n} candidates")
    return _result(decoded, headline, what, figures, chances, null, scores)


def _values(decoded: Decoded, cfg: Scoring) -> Result:
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
    # The chance level of r_pooled: a decoder that knows only the mean of each recording
    means = np.empty(truth.shape)
    for each in recordings:
        means[each] = truth[each].mean(axis=0)
    by_means = np.sum(correlation.unit(decoded.output) * (means - means.mean(axis=0)), axis=0)
    pooled = float(np.mean(by_means / np.linalg.norm(truth - truth.mean(axis=0), axis=0)))
    what = "Pearson's r over the test windows of a subject, the mean over subjects"
    return _result(decoded, "r", what, figures, {"r": 0.0, "r_pooled": pooled, "nrmse": 1.0}, null, scores)


def _scores_of_people(decoded: Decoded, cfg: Scoring, subjects: np.ndarray) -> Result:
    """If each subject has one value, as a score of a questionnaire, subjects are permuted, not windows."""
    truth = grouping.by_subject(subjects, decoded.truth.T).T
    if len(truth) < 3:
        raise ValueError(f"one value per subject needs 3 subjects in the test set at least, got {len(truth)}")
    order = nulls.permutations(len(truth), cfg.n_null, cfg.seed)

    def figures(of: Decoded) -> Figures:
        predicted = grouping.by_subject(subjects, of.output.T).T
        return {
            "r": float(correlation.correlation(predicted, truth).mean()),
            "nrmse": float(np.mean(correlation.nrmse(of.output, decoded.truth))),
        }

    def scores(of: Decoded) -> tuple[np.ndarray, np.ndarray]:
        """Minus the error of each subject's mean output, in standard deviations; and its null."""
        spread = decoded.truth.std() or 1.0
        error = np.abs(grouping.by_subject(subjects, of.output.T).T - truth).mean(axis=1) / spread
        return -error, -np.abs(grouping.by_subject(subjects, of.output.T).T[None] - truth[order]).mean(axis=2) / spread

    null = correlation.correlation(grouping.by_subject(subjects, decoded.output.T).T[None], truth[order]).mean(axis=-1)
    what = "Pearson's r over subjects" + _fewest_orders_note(factorial(len(truth)), f"{len(truth)} subjects")
    result = _result(decoded, "r", what, figures, {"r": 0.0, "nrmse": 1.0}, null, scores)
    return _with_subject_figure(result, "minus the error, in standard deviations")


def _result(
    decoded: Decoded,
    headline: str,
    what: str,
    figures: Callable[[Decoded], Figures],
    chances: Mapping[str, float],
    null: np.ndarray,
    scores: Callable[[Decoded], tuple[np.ndarray, np.ndarray]],
) -> Result:
    """The result, from what differs between the kinds of task."""
    own = figures(decoded)
    by_subject, null_by_subject = scores(decoded)
    low, high = (float(edge) for edge in intervals.of_mean(by_subject))
    metrics = {name: Metric(value, chances[name]) for name, value in own.items()}
    metrics[headline] = Metric(
        own[headline],
        chances[headline],
        float(np.quantile(null, 1 - ALPHA)),
        float(nulls.p_value(own[headline], null)),
        None if np.isnan(low) else low,
        None if np.isnan(high) else high,
    )
    p, bounds = nulls.p_value(by_subject, null_by_subject), np.quantile(null_by_subject, 1 - ALPHA, axis=0)
    others = {name: decoded.by(name) for name in decoded.baselines}
    by_baseline = {name: scores(other)[0] for name, other in others.items()}
    names = sorted({trial.subject for trial in decoded.trials})
    counts = [sum(trial.subject == name for trial in decoded.trials) for name in names]
    of_subjects = tuple(
        SubjectResult(
            name,
            n,
            float(by_subject[i]),
            float(p[i]),
            float(holm),
            {other: float(values[i]) for other, values in by_baseline.items()},
            float(bounds[i]),
        )
        for i, (name, n, holm) in enumerate(zip(names, counts, intervals.holm(p), strict=True))
    )
    return Result(
        decoded.kind,
        headline,
        what,
        metrics,
        {name: figures(other) for name, other in others.items()},
        of_subjects,
        decoded.classes,
        _confusion(decoded) if decoded.kind == "classes" else (),
    )


def _confusion(decoded: Decoded) -> tuple[tuple[int, ...], ...]:
    truth, predicted = decoded.truth[:, 0].astype(np.int64), decoded.output.argmax(axis=1)
    return tuple(tuple(map(int, row)) for row in confusion_of(truth, predicted, len(decoded.classes)))


def _fewest_orders_note(orders: int, of: str) -> str:
    """A note for when nothing could be above chance, as there are too few permutations."""
    if orders > 1 / ALPHA:
        return ""
    return f"; of {of} p cannot be less than {1 / orders:.2g}, so this can never be above chance"


def _with_subject_figure(result: Result, what: str) -> Result:
    """The result with another metric for each subject than the headline, so without an interval over subjects."""
    main = replace(result.figures[result.headline], low=None, high=None)
    return replace(result, figures={**result.figures, result.headline: main}, of_subjects=what)

"""The result of an evaluation: metrics with chance level, null, confidence intervals over subjects, and baselines.

    result = evaluate(decoded, scoring)

`decoded.baselines` has the outputs of simpler decoders for the same windows. The metrics are those of
eegdecode/evaluation/metrics/ and of installed packages.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, Kind
from eegdecode.evaluation.metrics import Headline, Metric, metrics
from eegdecode.evaluation.statistics import intervals, nulls
from eegdecode.evaluation.statistics.confusion import confusion_of
from eegdecode.evaluation.statistics.nulls import ALPHA
from eegdecode.evaluation.statistics.retrieval import candidates

FEWEST_OF_TOP_5 = 20
"""With fewer candidates, the first five are a large part of them: the first alone decides."""


UNDECIDED = "cannot be decided"
CONFOUNDED = "above chance, but confounded"


@dataclass(frozen=True)
class MetricResult:
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

    kind: Kind
    headline: str
    what: str
    figures: Mapping[str, MetricResult]
    baselines: Mapping[str, Mapping[str, float]]
    subjects: tuple[SubjectResult, ...]
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    channels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The importance of each channel for the network, and for a baseline: see relevance.py."""
    of_subjects: str = ""
    """What the metric of each subject is, if not the headline."""
    permuted: str = ""
    """What the null permutes, the smallest p that this allows, and what no permutation can tell from the target."""
    smallest_p: float = 0.0
    confound: str = ""

    @property
    def is_above_chance(self) -> bool:
        return self.smallest_p < ALPHA and self.figures[self.headline].is_above_chance

    @property
    def verdict(self) -> str:
        if self.smallest_p >= ALPHA:
            return UNDECIDED
        if not self.is_above_chance:
            return "not above chance"
        return CONFOUNDED if self.confound else "above chance"

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


def headline(decoded: Decoded) -> str:
    """The metric that decides the verdict."""
    if decoded.kind == "classes":
        return "balanced_accuracy"
    if decoded.kind == "retrieval":
        return "top5" if len(candidates(decoded)[0]) >= FEWEST_OF_TOP_5 else "top1"
    return "r"


def evaluate(
    decoded: Decoded, cfg: Scoring, main: str | None = None, table: Mapping[str, Metric] | None = None
) -> Result:
    """All metrics that these windows have, of the network and of the baselines. `main` and `table`: the metric that
    decides, and all by their names, if they are not the usual ones, as those of a cross-validation."""
    decoded = replace(decoded)  # what metrics keep for one another is kept with this copy, and goes with it
    main, table = main or headline(decoded), table or metrics(decoded.kind)
    deciding = table[main].headline
    assert deciding is not None, f"{main} cannot decide the verdict"
    scores = {name: score for name, metric in table.items() if (score := _score(metric, decoded, cfg)) is not None}
    baselines: dict[str, dict[str, float]] = {}
    by_baseline: dict[str, np.ndarray] = {}
    for name in decoded.baselines:
        other = decoded.by(name)
        of_other = {each: _score(table[each], other, cfg) for each in scores}
        baselines[name] = {each: _mean(score) for each, score in of_other.items() if score is not None}
        by_baseline[name] = deciding.by_subject(other, cfg)
    figures = {name: figure_of(table[name], score, decoded, cfg, name == main) for name, score in scores.items()}
    permuted = deciding.permuted(decoded) or nulls.Permuted("", 0.0)
    result = Result(
        decoded.kind,
        main,
        deciding.what(decoded),
        figures,
        baselines,
        _subjects(table[main], deciding, decoded, cfg, by_baseline, _each_subject(table, scores, decoded)),
        decoded.classes,
        tuple(tuple(map(int, row)) for row in confusion_of(decoded)) if decoded.kind == "classes" else (),
        of_subjects=deciding.of_subjects(decoded),
        permuted=permuted.units,
        smallest_p=permuted.smallest_p,
        confound=permuted.confound,
    )
    return result if result.of_subjects else _with_interval(result)


Score = float | np.ndarray


def _score(metric: Metric, decoded: Decoded, cfg: Scoring) -> Score | None:
    score = metric.score(decoded, cfg)
    return None if isinstance(score, np.ndarray) and np.isnan(score).all() else score


def _mean(score: Score) -> float:
    return float(np.nanmean(score)) if isinstance(score, np.ndarray) else float(score)


def figure_of(metric: Metric, score: Score, decoded: Decoded, cfg: Scoring, decides: bool) -> MetricResult:
    value = _mean(score)
    chance = float(metric.chance(decoded, cfg) if callable(metric.chance) else metric.chance)
    if metric.null is None or (metric.headline is not None and not decides):
        return MetricResult(value, chance)
    bound, p = _tested(metric, value, metric.null(decoded, cfg))
    return MetricResult(value, chance, float(bound), float(p))


def _tested(metric: Metric, value: float | np.ndarray, null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95th percentile of the null [draw, ...], and the p of the value [...]; of several nulls [null, draw, ...] the
    largest. Where lower is better, the 5th percentile."""
    sign, null = -1 if metric.lower_is_better else 1, np.asarray(null)
    several = sign * (null if null.ndim > np.ndim(value) + 1 else null[None])
    bounds = np.quantile(several, 1 - ALPHA, axis=1)
    p = np.array([nulls.p_value(sign * value, each) for each in several])
    return sign * bounds.max(axis=0), p.max(axis=0)


def _subjects(
    metric: Metric,
    deciding: Headline,
    decoded: Decoded,
    cfg: Scoring,
    by_baseline: Mapping[str, np.ndarray],
    others: Mapping[str, Mapping[str, float]],
) -> tuple[SubjectResult, ...]:
    values = deciding.by_subject(decoded, cfg)
    bounds, p = _tested(metric, values, deciding.null_by_subject(decoded, cfg))
    counts = Counter(trial.subject for trial in decoded.trials)
    return tuple(
        SubjectResult(
            name,
            counts[name],
            float(values[i]),
            float(p[i]),
            float(holm),
            {other: float(of_other[i]) for other, of_other in by_baseline.items()},
            float(bounds[i]),
            others[name],
        )
        for i, (name, holm) in enumerate(zip(sorted(counts), intervals.holm(p), strict=True))
    )


def _each_subject(
    table: Mapping[str, Metric], scores: Mapping[str, Score], decoded: Decoded
) -> dict[str, dict[str, float]]:
    """By subject, the metrics that are reported for each besides the headline."""
    subjects = np.array([trial.subject for trial in decoded.trials])
    figures: dict[str, dict[str, float]] = {name: {} for name in subjects.tolist()}
    for metric, score in ((name, score) for name, score in scores.items() if table[name].each_subject):
        if np.shape(score) != subjects.shape:
            raise ValueError(
                f"the metric {metric} is for each subject, but has {np.size(score)} values for {len(subjects)} trials: "
                "return one for each, NaN where there is none"
            )
        for name, of_subject in figures.items():
            own = np.asarray(score)[subjects == name]
            if not np.isnan(own).all():
                of_subject[metric] = float(np.nanmean(own))
    return figures


def _with_interval(result: Result) -> Result:
    """With the confidence interval of the mean over subjects, from three subjects on."""
    low, high = (float(edge) for edge in intervals.of_mean(np.array([row.value for row in result.subjects])))
    if np.isnan(low):
        return result
    main = replace(result.figures[result.headline], low=low, high=high)
    return replace(result, figures={**result.figures, result.headline: main})

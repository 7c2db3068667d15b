"""The result of an evaluation: metrics with chance level, null, confidence intervals over subjects, and baselines.

It has three answers: whether the data decode, by the decoder that was best on the validation set; whether the network
does; and whether it is better than the best linear decoder.

    result = evaluate(decoded, scoring)

`decoded.baselines` has the outputs of simpler decoders for the same windows. The metrics are those of
eegdecode/evaluation/metrics/ and of installed packages.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, Kind
from eegdecode.evaluation.metrics import Headline, Metric, mel_gain_db, metrics
from eegdecode.evaluation.metrics.mel_gain_db import MEL_GAIN
from eegdecode.evaluation.statistics import calibration, intervals, nulls, paired
from eegdecode.evaluation.statistics.calibration import OfClass
from eegdecode.evaluation.statistics.confusion import confusion_of
from eegdecode.evaluation.statistics.nulls import ALPHA
from eegdecode.evaluation.statistics.paired import Difference
from eegdecode.evaluation.statistics.retrieval import candidates

FEWEST_OF_TOP_5 = 20
"""With fewer candidates, the first five are a large part of them: the first alone decides."""


UNDECIDED = "cannot be decided"
CONFOUNDED = "above chance, but confounded"
NETWORK = "network"
"""The name of the network among the decoders."""


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
class BaselineResult:
    """All figures of a baseline, as those of the network; and by how much the network is better, in the headline."""

    figures: Mapping[str, MetricResult]
    difference: Difference


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

    @property
    def is_above_chance(self) -> bool:
        """Corrected for the number of subjects."""
        return self.p_holm < ALPHA


@dataclass(frozen=True)
class Lags:
    """What the ridge makes of each channel, over the seconds by which it is later than the target.

    `patterns`: r of its output with each channel, which says where its output comes from (Haufe 2014). `weights`: of
    the decoder itself, which also say what it takes off as noise.
    """

    seconds: tuple[float, ...]
    patterns: Mapping[str, tuple[float, ...]]
    weights: Mapping[str, tuple[float, ...]]


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
    lags: Lags | None = None
    """Of the linear decoder of time courses: see report/lags.py."""
    of_subjects: str = ""
    """What the metric of each subject is, if not the headline."""
    permuted: str = ""
    """What the null permutes, the smallest p that this allows, and what no permutation can tell from the target."""
    smallest_p: float = 0.0
    confound: str = ""
    baseline_results: Mapping[str, BaselineResult] = field(default_factory=dict)
    """What `baselines` has, with p and intervals."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """The headline of each decoder on the validation set."""
    of_classes: Mapping[str, tuple[OfClass, ...]] = field(default_factory=dict)
    """By decoder: precision, recall and others of each class."""
    calibrations: Mapping[str, calibration.Calibration] = field(default_factory=dict)
    confounds: Mapping[str, float] = field(default_factory=dict)
    """What else than the brain may tell the target, each with the headline metric of that alone."""
    control: MetricResult | None = None
    """The headline of a network that was trained and tested on shuffled targets."""

    @property
    def is_decidable(self) -> bool:
        """Whether what may be permuted is enough for any p below ALPHA."""
        return self.smallest_p < ALPHA

    @property
    def is_above_chance(self) -> bool:
        return self.is_decidable and self.figures[self.headline].is_above_chance

    @property
    def verdict(self) -> str:
        """Of the network."""
        return self._verdict(self.figures[self.headline].p, NETWORK)

    def verdict_of(self, decoder: str) -> str:
        """Of the network or a baseline, by its own p."""
        return self._verdict(self.decoders[decoder].p, decoder)

    def _verdict(self, p: float | None, decoder: str) -> str:
        if not self.is_decidable or p is None:
            return UNDECIDED
        if p >= ALPHA:
            return "not above chance"
        return CONFOUNDED if self.confound or self.caps(decoder) else "above chance"

    def caps(self, decoder: str) -> list[str]:
        """The confounds that alone do as well as this decoder, or as the lower end of its interval."""
        figure = self.decoders[decoder]
        least = figure.value if figure.low is None else figure.low
        return [what for what, reach in self.confounds.items() if reach >= min(least, 1.0)]  # 1 is all, also of dB

    @property
    def decoders(self) -> dict[str, MetricResult]:
        """The headline of the network and of each baseline."""
        return {NETWORK: self.figures[self.headline]} | {
            name: each.figures[self.headline] for name, each in self.baseline_results.items()
        }

    @property
    def is_chosen(self) -> bool:
        """Whether the validation set has chosen the best decoders. Else the test set has, and p are corrected."""
        return set(self.decoders) <= set(self.validation)

    @property
    def best(self) -> str:
        """The decoder by which it is told whether the data decode."""
        return self._best(self.decoders)

    @property
    def best_linear(self) -> str:
        """The baseline that the network is compared with; empty if there is none."""
        return self._best([name for name in self.decoders if name != NETWORK])

    def _best(self, names: Iterable[str]) -> str:
        value = self.validation if self.is_chosen else {name: each.value for name, each in self.decoders.items()}
        return max(sorted(names), key=lambda name: value[name], default="")  # in one order, whatever file they are of

    @property
    def p_of_data(self) -> float | None:
        """Of the best decoder; if the test set has chosen it, corrected for the number of decoders (Holm)."""
        if self.is_chosen:
            return self.decoders[self.best].p
        p = [each.p for each in self.decoders.values() if each.p is not None]
        return float(intervals.holm(np.array(p)).min()) if p else None

    @property
    def data_verdict(self) -> str:
        return self._verdict(self.p_of_data, self.best)

    @property
    def difference(self) -> Difference | None:
        """The network minus the best linear decoder; if the test set has chosen that, p is corrected (Bonferroni)."""
        if not self.best_linear:
            return None
        own = self.baseline_results[self.best_linear].difference
        if self.is_chosen or own.p is None:
            return own
        return replace(own, p=min(1.0, len(self.baseline_results) * own.p))

    @property
    def difference_verdict(self) -> str:
        """Whether the network adds to the linear decoders; empty if there are none."""
        own = self.difference
        if own is None:
            return ""
        if own.p is None:
            return UNDECIDED
        if own.p >= ALPHA:
            return "no difference shown"
        return "better" if own.value > 0 else "worse"

    def summary(self) -> dict[str, object]:
        """What the stage returns: the metrics, p and the verdict."""
        values: dict[str, object] = {
            name: {"value": figure.value, "chance": figure.chance} for name, figure in self.figures.items()
        }
        for name, figures in self.baselines.items():
            values[f"{self.headline}_{name}"] = figures[self.headline]
        answers = self.answers()
        data, network, linear = answers["data"]["verdict"], answers["network"]["verdict"], answers["linear"]["verdict"]
        values |= {"p": self.figures[self.headline].p, "verdict": network, "data": f"{data}, by {self.best}"}
        return values | ({"against_linear": f"{linear}, of {self.best_linear}"} if linear else {})

    def answers(self) -> dict[str, Any]:
        """Whether the data decode, whether the network does, and whether it is better than the best linear decoder."""
        main, difference = self.figures[self.headline], self.difference
        return {
            "data": {"verdict": self.data_verdict, "decoder": self.best, "p": self.p_of_data},
            "network": {"verdict": self.verdict, "value": main.value, "p": main.p},
            "linear": {
                "verdict": self.difference_verdict,
                "decoder": self.best_linear,
                **(asdict(difference) if difference else {}),
            },
            "chosen_on": "validation" if self.is_chosen else "test",
        }

    def plain(self) -> dict[str, Any]:
        verdicts = {name: self.verdict_of(name) for name in self.decoders}
        return {"verdict": self.verdict, "verdicts": verdicts, "answers": self.answers(), **asdict(self)}


def headline(decoded: Decoded) -> str:
    """The metric that decides the verdict."""
    if decoded.kind == "classes":
        return "balanced_accuracy"
    if decoded.kind == "retrieval":
        return "top5" if len(candidates(decoded)[0]) >= FEWEST_OF_TOP_5 else "top1"
    return MEL_GAIN.name if decoded.kind == "sequence" and mel_gain_db.applies(decoded) else "r"


def of_trials(decoded: Decoded) -> np.ndarray:
    """[trial]: of time courses the headline of each trial, whose mean is that of all."""
    deciding = metrics(decoded.kind)[headline(decoded)].headline
    assert deciding is not None and deciding.by_unit is not None
    return deciding.by_unit(decoded, Scoring())[0]


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
    several = {name: decoded.by(name) for name in decoded.baselines}
    by_baseline = {name: deciding.by_subject(other, cfg) for name, other in several.items()}
    baseline_results = {}
    for name, other in several.items():
        of_other = {each: score for each in scores if (score := _score(table[each], other, cfg)) is not None}
        baseline_results[name] = BaselineResult(
            _figures(table, of_other, other, cfg, main), _difference(deciding, decoded, other, cfg)
        )
    figures = _figures(table, scores, decoded, cfg, main)
    baselines = {name: {each: f.value for each, f in own.figures.items()} for name, own in baseline_results.items()}
    permuted = deciding.permuted(decoded) or nulls.Permuted("", 0.0)
    are_classes = decoded.kind == "classes"
    every = {NETWORK: decoded, **several} if are_classes else {}
    return Result(
        decoded.kind,
        main,
        deciding.what(decoded),
        figures,
        baselines,
        _subjects(table[main], deciding, decoded, cfg, by_baseline, _each_subject(table, scores, decoded)),
        decoded.classes,
        tuple(tuple(map(int, row)) for row in confusion_of(decoded)) if are_classes else (),
        of_subjects=deciding.of_subjects(decoded),
        permuted=permuted.units,
        smallest_p=permuted.smallest_p,
        confound=permuted.confound,
        baseline_results=baseline_results,
        validation=decoded.validation,
        of_classes={name: calibration.of_classes(other) for name, other in every.items()},
        calibrations={name: calibration.calibration(other) for name, other in every.items()},
        confounds=decoded.confounds,
    )


def validation(val: Decoded, main: str, cfg: Scoring) -> tuple[dict[str, float], str]:
    """The headline metric of each decoder on the validation set; or none, and a sentence why."""
    score = metrics(val.kind)[main].score
    try:
        values = {NETWORK: score(val, cfg)} | {name: score(val.by(name), cfg) for name in val.baselines}
    except ValueError as error:
        return {}, f"The test set has chosen the best decoder, as the validation set cannot be scored: {error}."
    numbers = {name: _mean(value) for name, value in values.items() if value is not None}
    if len(numbers) < len(values) or not np.isfinite(list(numbers.values())).all():
        return {}, "The test set has chosen the best decoder, as the validation set has no such metric."
    return numbers, ""


def _figures(
    table: Mapping[str, Metric], scores: Mapping[str, "Score"], decoded: Decoded, cfg: Scoring, main: str
) -> dict[str, MetricResult]:
    """All figures of a decoder; that which decides has the interval over subjects too, from three subjects on."""
    figures = {name: figure_of(table[name], score, decoded, cfg, name == main) for name, score in scores.items()}
    deciding = table[main].headline
    if deciding is not None and main in figures and not deciding.of_subjects(decoded):
        edges = intervals.of_mean(deciding.by_subject(decoded, cfg))
        low, high = (float(np.clip(edge, *deciding.ends)) for edge in edges)
        if not np.isnan(low):
            figures[main] = replace(figures[main], low=low, high=high)
    return figures


def _difference(deciding: Headline, decoded: Decoded, other: Decoded, cfg: Scoring) -> Difference:
    """Of the network and a baseline: over subjects; if these are too few, over other units that the metric has."""
    ours = deciding.by_subject(decoded, cfg)
    if len(ours) >= paired.FEWEST or deciding.by_unit is None:
        return paired.difference(ours, deciding.by_subject(other, cfg), "subjects")
    (ours, units), (theirs, _) = deciding.by_unit(decoded, cfg), deciding.by_unit(other, cfg)
    return paired.difference(ours, theirs, units)


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

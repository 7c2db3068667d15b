"""The folds of a cross-validation as one result: one value, one p over all test windows, an interval over subjects.

    cross_validation = evaluate([Fold("fold 0", "seed 0", decoded), …], scoring)

Each repetition, as a seed, tests the same windows; its folds are pooled. Figures are the means over repetitions, and so
are the draws of the null, which permutes alike in each of them. Candidates of a retrieval are those of a window's own
fold: the model of a fold has trained on the others.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from eegdecode.evaluation import confounds, results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.metrics import Headline, Metric, metrics
from eegdecode.evaluation.results import Result
from eegdecode.evaluation.statistics import grouping, intervals
from eegdecode.evaluation.statistics.confusion import confusion_of
from eegdecode.evaluation.statistics.nulls import Permuted, draws
from hpc.errors import first_of
from hpc.media import many

WIDER = 2**0.5
"""How much wider the null is if several folds are pooled. Each fold trains on what others test: what one learns by
chance from another, the other learns from it, and both are right together. These two count twice in the variance, and
the null of fixed outputs counts them once (docs/decisions/0064)."""
MOST_NAMED = 3
FOLDS = 100
"""Separates the draws of each part from others of the same seed."""


@dataclass(frozen=True)
class Fold:
    """The decoded test windows of a fold, in one repetition."""

    name: str
    repetition: str
    decoded: Decoded


@dataclass(frozen=True)
class FoldResult:
    name: str
    repetition: str
    n_subjects: int
    n_windows: int
    value: float | None


@dataclass(frozen=True)
class CrossValidation:
    """The pooled result; and its parts, which have no p of their own.

    Parameters
    ----------
    versus
        By linear decoder: the mean difference of the network over subjects, and its two-sided p.
    sd_subjects, sd_repetitions
        The standard deviations of the deciding metric over subjects, and over repetitions. None if there is one only,
        or if subjects have no such value.
    """

    result: Result
    folds: tuple[FoldResult, ...]
    repetitions: dict[str, float]
    sd_subjects: float | None
    sd_repetitions: float | None
    versus: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def n_folds(self) -> int:
        return len({fold.name for fold in self.folds})

    def plain(self) -> dict[str, Any]:
        values = asdict(self)
        del values["result"]
        return values


@dataclass(frozen=True)
class Pooled(Decoded):
    """The windows of the first repetition; and those of each repetition, in parts whose windows are scored together."""

    repetitions: tuple[tuple[Decoded, ...], ...] = ()

    def by(self, baseline: str) -> "Pooled":
        every = tuple(tuple(part.by(baseline) for part in parts) for parts in self.repetitions)
        of_first = super().by(baseline)
        assert isinstance(of_first, Pooled)
        return replace(of_first, repetitions=every)


def evaluate(folds: Sequence[Fold], cfg: Scoring) -> CrossValidation:
    """All folds of all repetitions as one result."""
    pooled = pool(folds)
    first = pooled.repetitions[0][0]
    main = results.headline(first)
    table = metrics(first.kind)
    result = results.evaluate(pooled, cfg, main, {name: of_folds(metric) for name, metric in table.items()})
    if first.kind == "classes":
        counts = sum(confusion_of(part) for parts in pooled.repetitions for part in parts)
        result = replace(result, confusion=tuple(tuple(map(int, row)) for row in np.asarray(counts)))
    of_people = first.kind == "values" and grouping.is_of_people(first)
    rows = tuple(
        FoldResult(
            fold.name,
            fold.repetition,
            len({trial.subject for trial in fold.decoded.trials}),
            len(fold.decoded.trials),
            None if of_people else _value(table[main], fold.decoded, cfg),
        )
        for fold in folds
    )
    names = dict.fromkeys(fold.repetition for fold in folds)
    values = [_score(table[main], parts, cfg) for parts in pooled.repetitions]
    by_repetition = {name: _mean(value) for name, value in zip(names, values, strict=True) if value is not None}
    subjects = [] if result.of_subjects else [row.value for row in result.subjects]
    sd_repetitions = _sd(list(by_repetition.values()))
    return CrossValidation(result, rows, by_repetition, _sd(subjects), sd_repetitions, _versus(result))


def decide(folds: Sequence[Fold], cfg: Scoring, main: str) -> Result:
    """All folds of all repetitions as one result, by that metric alone; by the headline if it can decide nothing."""
    pooled = pool(folds)
    table = metrics(pooled.kind)
    main = main if table[main].headline else results.headline(pooled.repetitions[0][0])
    return results.evaluate(pooled, cfg, main, {main: of_folds(table[main])})


def _versus(result: Result) -> dict[str, tuple[float, float]]:
    """The network beside each linear decoder, paired by subject; none if there are fewer than two."""
    if len(result.subjects) < 2:
        return {}
    differences = {
        name: np.array([row.value - row.baselines[name] for row in result.subjects]) for name in result.baselines
    }
    return {name: (float(own.mean()), intervals.two_sided(own)) for name, own in differences.items()}


def _value(metric: Metric, decoded: Decoded, cfg: Scoring) -> float | None:
    score = _score(metric, [decoded], cfg)
    return None if score is None else _mean(score)


def _mean(score: float | np.ndarray) -> float:
    return float(np.nanmean(score))


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def pool(folds: Sequence[Fold]) -> Pooled:
    """The windows of all folds, in the same order in each repetition."""
    _refuse_unlike(folds)
    repetitions: dict[str, list[Fold]] = {}
    for fold in folds:
        repetitions.setdefault(fold.repetition, []).append(fold)
    shared = [name for name in folds[0].decoded.baselines if all(name in fold.decoded.baselines for fold in folds)]
    audit = _sentences(folds, shared)
    every = tuple(tuple(_parts(several, shared)) for several in repetitions.values())
    keys = [[_key(trial) for part in parts for trial in part.trials] for parts in every]
    for name, own in zip(repetitions, keys, strict=True):
        if sorted(own) != sorted(keys[0]):
            raise ValueError(
                f"repetitions have to test the same windows, but {name or 'one'} tests {len(own)}, and "
                f"{next(iter(repetitions)) or 'the first'} {len(keys[0])}, some of them others: with split.folds each "
                "tests all of them"
            )
    several = [fold.decoded for fold in folds]
    names = (results.NETWORK, *shared) if all(each.validation for each in several) else ()
    validation = {name: float(np.mean([each.validation[name] for each in several])) for name in names}
    reached = confounds.of_folds([each.confounds for each in several])
    return replace(_pooled(every), audit=audit, validation=validation, confounds=reached)


def _pooled(repetitions: tuple[tuple[Decoded, ...], ...]) -> Pooled:
    first, *others = repetitions[0]
    trials = tuple(trial for part in (first, *others) for trial in part.trials)
    baselines = {name: np.concatenate([part.baselines[name] for part in repetitions[0]]) for name in first.baselines}
    known = {each.name: getattr(first, each.name) for each in fields(first) if each.init}
    return Pooled(**(known | {"trials": trials, "baselines": baselines}), repetitions=repetitions)


def _refuse_unlike(folds: Sequence[Fold]) -> None:
    first, *others = (fold.decoded for fold in folds)
    for fold, other in zip(folds[1:], others, strict=True):
        for what in ("kind", "target", "classes", "sfreq"):
            ours, theirs = getattr(first, what), getattr(other, what)
            if ours != theirs:
                raise ValueError(
                    f"folds of one cross-validation have one {what}, but {fold.name} has {theirs!r}, where "
                    f"{folds[0].name} has {ours!r}"
                )


def _sentences(folds: Sequence[Fold], shared: Sequence[str]) -> tuple[str, ...]:
    """On the data and the split: what all folds share, and warnings."""
    every = [fold.decoded.audit for fold in folds]
    common = [sentence for sentence in every[0] if all(sentence in other for other in every)]
    warnings = [sentence for own in every for sentence in own if sentence.startswith("WARNING")]
    names = dict.fromkeys(name for fold in folds for name in fold.decoded.baselines)
    left_out = [
        f"The linear baseline {name} is left out, as it could not be fitted in every fold."
        for name in names
        if name not in shared
    ]
    return tuple(dict.fromkeys([*common, *warnings, *left_out]))


def _parts(folds: Sequence[Fold], baselines: Sequence[str]) -> Iterator[Decoded]:
    """Windows that are scored together: those of all folds, or of a retrieval those of each."""
    tested: dict[tuple[str, str, int, float], str] = {}
    for fold in folds:
        for key in sorted({_key(trial) for trial in fold.decoded.trials}):
            if key in tested:
                raise ValueError(
                    f"{fold.name} and {tested[key]} both test the window at {key[3]:g} s of trial {key[2]} of "
                    f"{key[1]}: folds of a cross-validation test each window once"
                )
            tested[key] = fold.name
    if folds[0].decoded.kind == "retrieval":
        for fold in sorted(folds, key=lambda fold: fold.name):
            yield _joined([fold], baselines)
    else:
        yield _joined(folds, baselines)


def _joined(folds: Sequence[Fold], baselines: Sequence[str]) -> Decoded:
    trials = [replace(trial, fold=fold.name) for fold in folds for trial in fold.decoded.trials]
    order = sorted(range(len(trials)), key=lambda row: _key(trials[row]))
    of_baselines = {}
    for name in baselines:
        rows = [row for fold in folds for row in _rows(fold.decoded, name)]
        of_baselines[name] = np.concatenate([rows[number] for number in order])
    return replace(folds[0].decoded, trials=tuple(trials[number] for number in order), baselines=of_baselines)


def _rows(decoded: Decoded, baseline: str) -> list[np.ndarray]:
    """The outputs of a baseline for each window."""
    ends = np.cumsum([len(trial.output) for trial in decoded.trials])
    return np.split(decoded.baselines[baseline], ends[:-1])


def _key(trial: DecodedTrial) -> tuple[str, str, int, float]:
    return trial.subject, trial.recording, trial.trial, trial.start_s


def of_folds(metric: Metric) -> Metric:
    """The metric of pooled windows: of each part, and the mean over parts and repetitions."""
    chance = metric.chance
    return replace(
        metric,
        score=partial(_score_of, metric),
        chance=partial(_chance, chance) if callable(chance) else chance,
        null=None if metric.null is None else partial(_null, metric),
        headline=None if metric.headline is None else _headline(metric.headline),
    )


def _score_of(metric: Metric, pooled: Decoded, cfg: Scoring) -> float | np.ndarray | None:
    scores = [_score(metric, parts, cfg) for parts in _repetitions(pooled)]
    known = [score for score in scores if score is not None]
    if not known:
        return None
    mean = np.mean(np.array(known), axis=0)
    return mean if mean.ndim else float(mean)


def _score(metric: Metric, parts: Sequence[Decoded], cfg: Scoring) -> float | np.ndarray | None:
    """One value, or one for each trial; None if a part has none."""
    scores = [metric.score(part, cfg) for part in parts]
    known = [score for score in scores if score is not None and not np.isnan(score).all()]
    if len(known) < len(scores):
        return None
    if len(known) == 1:
        return known[0]
    if all(isinstance(score, np.ndarray) for score in known):
        return np.concatenate(known)
    return float(_weights(parts) @ np.array([_mean(score) for score in known]))


def _chance(chance: Callable[[Decoded, Scoring], float], pooled: Decoded, cfg: Scoring) -> float:
    of_each = [_weights(parts) @ [chance(part, cfg) for part in parts] for parts in _repetitions(pooled)]
    return float(np.mean(of_each))


def _null(metric: Metric, pooled: Decoded, cfg: Scoring) -> np.ndarray:
    """[draw], or several of them [null, draw]."""
    assert metric.null is not None
    several = []
    for parts in _repetitions(pooled):
        nulls = [np.asarray(metric.null(part, cfg)) for part in parts]
        if len(parts) > 1:
            nulls = [
                null
                if null.ndim > 1 or len(null) >= cfg.n_null
                else _as_many(null, _value(metric, part, cfg), number, cfg)
                for number, (part, null) in enumerate(zip(parts, nulls, strict=True))
            ]
        several.append(sum(weight * drawn for weight, drawn in zip(_weights(parts), nulls, strict=True)))
    mean = np.mean(several, axis=0)
    return wider(mean) if len({trial.fold for trial in pooled.trials}) > 1 else mean


def _as_many(null: np.ndarray, own: np.ndarray | float | None, number: int, cfg: Scoring) -> np.ndarray:
    """[draw, …]: as many draws as are asked for, of a part with so few orders that its null has each other one once.
    The parts are permuted independently of each other, so that one may stay as it is, `own`, while others do not."""
    every = np.concatenate([np.broadcast_to(np.nan if own is None else own, null.shape[1:])[None], null])
    return np.asarray(every[draws(cfg.seed, FOLDS + number).integers(len(every), size=cfg.n_null)])


def wider(null: np.ndarray, axis: int = -1) -> np.ndarray:
    """Draws [..., draw] that are as much further from their mean."""
    mean = null.mean(axis=axis, keepdims=True)
    return mean + WIDER * (null - mean)


def _headline(headline: Headline) -> Headline:
    def what(pooled: Decoded) -> str:
        n_folds, repetitions = len({trial.fold for trial in pooled.trials}), _repetitions(pooled)
        over = f"; over the test windows of {many(n_folds, 'fold')}" if n_folds > 1 else ""
        mean = f"; the mean over {len(repetitions)} repetitions" if len(repetitions) > 1 else ""
        return headline.what(repetitions[0][0]) + over + mean

    def by_subject(pooled: Decoded, cfg: Scoring) -> np.ndarray:
        return np.mean([_of_subjects(parts, headline.by_subject, cfg) for parts in _repetitions(pooled)], axis=0)

    def null_by_subject(pooled: Decoded, cfg: Scoring) -> np.ndarray:
        null = np.mean([_null_of_subjects(parts, headline, cfg) for parts in _repetitions(pooled)], axis=0)
        names = sorted({trial.subject for trial in pooled.trials})
        tested = Counter(subject for subject, _ in {(trial.subject, trial.fold) for trial in pooled.trials})
        n_folds = np.array([tested[name] for name in names])
        return np.where(n_folds > 1, wider(null, axis=-2), null)  # otherwise no other fold has trained on its test set

    def permuted(pooled: Decoded) -> Permuted | None:
        several = [headline.permuted(part) for part in _repetitions(pooled)[0]]
        known = [each for each in several if each is not None]
        if len(known) < 2:
            return known[0] if known else None
        units = dict.fromkeys(each.units for each in known)
        smallest = min(each.smallest_p for each in known)
        confounds = dict.fromkeys(each.confound for each in known if each.confound)
        return Permuted(
            f"{first_of(list(units), MOST_NAMED)} in each of {len(known)} folds", smallest, "; ".join(confounds)
        )

    return Headline(
        what, by_subject, null_by_subject, lambda pooled: headline.of_subjects(_repetitions(pooled)[0][0]), permuted
    )


def _of_subjects(
    parts: Sequence[Decoded], values: Callable[[Decoded, Scoring], np.ndarray], cfg: Scoring
) -> np.ndarray:
    """[..., subject] in the order of all names: the mean over the parts that each is in, by its windows in them."""
    if len(parts) == 1:
        return values(parts[0], cfg)
    names = sorted({trial.subject for part in parts for trial in part.trials})
    total, weight = np.zeros(len(names)), np.zeros(len(names))
    for part in parts:
        own, counts = np.unique([trial.subject for trial in part.trials], return_counts=True)
        of_part = values(part, cfg)
        whole = np.zeros((*of_part.shape[:-1], len(names)))
        places = np.searchsorted(names, own)
        whole[..., places] = of_part * counts
        weight[places] += counts
        total = total + whole
    return np.asarray(total / weight)


def _null_of_subjects(parts: Sequence[Decoded], headline: Headline, cfg: Scoring) -> np.ndarray:
    """[draw, subject], or several of them [null, draw, subject]."""
    if len(parts) == 1:
        return headline.null_by_subject(parts[0], cfg)
    numbers = {id(part): number for number, part in enumerate(parts)}

    def null(part: Decoded, cfg: Scoring) -> np.ndarray:
        drawn = headline.null_by_subject(part, cfg)
        if drawn.ndim > 2 or len(drawn) >= cfg.n_null:
            return drawn
        return _as_many(drawn, headline.by_subject(part, cfg), numbers[id(part)], cfg)

    return _of_subjects(parts, null, cfg)


def _repetitions(pooled: Decoded) -> tuple[tuple[Decoded, ...], ...]:
    assert isinstance(pooled, Pooled)
    return pooled.repetitions


def _weights(parts: Sequence[Decoded]) -> np.ndarray:
    counts = np.array([len(part.trials) for part in parts], float)
    return counts / counts.sum()

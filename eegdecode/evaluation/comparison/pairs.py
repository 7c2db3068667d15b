"""Two decoders of one study compared: over their subjects, and over the exchangeable units of the test set."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eegdecode.evaluation import results
from eegdecode.evaluation.comparison.rows import Repetitions, Row
from eegdecode.evaluation.cross_validation.folds import WIDER
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics.top_k import hits
from eegdecode.evaluation.statistics import grouping, intervals, rank_tests
from eegdecode.evaluation.statistics.confusion import predicted, truth
from eegdecode.evaluation.statistics.retrieval import candidates, distinct, similarities


@dataclass(frozen=True)
class Pair:
    """The mean difference of the first and the second over their common subjects, and its two-sided p: which of two is
    the first is known only after looking at the results.

    Parameters
    ----------
    n_units, p_units, p_units_holm
        Over the units of the test set, which says nothing of other subjects; 0 and 1 if there are none, as for r of
        numbers.
    """

    one: str
    other: str
    n_subjects: int
    difference: float
    p: float
    p_holm: float
    n_units: int = 0
    p_units: float = 1.0
    p_units_holm: float = 1.0
    study: str = ""


def compared(rows: Sequence[Row]) -> tuple[list[Pair], list[str]]:
    """A sign-flip test for every two decoders with common subjects or units, but for two linear ones, corrected for the
    number of pairs; and sentences on those of other data or splits, whose subjects cannot be paired."""
    raw, unlike = [], []
    for one, other in combinations(rows, 2):
        if one.is_linear and other.is_linear:
            continue
        if why := one.other_than(other):
            if not (one.is_linear or other.is_linear):
                unlike.append((f"{one.run} and {other.run}: {why}.", one.study == other.study))
            continue
        both = sorted(one.subjects.keys() & other.subjects.keys())
        differences = np.array([one.subjects[name] - other.subjects[name] for name in both])
        units = by_unit(one.windows, other.windows)
        if len(both) > 1 or len(units) > 1:
            p = intervals.two_sided(differences) if len(both) > 1 else 1.0
            difference = float(differences.mean()) if len(both) else one.value - other.value
            widen = WIDER if one.n_folds > 1 else 1.0
            p_units = intervals.two_sided(units, widen) if len(units) > 1 else 1.0
            raw.append((one.model, other.model, len(both), difference, p, len(units), p_units, one.study))
    # That rows of different studies are no pairs goes without saying, unless there are no others
    sentences = [sentence for sentence, is_of_one in unlike if is_of_one or not raw]
    corrected, of_units = (intervals.holm(np.array([row[at] for row in raw])) for at in (4, 6))
    return [
        Pair(*row[:5], float(p), row[5], row[6], float(p_units), row[7])
        for row, p, p_units in zip(raw, corrected, of_units, strict=True)
    ], sentences


def by_unit(one: Repetitions, other: Repetitions) -> np.ndarray:
    """[unit]: the part of the difference of the two that each unit makes; empty if they cannot be paired."""
    if not one or not other:
        return np.empty(0)
    ours, theirs = _windows(one), _windows(other)
    if ours is None or theirs is None or ours[0] != theirs[0]:
        return np.empty(0)
    numbers = np.unique(ours[2], return_inverse=True)[1].reshape(-1)
    return np.bincount(numbers, weights=ours[1] - theirs[1])


Windows = tuple[list[tuple[str, str, int, float]], np.ndarray, np.ndarray]


def _windows(repetitions: Repetitions) -> Windows | None:
    """What each window is, the part that it has in the figure, and its unit; in one order."""
    several = []
    for parts in repetitions:
        of_parts = [_of_part(part, len(parts)) for part in parts]
        if any(of_part is None for of_part in of_parts):
            return None
        several.append(np.concatenate([of_part for of_part in of_parts if of_part is not None]))
    trials = [trial for part in repetitions[0] for trial in part.trials]
    keys = [(trial.subject, trial.recording, trial.trial, trial.start_s) for trial in trials]
    units = _units(repetitions[0])
    order = sorted(range(len(keys)), key=lambda row: keys[row])
    return [keys[row] for row in order], np.mean(several, axis=0)[order], units[order]


def _of_part(decoded: Decoded, n_parts: int) -> np.ndarray | None:
    """[window]: its part in the figure, which is their sum; None if that is not a sum."""
    if decoded.kind == "classes":
        true = truth(decoded)
        occur = np.bincount(true, minlength=decoded.output.shape[1])
        return (predicted(decoded) == true) / (occur[true] * np.count_nonzero(occur))
    if decoded.kind == "retrieval":
        every, own = candidates(decoded)
        k = 5 if len(every) >= 20 else 1
        return hits(similarities(decoded), own, k) / (len(own) * n_parts)
    if decoded.kind == "sequence":
        of_trials = results.of_trials(decoded)
        return of_trials / len(of_trials)
    return None


def _units(parts: Sequence[Decoded]) -> np.ndarray:
    """[window]: what is exchangeable, see statistics/exchange.py; of a retrieval the candidates, of time courses the
    pieces, as all subjects get the same."""
    if parts[0].kind == "classes":
        return grouping.units(parts[0]).of
    if parts[0].kind == "retrieval":
        return distinct(np.concatenate([part.truth for part in parts]))[1]
    return np.unique([trial.stimulus for trial in parts[0].trials], return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class OverStudies:
    """Two decoders over several studies, as MOABB has them: the mean difference in standard deviations over subjects,
    and one p of all studies, weighted by their subjects; both over the studies that have both."""

    one: str
    other: str
    n_studies: int
    n_subjects: int
    smd: float
    p: float
    p_holm: float
    p_wilcoxon: float
    p_wilcoxon_holm: float


def over_studies(rows: Sequence[Row]) -> list[OverStudies]:
    """Every two decoders that several studies have, but for two linear ones."""
    by_model: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_model.setdefault(row.model, {})[row.study] = row
    raw = []
    for one, other in combinations(by_model, 2):
        ours, theirs = by_model[one], by_model[other]
        both = [name for name in ours if name in theirs]
        if len(both) < 2 or all(ours[name].is_linear and theirs[name].is_linear for name in both):
            continue
        means = np.array([ours[name].value - theirs[name].value for name in both])
        differences = [_differences(ours[name], theirs[name]) for name in both]
        paired = [each for each in differences if len(each) > 1 and each.std(ddof=1) > 0]
        if not paired:
            continue
        weights = np.sqrt([len(each) for each in paired])
        smd = float(np.average([each.mean() / each.std(ddof=1) for each in paired], weights=weights))
        sides = [rank_tests.stouffer(_one_sided(paired, sign), weights) for sign in (1, -1)]
        wilcoxon = min(1.0, 2 * min(intervals.wilcoxon(sign * means) for sign in (1, -1)))
        raw.append((one, other, len(both), sum(map(len, paired)), smd, min(1.0, 2 * min(sides)), wilcoxon))
    holm, holm_wilcoxon = (intervals.holm(np.array([row[at] for row in raw])) for at in (5, 6))
    return [
        OverStudies(*row[:6], float(p), row[6], float(p_wilcoxon))
        for row, p, p_wilcoxon in zip(raw, holm, holm_wilcoxon, strict=True)
    ]


def _differences(one: Row, other: Row) -> np.ndarray:
    if one.other_than(other):
        return np.empty(0)
    return np.array(
        [one.subjects[name] - other.subjects[name] for name in sorted(one.subjects) if name in other.subjects]
    )


def _one_sided(several: Sequence[np.ndarray], sign: int) -> np.ndarray:
    return np.array([intervals.sign_flip(sign * each) for each in several])

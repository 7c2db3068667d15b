"""Decoders ranked over the studies that have all of them, or over the subjects of one study."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eegdecode.evaluation.comparison.rows import Row
from eegdecode.evaluation.statistics import rank_tests
from eegdecode.evaluation.statistics.nulls import ALPHA


@dataclass(frozen=True)
class Ranking:
    """Decoders, the best mean rank first.

    Parameters
    ----------
    sets
        What they are ranked on: studies, or subjects of one.
    values
        [set, decoder]
    chi2, f, p
        Friedman's test of whether any differs from the others.
    critical_difference
        Mean ranks closer than this are not told apart.
    left_out
        Studies that lack a decoder, and decoders of too few studies.
    """

    models: tuple[str, ...]
    sets: tuple[str, ...]
    are_studies: bool
    is_one_figure: bool
    values: tuple[tuple[float, ...], ...]
    mean_ranks: tuple[float, ...]
    chi2: float
    f: float
    p: float
    critical_difference: float
    left_out: tuple[str, ...] = ()

    @property
    def is_difference(self) -> bool:
        return self.p < ALPHA

    def alike(self, number: int) -> list[int]:
        """The decoders that are not told apart from this one."""
        own = self.mean_ranks[number]
        near = [abs(rank - own) < self.critical_difference for rank in self.mean_ranks]
        return [other for other, is_near in enumerate(near) if is_near and other != number]


def ranked(rows: Sequence[Row]) -> Ranking | None:
    """Of three decoders on two studies at least; of one study, on three of its subjects; else None."""
    by_study: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_study.setdefault(row.study, {})[row.model] = row
    if len(by_study) > 1:
        models, whole = _complete(by_study)
        of_others = {model: None for own in by_study.values() for model in own if model not in models}
        left_out = (*(study for study in by_study if study not in whole), *of_others)
        values = np.array([[by_study[study][model].value for model in models] for study in whole])
        figures = {row.figure for study in whole for row in by_study[study].values()}
        return _ranking(models, whole, values, True, len(figures) == 1, left_out) if len(whole) > 1 else None
    (own,) = by_study.values()
    subjects = sorted(set.intersection(*(set(row.subjects) for row in own.values())))
    if len(subjects) < 3 or any(row.other_than(other) for row in own.values() for other in own.values()):
        return None
    values = np.array([[row.subjects[name] for row in own.values()] for name in subjects])
    return _ranking(list(own), subjects, values, False, True)


def _complete(by_study: Mapping[str, Mapping[str, Row]]) -> tuple[list[str], list[str]]:
    """Decoders, and the studies that have all of them: two at least, for which decoders of the fewest studies go."""
    every = Counter(model for own in by_study.values() for model in own)
    models = [model for model, n in every.items() if n > 1]
    while True:
        whole = [study for study, own in by_study.items() if all(model in own for model in models)]
        if len(whole) > 1 or not models:
            return models, whole
        models.remove(min(models, key=lambda model: every[model]))


def _ranking(
    models: Sequence[str],
    sets: Sequence[str],
    values: np.ndarray,
    are_studies: bool,
    is_one_figure: bool,
    left_out: tuple[str, ...] = (),
) -> Ranking | None:
    if len(models) < 3:
        return None
    means = rank_tests.ranks(values).mean(axis=0)
    order = np.argsort(means, kind="stable")
    chi2, f, p = rank_tests.friedman(values)
    return Ranking(
        tuple(models[place] for place in order),
        tuple(sets),
        are_studies,
        is_one_figure,
        tuple(tuple(map(float, row)) for row in values[:, order]),
        tuple(map(float, means[order])),
        chi2,
        f,
        p,
        rank_tests.critical_difference(len(sets), len(models)),
        left_out,
    )

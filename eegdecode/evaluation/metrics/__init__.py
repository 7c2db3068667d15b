"""The metrics: each is one file, with its label, its unit, its chance level and its null beside the function.

    KAPPA = Metric("kappa", "Cohen's kappa", "agreement above …", ("classes",), score, chance=0.0)

To add one, write such a file here, or in your own package with an entry point of the group `eegdecode.metrics`. Nothing
else lists it: `metrics` looks for it, and the results, the report and its explanations read what it declares. What
several metrics compute alike is in eegdecode/evaluation/statistics/; `once` keeps what is costly.
"""

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import get_args

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, Kind, once
from eegdecode.evaluation.statistics.nulls import Permuted
from hpc.config import plugins
from hpc.errors import ConfigError

__all__ = ["Decoded", "Headline", "Metric", "Scoring", "metrics", "once"]

GROUP = "eegdecode.metrics"
LAST = 100.0
"""Ours have lower places than that."""


@dataclass(frozen=True)
class Headline:
    """What a metric has besides if it can decide the verdict: its value and its null for each subject.

    Parameters
    ----------
    what
        How it is computed for these windows, in a sentence.
    by_subject
        Its value for each subject [subject], in the order of their names.
    null_by_subject
        The null of these values: [draw, subject], or several of them [null, draw, subject].
    of_subjects
        What `by_subject` is for these windows, if not the metric itself; else empty.
    permuted
        What the null permutes for these windows, if so few of it may be there that nothing can be decided.
    by_unit
        Numbers whose mean is its value, one for each part of the test set that is independent of the others, and what
        these parts are: two decoders are compared by them if there are few subjects.
    ends
        The lowest and the highest value that there can be: the interval over subjects ends there.
    """

    what: Callable[[Decoded], str]
    by_subject: Callable[[Decoded, Scoring], np.ndarray]
    null_by_subject: Callable[[Decoded, Scoring], np.ndarray]
    of_subjects: Callable[[Decoded], str] = lambda _: ""
    permuted: Callable[[Decoded], Permuted | None] = lambda _: None
    by_unit: Callable[[Decoded, Scoring], tuple[np.ndarray, str]] | None = None
    ends: tuple[float, float] = (-np.inf, np.inf)


@dataclass(frozen=True)
class Metric:
    """A metric, as the results and the report need it. Its functions get the decoded windows and the settings `scoring`
    of the evaluation, of which `n_null` and `seed` are for the null.

    Parameters
    ----------
    name
        Its name in report.json, and the name of its entry point if another package brings it.
    label, how
        Its name in the report, and how it is computed: a sentence, as in "Kappa: agreement above chance."
    kinds
        The tasks that it is for: sequence, classes, retrieval, values.
    score
        Its value, or one for each trial [trial], whose mean counts: NaN for trials without one. None if these windows
        have none, for example, because they are too short.
    chance
        Its chance level: a number, or a function if it depends on the windows.
    null
        Its null, if it is to have a p: [draw], or several of them [null, draw], of which the one with the largest p
        counts. For a metric that can decide the verdict, only where it does.
    unit
        Its unit, which the report writes after the label.
    lower_is_better
        Whether p is the share of draws that are as low or lower. The report says so too.
    each_subject
        Whether the report has it for each subject too. Its score must be one for each trial.
    headline
        Given if it can decide the verdict: see `headline` in eegdecode/evaluation/results.py.
    order
        Its place in the tables of the report, the lower the earlier; by default after the others.
    """

    name: str
    label: str
    how: str
    kinds: tuple[Kind, ...]
    score: Callable[[Decoded, Scoring], float | np.ndarray | None]
    chance: float | Callable[[Decoded, Scoring], float]
    null: Callable[[Decoded, Scoring], np.ndarray] | None = None
    unit: str = ""
    lower_is_better: bool = False
    each_subject: bool = False
    headline: Headline | None = None
    order: float = LAST

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(get_args(Kind)):
            raise ValueError(
                f"the metric {self.name} is for the kinds {self.kinds!r}: say a tuple of {', '.join(get_args(Kind))}"
            )
        if self.headline is not None and self.null is None:
            raise ValueError(f"the metric {self.name} has a headline but no null, so it could not decide the verdict")

    @property
    def title(self) -> str:
        """Its label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def explanation(self) -> str:
        return f"{self.how.removesuffix('.')}; the lower, the better." if self.lower_is_better else self.how


def metrics(kind: Kind) -> dict[str, Metric]:
    """The metrics for that kind of task by name, in the order of the report: ours, and those of installed packages."""
    every = sorted([*_ours(), *_of_packages()], key=lambda metric: metric.order)
    table: dict[str, Metric] = {}
    for metric in every:
        if kind not in metric.kinds:
            continue
        if metric.name in table:
            raise ValueError(f"there are two metrics {metric.name} for {kind}: call the one of your package otherwise")
        table[metric.name] = metric
    return table


def _ours() -> Iterator[Metric]:
    """All of the files beside this one, except those whose names begin with `_`."""
    found: dict[Metric, None] = {}
    for file in pkgutil.iter_modules(__path__):
        if file.name.startswith("_"):
            continue
        module = import_module(f"{__name__}.{file.name}")
        declared = [each for each in vars(module).values() if isinstance(each, Metric)]
        if not declared:
            raise ConfigError(f"{module.__name__} declares no Metric: put what metrics share in evaluation/statistics/")
        found |= dict.fromkeys(declared)
    yield from found


def _of_packages() -> Iterator[Metric]:
    for name, where in plugins.points(GROUP).items():
        metric = plugins.load(where)
        if not isinstance(metric, Metric) or metric.name != name:
            raise ConfigError(f"{where}, of the group {GROUP}, has to be a Metric whose `name` is {name!r}")
        yield metric

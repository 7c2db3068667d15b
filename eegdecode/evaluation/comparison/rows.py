"""One row for each decoder and study: evaluations of the folds and seeds of one decoder are pooled, never ranked.

A row says what it is of by the configs of the runs it comes from. Evaluations whose training is not beside them are
rows of their own.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.cross_validation import choice, folds
from eegdecode.evaluation.cross_validation.choice import OF_FOLD, OF_REPETITION, Training, words
from eegdecode.evaluation.cross_validation.folds import Fold
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predictions import Decoded
from hpc import config
from hpc.errors import first_of
from hpc.runs import products, records
from hpc.runs.rundir import RunDir

Repetitions = tuple[tuple[Decoded, ...], ...]
MOST_NAMED = 2
OF_PARTITION = (*OF_FOLD, *OF_REPETITION)


class Linear(NamedTuple):
    """What an evaluation says of a linear decoder beside the network. `p` and `verdict`: of older reports none."""

    value: float
    subjects: Mapping[str, float]
    p: float | None = None
    verdict: str = "linear"


@dataclass(frozen=True)
class Row:
    """A decoder on the test set of a study.

    Parameters
    ----------
    runs
        The evaluations that it is of.
    model
        What tells it from the other decoders; `study`: what tells its study from others.
    p
        None for a linear decoder of an older report.
    of
        The study and the split; empty if an older report does not name them.
    sd_seeds
        The standard deviation over seeds, if there are several.
    windows
        The decoded windows, in repetitions and in parts that are scored together; empty if they are not there.
    """

    runs: tuple[str, ...]
    settings: str
    figure: str
    value: float
    chance: float
    p: float | None
    verdict: str
    subjects: dict[str, float]
    of: dict[str, Any]
    model: str = ""
    study: str = ""
    n_folds: int = 1
    sd_seeds: float | None = None
    is_linear: bool = False
    baselines: Mapping[str, Linear] = field(default_factory=dict, repr=False)
    training: Training | None = field(default=None, repr=False)
    scoring: Scoring = field(default_factory=Scoring, repr=False)
    windows: Repetitions = field(default=(), repr=False, compare=False)

    @property
    def run(self) -> str:
        return first_of(self.runs, MOST_NAMED)

    @property
    def sd_subjects(self) -> float | None:
        values = list(self.subjects.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def other_than(self, other: "Row") -> str:
        """Why their subjects cannot be paired; empty if they can."""
        for one in (self, other):
            if not one.of:
                return f"the report of {one.run} does not say which data and split it is of: evaluate it again"
        if self.of["study"] != other.of["study"]:
            return f"they are of {' and '.join(self.of['study'])}, and of {' and '.join(other.of['study'])}"
        ours, theirs = self.of["split"], other.of["split"]
        differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        differences = " and ".join(f"split.{name} is {ours.get(name)} and {theirs.get(name)}" for name in differ)
        return f"their test sets differ, as {differences}" if differ else ""


def rows(runs: Sequence[RunDir]) -> list[Row]:
    """A row for each decoder and study, the linear ones too; with names that tell them apart."""
    groups: dict[tuple[str, int], list[Row]] = {}
    several: Counter[tuple[str, str, str]] = Counter()  # evaluations of one training are rows of their own
    for run in runs:
        row = read(run)
        own = row.training
        place = (_group(row), own.fold_name if own else "", own.repetition_name if own else "")
        groups.setdefault((place[0], several[place]), []).append(row)
        several[place] += 1
    pooled = [_pooled(members) if len(members) > 1 else members[0] for members in groups.values()]
    return _with_linear(_named(pooled))


def read(run: RunDir) -> Row:
    """The report of an evaluation."""
    path = run.out / "report.json"
    report: Any = products.read(path)
    if report is None:
        raise ValueError(f"{run.path} has no report.json: name evaluate runs that have finished")
    try:
        name = report["headline"]
        main = report["figures"][name]
        value, chance, p = (_number(main[key]) for key in ("value", "chance", "p"))
        subjects = {str(row["subject"]): _number(row["value"]) for row in report["subjects"]}
        baselines = {
            str(each): _linear(report, str(each), name)
            for each, figures in report.get("baselines", {}).items()
            if name in figures
        }
        verdict, of = report["verdict"], report.get("of", {})
        if not isinstance(verdict, str):
            raise TypeError(f"the verdict is {verdict!r}")
        if of and not (isinstance(of["split"], dict) and all(isinstance(each, str) for each in of["study"])):
            raise TypeError(f"it is of {of!r}")
        whole = report.get("cross_validation", {})
        sd, n_folds = whole.get("sd_repetitions"), len({each["name"] for each in whole.get("folds", [])}) or 1
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is not the report of an evaluation ({type(error).__name__}: {error}): evaluate again"
        ) from None
    plan = records.plan(run)
    models = [name for at, name in plan.get("inputs", {}).items() if at.partition("[")[0] == "model"]
    settings = plan.get("settings", "")
    return Row(
        (run.name,),
        settings,
        name,
        value,
        chance,
        p,
        verdict,
        subjects,
        of,
        n_folds=n_folds,
        sd_seeds=sd,
        baselines=baselines,
        training=_training([RunDir(run.path.parent / name) for name in models if "/" not in name]),
        scoring=_scoring(run),
        windows=_windows(run, whole),
    )


def _linear(report: Mapping[str, Any], baseline: str, metric: str) -> Linear:
    """A linear decoder in a report, by the metric that decides."""
    own = report.get("baseline_results", {}).get(baseline, {}).get("figures", {}).get(metric, {})
    p = own.get("p")
    return Linear(
        _number(report["baselines"][baseline][metric]),
        _by_subject(report["subjects"], baseline),
        None if p is None else _number(p),
        str(report.get("verdicts", {}).get(baseline, "linear")),
    )


def _training(models: Sequence[RunDir]) -> Training | None:
    """What the models of an evaluation were trained as; several are one result, with the settings that they share."""
    every = [choice.of_run(model) if model.config.is_file() else None for model in models]
    known = [each for each in every if each is not None]
    if not known or len(known) < len(every):
        return None
    if len(known) == 1:
        return known[0]
    shared = set.intersection(*(set(each.settings.items()) for each in known))
    return replace(known[0], fold={}, repetition={}, settings=dict(sorted(shared)))


def _scoring(run: RunDir) -> Scoring:
    values = config.load([run.config]).get("scoring") if run.config.is_file() else None
    return config.build(Scoring, values or {}, "scoring")


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _by_subject(subjects: Sequence[Mapping[str, Any]], baseline: str) -> dict[str, float]:
    return {
        str(row["subject"]): _number(row["baselines"][baseline])
        for row in subjects
        if baseline in row.get("baselines", {})
    }


def _windows(run: RunDir, whole: Mapping[str, Any]) -> Repetitions:
    """What an evaluation has decoded."""
    if (run.out / "predictions.h5").is_file():
        return ((predictions.read(run.out / "predictions.h5"),),)
    if "models" not in whole:
        return ()
    several = [
        Fold(each["fold"], each["repetition"], predictions.read(run.out / each["predictions"]))
        for each in whole["models"]
    ]
    return folds.pool(several).repetitions


def _group(row: Row) -> str:
    """Evaluations with the same one are folds or seeds of one decoder."""
    own = row.training
    if own is None or not own.repetition or not row.windows:
        return row.runs[0]
    split_seed = "" if own.task.get("split.folds", "null") != "null" else own.repetition["split.seed"]
    return json.dumps([own.studies, dict(own.task), dict(own.settings), split_seed], sort_keys=True)


def _pooled(several: Sequence[Row]) -> Row:
    """One row of several evaluations, of folds and seeds of one decoder."""
    first, trainings = several[0], [row.training for row in several if row.training]
    choice.refuse_missing(trainings)
    names = choice.repetitions(trainings)
    parts = [
        Fold(own.fold_name, names[own.repetition_name], row.windows[0][0])
        for own, row in zip(trainings, several, strict=True)
    ]
    whole = folds.evaluate(parts, first.scoring)
    result, main = whole.result, whole.result.figures[whole.result.headline]
    of = first.of
    if whole.n_folds > 1 and of:
        of = of | {"split": {name: value for name, value in of["split"].items() if f"split.{name}" not in OF_PARTITION}}
    return replace(
        first,
        runs=tuple(run for row in several for run in row.runs),
        settings=_shared([row.settings for row in several]),
        value=main.value,
        chance=main.chance,
        p=main.p,
        verdict=result.verdict,
        subjects={row.subject: row.value for row in result.subjects},
        of=of,
        n_folds=whole.n_folds,
        sd_seeds=whole.sd_repetitions,
        baselines={
            name: Linear(
                figure.value,
                {row.subject: row.baselines[name] for row in result.subjects},
                figure.p,
                result.verdict_of(name),
            )
            for name, figure in result.decoders.items()
            if name in result.baselines
        },
        windows=folds.pool(parts).repetitions,
    )


def _shared(settings: Sequence[str]) -> str:
    """The words that all have."""
    every = [words.split() for words in settings]
    return " ".join(word for word in every[0] if all(word in other for other in every))


def _named(table: Sequence[Row]) -> list[Row]:
    """With the names of decoders and studies: the fewest settings by which decoders of one study differ, and of studies
    what tells them apart."""
    known = [row for row in table if row.training]
    wanted = _telling(known)
    names = {id(row): words({name: _of(row, name) for name in wanted}) or _of(row, "model.name") for row in known}
    tasks = [_task(row) for row in table]
    differ = {name: None for task in tasks for name in task if len({json.dumps(each.get(name)) for each in tasks}) > 1}
    named = [
        replace(
            row,
            model=names.get(id(row), "").replace("model.name=", "") or row.settings or row.run,
            study=", ".join(_plain(task[name]) for name in differ if name in task) or "all",
        )
        for row, task in zip(table, tasks, strict=True)
    ]
    twice = Counter((row.study, row.model) for row in named)
    return [replace(row, model=f"{row.model} ({row.run})") if twice[row.study, row.model] > 1 else row for row in named]


def _task(row: Row) -> dict[str, Any]:
    """What a study is, for the columns of a table: studies, targets and splits."""
    target = {"target": row.training.task["target"].strip('"')} if row.training else {}
    return {"study": row.of.get("study", [])} | target | row.of.get("split", {})


def _plain(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _of(row: Row, name: str) -> str:
    return row.training.settings.get(name, "").strip('"') if row.training else ""


def _telling(table: Sequence[Row]) -> list[str]:
    """Settings that are not the same in all decoders of a study; none that goes along with those before it."""
    studies: dict[str, list[Row]] = {}
    for row in table:
        studies.setdefault(json.dumps(_task(row), sort_keys=True), []).append(row)
    names = {name: None for row in table if row.training for name in ("model.name", *row.training.settings)}
    wanted: list[str] = []
    for name in names:
        before = [len({tuple(_of(row, each) for each in wanted) for row in own}) for own in studies.values()]
        after = [len({tuple(_of(row, each) for each in (*wanted, name)) for row in own}) for own in studies.values()]
        wanted += [name] if after != before else []
    return wanted


def _with_linear(table: Sequence[Row]) -> list[Row]:
    """With a row for each linear decoder of a study; for several, if decoders were tested beside unlike ones, as after
    other preprocessing."""
    every = list(table)
    seen: dict[tuple[str, str], Row] = {}
    for row in table:
        for name, own in row.baselines.items():
            key = json.dumps(_task(row), sort_keys=True), name
            same = seen.get(key)
            if same is not None and (same.value, same.subjects) == (own.value, dict(own.subjects)):
                continue
            model = name if same is None else f"{name} beside {row.model}"
            linear = replace(
                row, settings="", value=own.value, p=own.p, verdict=own.verdict,
                subjects=dict(own.subjects), model=model,
                sd_seeds=None, is_linear=True, baselines={}, windows=_by(row.windows, name),
            )  # fmt: skip
            seen.setdefault(key, linear)
            every.append(linear)
    return every


def _by(windows: Repetitions, baseline: str) -> Repetitions:
    """The windows as a linear decoder decodes them."""
    if not all(baseline in part.baselines for parts in windows for part in parts):
        return ()
    return tuple(tuple(part.by(baseline) for part in parts) for parts in windows[:1])

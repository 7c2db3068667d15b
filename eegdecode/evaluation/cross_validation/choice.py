"""Which models decode which fold. The settings of a fold are chosen by its validation set, never by a test set.

Trainings of one task differ in their fold (split.fold, test_units, or the recordings they read), in their repetition
(seed, split.seed), and in settings. If there are several settings, each fold takes the model whose validation is best,
by the figure that chose its step (optim.choose_by): nested cross-validation. A part of a sweep's settings is refused:
somebody has chosen them, maybe by their test sets.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eegdecode.training.config import Train, is_lower_better
from eegdecode.training.model_file import Trained
from hpc import config
from hpc.errors import ConfigError, first_of
from hpc.media import many
from hpc.runs import records
from hpc.runs.rundir import RunDir

log = logging.getLogger(__name__)

OF_FOLD = ("split.fold", "split.test_units", "split.val_units")
OF_REPETITION = ("split.seed", "seed")
OF_TASK = ("target", "split.", "windows.name", "windows.length_s", "windows.tmin_s", "windows.tmax_s")
OF_NOTHING = ("watch.", "data", "start.source")
"""Settings that change no result, or that are described by the run they name."""
OF_RECORDINGS = ("files", "exclude", "skip_failed")
"""Settings of preprocessing that say which recordings there are."""
MOST_NAMED = 5
Flat = Mapping[str, str]


@dataclass(frozen=True)
class Training:
    """What tells a training from others. Values are texts, by their settings as on the command line."""

    run: str
    studies: tuple[str, ...]
    task: Flat
    fold: Flat
    repetition: Flat
    settings: Flat

    @property
    def fold_name(self) -> str:
        return words({name.removeprefix("split."): value for name, value in self.fold.items()})

    @property
    def repetition_name(self) -> str:
        return words(self.repetition)


@dataclass(frozen=True)
class Chosen:
    """The models that decode a fold in one repetition, of so many settings that there were. `settings`: what was chosen
    in words, empty if there was no choice. `by`: the figure of the validation that chose."""

    fold: str
    repetition: str
    models: tuple[Trained, ...]
    settings: str = ""
    n_settings: int = 1
    by: str = "loss"


def words(values: Flat) -> str:
    """Settings as on the command line, without quotes."""
    return " ".join(f"{name}={value.strip(chr(34))}" for name, value in values.items())


def flat(values: Any, at: str = "") -> dict[str, str]:
    """A config as {path: JSON}."""
    if isinstance(values, Mapping) and values:
        pairs = ((f"{at}.{key}" if at else str(key), value) for key, value in values.items())
        return {name: text for key, value in pairs for name, text in flat(value, key).items()}
    return {at: json.dumps(values, ensure_ascii=False, sort_keys=True, default=list)}


def training(run: RunDir, values: Mapping[str, Any]) -> Training:
    """Of a training run and its config. What its data and its weights began with is in the configs of their runs."""
    whole = flat(config.plain(config.build(Train, dict(values), "train")))
    runs = run.path.parent
    recordings, studies, made = _data([str(name) for name in values["data"]], runs)
    source = (values.get("start") or {}).get("source")
    began = _source(str(source), runs) if source else {}
    usual_fold = {"split.fold": "0", "split.test_units": "[]", "split.val_units": "[]"}
    fold = {name: whole[name] for name in OF_FOLD if whole[name] != usual_fold[name]}
    if whole["split.folds"] != "null":
        fold = {"split.fold": whole["split.fold"]}
    special = (*OF_FOLD, *OF_REPETITION)
    task = {name: value for name, value in whole.items() if name.startswith(OF_TASK) and name not in special}
    settings = {
        name: value
        for name, value in whole.items()
        if name not in (*special, *task) and not name.startswith(OF_NOTHING)
    }
    return Training(
        run.name,
        studies,
        task,
        fold | recordings,
        {name: whole[name] for name in OF_REPETITION},
        settings | made | began,
    )


def _data(names: Sequence[str], runs: Path) -> tuple[dict[str, str], tuple[str, ...], dict[str, str]]:
    """Which recordings they are, of which studies, and how they were made."""
    recordings: dict[str, str] = {}
    studies: list[str] = []
    made: dict[str, str] = {}
    for number, name in enumerate(names):
        at, values = f"data[{number}]" if number else "data", _config_of(name, runs)
        if not values:
            studies.append(name)
            continue
        studies.append(str(values.pop("study", name)))
        recordings |= {f"{at}.{key}": flat(values.pop(key))[""] for key in OF_RECORDINGS if values.get(key)}
        made |= flat(values, at)
    return recordings, tuple(sorted(set(studies))), made


def _source(name: str, runs: Path) -> dict[str, str]:
    """How pretrained weights were trained: of each fold, they may be of a run of its own."""
    values = _config_of(name, runs)
    if not values.get("data"):
        return {"start.source": name}
    before = training(RunDir(runs / name), values)
    return {f"start.source.{key}": value for key, value in {**before.task, **before.settings}.items()}


def _config_of(name: str, runs: Path) -> dict[str, Any]:
    """The config of a run beside the others; empty for a folder."""
    run = RunDir(runs / name)
    return config.load([run.config]) if name and "/" not in name and run.config.is_file() else {}


def repetitions(trainings: Sequence[Training]) -> dict[str, str]:
    """What tells repetitions apart, by their whole names; empty if there is one."""
    varied = [name for name in OF_REPETITION if len({each.repetition.get(name) for each in trainings}) > 1]
    return {each.repetition_name: words({name: each.repetition[name] for name in varied}) for each in trainings}


def is_cross_validation(trainings: Sequence[Training]) -> bool:
    return len({each.fold_name for each in trainings}) > 1


def choose(
    models: Sequence[Trained], seeds: Literal["together", "apart"], choice: Literal["nested", "fixed"], runs: Path
) -> list[Chosen]:
    """The models of each fold and repetition; refuses what is not one cross-validation of one task."""
    trainings = [training(model.run, model.config) for model in models]
    _refuse_other_tasks(trainings)
    refuse_missing(trainings)
    varied = differing(trainings)
    if choice == "nested":
        _refuse_part(trainings, runs)
    candidates: dict[tuple[str, str], dict[str, Trained]] = {}
    for model, own in zip(models, trainings, strict=True):
        same = candidates.setdefault((own.fold_name, own.repetition_name), {})
        settings = words({name: own.settings.get(name, "") for name in varied})
        if settings in same:
            raise ValueError(
                f"{same[settings].run.name} and {model.run.name} have the same fold, seed and settings: name one"
            )
        same[settings] = model
    by = json.loads(trainings[0].settings.get("optim.choose_by", '"loss"'))
    if varied:
        _refuse_other_figures(trainings, by)
    chosen, names = [], repetitions(trainings)
    for (fold, repetition), same in sorted(candidates.items(), key=lambda pair: _in_order(pair[0])):
        settings, model = min(same.items(), key=lambda pair: _badness(pair[1], by))
        chosen.append(Chosen(fold, names[repetition], (model,), settings, len(same), by))
    return _together(chosen) if seeds == "together" else chosen


def _together(chosen: Sequence[Chosen]) -> list[Chosen]:
    """The models of all seeds of a fold as one."""
    folds: dict[str, list[Chosen]] = {}
    for each in chosen:
        folds.setdefault(each.fold, []).append(each)
    return [
        Chosen(
            fold,
            "",
            tuple(model for each in several for model in each.models),
            "; ".join(dict.fromkeys(each.settings for each in several if each.settings)),
            max(each.n_settings for each in several),
            several[0].by,
        )
        for fold, several in folds.items()
    ]


def _in_order(names: tuple[str, str]) -> list[tuple[int, str]]:
    """Fold 10 behind fold 9."""
    return [(len(name), name) for name in (names[1], names[0])]


def differing(trainings: Iterable[Training]) -> list[str]:
    """The names of settings that are not the same in all."""
    every = [each.settings for each in trainings]
    return [name for name in {name: None for own in every for name in own} if len({own.get(name) for own in every}) > 1]


def _refuse_other_tasks(trainings: Sequence[Training]) -> None:
    first = trainings[0]
    for other in trainings[1:]:
        ours, theirs = first.task, other.task
        differ = {name: None for name in (*ours, *theirs) if ours.get(name) != theirs.get(name)}
        if first.studies != other.studies:
            raise ValueError(
                f"folds of one cross-validation are of one study, but {other.run} is of {' and '.join(other.studies)}, "
                f"where {first.run} is of {' and '.join(first.studies)}: `compare` takes several"
            )
        if differ:
            has, where = (words({name: own.get(name, "not there") for name in differ}) for own in (theirs, ours))
            raise ValueError(
                f"folds of one cross-validation have one task, but {other.run} has {has}, where {first.run} has {where}"
            )


def refuse_missing(trainings: Sequence[Training]) -> None:
    """Each repetition has all folds: those of split.folds, and those of the others."""
    folds = {each.fold_name for each in trainings}
    n_folds = json.loads(trainings[0].task.get("split.folds", "null")) or 0
    folds |= {f"fold={number}" for number in range(n_folds)} if all("data" not in fold for fold in folds) else set()
    for name in dict.fromkeys(each.repetition_name for each in trainings):
        own = {each.fold_name for each in trainings if each.repetition_name == name}
        if missing := sorted(folds - own, key=lambda fold: (len(fold), fold)):
            raise ValueError(
                f"a cross-validation has all of its folds, but of {len(folds)} there is no "
                f"{first_of(missing, MOST_NAMED)} with {name}: train what is missing (the same sweep again does), and "
                "evaluate all"
            )


def _badness(model: Trained, by: str) -> tuple[float, float]:
    """As the best step of a training is chosen: by the figure, and of those alike by the loss."""
    if by not in model.validation:
        raise ValueError(
            f"each fold chooses by the validation {by}, but {model.run.name} has only {', '.join(model.validation)}"
        )
    return model.validation[by] * (1 if is_lower_better(by) else -1), model.validation["loss"]


def _refuse_other_figures(trainings: Sequence[Training], by: str) -> None:
    figures = {each.settings.get("optim.choose_by", '"loss"') for each in trainings}
    if len(figures) > 1:
        raise ValueError(
            "each fold chooses the settings with the best validation figure, but these have chosen their steps by "
            f"{' and '.join(json.loads(each) for each in sorted(figures))}: evaluate those of each alone"
        )
    every = ([pair for pair in each.settings.items() if pair[0].startswith("objective.")] for each in trainings)
    objectives = {words(dict(pairs)) for pairs in every}
    if len(objectives) > 1 and by == "loss":
        raise ValueError(
            "each fold chooses the settings with the lowest validation loss, but these are of different losses "
            f"({first_of(sorted(objectives), 2)}): evaluate those of each objective alone, and `compare` them"
        )


def _refuse_part(trainings: Sequence[Training], runs: Path) -> None:
    """Refuse a part of the settings that were swept under one --name."""
    named = {each.run for each in trainings}
    labels = {records.plan(RunDir(runs / name)).get("label", "") for name in named} - {""}
    ours = {json.dumps(each.settings, sort_keys=True) for each in trainings}
    others: dict[str, Training] = {}
    for run in of_names(labels, runs):
        if run.name in named or not run.result.exists() or (other := of_run(run)) is None:
            continue  # of one that has not ended, nobody can have looked at the test set
        if (other.task, other.studies) == (trainings[0].task, trainings[0].studies):
            others.setdefault(json.dumps(other.settings, sort_keys=True), other)
    left_out = [other for key, other in others.items() if key not in ours]
    if left_out:
        names = differing([*trainings, *left_out])
        what = [words({name: other.settings.get(name, "") for name in names}) for other in left_out]
        label = sorted(labels)[0]
        raise ValueError(
            f"the sweep {label} has {many(len(left_out), 'other setting')} of the same task "
            f"({first_of(what, MOST_NAMED)}): say model={label}, and each fold chooses by its validation set; or "
            "choice=fixed, if these were fixed before any test set was looked at, which the page then says"
        )


def of_names(labels: Iterable[str], runs: Path) -> list[RunDir]:
    """The training runs that were started with one of these --names."""
    wanted, folders = set(labels), sorted(runs.glob("*")) if labels else []
    plans = ((RunDir(folder), records.plan(RunDir(folder))) for folder in folders if folder.is_dir())
    return [run for run, plan in plans if plan.get("stage") == "train" and plan.get("label") in wanted]


def of_run(run: RunDir) -> Training | None:
    """Of the folder of a run; None if its config is not one of today's."""
    try:
        return training(run, config.load([run.config]))
    except (ConfigError, KeyError, OSError) as error:
        log.warning("%s is left out of what belongs together: %s", run.name, error)
        return None

"""Decode every fold of a cross-validation, and write it as one result.

The windows of each fold are in predictions/NNN.h5 as soon as they are decoded, so a run that is stopped goes on with
the next one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from eegdecode.evaluation.config import Evaluate
from eegdecode.evaluation.cross_validation import choice, folds, report
from eegdecode.evaluation.cross_validation.choice import Chosen
from eegdecode.evaluation.cross_validation.folds import CrossValidation, Fold
from eegdecode.evaluation.decode import predict, predictions
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.report import export
from eegdecode.training import model_file
from eegdecode.training.trackers import choice as trackers
from hpc.errors import first_of
from hpc.media import many
from hpc.rank.context import Context
from hpc.runs import products

Decode = Callable[[Sequence[Path], str, Decoded | None, int], Decoded | None]
"""Decodes the test windows with some models together, under a name of its own; with baselines, as they are in the same
windows if these are given. The models were chosen of so many settings. None on ranks but the first."""
MOST_NAMED = 5


def chosen(models: Sequence[Path], cfg: Evaluate) -> list[Chosen]:
    """The models of each fold, if they are a cross-validation or are to be evaluated apart; else none."""
    if len(models) < 2:
        return []
    several = [model_file.load(model) for model in models]
    runs = several[0].run.path.parent
    is_one = choice.is_cross_validation([choice.training(each.run, each.config) for each in several])
    if not is_one and cfg.seeds != "apart":
        return []
    if cfg.control != "none":
        raise ValueError("control=shuffled is for models of one split: evaluate one of the folds with it")
    return choice.choose(several, cfg.seeds or "apart", cfg.choice, runs)


def sentence(several: Sequence[Chosen]) -> str:
    """For the plan: what would be pooled."""
    n_folds, n_repetitions = (len({getattr(each, what) for each in several}) for what in ("fold", "repetition"))
    n_settings = max(each.n_settings for each in several)
    nested = f", each with the best of {n_settings} settings by its validation set" if n_settings > 1 else ""
    return f"{many(n_folds, 'fold')} of {many(n_repetitions, 'repetition')} are one result{nested}"


def run(cfg: Evaluate, ctx: Context, several: Sequence[Chosen], decode: Decode) -> dict[str, object]:
    untested = _untested(several, ctx)
    there = ctx.gather(sorted(path.name for path in (ctx.out / "predictions").glob("*.h5")))[0]
    decoded: list[Fold] = []
    known: dict[str, Decoded] = {}
    for number, each in enumerate(several):
        path = ctx.out / "predictions" / f"{number:03d}.h5"
        first = each.models[0]
        same = json.dumps([first.data, asdict(first.split), first.config["windows"], each.n_settings], default=str)
        if path.name in there:
            windows = predictions.read(path) if ctx.world.is_first else None
        else:
            models = [model.run.out for model in each.models]
            windows = decode(models, f"-{number:03d}", known.get(same), each.n_settings)
            if windows is not None:
                predictions.write(path, windows)
        if windows is not None:
            known[same] = windows
            decoded.append(Fold(each.fold, each.repetition, windows))
    if not ctx.world.is_first:
        return {}
    with ctx.beating():
        result = folds.evaluate(decoded, cfg.scoring)
    page = report.render(ctx.run, cfg, several, decoded, result, untested)
    products.write_text(ctx.out / "report.html", page)
    contents = result.result.plain() | {"of": tested(several), "meaning": ctx.meaning}
    contents["cross_validation"] = result.plain() | {"models": _models(several), "untested": untested}
    products.write_json(ctx.out / "report.json", contents)
    export.write(ctx.out, result.result)
    of_folds = {(fold.name, fold.repetition): fold.value for fold in result.folds}
    for each in several:
        if len(each.models) == 1 and (value := of_folds.get((each.fold, each.repetition))) is not None:
            trained = each.models[0]
            trackers.show_test(trained.run, trained.config, trained.step, {result.result.headline: value}, ctx)
    return summary(result) | {"report": "report.html"}


def summary(result: CrossValidation) -> dict[str, object]:
    of_seeds = {} if result.sd_repetitions is None else {"sd_repetitions": result.sd_repetitions}
    of_subjects = {} if result.sd_subjects is None else {"sd_subjects": result.sd_subjects}
    n = {"folds": result.n_folds, "repetitions": len(result.repetitions)}
    return result.result.summary() | n | of_subjects | of_seeds


def tested(several: Sequence[Chosen]) -> dict[str, object]:
    """Which test set it was, for `compare`: the study, and the split without what tells folds apart."""
    own = choice.training(several[0].models[0].run, several[0].models[0].config)
    split = {name.removeprefix("split."): json.loads(text) for name, text in own.task.items() if "split." in name}
    return {"study": list(own.studies), "split": split}


def _models(several: Sequence[Chosen]) -> list[dict[str, object]]:
    return [
        {
            "fold": each.fold,
            "repetition": each.repetition,
            "runs": [model.run.name for model in each.models],
            "chosen": each.settings,
            "n_settings": each.n_settings,
            "predictions": f"predictions/{number:03d}.h5",
        }
        for number, each in enumerate(several)
    ]


def _untested(several: Sequence[Chosen], ctx: Context) -> str:
    """Which trials no fold tests, in a sentence; refused if they are folds of one number, of which some are missing."""
    if len({each.fold for each in several}) < 2:
        return ""
    tested: dict[str, set[tuple[str, float]]] = {}
    trials: set[tuple[str, float]] = set()
    split = several[0].models[0].split
    for each in several:
        data, parts = predict.open_data(each.models[0], ctx)
        names = [stored.name for stored in data.recordings]
        whole = {(names[one.recording], one.trial.start) for one in (*parts.train, *parts.val, *parts.test)}
        tested.setdefault(each.repetition, set()).update((names[one.recording], one.trial.start) for one in parts.test)
        trials |= whole
    left_out = [
        name for name, _ in sorted(trial for trial in trials if not all(trial in own for own in tested.values()))
    ]
    if not left_out:
        return ""
    text = (
        f"{many(len(left_out), 'trial')} of {len(trials)} are in the test set of no fold, "
        f"of {first_of(sorted(set(left_out)), MOST_NAMED)}"
    )
    if split.folds is not None:
        raise ValueError(f"{text}: train the folds that are missing, as the same sweep again does, and evaluate all")
    return f"{text}."

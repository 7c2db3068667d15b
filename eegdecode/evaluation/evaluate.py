"""The evaluate stage: decode the test set, compare with chance and baselines, write the report.

Ranks share the decoding; the first rank evaluates.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from eegdecode.evaluation import confounds, control, results
from eegdecode.evaluation.baselines import lagged_ridge, windows
from eegdecode.evaluation.config import Evaluate, Scoring
from eegdecode.evaluation.cross_validation import run as cross_validation
from eegdecode.evaluation.decode import predict, predictions
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.report import export, lags, relevance, report, sections, tables
from eegdecode.training import model_file
from eegdecode.training.model_file import Trained
from eegdecode.training.trackers import choice as trackers
from hpc.media import many
from hpc.rank.context import Context
from hpc.runs import products, records
from hpc.runs.rundir import RunDir

MOST_NAMED = 10
"""Subjects that an error message lists."""


def run(cfg: Evaluate, ctx: Context) -> dict[str, object]:
    models = [ctx.input(model) for model in cfg.model]
    if folds := cross_validation.chosen(models, cfg):
        return cross_validation.run(cfg, ctx, folds, partial(_decode, cfg, ctx))
    decoded = _decode(cfg, ctx, models)
    null = control.shuffled(models[0], cfg.scoring, ctx, cfg.average) if cfg.control == "shuffled" else None
    if decoded is None:
        return {}
    trained = model_file.load(models[0])
    predictions.write(ctx.out / "predictions.h5", decoded)
    with ctx.beating():  # a thousand draws of each metric's null
        result = replace(results.evaluate(decoded, cfg.scoring), control=null)
    if result.is_above_chance:
        result = replace(result, channels=relevance.of_channels(models, decoded, cfg.scoring, ctx))
    if lags.are_there(result):
        result = replace(result, lags=lags.of_ridge(decoded, trained, cfg.scoring, ctx))
    others = [model_file.load(model) for model in models[1:]]
    report.write(ctx.out / "report.html", trained, decoded, result, others, cfg.weigh)
    contents = result.plain() | {"of": tested(trained), "meaning": ctx.meaning}
    products.write_json(ctx.out / "report.json", contents)
    export.write(ctx.out, result)
    tables.write(ctx.out, result, decoded)
    if not others:
        figures = {name: figure.value for name, figure in result.figures.items()}
        trackers.show_test(trained.run, trained.config, trained.step, figures, ctx)
    return result.summary() | {"report": "report.html"}


def _decode(
    cfg: Evaluate, ctx: Context, models: Sequence[Path], part: str = "", known: Decoded | None = None, n_tried: int = 1
) -> Decoded | None:
    """The test windows, decoded by the models together and by the baselines; None on ranks but the first. `known`: the
    same windows, of which baselines need not be fitted again. `n_tried`: of so many settings the models were chosen."""
    decode = partial(predict.decode, models, ctx, cfg.weigh, cfg.scoring.retrieval_from, part=part, average=cfg.average)
    outcome, held_out = decode("test"), decode("val")
    if outcome is None or held_out is None:
        return None
    (trained, decoded), (_, val) = outcome, held_out
    refuse_no_numbers(decoded, models)
    if known is None:
        decoded = with_baselines(trained, decoded, val, cfg, ctx, n_tried)
    else:
        validation, _ = results.validation(val, results.headline(decoded), cfg.scoring)
        both = {**known.validation, **validation} if validation and known.validation else {}
        decoded = replace(decoded, audit=known.audit, baselines=known.baselines, validation=both)
    data, parts = predict.open_data(trained, ctx)
    return replace(decoded, confounds=confounds.of(trained, decoded, data, parts, sections.audited(trained).every))


def with_baselines(
    trained: Trained, decoded: Decoded, val: Decoded, cfg: Evaluate, ctx: Context, n_tried: int = 1
) -> Decoded:
    """With the outputs of the baselines, and the headline metric of each decoder on the validation set."""
    scoring = cfg.scoring
    if decoded.kind == "sequence":
        (test, of_val), weights = lagged_ridge.ridges(trained, [decoded, val], scoring, ctx)
        outputs = windows.Outputs({"ridge": test}, {"ridge": of_val}, [])
        decoded = replace(decoded, weights=weights)
    else:
        outputs = windows.baselines(trained, decoded, ctx, scoring.tune, n_tried, cfg.average)
    validation, why_none = results.validation(replace(val, baselines=outputs.val), results.headline(decoded), scoring)
    budget = _budget(trained, decoded, scoring, n_tried)
    audit = (*decoded.audit, *outputs.failures, *filter(None, [why_none, budget]))
    return replace(decoded, audit=audit, baselines=outputs.test, validation=validation)


def _budget(trained: Trained, decoded: Decoded, cfg: Scoring, n_tried: int) -> str:
    """Whether linear decoders were tuned as much as a network of which several settings were tried, in a sentence."""
    if n_tried < 2:
        return ""
    of_network = f"{many(n_tried, 'setting')} of the network were tried on the validation set"
    if decoded.kind != "classes":
        return f"{of_network}; the penalty of the ridge is chosen there too, out of all of its usual ones."
    if cfg.tune == "none":
        return f"{of_network}, and one of each linear decoder, that of its authors (scoring.tune=none)."
    return f"{of_network}, and {windows.n_settings(trained, n_tried)} of each linear decoder that has a setting."


def tested(trained: Trained) -> dict[str, object]:
    """Which test set it was, for `compare`: the studies, however they were preprocessed, and the split."""
    studies: set[str] = set()
    for name in trained.data:
        inputs = records.plan(RunDir(trained.run.path.parent / name)).get("inputs", {}) if "/" not in name else {}
        studies |= set(inputs.values()) or {name}
    return {"study": sorted(studies), "split": trained.config["split"]}


def refuse_no_numbers(decoded: Decoded, models: Sequence[Path]) -> None:
    """Refuse outputs that are NaN or infinite: they are neither above chance nor below."""
    broken = Counter(trial.subject for trial in decoded.trials if not np.isfinite(trial.output).all())
    if not broken:
        return
    unit = "trial" if decoded.kind == "sequence" else "window"
    subjects = ", ".join(f"{n} of {subject}" for subject, n in sorted(broken.items())[:MOST_NAMED])
    more = f" and {many(len(broken) - MOST_NAMED, 'more subject')}" if len(broken) > MOST_NAMED else ""
    names = " and ".join(model.resolve().parent.name for model in models)
    of = f"{broken.total()} of {many(len(decoded.trials), f'test {unit}')}"
    raise ValueError(
        f"{names} gave outputs that are NaN or infinite for {of} ({subjects}{more}), which "
        "cannot be evaluated: look at these signals, and at how training went"
    )

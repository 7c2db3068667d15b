"""The evaluate stage: decode, set beside chance and baselines, report. Ranks share the decoding, the first judges."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eegdecode.evaluation.baselines import lagged_ridge, windows
from eegdecode.evaluation.config import Evaluate
from eegdecode.evaluation.decode import predict, predictions
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import results, time_courses
from eegdecode.evaluation.report import export, relevance, report
from eegdecode.evaluation.report.sections import many
from eegdecode.training import model_file
from eegdecode.training.model_file import Trained
from hpc.rank.context import Context
from hpc.runs.rundir import RunDir, read_json, write_json

MOST_NAMED = 10
"""Subjects whose windows cannot be judged."""


def run(cfg: Evaluate, ctx: Context) -> dict[str, object]:
    models = [ctx.input(model) for model in cfg.model]
    made = predict.decode(models, ctx, cfg.weigh)
    if made is None:
        return {}
    trained, decoded = made
    refuse_no_numbers(decoded, models)
    if decoded.kind == "sequence":
        beside = {"ridge": lagged_ridge.ridge(trained, decoded, cfg.scoring, ctx)}
    else:
        beside, lacking = windows.baselines(trained, decoded, ctx)
        decoded = replace(decoded, audit=(*decoded.audit, *lacking))
    decoded = replace(decoded, baselines=beside)
    predictions.write(ctx.out / "predictions.h5", decoded)
    judge = time_courses.score if decoded.kind == "sequence" else results.judge
    found = judge(decoded, cfg.scoring)
    if found.verdict == "above chance":
        found = replace(found, channels=relevance.of_channels(models, decoded, cfg.scoring, ctx))
    others = [model_file.load(model) for model in models[1:]]
    report.write(ctx.out / "report.html", trained, decoded, found, others, cfg.weigh)
    write_json(ctx.out / "report.json", found.plain() | {"of": tested(trained)})
    export.write(ctx.out, found)
    return found.summary() | {"report": "report.html"}


def tested(trained: Trained) -> dict[str, object]:
    """Whose test part it was, for who compares: the studies, however they were preprocessed, and the split."""
    studies: set[str] = set()
    for name in trained.data:
        plan = read_json(RunDir(trained.run.path.parent / name).plan) if "/" not in name else None
        studies |= set((plan or {}).get("inputs", {}).values()) or {name}
    return {"study": sorted(studies), "split": trained.config["split"]}


def refuse_no_numbers(decoded: Decoded, models: Sequence[Path]) -> None:
    """What is NaN or infinite is neither above chance nor below."""
    broken = Counter(trial.subject for trial in decoded.trials if not np.isfinite(trial.output).all())
    if not broken:
        return
    unit = "trial" if decoded.kind == "sequence" else "window"
    whose = ", ".join(f"{n} of {subject}" for subject, n in sorted(broken.items())[:MOST_NAMED])
    more = f" and {many(len(broken) - MOST_NAMED, 'more subject')}" if len(broken) > MOST_NAMED else ""
    names = " and ".join(model.resolve().parent.name for model in models)
    of = f"{broken.total()} of {many(len(decoded.trials), f'test {unit}')}"
    raise ValueError(
        f"{names} gave outputs that are NaN or infinite for {of} ({whose}{more}), which "
        "cannot be judged: look at these signals, and at how training went"
    )

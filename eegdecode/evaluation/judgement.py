"""The evaluate stage: decode, set beside chance and baselines, report. Ranks share the decoding, the first judges."""

from dataclasses import replace
from typing import TYPE_CHECKING

from eegdecode.evaluation import baseline, findings, linear, metrics, predict, predictions, relevance, report, words
from hpc.context import Context
from hpc.rundir import write_json

if TYPE_CHECKING:
    from eegdecode.stages import Evaluate


def run(cfg: "Evaluate", ctx: Context) -> dict[str, object]:
    models = [ctx.input(model) for model in cfg.model]
    made = predict.decode(models, ctx, cfg.weigh)
    if made is None:
        return {}
    trained, decoded = made
    if decoded.kind == "sequence":
        beside = {"ridge": baseline.ridge(trained, decoded, cfg.scoring, ctx)}
    else:
        beside = linear.baselines(trained, decoded, ctx)
    decoded = replace(decoded, baselines=beside)
    predictions.write(ctx.out / "predictions.h5", decoded)
    judge = metrics.score if decoded.kind == "sequence" else findings.judge
    found = judge(decoded, cfg.scoring)
    if found.verdict == "above chance":
        found = replace(found, channels=relevance.of_channels(models, decoded, cfg.scoring, ctx))
    report.write(ctx.out / "report.html", trained, decoded, found)
    write_json(ctx.out / "report.json", found.plain())
    words.write(ctx.out, found)
    return found.summary() | {"report": "report.html"}

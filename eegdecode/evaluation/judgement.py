"""The evaluate stage: decode, set beside chance and baselines, report. Ranks share the decoding, the first judges."""

from dataclasses import replace
from typing import TYPE_CHECKING

from eegdecode.evaluation import baseline, metrics, predict, predictions, report
from hpc.context import Context

if TYPE_CHECKING:
    from eegdecode.stages import Evaluate


def run(cfg: "Evaluate", ctx: Context) -> dict[str, object]:
    found = predict.decode([ctx.input(model) for model in cfg.model], ctx, cfg.weigh)
    if found is None:
        return {}
    trained, decoded = found
    if decoded.kind != "sequence":
        predictions.write(ctx.out / "predictions.h5", decoded)
        return {"windows": len(decoded.trials)}
    decoded = replace(decoded, baselines={"ridge": baseline.ridge(trained, decoded, cfg.scoring, ctx)})
    predictions.write(ctx.out / "predictions.h5", decoded)
    scores = metrics.score(decoded, decoded.by("ridge"), cfg.scoring)
    report.write(ctx.out / "report.html", trained, decoded, scores)
    return scores.summary() | {"report": "report.html"}

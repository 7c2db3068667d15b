"""The evaluate stage: decode, set beside chance and baselines, report. Ranks share the decoding, the first judges."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from eegdecode.evaluation import answers, baseline, findings, linear, metrics, predict, predictions, report, words
from hpc.context import Context
from hpc.rundir import write_json

if TYPE_CHECKING:
    from eegdecode.stages import Evaluate


def run(cfg: "Evaluate", ctx: Context) -> dict[str, object]:
    found = predict.decode([ctx.input(model) for model in cfg.model], ctx, cfg.weigh)
    if found is None:
        return {}
    trained, decoded = found
    if decoded.kind == "sequence":
        beside = {"ridge": baseline.ridge(trained, decoded, cfg.scoring, ctx)}
    else:
        beside = linear.baselines(trained, decoded, ctx)
    decoded = replace(decoded, baselines=beside)
    predictions.write(ctx.out / "predictions.h5", decoded)
    if decoded.kind == "sequence":
        scores = metrics.score(decoded, decoded.by("ridge"), cfg.scoring)
        report.write(ctx.out / "report.html", trained, decoded, scores)
        write_json(ctx.out / "report.json", {"verdict": scores.verdict, **asdict(scores)})
        summary = scores.summary()
    else:
        judged = findings.judge(decoded, cfg.scoring)
        answers.write(ctx.out / "report.html", trained, decoded, judged)
        write_json(ctx.out / "report.json", judged.plain())
        words.write(ctx.out, judged)
        summary = judged.summary()
    return summary | {"report": "report.html"}

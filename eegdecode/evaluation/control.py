"""A control of an evaluation: the network trained in the same way on shuffled targets, and tested on such.

Whatever leaks from the training set into the test set, as parts of one trial on both sides, is still there, and nothing
else: the control has to be at chance.
"""

import copy
import logging
from dataclasses import replace
from pathlib import Path

from eegdecode.evaluation import results
from eegdecode.evaluation.config import Average, Scoring
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.results import MetricResult
from eegdecode.training import loop, model_file
from hpc.rank.context import Context, Input
from hpc.runs.rundir import RunDir

log = logging.getLogger(__name__)


class ControlDir(RunDir):
    """The folder of a training within the run: all else, as logs and heartbeats, is the run's own."""

    @property
    def place(self) -> Path:
        return self.path / "control"

    @property
    def metrics(self) -> Path:
        return self.place / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.place / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.place / "checkpoints"

    @property
    def out(self) -> Path:
        return self.place / "out"


def shuffled(model: Path, cfg: Scoring, ctx: Context, average: Average = "none") -> MetricResult | None:
    """Train as that model was trained, and return the headline metric; None on ranks but the first. An attempt goes on
    where the one before was stopped."""
    inner = copy.copy(ctx)
    inner.run = ControlDir(ctx.run.path)
    if not (inner.run.out / "model.pt").is_file():
        trained = model_file.load(model)
        data = tuple(Input(str(ctx.input(name))) for name in trained.data)
        training = trained.train()
        watch = replace(training.watch, trackers=())  # a control is no run of the study
        loop.fit(replace(training, control="shuffled", data=data, watch=watch), inner)
    outcome = predict.decode([inner.run.out], ctx, retrieval_from=cfg.retrieval_from, of="control", average=average)
    if outcome is None:
        return None
    result = results.evaluate(outcome[1], cfg)
    figure = result.figures[result.headline]
    log.info("control, trained on shuffled targets: %s %.3f, p %.3f", result.headline, figure.value, figure.p or 1.0)
    return figure

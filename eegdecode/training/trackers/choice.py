"""The trackers of a run, by their names in `watch.trackers`. Only the first rank has any."""

from collections.abc import Mapping, Sequence
from typing import Any

from eegdecode.training.config import Train
from eegdecode.training.trackers.feed import Feed, Trackers
from eegdecode.training.trackers.mlflow import MLflow
from eegdecode.training.trackers.tensorboard import TensorBoard
from eegdecode.training.trackers.tracker import Tracked, Tracker, tracked
from eegdecode.training.trackers.wandb import Wandb
from hpc import config
from hpc.rank.context import Context
from hpc.runs.rundir import RunDir

DEFAULT = ("tensorboard",)
"""Of a run from before there were others."""


def of_training(cfg: Train, ctx: Context) -> Trackers:
    if not ctx.world.is_first:
        return Trackers()
    science = config.blanked(config.plain(cfg), [])
    return Trackers(feeds(cfg.watch.trackers, tracked(ctx.run, science)))


def feeds(names: Sequence[str], run: Tracked, suffix: str = "") -> list[Feed]:
    """`suffix`: of the event file of another run that shows its figures here."""
    trackers: dict[str, Tracker] = {
        "tensorboard": TensorBoard(run, suffix), "wandb": Wandb(run), "mlflow": MLflow(run),
    }  # fmt: skip
    return [Feed(trackers[name], run) for name in names]


def show_test(run: RunDir, config: Mapping[str, Any], step: int, figures: Mapping[str, float], ctx: Context) -> None:
    """Show figures of the test set where the training is shown, as `test/…`; a folder that somebody has copied is no
    place for that."""
    if not run.metrics.is_file():
        return
    names = config.get("watch", {}).get("trackers", DEFAULT)
    trackers = Trackers(feeds(names, tracked(run, config), suffix=f".{ctx.run.name}"))
    trackers.begin()
    trackers.summary(step, {f"test/{name}": value for name, value in figures.items()})
    with ctx.beating():
        trackers.close(finished=True)

"""Monitoring of a training: alerts, trackers, and what they show."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from hpc.config import Secret, blanked


@dataclass(frozen=True)
class Alerts:
    """The receivers of alerts. A line in the run's alerts.jsonl is always written. On a node without internet the other
    senders fail: the line names them with the reason, and training goes on.

    Parameters
    ----------
    webhook
        The name of the secret with an address, http or https, that accepts a POST of {"text": …}, as those of Slack,
        Mattermost and Discord.
    email
        The name of the secret with a mail address; the node's own `sendmail` sends to it.
    wandb
        Send alerts through Weights & Biases, if it is installed and a run of it is active.
    wait_s
        Seconds before an alert with the same title is sent again.
    diverged
        Alert when the validation loss exceeds the best so far by this factor.
    stalled_steps
        Alert after this number of steps without a better validation loss; 0: never.
    budget_gpu_h
        Alert after this number of GPU-hours, of all ranks together; 0: never.
    """

    webhook: Secret = field(default_factory=Secret)
    email: Secret = field(default_factory=Secret)
    wandb: bool = False
    wait_s: float = 3600.0
    diverged: float = 3.0
    stalled_steps: int = 0
    budget_gpu_h: float = 0.0

    def __post_init__(self) -> None:
        if self.wait_s < 0 or self.diverged <= 1 or self.stalled_steps < 0 or self.budget_gpu_h < 0:
            raise ValueError(
                "wait_s, stalled_steps and budget_gpu_h must not be below 0 and diverged be above 1, "
                f"got {self.wait_s}, {self.stalled_steps}, {self.budget_gpu_h} and {self.diverged}"
            )


@dataclass(frozen=True)
class Watch:
    """The log points, the trackers, and what these show besides the metrics."""

    every: int = 50
    """Steps from one log point to the next, at most; fewer if they take longer than a second. Only there are figures
    read from the GPU, written, and checked for NaN, and only there does a run notice that it is asked to stop."""
    examples: int = 0  # validation windows that are shown next to their targets at each validation
    histograms: bool = False  # histograms of parameters and gradients, at each validation
    profile: tuple[int, int] | None = None  # first and last step of the profiler trace, counted from 0
    alerts: Alerts = field(default_factory=Alerts)  # receivers of alerts
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Where the curves are shown: TensorBoard, Weights & Biases, MLflow. Their servers and tokens are those of the
    environment (WANDB_API_KEY, MLFLOW_TRACKING_URI); without, they are written in the run folder, and `sync` brings
    them to a server."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("every", "trackers")

    def __post_init__(self) -> None:
        if len(set(self.trackers)) < len(self.trackers):
            raise ValueError(f"watch.trackers names each once, got {', '.join(self.trackers)}")
        if self.every < 1:
            raise ValueError(f"watch.every is a number of steps, 1 at least, got {self.every}")
        if self.examples < 0 or (self.profile is not None and not 0 <= self.profile[0] <= self.profile[1]):
            raise ValueError(
                f"examples must not be below 0 and profile be two steps, got {self.examples} and {self.profile}"
            )


def without_receivers(train: Mapping[str, Any]) -> dict[str, Any]:
    """The plain config of a training without the receivers of its alerts, which earlier versions stored literally."""
    paths = [f"watch.alerts.{field.name}" for field in fields(Alerts) if field.default_factory is Secret]
    return dict(blanked(train, paths))

"""What training says of itself, and to whom."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Alerts:
    """Who is told when something goes wrong: always a line in alerts.jsonl of the run, and what stands here. A node
    without internet only writes the file: the sender that fails is named in the log, and training goes on.

    Parameters
    ----------
    webhook
        An address that takes a POST of {"text": …}, as Slack, Mattermost and Discord do.
    email
        An address; sent by the node's own `sendmail`.
    wandb
        Through Weights & Biases, where it is installed and a run of it is on.
    wait_s
        An alert of one title comes once in so long.
    diverged
        The validation loss is so many times the best so far.
    stalled_steps
        No better validation for so many steps; 0: never said.
    budget_gpu_h
        So much is spent, by all ranks together; 0: never said.
    """

    webhook: str = ""
    email: str = ""
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
    """What is drawn for TensorBoard beside the figures of each step."""

    examples: int = 0  # validation windows that are shown beside their targets at each validation
    histograms: bool = False  # of parameters and gradients, at each validation
    profile: tuple[int, int] | None = None  # the first and the last step of which a trace is kept
    alerts: Alerts = field(default_factory=Alerts)

    def __post_init__(self) -> None:
        if self.examples < 0 or (self.profile is not None and not 0 <= self.profile[0] <= self.profile[1]):
            raise ValueError(
                f"examples must not be below 0 and profile be two steps, got {self.examples} and {self.profile}"
            )

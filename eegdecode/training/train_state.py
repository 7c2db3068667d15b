"""The state of a training after a number of steps: a checkpoint holds it, and training resumes from it bit for bit."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from eegdecode.training import optim
from eegdecode.training.config import is_lower_better
from hpc.checkpoint import checkpoint
from hpc.rank import fsdp
from hpc.rank.context import Context


@dataclass(frozen=True)
class Best:
    """The best validation so far, and the number of validations since."""

    step: int = 0
    validation: dict[str, float] = field(default_factory=lambda: {"loss": math.inf})
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    misses: int = 0  # validations since then
    ended: str = ""  # why training ends before its last step; empty while it goes on

    def after(
        self,
        step: int,
        validation: dict[str, float],
        parameters: Callable[[], dict[str, torch.Tensor]],
        choose_by: str = "loss",
    ) -> "Best":
        """Return the best after a validation with these figures: by one of them, and of those alike by the loss."""
        if choose_by not in validation:
            raise ValueError(
                f"optim.choose_by={choose_by} is no figure of this validation, which has {', '.join(validation)}"
            )
        sign = 1 if is_lower_better(choose_by) else -1
        ours = sign * self.validation.get(choose_by, sign * math.inf), self.validation["loss"]
        if (sign * validation[choose_by], validation["loss"]) < ours:
            return replace(self, step=step, validation=validation, parameters=parameters(), misses=0)
        return replace(self, misses=self.misses + 1)

    def ending(self, why: str) -> "Best":
        return replace(self, ended=why)


class TrainState:
    """All values that change from step to step."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: optim.Average,
    ) -> None:
        self.network, self.optimizer, self.scaler, self.average = network, optimizer, scaler, average
        self.step = 0
        """The number of finished steps."""
        self.best = Best()
        self.pending: dict[str, float] | None = None
        """Figures of a step whose validation was interrupted: they have not been written yet."""

    def state_dict(self, unwritten: Sequence[dict[str, float]] = ()) -> dict[str, Any]:
        """Return the contents of a checkpoint, with the lines of metrics.jsonl that a full disk has not taken yet."""
        own = {"scaler": self.scaler.state_dict(), "average": self.average.state(), "best": dict(vars(self.best))}
        both = fsdp.state_of(self.network, self.optimizer)
        return {**both, **own, "unseen": self.pending, "unwritten": unwritten}

    def load_state_dict(self, step: int, state: Mapping[str, Any]) -> None:
        fsdp.restore(self.network, self.optimizer, dict(state))
        self.scaler.load_state_dict(state["scaler"])
        self.average.load(state["average"], self.network)
        self.step, self.best, self.pending = step, Best(**state["best"]), state["unseen"]

    def resume(self, ctx: Context) -> Sequence[dict[str, float]]:
        """Resume from the newest complete checkpoint, if there is one. Returns its unwritten lines of metrics.jsonl."""
        newest = checkpoint.latest_on_all(ctx.run.checkpoints)
        ctx.goes_on_from(newest[0] if newest else 0)
        if newest is None:
            return ()
        step, state = newest
        self.load_state_dict(step, state)
        unwritten: Sequence[dict[str, float]] = state["unwritten"]
        return unwritten

    def copy_of_parameters(self) -> dict[str, torch.Tensor]:
        """Return a copy on the device: to bring it to the CPU, a GPU would have to finish first."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}


def whole(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return parameters on the CPU, gathered if the network is sharded: a collective call."""
    return {name: fsdp.whole(value).cpu() for name, value in parameters.items()}

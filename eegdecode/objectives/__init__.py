"""The objectives by name: what training makes small. Light to import.

`eegdecode/objectives/NAME.py` holds `objective(cfg, spec)` of each name.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from eegdecode.signals import SignalSpec

if TYPE_CHECKING:
    import torch


class Batch(NamedTuple):
    """What a step sees."""

    signal: "torch.Tensor"  # [window, time, channel]
    target: "torch.Tensor"  # [window, step, feature], or [window, feature] of what has one value a trial
    subject: "torch.Tensor"  # [window], a place in the subjects of the spec
    key: "torch.Tensor"  # [window] of int64: all that is random of a window comes from it, see eegdecode/noise.py


Objective = Callable[["torch.nn.Module", Batch], tuple["torch.Tensor", dict[str, "torch.Tensor"]]]
"""(model, batch) -> the loss and what is worth watching beside it, each a mean over the windows of the batch.

The model is called once. Ranks may be asked for what they hold while it trains, and only then (`model.training`).
"""


@dataclass(frozen=True)
class Regression:
    """Follow the target sample by sample."""

    name: Literal["regression"] = "regression"
    loss: Literal["correlation", "mse", "l1", "cosine"] = "correlation"  # correlation: blind to offset and scale
    reads: ClassVar[str] = "outputs"
    """What a model has to give for it."""
    takes_shares: ClassVar[bool] = False
    """Whether a target may be shares of classes, [window, class], which mixed windows have."""

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """What the model has to fit, given the data as they are."""
        if not spec.n_outputs:
            raise ValueError("regression follows a target: name one (target=envelope)")
        return spec


AnyObjective = Regression
OBJECTIVES: dict[str, type[Any]] = {"regression": Regression}


def build(cfg: AnyObjective, spec: SignalSpec) -> Objective:
    """`spec`: of the data, not what was made of it for the model."""
    made: Objective = importlib.import_module(f"eegdecode.objectives.{cfg.name}").objective(cfg, spec)
    return made

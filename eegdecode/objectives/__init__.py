"""The knobs of the objectives: what training makes small. Light to import."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch


class Batch(NamedTuple):
    """What a step sees: [window, time, channel], [window, time, output], and [window] whose it is."""

    signal: "torch.Tensor"
    target: "torch.Tensor"
    subject: "torch.Tensor"


Objective = Callable[["torch.nn.Module", Batch], tuple["torch.Tensor", dict[str, "torch.Tensor"]]]
"""(model, batch) -> the loss and what is worth watching beside it, each a mean over the windows of the batch."""


@dataclass(frozen=True)
class Regression:
    """Follow the target sample by sample."""

    name: Literal["regression"] = "regression"
    loss: Literal["correlation", "mse", "l1", "cosine"] = "correlation"  # correlation: blind to offset and scale


def build(cfg: Regression) -> Objective:
    from eegdecode.objectives import regression

    return regression.objective(cfg)

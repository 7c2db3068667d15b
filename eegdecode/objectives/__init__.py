"""The objectives by name: what training makes small. Light to import.

`eegdecode/objectives/NAME.py` holds `objective(cfg, spec)` of each name.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from eegdecode.objectives.config.diffusion import Diffusion
from eegdecode.objectives.config.selfsupervised import Alignment, MaskedPatches, SimCLR, TimeFrequency
from eegdecode.objectives.config.supervised import Classification, Clip, Regression
from eegdecode.signals import SignalSpec

if TYPE_CHECKING:
    import torch

__all__ = [
    "OBJECTIVES",
    "Alignment",
    "AnyObjective",
    "Batch",
    "Classification",
    "Clip",
    "Diffusion",
    "MaskedPatches",
    "Objective",
    "Regression",
    "SimCLR",
    "TimeFrequency",
    "build",
    "in_units",
    "standard",
]


class Batch(NamedTuple):
    """What a step sees."""

    signal: "torch.Tensor"  # [window, time, channel]
    target: "torch.Tensor"  # [window, step, feature], or [window, feature] of what has one value a trial
    subject: "torch.Tensor"  # [window], a place in the subjects of the spec
    rng_key: "torch.Tensor"  # [window] of int64: all that is random of a window comes from it, see eegdecode/noise.py


Objective = Callable[["torch.nn.Module", Batch], tuple["torch.Tensor", dict[str, "torch.Tensor"]]]
"""(model, batch) -> the loss and what is worth watching beside it, each a mean over the windows of the batch.

The model is called once. Ranks may be asked for what they hold while it trains, and only then (`model.training`).
"""


AnyObjective = Alignment | Classification | Clip | Diffusion | MaskedPatches | Regression | SimCLR | TimeFrequency
OBJECTIVES: dict[str, type[Any]] = {
    "classification": Classification,
    "clip": Clip,
    "diffusion": Diffusion,
    "eegpt": Alignment,
    "mae": MaskedPatches,
    "regression": Regression,
    "simclr": SimCLR,
    "tfc": TimeFrequency,
}


def standard(target: "torch.Tensor", spec: SignalSpec) -> "torch.Tensor":
    """A target as the network gives it: each feature by its mean and spread in training, where these are known."""
    if not spec.target_std:
        return target
    return (target - target.new_tensor(spec.target_mean)) / target.new_tensor(spec.target_std)


def in_units(decoded: "torch.Tensor", spec: SignalSpec) -> "torch.Tensor":
    """What the network gives, in the units of the target."""
    if not spec.target_std:
        return decoded
    return decoded * decoded.new_tensor(spec.target_std) + decoded.new_tensor(spec.target_mean)


def build(cfg: AnyObjective, spec: SignalSpec) -> Objective:
    """`spec`: of the data, not what was made of it for the model; with what is known of the targets of training."""
    made: Objective = importlib.import_module(f"eegdecode.objectives.{cfg.name}").objective(cfg, spec)
    return made

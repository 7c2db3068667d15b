"""The objectives (losses) of training by name. Light to import.

`eegdecode/objectives/NAME.py` has `objective(cfg, spec)` of each name.
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
    """The windows of one step."""

    signal: "torch.Tensor"  # [window, time, channel]
    target: "torch.Tensor"  # [window, step, feature], or [window, feature] if there is one value a trial
    subject: "torch.Tensor"  # [window], an index into the subjects of the spec
    rng_key: "torch.Tensor"  # [window] of int64: all randomness of a window derives from it, see eegdecode/noise.py


Objective = Callable[["torch.nn.Module", Batch], tuple["torch.Tensor", dict[str, "torch.Tensor"]]]
"""(model, batch) -> the loss and other figures to watch, each a mean over the windows of the batch.

The model is called once. Tensors are gathered over ranks only during training (`model.training`).
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
    """A target in the units of the network: each feature standardised by its mean and spread in the training set, if
    these are known."""
    if not spec.target_std:
        return target
    return (target - target.new_tensor(spec.target_mean)) / target.new_tensor(spec.target_std)


def in_units(decoded: "torch.Tensor", spec: SignalSpec) -> "torch.Tensor":
    """The outputs of the network in the units of the target."""
    if not spec.target_std:
        return decoded
    return decoded * decoded.new_tensor(spec.target_std) + decoded.new_tensor(spec.target_mean)


def build(cfg: AnyObjective, spec: SignalSpec) -> Objective:
    """`spec`: that of the data, not of the model; with the statistics of the training targets.

    The objective of a config from another package is made by the function `objective` of the module that declares it.
    """
    declared = type(cfg).__module__
    module = f"eegdecode.objectives.{cfg.name}" if declared.startswith("eegdecode.") else declared
    objective: Objective = importlib.import_module(module).objective(cfg, spec)
    return objective

"""The objectives by name: what training makes small. Light to import.

`eegdecode/objectives/NAME.py` holds `objective(cfg, spec)` of each name.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from eegdecode.objectives.knobs.diffusion import Diffusion
from eegdecode.objectives.knobs.selfsupervised import Alignment, MaskedPatches, SimCLR, TimeFrequency
from eegdecode.objectives.knobs.supervised import Classification, Clip, Regression
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
]


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


def build(cfg: AnyObjective, spec: SignalSpec) -> Objective:
    """`spec`: of the data, not what was made of it for the model."""
    made: Objective = importlib.import_module(f"eegdecode.objectives.{cfg.name}").objective(cfg, spec)
    return made

"""The objectives (losses) of training by name, and `build`, which makes one. Cheap to import: the imports of a loss are
done only when it is built.

`eegdecode/objectives/NAME.py` has the config of each name, a frozen dataclass, and its function objective(cfg, spec).
If the network does not give the decoded target by itself, it has decode(cfg, network, batch, spec) too.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from eegdecode.objectives.config import (
    OBJECTIVES,
    AnyObjective,
    ObjectiveConfig,
    ScoredAs,
    scored_as,
    takes_soft_labels,
)
from eegdecode.signals import SignalSpec
from hpc.config.choices import code_of

if TYPE_CHECKING:
    import torch

__all__ = [
    "OBJECTIVES", "AnyObjective", "Batch", "Objective", "ObjectiveConfig", "ScoredAs", "build", "constant", "decode",
    "in_units", "scored_as", "standard", "takes_soft_labels",
]  # fmt: skip


class Batch(NamedTuple):
    """The windows of one step."""

    signal: "torch.Tensor"  # [window, time, channel]
    target: "torch.Tensor"  # [window, step, feature], or [window, feature] if there is one value a trial
    subject: "torch.Tensor"  # [window], an index into the subjects of the spec
    rng_key: "torch.Tensor"  # [window] of int64: all randomness of a window derives from it, see eegdecode/noise.py


Objective = Callable[["torch.nn.Module", Batch], tuple["torch.Tensor", dict[str, "torch.Tensor"]]]
"""(model, batch) -> the loss and other figures to log, each a mean over the windows of the batch.

The model is called once. Tensors are gathered over ranks only during training (`model.training`).
"""


def standard(target: "torch.Tensor", spec: SignalSpec) -> "torch.Tensor":
    """Convert a target to the units of the network: standardised by mean and spread of each feature in the training
    set, if these are known."""
    if not spec.target_std:
        return target
    return (target - constant(spec.target_mean, target)) / constant(spec.target_std, target)


def in_units(decoded: "torch.Tensor", spec: SignalSpec) -> "torch.Tensor":
    """Convert the outputs of the network to the units of the target."""
    if not spec.target_std:
        return decoded
    return decoded * constant(spec.target_std, decoded) + constant(spec.target_mean, decoded)


def constant(values: tuple[float, ...], like: "torch.Tensor") -> "torch.Tensor":
    """Return numbers as a tensor of the type and on the device of another. They are copied there once: each copy from a
    list would wait until the GPU has computed everything before. Do not write to it."""
    return _constant(values, like.dtype, like.device)


@lru_cache(maxsize=256)
def _constant(values: tuple[float, ...], dtype: "torch.dtype", device: "torch.device") -> "torch.Tensor":
    import torch

    with torch.inference_mode(False):  # the next user may need gradients
        return torch.tensor(values, dtype=dtype, device=device)


def build(cfg: ObjectiveConfig, spec: SignalSpec) -> Objective:
    """`spec` is that of the data, not of the model, and includes the statistics of the training targets."""
    objective: Objective = code_of(cfg).objective(cfg, spec)
    return objective


def decode(cfg: ObjectiveConfig, network: "torch.nn.Module", batch: Batch, spec: SignalSpec) -> "torch.Tensor":
    """Decode windows with a trained network, in the target's units. `spec` is that of the model."""
    of_its_own = getattr(code_of(cfg), "decode", None)
    decoded = of_its_own(cfg, network, batch, spec) if of_its_own else network(batch.signal, batch.subject).float()
    return in_units(decoded, spec)

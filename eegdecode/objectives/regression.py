"""Regression losses over [window, step, output] or [window, output], means over the batch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode.objectives import Batch, Objective, in_units, standard
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Regression:
    """Predict the numbers of the target: sample by sample if it is a time course, otherwise those of the window."""

    name: Literal["regression"] = "regression"
    loss: Literal["correlation", "mse", "l1", "cosine"] = "correlation"
    """`correlation`: 1 minus Pearson's r, blind to offset and scale; `cosine`: 1 minus the cosine, blind to scale. Both
    are over time, or over the features of a window with one row. `mse` and `l1` depend on offset and scale: standardise
    a target that is far from 0, or whose features differ in size."""
    standardize: bool = False
    """Standardise the target by mean and standard deviation of each feature in the training set; outputs have the
    target's units."""
    input_kind: ClassVar[str] = "outputs"
    """The kind of model output that it needs."""
    figures: ClassVar[tuple[str, ...]] = ("r", "off_by")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """Return the spec of the model, from that of the data."""
        if not spec.n_outputs:
            raise ValueError("regression needs a target: name one (target=envelope)")
        if self.loss in ("correlation", "cosine") and spec.n_outputs == 1 and not spec.is_sequence:
            raise ValueError(
                f"{self.loss} compares several numbers of a window, but this target is 1: use objective.loss=mse or l1"
            )
        return spec


def objective(cfg: Regression, spec: SignalSpec) -> Objective:
    distance = LOSSES[cfg.loss]
    # The figure to log besides the loss: a single number has no correlation
    has_course = spec.is_sequence or spec.n_outputs > 1

    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        target = standard(batch.target, spec)
        decoded = model(batch.signal, batch.subject).to(target.dtype)  # a mean in bf16 is as coarse as its values
        if decoded.shape != target.shape:
            raise ValueError(f"the model gives {tuple(decoded.shape)}, but the target is {tuple(target.shape)}")
        seen = decoded.detach()
        if has_course:
            return distance(decoded, target), {"r": correlation(seen, target).mean()}
        return distance(decoded, target), {"off_by": (in_units(seen, spec) - batch.target).abs().mean()}

    return loss_of


def correlation(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return Pearson's r over time, [window, output], or over the features of a window, [window]; 0 if one is
    constant."""
    return _cosine(decoded - decoded.mean(dim=1, keepdim=True), target - target.mean(dim=1, keepdim=True))


def _cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return functional.cosine_similarity(one, other, dim=1)


LOSSES = {
    "correlation": lambda decoded, target: 1 - correlation(decoded, target).mean(),
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "cosine": lambda decoded, target: 1 - _cosine(decoded, target).mean(),
}

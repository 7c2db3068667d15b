"""An objective: its config, and the loss."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode.objectives import Batch, Objective
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MyHuber:
    """The Huber loss."""

    name: Literal["mylab_huber"] = "mylab_huber"
    delta: float = 0.5  # where squares become absolute values
    input_kind: ClassVar[str] = "outputs"

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return spec


def objective(cfg: MyHuber, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        decoded = model(batch.signal, batch.subject)
        loss = functional.huber_loss(decoded, batch.target, delta=cfg.delta)
        return loss, {"error": (decoded.detach() - batch.target).abs().mean()}

    return loss_of

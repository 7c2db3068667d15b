"""An objective for classes: what it declares makes evaluation score it as such."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode.objectives import Batch, Objective, ScoredAs
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MyHinge:
    """The hinge loss of several classes."""

    name: Literal["mylab_hinge"] = "mylab_hinge"
    margin: float = 1.0  # by which the logit of the true class should exceed every other
    input_kind: ClassVar[str] = "outputs"
    scored_as: ClassVar[ScoredAs] = "classes"

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return replace(spec, n_outputs=len(spec.class_values))


def objective(cfg: MyHinge, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = model(batch.signal, batch.subject)
        true = torch.searchsorted(logits.new_tensor(spec.class_values), batch.target[:, 0].contiguous())
        loss = functional.multi_margin_loss(logits, true, margin=cfg.margin)
        return loss, {"accuracy": (logits.argmax(dim=1) == true).float().mean()}

    return loss_of

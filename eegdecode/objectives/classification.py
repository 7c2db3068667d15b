"""Classification of windows: cross-entropy, or the focal loss of Lin 2017 (arXiv 1708.02002)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode.objectives import Batch, Objective, constant
from eegdecode.objectives.config import ScoredAs
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Classification:
    """Classify windows."""

    name: Literal["classification"] = "classification"
    focus: float = 0.0
    """Gamma of the focal loss (Lin 2017: 2); larger: windows that are right already have less weight; 0:
    cross-entropy."""
    label_smoothing: float = 0.0  # share of a label that is spread over all classes
    balanced: bool = False  # weight classes by inverse frequency: n / (classes x n of the class)
    input_kind: ClassVar[str] = "outputs"
    scored_as: ClassVar[ScoredAs] = "classes"
    takes_soft_labels: ClassVar[bool] = True
    figures: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __post_init__(self) -> None:
        if self.focus < 0:
            raise ValueError(f"focus must be 0 or above, got {self.focus}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """Return the spec with one output for each class."""
        if len(spec.class_values) < 2:
            reason = "follows the signal in time" if spec.is_sequence else f"has {spec.n_outputs} number(s) a window"
            if len(spec.class_values) == 1:
                reason = f"is always {spec.classes[0]}"
            raise ValueError(
                f"classification needs a target of 2 classes or more, but this one {reason}: "
                "name a label of the trials, or use objective=regression or clip"
            )
        return replace(spec, n_outputs=len(spec.class_values))


def objective(cfg: Classification, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = model(batch.signal, batch.subject)
        if logits.shape != (len(batch.target), len(spec.class_values)):
            raise ValueError(
                f"the model gives {tuple(logits.shape)}, but {len(spec.class_values)} classes of "
                f"{len(batch.target)} windows are needed"
            )
        truth = shares(batch.target, spec.class_values)
        weights = constant(spec.class_weights, logits).float() if spec.class_weights else None
        loss = focal(logits.float(), truth, cfg.focus, cfg.label_smoothing, weights)
        return loss, {"accuracy": (logits.argmax(dim=1) == truth.argmax(dim=1)).float().mean()}

    return loss_of


def shares(target: torch.Tensor, values: tuple[float, ...]) -> torch.Tensor:
    """Return [window, class]: the class of a window as one-hot; soft labels of mixed windows are left as they are."""
    if target.shape[1] == len(values):
        return target
    return (target == constant(values, target)).float()


def focal(
    logits: torch.Tensor,
    truth: torch.Tensor,
    focus: float,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean over windows of -(1 - p)^focus log p of their true classes [window, class], where p is the
    probability of the class. Smoothing spreads a part of the truth over all classes. Weights of classes have mean 1
    over all windows: if they were divided by those of a batch, ranks and portions would not add up to the whole."""
    log_p = functional.log_softmax(logits, dim=1)
    each = -log_p
    if focus:
        each = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps) ** focus * each
    truth = (1 - smoothing) * truth + smoothing / truth.shape[1]
    if weights is not None:
        truth = truth * weights
    return (truth * each).sum(dim=1).mean()

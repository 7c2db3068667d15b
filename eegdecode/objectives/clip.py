"""Contrastive loss between windows and the targets of the batch: CLIP (Radford 2021), and its form for speech (Défossez
2023).

Decoded and target are [window, feature], or [window, step, feature], in which case time is flattened into features.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from eegdecode import noise
from eegdecode.objectives import Batch, Objective
from eegdecode.objectives.config import ScoredAs
from eegdecode.signals import SignalSpec
from hpc.rank import ddp


@dataclass(frozen=True)
class Clip:
    """Match each window to its own among the targets of the batch: outputs similar to it, dissimilar to the others.

    While training, the targets of all ranks are candidates, so that the number of GPUs changes nothing.
    """

    name: Literal["clip"] = "clip"
    form: Literal["symmetric", "speech"] = "symmetric"
    """`symmetric` (Radford 2021): by the cosine over the temperature, in both directions; `speech` (Défossez 2023): by
    the product with the normalised target, from window to target only."""
    temperature: float = 0.07
    """Divisor of the cosines in the symmetric form; smaller: the nearest wrong targets have more weight."""
    mask_equal: bool = True  # equal targets in a batch, as of a stimulus shown twice, are not negatives of each other
    input_kind: ClassVar[str] = "outputs"
    figures: ClassVar[tuple[str, ...]] = ("top1", "top5")
    scored_as: ClassVar[ScoredAs] = "retrieval"
    compares_windows: ClassVar[bool] = True
    """The loss needs several windows."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        if not spec.n_outputs:
            raise ValueError("clip matches windows to targets: name one (target=envelope)")
        if spec.n_outputs == 1 and not spec.is_sequence:
            raise ValueError(
                "clip compares targets by their direction, but one number a window, as in this target, has none: "
                "use objective=regression or classification"
            )
        return spec


_SAME = 43  # the numbers by which equal targets are found


def objective(cfg: Clip, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        decoded = model(batch.signal, batch.subject)
        if decoded.shape != batch.target.shape:
            raise ValueError(f"the model gives {tuple(decoded.shape)}, but the target is {tuple(batch.target.shape)}")
        mine, target = decoded.to(batch.target.dtype).flatten(1), batch.target.flatten(1)
        everywhere = ddp.gather if model.training else _as_they_are
        first = ddp.rank() * len(mine) if model.training else 0
        own = torch.arange(first, first + len(mine), device=mine.device)

        wrong_twin = None
        if cfg.mask_equal:
            labels = fingerprint(target)
            wrong_twin = labels[:, None] == everywhere(labels)
            wrong_twin[torch.arange(len(mine), device=mine.device), own] = False
        if cfg.form == "speech":
            scores = alike(mine, functional.normalize(everywhere(target), dim=1), wrong_twin)
            loss = functional.cross_entropy(scores, own)
        else:
            mine, target = functional.normalize(mine, dim=1), functional.normalize(target, dim=1)
            scores = alike(mine, everywhere(target), wrong_twin) / cfg.temperature
            back = alike(target, everywhere(mine), wrong_twin) / cfg.temperature
            loss = (functional.cross_entropy(scores, own) + functional.cross_entropy(back, own)) / 2
        better = place(scores.detach(), own)
        return loss, {"top1": (better < 1).float().mean(), "top5": (better < 5).float().mean()}

    return loss_of


def alike(these: torch.Tensor, candidates: torch.Tensor, not_these: torch.Tensor | None = None) -> torch.Tensor:
    """Return [window, candidate]: the product of each pair; -inf if it is not a candidate."""
    with torch.autocast(these.device.type, enabled=False):  # over a temperature, what bf16 rounds off would count
        scores = these @ candidates.mT
    return scores if not_these is None else scores.masked_fill(not_these, -torch.inf)


def place(scores: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Count the candidates that score at least as high as a window's own: ties count against it."""
    return (scores >= scores.take_along_dim(own[:, None], dim=1)).sum(dim=1) - 1


def fingerprint(target: torch.Tensor) -> torch.Tensor:
    """Return [window] of int64, the same for targets that are equal to the bit, and almost never for others: a randomly
    weighted sum of their bits, which wraps and so does not depend on its order."""
    bits = (target.float() + 0.0).view(torch.int32).long()  # + 0.0: one zero, not two
    key = torch.zeros(1, dtype=torch.int64, device=target.device)
    high, low = (noise.uniform(key, _SAME, 2, target.shape[1]) * 2.0**24).long()[0]
    return (bits * (high << 25 | low << 1 | 1)).sum(dim=1)


def _as_they_are(rows: torch.Tensor) -> torch.Tensor:
    return rows

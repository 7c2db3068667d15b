"""One optimizer step: backward, clip_grad_norm, step. With gradient accumulation, mixed precision and SAM.

The training loop and the learning-rate finder both use it, so both do the same.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import nn

from eegdecode.objectives import Batch, Objective
from eegdecode.training import exact, optim
from eegdecode.training.config import Compute, Optim
from eegdecode.training.graph import GraphedGradients
from hpc.rank import ddp, fsdp

Seed = Callable[[int], None]
"""Seeds dropout for a portion of the rank's batch."""
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """`model` is the network wrapped by DDP or FSDP, if there are several ranks."""

    def __init__(
        self,
        cfg: Optim,
        compute: Compute,
        model: nn.Module,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        self.cfg, self.n_portions = cfg, compute.accumulate
        self.model, self.network, self.objective, self.optimizer = model, network, objective, optimizer
        half = compute.precision != "fp32"
        self.precision = torch.autocast(device.type, TYPES[compute.precision], enabled=half)
        self.scaler = torch.amp.GradScaler(device.type, enabled=compute.precision == "fp16")
        self.trained = optim.trainable_parameters(optimizer)
        self.nonfinite = torch.zeros((), device=device)
        """1 from the first gradient on that is not finite. Later steps change no parameter then, so that they cannot
        fail for it before a log point reads the figures."""
        if isinstance(optimizer, optim.AdamW) and not self.scaler.is_enabled():
            optimizer.found_inf = self.nonfinite
        self.by_shares = exact.by_shares(cfg, compute)
        self.graph: GraphedGradients | None = None
        """Computes `gradients` faster, if it is there."""

    def backward(self, batch: Batch, lr: float, seed: Seed = lambda portion: None) -> dict[str, torch.Tensor]:
        """Accumulate the gradients in the parameters; return this rank's mean loss and the figures to log. `seed` is
        called before each portion if ranks and portions are to be interchangeable."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        if self.graph is not None:
            return self.graph(batch, lambda: seed(0))
        self.optimizer.zero_grad()
        if self.by_shares:
            return self._gradients_by_shares(batch, seed)
        portions = _portions(batch, self.n_portions)
        if self.cfg.sam is None:
            return self._gradients(portions)
        ascent: list[torch.Tensor | None] = [None] * len(self.trained)
        figures = []
        for portion in portions:  # all of them before the perturbation, so that they equal one batch
            steps, seen = self._uphill(portion)
            ascent = [exact.sum_of(so_far, step) for so_far, step in zip(ascent, steps, strict=True)]
            figures.append(seen)
        with optim.sam_perturbed(self.trained, ascent, self.cfg.sam), optim.frozen_batchnorm(self.network):
            self._gradients(portions)
        return _means(figures)

    def gradients(self, batch: Batch) -> dict[str, torch.Tensor]:
        """As `backward`, without anything that changes from step to step."""
        self.optimizer.zero_grad()
        return self._gradients(_portions(batch, self.n_portions))

    def clip_grad_norm(self) -> torch.Tensor:
        """Clip the gradient to `optim.clip_norm`; return its norm before."""
        self.scaler.unscale_(self.optimizer)
        norm = fsdp.whole(nn.utils.clip_grad_norm_(self.trained, self.cfg.clip_norm))
        self.nonfinite.logical_or_(norm - norm)  # 0, or NaN
        return norm

    def step(self) -> None:
        """Move the parameters."""
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _gradients(self, portions: Sequence[Batch]) -> dict[str, torch.Tensor]:
        """Compute the gradients at the current parameters, summed over portions and then over ranks."""
        figures = []
        for number, portion in enumerate(portions):
            with ddp.alone(self.model, number < len(portions) - 1):
                with self.precision:
                    loss, watched = self.objective(self.model, portion)
                self.scaler.scale(loss / len(portions) if len(portions) > 1 else loss).backward()
            figures.append({"loss": loss.detach(), **watched})
        return _means(figures)

    def _gradients_by_shares(self, batch: Batch, seed: Seed) -> dict[str, torch.Tensor]:
        """As `_gradients`, with the bits that as many more ranks would get, of one portion each: the same windows in
        each, the same dropout, the same tree of sums. The statistics of batch norms are those of the first share."""
        portions, figures = exact.interleaved(batch, self.n_portions), {}
        total = exact.TreeSum()
        for number in exact.order(self.n_portions):
            seed(number)
            self.optimizer.zero_grad()
            frozen = optim.frozen_batchnorm(self.network) if number else nullcontext()
            with ddp.alone(self.model), frozen:
                with self.precision:
                    loss, watched = self.objective(self.model, portions[number])
                self.scaler.scale(loss).backward()
            figures[number] = {"loss": loss.detach(), **watched}
            total.add([parameter.grad for parameter in self.trained])
        for parameter, gradient in zip(self.trained, total.value, strict=True):
            parameter.grad = None if gradient is None else gradient.div_(self.n_portions)
        ddp.average(self.model)
        return _means([figures[number] for number in range(self.n_portions)])

    def _uphill(self, portion: Batch) -> tuple[tuple[torch.Tensor | None, ...], dict[str, torch.Tensor]]:
        """Compute the gradient of this rank alone. Only its direction matters, so the loss scale stays in it."""
        with self.precision:
            loss, watched = self.objective(self.network, portion)
        gradients = torch.autograd.grad(self.scaler.scale(loss), self.trained, allow_unused=True)
        return gradients, {"loss": loss.detach(), **watched}


def _portions(batch: Batch, n: int) -> list[Batch]:
    """Divide a rank's batch into n equal parts, in order."""
    if n == 1:
        return [batch]
    return [Batch(*columns) for columns in zip(*(column.chunk(n) for column in batch), strict=True)]


def _means(figures: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    if len(figures) == 1:
        return figures[0]
    sums: dict[str, torch.Tensor] = {}
    for each in figures:
        for name, value in each.items():
            sums[name] = sums.get(name, 0.0) + value / len(figures)
    return sums

"""The optimizer, its learning-rate schedule, sharpness-aware minimisation (SAM), averages of the parameters, and the
statistics of batch norms.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import unwrap
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from eegdecode.models.parts import trainable
from eegdecode.training.config import Constant, Cosine, Ema, OneCycle, Optim, Sam, Schedule, Swa, WarmRestarts
from hpc.rank import fsdp


class _Moments(NamedTuple):
    """What one call of the kernel changes, but for the gradients."""

    parameters: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]


class AdamW(torch.optim.AdamW):
    """torch's fused kernel, with less of Python around it: the same numbers and the same state_dict. torch's own class
    imports torch._dynamo, which reads 37,000 files at the start of a rank, and sorts its parameters anew at each step.

    `found_inf`, a scalar on the device, keeps a step from changing anything where it is 1.
    """

    found_inf: Tensor | None = None

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        self._moments: dict[tuple[int, ...], list[_Moments]] = {}
        super().__init__(groups, lr=lr, betas=betas, fused=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        unwrap(Optimizer.add_param_group)(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        return dict(unwrap(Optimizer.state_dict)(self))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        unwrap(Optimizer.load_state_dict)(self, state_dict)
        self._moments.clear()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            for moments in self._of(trained):
                torch._foreach_add_(moments.steps, 1)
                torch._fused_adamw_(
                    moments.parameters,
                    [parameter.grad for parameter in moments.parameters],  # type: ignore[misc]
                    moments.exp_avgs,
                    moments.exp_avg_sqs,
                    [],
                    moments.steps,
                    amsgrad=False,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                    grad_scale=getattr(self, "grad_scale", None),  # GradScaler sets it, and deletes it
                    found_inf=self.found_inf,
                )
                if self.found_inf is not None:
                    torch._foreach_sub_(moments.steps, [self.found_inf] * len(moments.steps))

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it for the profiler and for its schedulers

    def _of(self, trained: list[Tensor]) -> list[_Moments]:
        """Return the moments of these parameters, by device and dtype; they begin at zero."""
        key = tuple(map(id, trained))
        if key in self._moments:
            return self._moments[key]
        alike: dict[tuple[torch.device, torch.dtype], _Moments] = {}
        for parameter in trained:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            moments = alike.setdefault((parameter.device, parameter.dtype), _Moments([], [], [], []))
            each = (parameter, state["exp_avg"], state["exp_avg_sq"], state["step"])
            for column, tensor in zip(moments, each, strict=True):
                column.append(tensor)
        self._moments[key] = list(alike.values())
        return self._moments[key]


def adamw(network: nn.Module, cfg: Optim) -> torch.optim.AdamW:
    """Make AdamW, with weight decay for weights but not for biases and norms. A group's `share` scales the learning
    rate."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, share in lr_scales(network, cfg.layer_decay).items():
        parameter = network.get_parameter(name)
        groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise ValueError("there is nothing to train: every parameter of the model is frozen")
    described = [
        {"params": parameters, "share": share, "weight_decay": cfg.weight_decay if decays else 0.0}
        for (share, decays), parameters in groups.items()
    ]
    if any(map(fsdp.is_sharded, network.parameters())):
        return torch.optim.AdamW(described, lr=cfg.lr, betas=cfg.betas, fused=True)
    return AdamW(described, cfg.lr, cfg.betas)


def trainable_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters that the optimizer trains now; others of its groups are still frozen."""
    return [one for group in optimizer.param_groups for one in group["params"] if one.requires_grad]


def lr_scales(network: nn.Module, layer_decay: float) -> dict[str, float]:
    """Return the scale of the learning rate by the name of each trained parameter. The network names its blocks. The
    layers before them count as one more block; the layers after them, and the heads, learn at the full rate."""
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if layer_decay == 1.0:
        return dict.fromkeys(names, 1.0)
    if not (chains := trainable.chains_of(network)):
        raise ValueError(
            f"optim.layer_decay={layer_decay:g} needs a model whose blocks follow each other, and this one has no such "
            "chain, or several side by side: leave it at 1"
        )
    heads = tuple(f"{head}." for head in trainable.heads_of(network))  # a spatial filter comes before the blocks
    depth, scales, begun = max(chains.values()) + 1, {}, False
    for name, parameter in network.named_parameters():
        chain = next((chain for chain in chains if name.startswith(f"{chain}.")), None)
        if chain is not None:
            begun, above = True, chains[chain] - int(name.removeprefix(f"{chain}.").split(".")[0])
        else:
            above = 0 if begun or name.startswith(heads) else depth
        if parameter.requires_grad:
            scales[name] = layer_decay**above
    return scales


def highest_rate(cfg: Optim, batch: int) -> tuple[float, str]:
    """Return the peak learning rate for that global batch, and a sentence about it."""
    factor = {"": 1.0, "linear": batch / cfg.lr_batch, "sqrt": math.sqrt(batch / cfg.lr_batch)}[cfg.scale_lr]
    if not cfg.scale_lr:
        return cfg.lr, f"lr {cfg.lr:g}, whatever the batch ({batch} windows): optim.scale_lr would change it"
    lr = cfg.lr * factor
    return lr, f"lr {lr:g} = {cfg.lr:g} x {factor:g}, {cfg.scale_lr} from {cfg.lr_batch} to {batch} windows a step"


def rate(cfg: Optim, lr: float, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then the schedule. `lr`: the peak."""
    if step < cfg.rising:
        return lr * (step + 1) / cfg.rising
    return lr * _shape(cfg.schedule, step - cfg.rising, cfg.steps - cfg.rising)


def _shape(schedule: Schedule, step: int, steps: int) -> float:
    match schedule:
        case Constant():
            return 1.0
        case Cosine():
            return _fall(step / steps)
        case WarmRestarts():
            within, length = _cycle(schedule, step)
            return 0.01 + 0.99 * _fall(within / length)
        case OneCycle():
            low, last = 1 / schedule.start_divisor, 1 / schedule.start_divisor / schedule.end_divisor
            peak, end = schedule.rise * steps - 1, steps - 1
            if step < peak:
                return low + (1 - low) * (1 - _fall(step / peak))
            return last + (1 - last) * _fall((step - peak) / (end - peak))
    raise AssertionError(schedule)


def _fall(part: float) -> float:
    """Fall from 1 to 0 as half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * part))


def _cycle(schedule: WarmRestarts, step: int) -> tuple[int, int]:
    """Return how far into its cosine a step is, and how long that cosine is."""
    length = schedule.first_steps
    while step >= length:
        step -= length
        length *= schedule.factor
    return step, length


def is_snapshot(cfg: Optim, done: int) -> bool:
    """Whether a cosine ends after `done` steps, and its parameters are to be kept."""
    if not isinstance(cfg.schedule, WarmRestarts) or not cfg.schedule.snapshots or done <= cfg.rising:
        return False
    return done == cfg.steps or _cycle(cfg.schedule, done - cfg.rising)[0] == 0


@contextmanager
def sam_perturbed(
    parameters: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor | None], cfg: Sam
) -> Iterator[None]:
    """Move the parameters, within the context, to where the loss is worst within rho (SAM); then restore them."""
    before = [parameter.detach().clone() for parameter in parameters]
    sizes = [parameter.detach().abs() if cfg.adaptive else torch.ones(()).to(parameter) for parameter in parameters]
    steps = [None if g is None else size * g for size, g in zip(sizes, gradients, strict=True)]
    norm = torch.stack([step.norm() for step in steps if step is not None]).norm()
    with torch.no_grad():
        for parameter, size, step in zip(parameters, sizes, steps, strict=True):
            if step is not None:
                parameter.add_(size * step * (cfg.rho / (norm + 1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


@contextmanager
def frozen_batchnorm(network: nn.Module) -> Iterator[None]:
    """Keep batch norms, within the context, from updating their running statistics: for a second pass over a batch."""
    learning = batch_norms(network)
    for part in learning:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part in learning:
            part.track_running_stats = True


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]


def estimate_statistics(network: nn.Module, norms: Sequence[_BatchNorm], forward: Callable[[], object]) -> None:
    """Estimate the statistics of these norms anew: the mean over the batches that `forward` runs through the network,
    which is in eval mode otherwise and stays so. Nothing else changes."""
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    try:
        with torch.no_grad():
            forward()
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


@contextmanager
def estimated_statistics(network: nn.Module, forward: Callable[[], object]) -> Iterator[bool]:
    """Give the norms that are in training mode, within the context, new statistics; those that are frozen keep theirs.
    Yields whether there are any.

    Those that training leaves are running means over its steps: with a low momentum, as Keras's .01 in EEGNet, they lag
    so far behind in a short training that all windows are given one class. They are put back, so that training does not
    depend on how often it is validated.
    """
    norms = [norm for norm in batch_norms(network) if norm.training]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    if norms:
        estimate_statistics(network, norms, forward)
    try:
        yield bool(norms)
    finally:
        for buffer, value in before:
            buffer.copy_(value)


class Average:
    """A mean over steps of the parameters and of the statistics of batch norms; empty before the first step."""

    def __init__(self, cfg: Ema | Swa | None) -> None:
        self.cfg = cfg
        self.kept: dict[str, torch.Tensor] = {}
        self.n = 0
        """The number of steps in the mean."""

    def update(self, network: nn.Module, step: int, steps: int) -> None:
        """Add the parameters after `step` of all `steps` to the mean."""
        match self.cfg:
            case None:
                return
            case Swa(start=start):
                if step <= start * steps:
                    return
                new = 1 / (self.n + 1)
            case Ema(decay=decay):
                new = 1 - min(decay, (1 + self.n) / (10 + self.n)) if self.n else 1.0
        self.n += 1
        for name, value in network.state_dict().items():
            if name not in self.kept or not value.is_floating_point():
                self.kept[name] = value.detach().clone()
            else:
                self.kept[name].lerp_(value.detach(), new)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Give the network, within the context, the averaged parameters, if there are any."""
        if not self.kept:
            yield
            return
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.kept)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        return {"n": self.n, "kept": self.kept}

    def load(self, state: dict[str, Any], network: nn.Module) -> None:
        own = network.state_dict()
        self.n = state["n"]
        self.kept = {name: fsdp.like(value, own[name]) for name, value in state["kept"].items()}

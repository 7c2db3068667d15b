"""The ridge probe: the last linear layer of a frozen network is solved by ridge regression, in closed form.

What enters that layer is computed once for every window of the training and validation sets. The penalty is the one
with the lowest squared error on the validation set, where each class counts the same; outputs of classes are then
scaled so that their cross-entropy there is lowest. No optimizer, no learning rate, no seed: how good frozen features
are, and nothing else.
"""

import logging
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.parts import trainable
from eegdecode.objectives import Objective, standard
from eegdecode.objectives.classification import shares
from eegdecode.signals import SignalSpec
from eegdecode.training.validator import Validator
from hpc.rank import ddp
from hpc.rank.context import Context

log = logging.getLogger(__name__)

MOST_BYTES = 4 << 30
"""Of the features of all windows."""
PENALTIES = torch.logspace(-5, 5, 21, dtype=torch.float64)
"""In units of the mean eigenvalue of what is inverted."""
SCALES = torch.logspace(-2, 3, 51, dtype=torch.float64)
"""By how much the outputs for classes are multiplied."""


class Windows(NamedTuple):
    """Features and targets of all windows of a set, in float64; `weight` of each window, with mean 1."""

    features: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor


class Solved(NamedTuple):
    weight: torch.Tensor
    bias: torch.Tensor
    penalty: float


def fit_head(
    network: nn.Module,
    train: Validator,
    val: Validator,
    spec: SignalSpec,
    objective: Objective,
    ctx: Context,
) -> dict[str, float]:
    """Solve for the last layer of the head, and return the figures of the training set's first batch. `train`, `val`:
    the windows of both sets."""
    layer = last_layer(network)
    network.eval()
    sets = [_windows(network, layer, each, spec, ctx) for each in (train, val)]
    solved = solve(sets[0], sets[1], bool(spec.class_values))
    device = next(network.parameters()).device
    with torch.no_grad():
        weight, bias = (_of_first(value.to(layer.weight.dtype).to(device)) for value in (solved.weight, solved.bias))
        if nn.utils.parametrize.is_parametrized(layer, "weight"):
            layer.weight = weight  # it sets what the weight is made of
        else:
            layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        loss, watched = objective(network, train.batch(0, device))
    n, width = sets[0].features.shape
    log.info("ridge probe of %d features of %d windows: penalty %.3g of their mean variance", width, n, solved.penalty)
    return {"loss": float(loss), **{name: float(value) for name, value in watched.items()}}


def _of_first(value: torch.Tensor) -> torch.Tensor:
    """The value of rank 0: other processors may differ in the last digit."""
    if ddp.size() > 1:
        torch.distributed.broadcast(value, 0)
    return value


def last_layer(network: nn.Module) -> nn.Linear:
    """The last linear layer of the head."""
    heads = trainable.heads_of(network)
    linears = [
        module for name in heads for module in network.get_submodule(name).modules() if isinstance(module, nn.Linear)
    ]
    if not linears or linears[-1].bias is None:
        raise ValueError(
            "trainable.train=ridge needs a network whose head ends with a linear layer, which this one does not: use "
            "trainable.train=head"
        )
    if len(linears) > 1:
        log.warning("the head has %d linear layers: the ridge probe solves for the last one alone", len(linears))
    return linears[-1]


def _windows(network: nn.Module, layer: nn.Linear, of: Validator, spec: SignalSpec, ctx: Context) -> Windows:
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().double().cpu()))
    device = next(network.parameters()).device
    targets = []
    try:
        with torch.no_grad():
            for number in range(len(of.batches)):
                ctx.beat()
                batch = of.batch(number, device)
                network(batch.signal, batch.subject)
                if seen[-1].ndim != 2:
                    raise ValueError(
                        f"trainable.train=ridge needs one vector of features a window, but this head gets "
                        f"{list(seen[-1].shape)}: use trainable.train=head"
                    )
                if (n_bytes := seen[-1].shape[1] * of.n_windows * 8) > MOST_BYTES:
                    raise ValueError(
                        f"the features of {of.n_windows} windows would take {n_bytes / 1e9:.0f} GB for a ridge probe: "
                        "use trainable.train=head, fewer or shorter windows"
                    )
                truth = shares(batch.target, spec.class_values) if spec.class_values else standard(batch.target, spec)
                targets.append(truth.double().cpu().flatten(1))
    finally:
        hook.remove()
    target = torch.cat(targets)
    return Windows(torch.cat(seen), target, _weights(target, bool(spec.class_values)))


def _weights(target: torch.Tensor, is_classes: bool) -> torch.Tensor:
    """The same for each class, where there are classes."""
    if not is_classes:
        return torch.ones(len(target), dtype=torch.float64)
    of_class = 1 / target.sum(dim=0).clamp(min=1)
    weight = target @ of_class
    return weight / weight.mean()


def solve(train: Windows, val: Windows, is_classes: bool) -> Solved:
    """The weights of a linear layer. Through the smaller of the two Gram matrices, once for all penalties."""
    root = train.weight.sqrt()[:, None]
    centre = (train.weight[:, None] * train.features).mean(dim=0)
    offset = (train.weight[:, None] * train.target).mean(dim=0)
    spread = (train.weight[:, None] * (train.features - centre) ** 2).mean(dim=0).sqrt()
    spread = torch.where(spread > 1e-12 * spread.amax().clamp(min=1e-300), spread, torch.inf)  # what is constant
    x, y = root * (train.features - centre) / spread, root * (train.target - offset)
    n, width = x.shape
    values, vectors = torch.linalg.eigh(x @ x.T if n < width else x.T @ x)
    values = values.clamp(min=0)
    turned = vectors.T @ (y if n < width else x.T @ y)
    seen = (val.features - centre) / spread
    best: tuple[float, torch.Tensor, float] | None = None
    for penalty in PENALTIES.tolist():
        inner = vectors @ (turned / (values + penalty * values.mean().clamp(min=1e-300))[:, None])
        weight = x.T @ inner if n < width else inner
        error = float((val.weight[:, None] * (seen @ weight + offset - val.target) ** 2).mean())
        if best is None or error <= best[0]:  # of equals the larger penalty
            best = (error, weight, penalty)
    assert best is not None
    weight = (best[1] / spread[:, None]).T
    bias = offset - weight @ centre
    if is_classes:
        outputs = val.features @ weight.T + bias
        scale = min(SCALES.tolist(), key=lambda scale: _cross_entropy(scale * outputs, val))
        weight, bias = weight * scale, bias * scale
    return Solved(weight, bias, best[2])


def _cross_entropy(outputs: torch.Tensor, val: Windows) -> float:
    return float((val.weight * -(val.target * functional.log_softmax(outputs, dim=1)).sum(dim=1)).mean())
